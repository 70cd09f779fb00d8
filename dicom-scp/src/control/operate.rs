//! What an operator may change: each request is on the audit trail with the user id that the kernel
//! names for the socket's peer, before anything is done or told.

use std::path::{Path, PathBuf};

use cloister_audit::{Action, Actor, AuditLog, Event, Reason as AuditReason};
use cloister_phi::Pseudonym;

use super::{Answer, Desk, Done, Identity, QuarantineRequest, StudyRequest, VaultRequest};
use crate::error::SpoolError;
use crate::keys::KeyError;
use crate::metric::{self, Erased, Operated};
use crate::quarantine::about;
use crate::spool::Id;
use crate::spool::record::{Record, now_unix_ms};
use crate::spool::worklist::commitment::Leaver;
use crate::spool::worklist::{Object, ObjectState, Version, VersionState, Worklist};

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Something outside the request is at fault.
    #[error("the room cannot do it now; its log says why")]
    Failed,
    #[error("there is nothing of this name")]
    NotFound,
    #[error("user {0} is not one of control.operators")]
    NotAllowed(u32),
    #[error("the object is not in quarantine")]
    NotInQuarantine,
    #[error("the study is no dead letter")]
    NotDead,
    #[error("{0}")]
    Senseless(&'static str),
}

impl Refused {
    fn audit(&self) -> AuditReason {
        match self {
            Self::Failed => AuditReason::StorageFailed,
            Self::NotFound => AuditReason::NotFound,
            Self::NotAllowed(_) => AuditReason::OperatorNotAllowed,
            Self::NotInQuarantine | Self::NotDead | Self::Senseless(_) => {
                AuditReason::NotReleasable
            }
        }
    }
}

impl From<SpoolError> for Refused {
    fn from(error: SpoolError) -> Self {
        tracing::error!(%error, "An operator's request failed.");
        Self::Failed
    }
}

impl From<cloister_log::LogError> for Refused {
    fn from(error: cloister_log::LogError) -> Self {
        SpoolError::from(error).into()
    }
}

/// Of an object that the archive has neither committed to nor been given up on.
const HELD: &str = "the archive does not have it yet; see `cloister commitments`";

/// One operator's request.
pub(super) struct Operation<'a> {
    pub(super) desk: &'a Desk,
    pub(super) uid: u32,
}

