//! What comes to our ports: a modality's N-ACTION, and the archive's N-EVENT-REPORT.

use cloister_dimse::references::{Reference, References, ReferencesError};
use std::collections::BTreeMap;
use std::net::IpAddr;

use cloister_audit::{Action, Actor, Event, Reason};
use cloister_phi::AeTitle;
use uuid::Uuid;

use super::archive::transaction_of;
use super::{INSTANCE, Office};
use crate::error::SpoolError;
use crate::keys;
use crate::metric::{self, Archived};
use crate::spool::Id;
use crate::spool::record::now_unix_ms;
use crate::spool::worklist::commitment::{
    ArchiveStep, Failure, Question, Relayed, RequestState, Requested, Wanted, is_relayed,
};
use cloister_dimse::command::{Command, Status};

/// N-ACTION: Request Storage Commitment (PS3.4 table J.3-1).
const REQUEST_COMMITMENT: u16 = 1;
/// N-EVENT-REPORT: successful, and failures exist (PS3.4 table J.3-2).
pub(super) const SUCCESSFUL: u16 = 1;
pub(super) const FAILURES_EXIST: u16 = 2;

/// Who reports to us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) peer: IpAddr,
    pub(crate) over_tls: bool,
    /// Negotiated as the archive: by its title, and as SCP.
    pub(crate) role: bool,
}

impl Office {
    /// A modality's N-ACTION: on record before the answer says so.
    pub(crate) async fn asked(
        &self,
        calling: &AeTitle,
        command: &Command,
        bytes: &[u8],
        implicit: bool,
    ) -> Status {
        let status = self.ask(calling, command, bytes, implicit).await;
        metric::commitment_asked(status == Status::Success);
        status
    }

    async fn ask(
        &self,
        calling: &AeTitle,
        command: &Command,
        bytes: &[u8],
        implicit: bool,
    ) -> Status {
        if let Some(status) = not_ours(command) {
            return status;
        }
        if command.action_type != REQUEST_COMMITMENT {
            return Status::NoSuchAction;
        }
        let most = self.config.max_references;
        let references = match References::parse(bytes, implicit, most) {
            Ok(references) if !references.referenced.is_empty() => references,
            Err(ReferencesError::TooMany) => return Status::ResourceLimitation,
            _ => return Status::InvalidArgument,
        };
        let request = self.name(calling, &references);
        let content = self.content(&references);
        let asking = self.asking.lock().await;
        if let Some(before) = self.spool.worklist().request(request) {
            // The same once more is one; another list under the same UID is nobody's.
            if before.requested.content != content {
                return Status::InvalidArgument;
            }
        }
        let (old, relayed) = match self.again(request) {
            Known::OnItsWay => return Status::Success,
            Known::Over(again) => (Vec::new(), again),
            Known::Not => {
                let Some(old) = self.room(calling, references.referenced.len()) else {
                    tracing::warn!("There is no room for another commitment request.");
                    return Status::ResourceLimitation;
                };
                match self.fresh(calling, request, content, &references) {
                    Ok(fresh) => (old, fresh),
                    Err(error) => {
                        tracing::error!(%error, "A commitment request cannot be put on record.");
                        return Status::ProcessingFailure;
                    }
                }
            }
        };
        let event = Event::new(Action::CommitmentRequested)
            .actor(Actor::ae_title(calling))
            .count(references.referenced.len() as u32);
        if self.audit.record(event).await.is_err() {
            return Status::ProcessingFailure;
        }
        // What was given up is tried again for whoever asks anew.
        let failed = self.failed(&references, calling);
        let appended = async {
            for request in old {
                self.append(Relayed::Forgot { request }).await?;
            }
            if !failed.is_empty() {
                self.append(Relayed::Again {
                    objects: failed,
                    at_unix_ms: now_unix_ms(),
                })
                .await?;
            }
            self.append(relayed).await
        };
        let appended = appended.await;
        drop(asking);
        match appended {
            Ok(()) => Status::Success,
            Err(error) => {
                tracing::error!(%error, "A commitment request cannot be put on record.");
                Status::ProcessingFailure
            }
        }
    }

    /// Known already: nothing, or once more what was told before.
    fn again(&self, request: Id) -> Known {
        let worklist = self.spool.worklist();
        let Some(before) = worklist.request(request) else {
            return Known::Not;
        };
        self.woken(request);
        match before.state {
            RequestState::Open | RequestState::Decided(_) => Known::OnItsWay,
            RequestState::Reported(_) | RequestState::Undeliverable(_) => {
                Known::Over(Relayed::Deliver {
                    request,
                    at_unix_ms: now_unix_ms(),
                })
            }
        }
    }

