//! The path of a film, in order.
//!
//! 1. `receive`: hostile bytes first meet limits, not disks.
//! 2. `store`: the sender may forget the film only when we cannot.
//! 3. `assemble`: one report is about one study, so wait until it is quiet; the
//!    report id is fixed here, so that every later step can be repeated.
//! 4. `deidentify`: tags before pixels, because they name what to look for.
//! 5. `redact`: text burned into pixels; needs the cleaned object.
//! 6. `clear`: the gate looks at the bytes that will leave, values and pixels, after
//!    everything that could have put something in.
//! 7. `forward`: only what is cleared, until it is accepted.
//!
//! An object that fails a step goes to quarantine with a reason and its study goes on without it; a
//! study that fails because of a room is tried again, less and less often, until it is given up: then
//! it is a dead letter with a reason, which an operator may have tried again. Each step's output can
//! only be made by that step. `retention` erases what has reached its end.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloister_audit::{Action, AuditLog, Event};
use cloister_deid::Deidentifier;
use cloister_phi::{AeTitle, Phi};
use cloister_runtime::Shutdown;
use cloister_seal::{SigningKey, VerifyingKey};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::config::{ReceiveConfig, SidecarConfig, StudyConfig};
use crate::error::{Later, SpoolError, StepError};
use crate::metric::{self, StudyState};
use crate::quarantine::{DeadReason, Reason, about};
use crate::redact::Engine;
use crate::route::{Routes, Subject};
use crate::spool::record::{Record, now_unix_ms};
use crate::spool::worklist::{Object, ObjectState, Version};
use crate::spool::{Id, Spool};
use crate::vault::Vault;
use crate::{assemble, clear, deidentify, forward, redact};

/// An object is given up after this many processes died while at work on it. More than one, because
/// a power cut takes innocent objects along.
const MOST_ATTEMPTS: usize = 3;

/// What the steps behind the spool need.
pub(crate) struct Gateway {
    /// This process, among those that worked on the same spool.
    pub(crate) boot: Id,
    pub(crate) spool: Spool,
    pub(crate) vault: Vault,
    pub(crate) audit: AuditLog,
    pub(crate) deidentifier: Deidentifier,
    pub(crate) engine: Engine,
    /// As many places as there are workers: a film that waits for one need not be in memory.
    pub(crate) cleaning: Semaphore,
    pub(crate) signing: SigningKey,
    pub(crate) directory_file: PathBuf,
    pub(crate) enrolment: VerifyingKey,
    pub(crate) channel: Channel,
    pub(crate) receive: ReceiveConfig,
    pub(crate) routes: Routes,
    pub(crate) study: StudyConfig,
    pub(crate) sidecar: SidecarConfig,
}

/// When a study is tried again.
struct Retry {
    at: Instant,
    wait: Duration,
}

/// Works on pending versions until `shutdown`; several studies at a time, each one alone.
pub(crate) async fn run(gateway: Arc<Gateway>, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(gateway.study.parallel));
    let mut working = JoinSet::new();
    let mut busy: HashMap<tokio::task::Id, Id> = HashMap::new();
    let mut retries: HashMap<Id, Retry> = HashMap::new();
    loop {
        let changed = gateway.spool.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let pending = gateway.spool.worklist().pending();
        metric::pending(pending.len());
        retries.retain(|study, _| pending.iter().any(|(id, _)| id == study));
        let now = Instant::now();
        let mut next = Duration::from_hours(24);
        for (study, version) in pending {
            if busy.values().any(|id| *id == study) {
                continue;
            }
            if let Some(retry) = retries.get(&study)
                && retry.at > now
            {
                next = next.min(retry.at - now);
                continue;
            }
            // Without a place it is looked at again when one is freed: a task has ended then.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                break;
            };
            let gateway = Arc::clone(&gateway);
            let task = working.spawn(async move {
                let result = version_or_dead_letter(&gateway, study, &version).await;
                drop(place);
                (version, result)
            });
            busy.insert(task.id(), study);
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = changed => {}
            () = tokio::time::sleep(next) => {}
            Some(ended) = working.join_next_with_id() => {
                let (task, result) = match ended {
                    Ok((task, (version, result))) => (task, result.map_err(|error| (Some(version), error))),
                    Err(error) => (error.id(), Err((None, Later::Stopping))),
                };
                let Some(study) = busy.remove(&task) else { continue };
                let Err((version, error)) = result else { continue };
                let first = gateway.sidecar.retry_initial;
                let wait = retries.get(&study).map_or(first, |retry| (retry.wait * 2).min(gateway.sidecar.retry_max));
                retries.insert(study, Retry { at: Instant::now() + jittered(wait), wait });
                let report = version.map(|version| version.report);
                tracing::warn!(?report, %error, wait_ms = wait.as_millis() as u64, "A study has to wait.");
            }
        }
    }
    // Every finished step is durable: what is cut off here is done again at the next start.
    working.shutdown().await;
}

