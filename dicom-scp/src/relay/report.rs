//! What the archive said, told to the modality that asked.

use cloister_dimse::references::References;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cloister_audit::{Action, Actor, Event, Reason};
use cloister_phi::AeTitle;
use dicom_dictionary_std::uids;
use zeroize::Zeroizing;

use super::answer::{FAILURES_EXIST, SUCCESSFUL};
use super::archive::commitment;
use super::call::{Call, CallError, Callee};
use super::{AGAIN, Claim, INSTANCE, Office, PAUSE, Rest};
use crate::error::SpoolError;
use crate::metric::{self, Told};
use crate::spool::Id;
use crate::spool::record::now_unix_ms;
use crate::spool::worklist::commitment::{Outcome, Relayed};
use cloister_dimse::command::event_request;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// Addresses that are called at a time, each for one report.
const CALLS: usize = 8;

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

/// Which address, and what came of it.
type Called = (String, Result<(), CallError>);

/// An address that was called before.
#[derive(Debug, Clone, Copy)]
struct Line {
    called: Instant,
    /// It does not answer as it should.
    rest: Option<Rest>,
    /// The call that is going on.
    task: Option<tokio::task::Id>,
}

/// Tells those modalities that have an address. Each address has a rest of its own, and one call at a
/// time: one that is dead costs the others nothing.
pub(super) async fn run(office: Arc<Office>) {
    let mut lines: HashMap<String, Line> = HashMap::new();
    let mut calls: JoinSet<Called> = JoinSet::new();
    loop {
        let changed = office.spool.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        while calls.len() < CALLS
            && let Some((address, claim)) = next(&office, &lines)
        {
            let before = lines.get(&address).and_then(|line| line.rest);
            let named = address.clone();
            let office = Arc::clone(&office);
            let task = calls.spawn(async move {
                let request = claim.request;
                let called = call(&office, claim).await;
                if let Err(error) = &called {
                    tracing::warn!(%request, %error, "A modality cannot be told yet.");
                    metric::told(Told::Failed);
                    office.rest(request);
                }
                (named, called)
            });
            let line = Line {
                called: Instant::now(),
                rest: before,
                task: Some(task.id()),
            };
            lines.insert(address, line);
        }
        let wait = AGAIN.min(office.config.retry_initial);
        tokio::select! {
            Some(ended) = calls.join_next() => over(&office, &mut lines, ended),
            () = async { changed.await; tokio::time::sleep(PAUSE).await } => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// A call has ended.
fn over(office: &Office, lines: &mut HashMap<String, Line>, ended: Result<Called, JoinError>) {
    let (line, called) = match ended {
        Ok((address, called)) => (lines.get_mut(&address), called),
        Err(error) => {
            let mut all = lines.values_mut();
            let line = all.find(|line| line.task == Some(error.id()));
            (line, Err(CallError::Protocol))
        }
    };
    let Some(line) = line else { return };
    line.task = None;
    line.rest = match called {
        Ok(()) => None,
        // Ours, and of this report alone.
        Err(CallError::Spool(_)) => line.rest,
        Err(_) => Some(Rest::longer(line.rest, &office.config)),
    };
}

/// The next report to an address that is free: the one that was not called for the longest time.
fn next(office: &Office, lines: &HashMap<String, Line>) -> Option<(String, Claim)> {
    let mut waiting: BTreeMap<(Option<Instant>, String), Vec<String>> = BTreeMap::new();
    {
        let worklist = office.spool.worklist();
        for calling in worklist.untold().keys() {
            let address = AeTitle::parse(calling).ok();
            let address =
                address.and_then(|title| Some(office.config.address(&title)?.0.to_owned()));
            let Some(address) = address else { continue };
            let line = lines.get(&address);
            let rests =
                |line: &Line| line.task.is_some() || line.rest.is_some_and(|rest| !rest.is_over());
            if !line.is_some_and(rests) {
                let called = line.map(|line| line.called);
                let titles = waiting.entry((called, address)).or_default();
                titles.push(calling.clone());
            }
        }
    }
    waiting.into_iter().find_map(|((_, address), titles)| {
        let claim = titles.iter().find_map(|title| office.claim(title))?;
        Some((address, claim))
    })
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