impl Operation<'_> {
    pub(super) async fn studies(&self, request: StudyRequest) -> Answer {
        match request {
            StudyRequest::Retry(study) => {
                let done = self.retry(&study).await;
                self.answer("retry", Action::StudyRetried, done).await
            }
            StudyRequest::Discard(study) => {
                let done = self.discard(&study).await;
                self.answer("discard", Action::KeyForgotten, done).await
            }
        }
    }

    pub(super) async fn quarantine(&self, request: QuarantineRequest) -> Answer {
        match request {
            QuarantineRequest::Show(object) => match self.show(&object) {
                Ok(answer) => answer,
                Err(refused) => Answer::Refused(refused.to_string()),
            },
            QuarantineRequest::Release(object) => {
                let done = self.release(&object).await;
                self.answer("release", Action::QuarantineReleased, done)
                    .await
            }
            QuarantineRequest::Purge(object) => {
                let done = self.purge(&object).await;
                self.answer("purge", Action::QuarantinePurged, done).await
            }
        }
    }

    pub(super) async fn vault(&self, request: VaultRequest) -> Answer {
        match request {
            VaultRequest::Lookup(asked) => {
                let done = self.lookup(&asked).await;
                self.answer("vault_lookup", Action::VaultLookedUp, done)
                    .await
            }
            VaultRequest::Rotate => {
                let done = self.rotate().await;
                self.answer("vault_rotate", Action::VaultRotated, done)
                    .await
            }
            VaultRequest::Backup(file) => {
                let done = self.back_up(file, true).await;
                self.answer("vault_backup", Action::VaultBackedUp, done)
                    .await
            }
            VaultRequest::Verify(file) => {
                let done = self.back_up(file, false).await;
                self.answer("vault_verify", Action::VaultBackedUp, done)
                    .await
            }
        }
    }

    /// Puts a refusal on record as well.
    pub(super) async fn answer(
        &self,
        operation: &'static str,
        action: Action,
        done: Result<Answer, Refused>,
    ) -> Answer {
        let refused = match done {
            Ok(answer) => {
                metric::operated(operation, Operated::Done);
                return answer;
            }
            Err(refused) => refused,
        };
        let reason = refused.audit();
        let (event, ended) = match refused {
            Refused::Failed => (Event::failed(action, reason), Operated::Failed),
            _ => (Event::refused(action, reason), Operated::Refused),
        };
        metric::operated(operation, ended);
        let event = event.actor(Actor::operator(self.uid));
        if let Err(error) = self.desk.audit.record(event).await {
            tracing::error!(%error, "A refused operation is not in the audit log.");
        }
        Answer::Refused(refused.to_string())
    }

    pub(super) fn allowed(&self) -> Result<(), Refused> {
        if self.desk.operators.contains(&self.uid) {
            Ok(())
        } else {
            Err(Refused::NotAllowed(self.uid))
        }
    }

    pub(super) async fn audited(&self, event: Event) -> Result<(), Refused> {
        let audit: &AuditLog = &self.desk.audit;
        let event = event.actor(Actor::operator(self.uid));
        audit.record(event).await.map(drop).map_err(|error| {
            tracing::error!(%error, "An operation is not in the audit log, so it is not done.");
            Refused::Failed
        })
    }

    async fn retry(&self, study: &str) -> Result<Answer, Refused> {
        self.allowed()?;
        let study = named(study)?;
        // Nobody discards it meanwhile.
        let held = self.desk.spool.hold().await;
        let version = {
            let worklist = self.desk.spool.worklist();
            let entry = worklist.study(study).ok_or(Refused::NotFound)?;
            let last = entry.versions.last().ok_or(Refused::NotDead)?;
            if !matches!(last.state, VersionState::Dead(_)) {
                return Err(Refused::NotDead);
            }
            last.clone()
        };
        self.audited(Event::new(Action::StudyRetried).report(version.report))
            .await?;
        let record = Record::Retried {
            study,
            version: version.number,
            at_unix_ms: now_unix_ms(),
        };
        self.desk.spool.append(record).await?;
        drop(held);
        Ok(Answer::Done(Done::Retried))
    }

    /// Erases what this room holds of the study; a report that was released before stays where it is.
    async fn discard(&self, study: &str) -> Result<Answer, Refused> {
        self.allowed()?;
        let study = named(study)?;
        let event = {
            let worklist = self.desk.spool.worklist();
            let entry = worklist.study(study).ok_or(Refused::NotFound)?;
            let version = dead_letter(&worklist, study)?;
            let event = Event::new(Action::KeyForgotten).report(version.report);
            let event = event.count(entry.objects.len() as u32);
            match entry.pseudonym.as_deref().map(Pseudonym::parse) {
                Some(Ok(pseudonym)) => event.study(pseudonym),
                _ => event,
            }
        };
        self.audited(event).await?;
        let erased = self
            .desk
            .spool
            .erase_study(study, Leaver::Operator, |worklist| {
                dead_letter(worklist, study).ok()?;
                worklist.erasure(study, now_unix_ms())
            });
        // It was one when it was put on record: since then something came, or the archive has to hear.
        let objects = erased.await?.ok_or(Refused::Senseless(HELD))?;
        metric::erased(Erased::Discard, objects);
        tracing::info!(%study, objects, "An operator had a dead letter erased.");
        Ok(Answer::Done(Done::Discarded))
    }

    fn show(&self, object: &str) -> Result<Answer, Refused> {
        let object = named(object)?;
        let worklist = self.desk.spool.worklist();
        let rows = super::quarantine_rows(&worklist);
        let row = rows
            .into_iter()
            .find(|row| row.object == object.to_string())
            .ok_or(Refused::NotFound)?;
        Ok(Answer::Shown(Box::new(row)))
    }

    async fn release(&self, object: &str) -> Result<Answer, Refused> {
        self.allowed()?;
        let object = named(object)?;
        // Nobody purges it meanwhile.
        let held = self.desk.spool.hold().await;
        let event = {
            let worklist = self.desk.spool.worklist();
            let entry = worklist.object(object).ok_or(Refused::NotFound)?;
            let ObjectState::Quarantined { reason, .. } = entry.state else {
                return Err(Refused::NotInQuarantine);
            };
            if let Some(why) = reason.not_releasable() {
                return Err(Refused::Senseless(why));
            }
            about_entry(Action::QuarantineReleased, &worklist, entry)
        };
        self.audited(event).await?;
        let at_unix_ms = now_unix_ms();
        let record = Record::Released { object, at_unix_ms };
        self.desk.spool.append(record).await?;
        drop(held);
        Ok(Answer::Done(Done::Released))
    }

    async fn purge(&self, object: &str) -> Result<Answer, Refused> {
        self.allowed()?;
        let object = named(object)?;
        let event = {
            let worklist = self.desk.spool.worklist();
            let entry = worklist.object(object).ok_or(Refused::NotFound)?;
            if !matches!(entry.state, ObjectState::Quarantined { .. }) {
                return Err(Refused::NotInQuarantine);
            }
            if worklist.leave(&[entry], Leaver::Operator).is_none() {
                return Err(Refused::Senseless(HELD));
            }
            about_entry(Action::QuarantinePurged, &worklist, entry)
        };
        self.audited(event).await?;
        let at_unix_ms = now_unix_ms();
        let record = Record::Purged { object, at_unix_ms };
        if !self.desk.spool.erase_object(object, record).await? {
            let worklist = self.desk.spool.worklist();
            let stays = worklist
                .object(object)
                .is_some_and(|entry| matches!(entry.state, ObjectState::Quarantined { .. }));
            return Err(if stays {
                Refused::Senseless(HELD)
            } else {
                Refused::NotInQuarantine
            });
        }
        metric::erased(Erased::Purge, 1);
        Ok(Answer::Done(Done::Purged))
    }

    async fn lookup(&self, asked: &str) -> Result<Answer, Refused> {
        self.allowed()?;
        let vault = self.desk.vault.clone();
        let text = asked.to_owned();
        let found = tokio::task::spawn_blocking(move || vault.find(&text));
        let found = found.await.map_err(|_| Refused::Failed)??;
        if found.is_empty() {
            return Err(Refused::NotFound);
        }
        let event = Event::new(Action::VaultLookedUp).count(found.len() as u32);
        // The question may be an identifier itself: only a pseudonym goes on record.
        let event = match Pseudonym::parse(asked) {
            Ok(pseudonym) if found.iter().any(|found| found.pseudonym() == asked) => {
                event.study(pseudonym)
            }
            _ => event,
        };
        self.audited(event).await?;
        let identities = found.iter().map(|found| Identity {
            kind: found.kind().to_owned(),
            issuer: found.issuer().to_owned(),
            original: found.original().to_owned(),
            pseudonym: found.pseudonym().to_owned(),
        });
        Ok(Answer::Identities(identities.collect()))
    }

    async fn rotate(&self) -> Result<Answer, Refused> {
        self.allowed()?;
        self.audited(Event::new(Action::VaultRotated)).await?;
        // The keyring last: a keyring under the newest wrapping key means that the others are not
        // needed any more.
        let keys = self.desk.spool.renew_keys().await?;
        let vault = self.desk.vault.clone();
        let rotated = tokio::task::spawn_blocking(move || vault.rotate());
        let generation = rotated.await.map_err(|_| Refused::Failed)??;
        tracing::info!(generation, keys, "The vault's keys were rotated.");
        Ok(Answer::Done(Done::Rotated { generation, keys }))
    }

    async fn back_up(&self, file: PathBuf, write: bool) -> Result<Answer, Refused> {
        self.allowed()?;
        if !file.is_absolute() {
            return Err(Refused::Senseless("give an absolute path"));
        }
        if write && file.exists() {
            return Err(Refused::Senseless("the file exists; it is not replaced"));
        }
        if !write && !Path::is_file(&file) {
            return Err(Refused::NotFound);
        }
        self.audited(Event::new(Action::VaultBackedUp)).await?;
        let vault = self.desk.vault.clone();
        let task = tokio::task::spawn_blocking(move || {
            if write {
                vault.back_up(&file)
            } else {
                vault.verify(&file)
            }
        });
        let checked = task.await.map_err(|_| Refused::Failed)?;
        let checked = match checked {
            Err(
                SpoolError::Sealed | SpoolError::Key(KeyError::Opening) | SpoolError::Record { .. },
            ) if !write => {
                return Err(Refused::Senseless(
                    "the file is damaged, cut, or sealed under another wrapping key",
                ));
            }
            other => other?,
        };
        Ok(Answer::Done(Done::Backup {
            entries: checked.entries,
            records: checked.records,
            generation: checked.generation,
        }))
    }
}