/// Between half of `wait` and all of it, so that studies that failed together do not come back
/// together.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    if getrandom::fill(&mut random).is_err() {
        return wait;
    }
    let half = wait / 2;
    half + half.mul_f64(f64::from(u16::from_be_bytes(random)) / 65_536.0)
}

/// One version to its end, which is a dead letter if it never will be taken, or not for so long.
async fn version_or_dead_letter(
    gateway: &Gateway,
    study: Id,
    version: &Version,
) -> Result<(), Later> {
    let result = one_version(gateway, study, version).await;
    let reason = match &result {
        Err(Later::Never(reason)) => *reason,
        // What this room cannot do is no reason to stop trying.
        Err(Later::Directory | Later::Refused(_) | Later::Seal | Later::Unavailable(_))
            if tried_ms(version) >= gateway.sidecar.give_up_after.as_millis() =>
        {
            DeadReason::GaveUp
        }
        _ => return result,
    };
    let event = Event::failed(Action::StudyDeadLettered, reason.audit()).report(version.report);
    gateway
        .audit
        .record(event)
        .await
        .map_err(|_| Later::Audit)?;
    let record = Record::DeadLettered {
        study,
        version: version.number,
        reason,
        at_unix_ms: now_unix_ms(),
    };
    gateway.spool.append(record).await?;
    metric::dead_lettered(reason);
    metric::study(StudyState::DeadLettered);
    tracing::error!(report = %version.report, reason = reason.code(), "A study is a dead letter: an operator has to look.");
    Ok(())
}

fn tried_ms(version: &Version) -> u128 {
    now_unix_ms()
        .saturating_sub(version.since_unix_ms)
        .max(0)
        .unsigned_abs()
        .into()
}

/// One version from wherever it stands to its end.
async fn one_version(gateway: &Gateway, study: Id, version: &Version) -> Result<(), Later> {
    let subject = subject(gateway, study).await?;
    let recipient = subject
        .as_ref()
        .and_then(|subject| gateway.routes.recipient(subject));
    for object in &version.objects {
        let open = gateway.spool.worklist().object(*object).and_then(|object| {
            let open = matches!(object.state, ObjectState::Assembled);
            open.then_some(object.stored.bytes)
        });
        let Some(bytes) = open else {
            continue;
        };
        let passed = match recipient {
            // Before anything of it is in memory.
            _ if bytes > gateway.study.max_object_bytes => {
                Err(StepError::Quarantine(Reason::TooLarge))
            }
            Some(_) => one_object(gateway, *object).await,
            None => Err(StepError::Quarantine(Reason::NoRoute)),
        };
        match passed {
            Ok(()) => {}
            Err(StepError::Later(later)) => return Err(later),
            Err(StepError::Quarantine(reason)) => {
                quarantine(gateway, *object, version, reason).await?;
            }
        }
    }
    let key = gateway.spool.fetch_study_key(study).await?;
    let cleared = clear::cleared_of(&gateway.spool, study, &key)?;
    let (number, at_unix_ms) = (version.number, now_unix_ms());
    let (Some(recipient), false) = (recipient, cleared.is_empty()) else {
        gateway
            .spool
            .append(Record::Withheld {
                study,
                version: number,
                at_unix_ms,
            })
            .await?;
        metric::study(StudyState::Withheld);
        tracing::info!(report = %version.report, "No object of a study could be cleared; there is no report.");
        return Ok(());
    };
    let withheld = gateway.spool.worklist().withheld(study);
    let count = cleared.len();
    if count > gateway.study.max_objects {
        return Err(Later::Never(DeadReason::TooManyObjects));
    }
    let renditions: u64 = cleared.iter().map(clear::Cleared::rendition_bytes).sum();
    if renditions > gateway.study.max_rendition_bytes {
        return Err(Later::Never(DeadReason::TooManyBytes));
    }
    forward::forward(gateway, study, version, recipient, cleared, withheld).await?;
    gateway
        .spool
        .append(Record::Accepted {
            study,
            version: number,
            at_unix_ms: now_unix_ms(),
        })
        .await?;
    metric::study(StudyState::Forwarded);
    tracing::info!(report = %version.report, objects = count, withheld, "The sidecar has released a report.");
    Ok(())
}