    fn fresh(
        &self,
        calling: &AeTitle,
        request: Id,
        content: Id,
        references: &References,
    ) -> Result<Relayed, SpoolError> {
        let cipher = self.spool.keys().vault();
        let plain = references.encode(true);
        let sealed = keys::seal_small(&cipher, &purpose(request), &plain)?;
        Ok(Relayed::Requested(Requested {
            request,
            calling_ae: calling.as_str().to_owned(),
            sealed,
            content,
            wanted: self.wanted(calling, references),
            at_unix_ms: now_unix_ms(),
        }))
    }

    /// Transaction UID and references of a request on record.
    pub(super) fn unsealed(&self, request: Id, sealed: &[u8]) -> Option<References> {
        let cipher = self.spool.keys().vault();
        let plain = keys::open_small(&cipher, &purpose(request), sealed).ok()?;
        References::parse(&plain, true, usize::MAX).ok()
    }

    fn name(&self, calling: &AeTitle, references: &References) -> Id {
        let parts = [calling.as_str(), references.transaction.expose().as_str()];
        Id::of_hash(&self.spool.keys().lookup("commitment", &parts))
    }

    fn content(&self, references: &References) -> Id {
        let parts: Vec<&str> = references
            .referenced
            .iter()
            .flat_map(|one| [one.class.as_str(), one.instance.expose().as_str()])
            .collect();
        Id::of_hash(&self.spool.keys().lookup("commitment-content", &parts))
    }

    fn instance(&self, reference: &Reference) -> [u8; 32] {
        let keys = self.spool.keys();
        keys.lookup("instance", &[reference.instance.expose().as_str()])
    }

    /// What we know of each reference now, in order.
    fn wanted(&self, calling: &AeTitle, references: &References) -> Vec<Wanted> {
        let named: Vec<_> = references.referenced.iter().collect();
        let hashes: Vec<_> = named.iter().map(|one| self.instance(one)).collect();
        let worklist = self.spool.worklist();
        let one = |(reference, hash): (&&Reference, &[u8; 32])| {
            let objects = worklist.under(hash);
            // Two under one name: nobody can say which of them the sender means.
            if objects.iter().any(|object| object.stored.conflict) {
                return Wanted::Failed(Failure::Processing);
            }
            // Of a damaged one the sender's second copy may be here, too.
            let best = objects.iter().find(|object| is_relayed(object));
            let Some(object) = best.or(objects.first()) else {
                let Some(erased) = worklist.remembered(hash) else {
                    return Wanted::Failed(Failure::NoSuchInstance);
                };
                let class = erased.sop_class.as_deref();
                if !self.config.may_ask(calling, &erased.calling_ae) {
                    return Wanted::Failed(Failure::NoSuchInstance);
                }
                if class.is_some_and(|class| class != reference.class.as_str()) {
                    return Wanted::Failed(Failure::ClassInstanceConflict);
                }
                return Wanted::Erased(erased.instance);
            };
            if !self.config.may_ask(calling, &object.stored.calling_ae) {
                return Wanted::Failed(Failure::NoSuchInstance);
            }
            let class = object.stored.sop_class.as_deref();
            if class.is_some_and(|class| class != reference.class.as_str()) {
                return Wanted::Failed(Failure::ClassInstanceConflict);
            }
            if !is_relayed(object) {
                return Wanted::Failed(Failure::Processing);
            }
            Wanted::Object(object.stored.object)
        };
        named.iter().zip(&hashes).map(one).collect()
    }

    /// Objects of a request that were given up.
    fn failed(&self, references: &References, calling: &AeTitle) -> Vec<Id> {
        let wanted = self.wanted(calling, references);
        let worklist = self.spool.worklist();
        let given_up = |wanted: Wanted| match wanted {
            Wanted::Object(id) => worklist
                .object(id)
                .filter(|object| matches!(object.archiving.step, ArchiveStep::Failed(_)))
                .map(|_| id),
            Wanted::Erased(_) | Wanted::Failed(_) => None,
        };
        wanted.into_iter().filter_map(given_up).collect()
    }