/// Names the object, and its study once that has a pseudonym.
fn about_entry(action: Action, worklist: &Worklist, entry: &Object) -> Event {
    let event = about(Event::new(action), entry.stored.object);
    let study = worklist.study(entry.stored.study);
    let pseudonym = study.and_then(|study| study.pseudonym.as_deref());
    match pseudonym.map(Pseudonym::parse) {
        Some(Ok(pseudonym)) => event.study(pseudonym),
        _ => event,
    }
}

/// The version that waits for a human, if nothing else of the study is on its way.
fn dead_letter(worklist: &Worklist, study: Id) -> Result<Version, Refused> {
    let entry = worklist.study(study).ok_or(Refused::NotFound)?;
    let version = entry.dead_letter().ok_or(Refused::NotDead)?;
    let waits = |object: &&Object| matches!(object.state, ObjectState::Waiting);
    if worklist
        .leave(&worklist.objects_of(study), Leaver::Operator)
        .is_none()
    {
        return Err(Refused::Senseless(HELD));
    }
    if worklist.objects_of(study).iter().any(waits) {
        return Err(Refused::Senseless(
            "a film has come since: wait for its version",
        ));
    }
    Ok(version.clone())
}

pub(super) fn named(text: &str) -> Result<Id, Refused> {
    Id::try_from(text.to_owned()).map_err(|_| Refused::NotFound)
}
