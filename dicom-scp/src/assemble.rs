//! Third step: objects of one Study Instance UID become a study once it has been quiet. Before it
//! stands `store`, after it `deidentify`.
//!
//! Here the report id is made and recorded, before anybody hears of the study: whatever dies from
//! now on, the next try is for the same report. An object that comes later makes a new version.

use cloister_audit::{Action, Event};
use cloister_deid::DeidError;
use cloister_phi::AeTitle;
use cloister_runtime::Shutdown;
use dicom_object::DefaultDicomObject;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Later, SpoolError, StepError};
use crate::keys::{self, SecretKey};
use crate::metric::{self, StudyState};
use crate::pipeline::Gateway;
use crate::quarantine::Reason;
use crate::spool::record::{Record, now_unix_ms};
use crate::spool::sealed::{SealedReader, Slot};
use crate::spool::worklist::{Due, ObjectState};
use crate::spool::{Id, Spool};

/// An object of an assembled study, decrypted.
pub(crate) struct Assembled {
    id: Id,
    study: Id,
    calling: AeTitle,
    encoded: Zeroizing<Vec<u8>>,
}

impl Assembled {
    /// Opens an object that belongs to a version.
    pub(crate) fn open(spool: &Spool, id: Id) -> Result<Self, StepError> {
        let (study, calling) = {
            let worklist = spool.worklist();
            let object = worklist
                .object(id)
                .ok_or(StepError::Quarantine(Reason::Damaged))?;
            if !matches!(object.state, ObjectState::Assembled) {
                return Err(StepError::Quarantine(Reason::Damaged));
            }
            (object.stored.study, object.stored.calling_ae.clone())
        };
        let calling =
            AeTitle::parse(&calling).map_err(|_| StepError::Quarantine(Reason::Damaged))?;
        let key = spool.study_key(study)?;
        Ok(Self {
            id,
            study,
            calling,
            encoded: read_object(spool, id, &key)?,
        })
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }

    pub(crate) fn study(&self) -> Id {
        self.study
    }

    pub(crate) fn calling(&self) -> &AeTitle {
        &self.calling
    }

    /// The Part 10 file as it was received, read. Its bytes are gone then: a film is large, and the next
    /// step needs the room.
    ///
    /// # Errors
    /// As [`cloister_deid::read`].
    pub(crate) fn read(self) -> Result<DefaultDicomObject, DeidError> {
        cloister_deid::read(&self.encoded)
    }
}

/// The Part 10 file of an object whose key the study's key wraps.
pub(crate) fn read_object(
    spool: &Spool,
    id: Id,
    key: &SecretKey,
) -> Result<Zeroizing<Vec<u8>>, SpoolError> {
    SealedReader::open(&spool.objects(), id, &keys::cipher(key), Slot::Study)?.read_all()
}

/// Looks for quiet studies until `shutdown`.
pub(crate) async fn run(gateway: &Gateway, shutdown: &Shutdown) {
    let quiet = gateway.study.quiet;
    loop {
        // Armed before looking: a change in between is not missed.
        let changed = gateway.spool.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let (due, mut next) = gateway.spool.worklist().due(quiet);
        for due in due {
            if let Err(error) = assemble(gateway, due).await {
                tracing::error!(%error, "A study cannot be assembled; trying again.");
                next = Some(gateway.sidecar.retry_initial);
            }
        }
        // Never is a day: the next change wakes us anyway.
        let next = next.unwrap_or(std::time::Duration::from_hours(24));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed => {}
            () = tokio::time::sleep(next) => {}
        }
    }
}

async fn assemble(gateway: &Gateway, due: Due) -> Result<(), Later> {
    let Due {
        study,
        version,
        replaces,
        objects,
    } = due;
    let held = gateway.spool.hold().await;
    let (spool, ids) = (gateway.spool.clone(), objects.clone());
    let rewrapped = tokio::task::spawn_blocking(move || {
        let key = spool.study_key(study)?;
        for id in ids {
            match spool.rewrap(id, &key) {
                // Found again, and quarantined, when the object is opened.
                Ok(())
                | Err(
                    SpoolError::Sealed
                    | SpoolError::Key(crate::keys::KeyError::Opening)
                    | SpoolError::Missing { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    });
    rewrapped.await.map_err(|_| Later::Stopping)??;
    let report = Uuid::new_v4();
    let count = objects.len() as u32;
    let record = Record::Assembled {
        study,
        version,
        report,
        replaces,
        objects,
        at_unix_ms: now_unix_ms(),
    };
    let event = Event::new(Action::StudyAssembled)
        .report(report)
        .count(count);
    gateway
        .audit
        .record(event)
        .await
        .map_err(|_| Later::Audit)?;
    gateway.spool.append(record).await?;
    drop(held);
    metric::study(StudyState::Assembled);
    tracing::info!(%report, version, objects = count, "Assembled a study.");
    Ok(())
}
