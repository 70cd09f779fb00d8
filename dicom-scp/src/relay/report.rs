//! What the archive said, told to the modality that asked.

use cloister_audit::{Action, Actor, Event, Reason};
use cloister_phi::AeTitle;
use dicom_dictionary_std::uids;
use zeroize::Zeroizing;

use super::answer::{FAILURES_EXIST, SUCCESSFUL};
use super::archive::commitment;
use super::call::{Call, CallError, Callee};
use super::references::References;
use super::{AGAIN, Claim, INSTANCE, Office, PAUSE};
use crate::error::SpoolError;
use crate::metric::{self, Told};
use crate::spool::Id;
use crate::spool::record::now_unix_ms;
use crate::spool::worklist::commitment::{Outcome, Relayed};
use cloister_dimse::command::event_request;

/// An N-EVENT-REPORT-RQ.
pub(crate) struct EventReport {
    event_type: u16,
    data_set: Zeroizing<Vec<u8>>,
}

impl EventReport {
    pub(crate) fn command(&self, message: u16) -> Vec<u8> {
        let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
        event_request(message, class, INSTANCE, self.event_type)
    }

    pub(crate) fn data_set(&self) -> &[u8] {
        &self.data_set
    }
}

/// Tells those modalities that have an address.
pub(super) async fn run(office: &Office) {
    loop {
        let changed = office.spool.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let addressed = |calling: &str| {
            AeTitle::parse(calling).is_ok_and(|calling| office.config.address(&calling).is_some())
        };
        while let Some(claim) = office.claim(|request| addressed(&request.requested.calling_ae)) {
            let request = claim.request;
            if let Err(error) = call(office, claim).await {
                tracing::warn!(%request, %error, "A modality cannot be told yet.");
                metric::told(Told::Failed);
                office.rest(request);
            }
        }
        let wait = AGAIN.min(office.config.retry_initial);
        tokio::select! {
            () = async { changed.await; tokio::time::sleep(PAUSE).await } => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// An association of our own to the modality's address.
async fn call(office: &Office, claim: Claim) -> Result<(), CallError> {
    let calling = calling_of(office, &claim).ok_or(CallError::Protocol)?;
    let config = &office.config;
    let (address, tls) = config.address(&calling).ok_or(CallError::Name)?;
    let callee = Callee {
        address,
        called: &calling,
        calling: &config.ae,
        tls: office.tls.as_ref().zip(tls),
        timeout: config.timeout,
    };
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let mut open = Call::open(callee, &[commitment()], Some(class)).await?;
    let told = tell(office, &mut open, &claim).await;
    match told {
        Ok(status) => {
            open.release().await;
            office.told(claim, status).await;
            Ok(())
        }
        Err(error) => {
            open.abort().await;
            Err(error)
        }
    }
}

async fn tell(office: &Office, call: &mut Call, claim: &Claim) -> Result<u16, CallError> {
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let (context, syntax) = call.context(0).ok_or(CallError::NoCommitment)?;
    let implicit = syntax == uids::IMPLICIT_VR_LITTLE_ENDIAN;
    // Who asks for the association is SCU unless the other agrees to more (PS3.7 annex D.3.3.4).
    if !call.is_scp_of(class) {
        return Err(CallError::NoCommitment);
    }
    let event = office.event(claim, implicit).ok_or(SpoolError::Sealed)?;
    let message = call.next_message();
    call.command(context, &event.command(message)).await?;
    call.data(context, event.data_set(), true).await?;
    call.status(message).await
}

fn calling_of(office: &Office, claim: &Claim) -> Option<AeTitle> {
    let worklist = office.spool.worklist();
    let request = worklist.request(claim.request)?;
    AeTitle::parse(&request.requested.calling_ae).ok()
}

impl Office {
    /// The report of a claimed request; `None` if what was asked cannot be opened any more.
    pub(crate) fn event(&self, claim: &Claim, implicit: bool) -> Option<EventReport> {
        let (sealed, outcomes) = {
            let worklist = self.spool.worklist();
            let request = worklist.request(claim.request)?;
            (request.requested.sealed.clone(), request.outcomes()?)
        };
        let Some(asked) = self.unsealed(claim.request, &sealed) else {
            tracing::error!(request = %claim.request, "A commitment request cannot be opened.");
            self.rest(claim.request);
            return None;
        };
        let (mut referenced, mut failed) = (Vec::new(), Vec::new());
        for (reference, outcome) in asked.referenced.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Committed => referenced.push(reference),
                Outcome::Failed(failure) => failed.push((reference, failure.code())),
            }
        }
        let event_type = if failed.is_empty() {
            SUCCESSFUL
        } else {
            FAILURES_EXIST
        };
        let report = References {
            transaction: asked.transaction,
            referenced,
            failed,
        };
        Some(EventReport {
            event_type,
            data_set: report.encode(implicit),
        })
    }

    /// The modality has answered.
    pub(crate) async fn told(&self, claim: Claim, status: u16) {
        let request = claim.request;
        if status != 0 {
            tracing::warn!(%request, status, "A modality does not take its report.");
            metric::told(Told::Failed);
            self.rest(request);
            return;
        }
        let event = Event::new(Action::CommitmentReported);
        if let Err(error) = self.over(&claim, event, reported(request)).await {
            // It is told again.
            tracing::error!(%error, "That a modality was told is not on record.");
            self.rest(request);
            return;
        }
        self.woken(request);
        metric::told(Told::Reported);
    }

    async fn over(&self, claim: &Claim, event: Event, end: Relayed) -> Result<(), SpoolError> {
        let event = match calling_of(self, claim) {
            Some(calling) => event.actor(Actor::ae_title(&calling)),
            None => event,
        };
        let closed = |_| SpoolError::Log(cloister_log::LogError::Closed);
        self.audit.record(event).await.map_err(closed)?;
        self.append(end).await
    }
}

fn reported(request: Id) -> Relayed {
    Relayed::Reported {
        request,
        at_unix_ms: now_unix_ms(),
    }
}

/// Not tried by itself any more.
pub(super) async fn dead_letter(office: &Office, request: Id) -> Result<(), SpoolError> {
    // Whoever is about to tell it may still succeed.
    let Some(claim) = office.claim_this(request) else {
        return Ok(());
    };
    let event = Event::failed(Action::CommitmentReported, Reason::GaveUp);
    let end = Relayed::Undeliverable {
        request,
        at_unix_ms: now_unix_ms(),
    };
    office.over(&claim, event, end).await?;
    metric::told(Told::DeadLettered);
    tracing::error!(%request, "A report on a commitment is a dead letter: an operator has to look.");
    Ok(())
}