    /// The archive's N-EVENT-REPORT, from an association on which the archive is believed. Only what it
    /// lists, of what it was asked, under the class and instance that it was sent, is committed.
    pub(crate) async fn heard(&self, command: &Command, bytes: &[u8], implicit: bool) -> Status {
        if let Some(status) = not_ours(command) {
            return status;
        }
        if !matches!(command.event_type, SUCCESSFUL | FAILURES_EXIST) {
            return Status::NoSuchEvent;
        }
        let Ok(report) = References::parse(bytes, implicit, usize::MAX) else {
            return Status::InvalidArgument;
        };
        let hearing = self.hearing.lock().await;
        let (transaction, objects) = match self.question(&report) {
            Some((_, Question::Answered, _)) => return Status::Success,
            Some((transaction, Question::Open | Question::Late, objects)) => (transaction, objects),
            None => {
                tracing::warn!("The archive reports on a transaction that is not known.");
                return Status::InvalidArgument;
            }
        };
        let Said {
            committed,
            failed,
            lacking,
        } = self.said(&objects, &report);
        let (kept, lost) = (
            committed.len() as u32,
            (failed.len() + lacking.len()) as u32,
        );
        let mut events = Vec::new();
        if kept > 0 {
            events.push(Event::new(Action::CommitmentHeard).count(kept));
        }
        if lost > 0 {
            let refused = Event::refused(Action::CommitmentHeard, Reason::UpstreamRefused);
            events.push(refused.count(lost));
        }
        for event in events {
            let event = event.actor(Actor::ae_title(&self.config.archive_ae));
            if self.audit.record(event).await.is_err() {
                return Status::ProcessingFailure;
            }
        }
        for object in &lacking {
            self.rest(*object);
        }
        for object in &committed {
            self.woken(*object);
        }
        let appended = self
            .append(Relayed::Heard {
                transaction,
                committed,
                failed,
                lacking,
                at_unix_ms: now_unix_ms(),
            })
            .await;
        drop(hearing);
        if let Err(error) = appended {
            tracing::error!(%error, "The archive's report cannot be put on record.");
            return Status::ProcessingFailure;
        }
        metric::archived(Archived::Committed, kept);
        metric::archived(Archived::Refused, lost);
        tracing::info!(committed = kept, failed = lost, "The archive has reported.");
        Status::Success
    }

    /// The question that a report is about.
    fn question(&self, report: &References) -> Option<(Uuid, Question, Vec<Id>)> {
        let transaction = transaction_of(report.transaction.expose())?;
        let worklist = self.spool.worklist();
        let asked = worklist.transaction(transaction)?;
        Some((transaction, asked.state, asked.objects.clone()))
    }

    /// The objects of a question by what the report says. Named as failed, not named, or named under
    /// another class: not committed.
    fn said(&self, objects: &[Id], report: &References) -> Said {
        let kept: BTreeMap<_, _> = report
            .referenced
            .iter()
            .map(|one| (self.instance(one), one.class.as_str()))
            .collect();
        let lost: BTreeMap<_, _> = report
            .failed
            .iter()
            .map(|(one, reason)| (self.instance(one), Failure::of(*reason)))
            .collect();
        let worklist = self.spool.worklist();
        let mut said = Said::default();
        for id in objects {
            let Some(object) = worklist.object(*id) else {
                continue;
            };
            let instance = &object.stored.instance;
            let class = object.stored.sop_class.as_deref();
            let listed = kept.get(instance);
            let listed = listed.is_some_and(|named| class.is_none_or(|class| class == *named));
            match lost.get(instance) {
                Some(Failure::NoSuchInstance) => said.lacking.push(*id),
                Some(failure) => said.failed.push((*id, *failure)),
                None if listed => said.committed.push(*id),
                None => said.failed.push((*id, Failure::Processing)),
            }
        }
        said
    }
}

/// What a report says of what it was asked.
#[derive(Debug, Default)]
struct Said {
    committed: Vec<Id>,
    failed: Vec<(Id, Failure)>,
    /// 0112H: it was lost there, or never came.
    lacking: Vec<Id>,
}

/// Whether a request came before.
enum Known {
    Not,
    OnItsWay,
    /// Told before: it is told again.
    Over(Relayed),
}

/// There is one SOP instance.
fn not_ours(command: &Command) -> Option<Status> {
    let instance = command.sop_instance();
    let known = instance.is_some_and(|instance| instance.as_str() == INSTANCE);
    (!known).then_some(Status::NoSuchInstance)
}

fn purpose(request: Id) -> Vec<u8> {
    [b"commitment-request-v1".as_slice(), request.as_bytes()].concat()
}