async fn one_object(gateway: &Gateway, object: Id) -> Result<(), StepError> {
    let _place = gateway
        .cleaning
        .acquire()
        .await
        .map_err(|_| Later::Stopping)?;
    attempt(gateway, object).await?;
    let deidentified = deidentify::deidentify(gateway, object).await?;
    let redacted = redact::redact(&gateway.engine, deidentified).await?;
    clear::clear(&gateway.spool, &gateway.engine, redacted).await
}

/// Says durably that this process goes to work on `object`, unless too many died doing so.
async fn attempt(gateway: &Gateway, object: Id) -> Result<(), StepError> {
    let boot = gateway.boot;
    let attempts = gateway
        .spool
        .worklist()
        .object(object)
        .map(|object| object.attempts.clone())
        .unwrap_or_default();
    match next_attempt(&attempts, boot) {
        Attempt::Known => Ok(()),
        Attempt::First => {
            let record = Record::Attempted { object, boot };
            Ok(gateway.spool.append(record).await.map_err(Later::from)?)
        }
        Attempt::TooMany => Err(StepError::Quarantine(Reason::ProcessDied)),
    }
}

/// What a process may do with an object that others began to work on.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// It said so before: a step failed because of the room and is tried again.
    Known,
    /// It has to say so first.
    First,
    /// It must leave the object alone.
    TooMany,
}

fn next_attempt(attempts: &BTreeSet<Id>, boot: Id) -> Attempt {
    if attempts.contains(&boot) {
        Attempt::Known
    } else if attempts.len() < MOST_ATTEMPTS {
        Attempt::First
    } else {
        Attempt::TooMany
    }
}

async fn quarantine(
    gateway: &Gateway,
    object: Id,
    version: &Version,
    reason: Reason,
) -> Result<(), Later> {
    let event = Event::refused(Action::ObjectQuarantined, reason.audit()).report(version.report);
    let event = about(event, object);
    gateway
        .audit
        .record(event)
        .await
        .map_err(|_| Later::Audit)?;
    gateway
        .spool
        .append(Record::Quarantined {
            object,
            reason,
            at_unix_ms: now_unix_ms(),
        })
        .await?;
    metric::quarantined(reason);
    tracing::info!(%object, reason = reason.code(), "An object is in quarantine.");
    Ok(())
}

/// What the routing rules look at: the study's first sender, and the tags of its first film that can
/// be read.
async fn subject(gateway: &Gateway, study: Id) -> Result<Option<Subject>, Later> {
    let (first, objects) = {
        let worklist = gateway.spool.worklist();
        let objects = worklist.objects_of(study);
        // An object under a UID that was used before is not part of the study.
        let objects = objects.into_iter();
        let mut objects = objects.filter(|object| !object.stored.conflict).peekable();
        let first = objects
            .peek()
            .map(|object| object.stored.calling_ae.clone());
        // What is in quarantine is not looked at again, and what waits is not under the study's key.
        let small = |object: &&Object| object.stored.bytes <= gateway.study.max_object_bytes;
        let readable = objects
            .filter(small)
            .filter_map(|object| match object.state {
                ObjectState::Cleared { .. } => Some((object.stored.object, true)),
                ObjectState::Assembled => Some((object.stored.object, false)),
                ObjectState::Waiting | ObjectState::Quarantined { .. } => None,
            });
        (first, readable.collect::<Vec<_>>())
    };
    let Some(Ok(calling)) = first.as_deref().map(AeTitle::parse) else {
        return Ok(None);
    };
    let mut tags = <[String; 3]>::default();
    if gateway.routes.looks_at_tags() {
        for (object, cleared) in objects {
            // What was cleared was read before; what was not may be what a process dies of.
            if !cleared {
                match attempt(gateway, object).await {
                    Ok(()) => {}
                    Err(StepError::Quarantine(_)) => continue,
                    Err(StepError::Later(later)) => return Err(later),
                }
            }
            let spool = gateway.spool.clone();
            let task = tokio::task::spawn_blocking(move || routing_tags(&spool, study, object));
            match task.await {
                Ok(read) => {
                    if let Some(read) = read? {
                        tags = read;
                        break;
                    }
                }
                // Hostile bytes: `deidentify` meets them again and puts them in quarantine.
                Err(error) if error.is_panic() => {}
                Err(_) => return Err(Later::Stopping),
            }
        }
    }
    let tags = Phi::new(tags);
    Ok(Some(Subject { calling, tags }))
}

/// `None` if the object cannot be read.
fn routing_tags(spool: &Spool, study: Id, object: Id) -> Result<Option<[String; 3]>, SpoolError> {
    use dicom_dictionary_std::tags::{INSTITUTION_NAME, MODALITY, REFERRING_PHYSICIAN_NAME};
    let key = spool.study_key(study)?;
    let encoded = match assemble::read_object(spool, object, &key) {
        Ok(encoded) => encoded,
        Err(SpoolError::Sealed | SpoolError::Key(_) | SpoolError::Missing { .. }) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let Ok(object) = cloister_deid::read(&encoded) else {
        return Ok(None);
    };
    let tags = [INSTITUTION_NAME, MODALITY, REFERRING_PHYSICIAN_NAME];
    Ok(Some(tags.map(|tag| {
        let value = object.element_opt(tag).ok().flatten();
        let text = value.and_then(|element| element.to_str().ok());
        text.map(std::borrow::Cow::into_owned).unwrap_or_default()
    })))
}

/// Acknowledged objects whose file is gone: somebody has to see it, and the sender's next try is not
/// a duplicate but the only copy. The other studies go on.
pub(crate) async fn quarantine_missing(spool: &Spool, audit: &AuditLog) -> anyhow::Result<()> {
    let reason = Reason::Damaged;
    for object in spool.missing() {
        tracing::error!(%object, "The file of an acknowledged object is missing.");
        let event = Event::refused(Action::ObjectQuarantined, reason.audit());
        audit.record(about(event, object)).await?;
        let at_unix_ms = now_unix_ms();
        let record = Record::Quarantined {
            object,
            reason,
            at_unix_ms,
        };
        spool.append(record).await?;
        metric::quarantined(reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_no_process_survives_is_given_up_by_the_fourth() {
        let boot = |byte: u8| Id::of_hash(&[byte; 32]);
        let mut attempts = BTreeSet::new();
        for byte in 1..=3 {
            assert_eq!(next_attempt(&attempts, boot(byte)), Attempt::First);
            attempts.insert(boot(byte));
            assert_eq!(next_attempt(&attempts, boot(byte)), Attempt::Known);
        }
        assert_eq!(next_attempt(&attempts, boot(4)), Attempt::TooMany);
    }
}
