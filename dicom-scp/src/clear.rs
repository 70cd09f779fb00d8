//! Sixth step: the gate. The encoded result is read back: a worker looks at every pixel for text, and
//! every value is searched for the patient's own identifiers. Only what passes is `Cleared`, and only `Cleared` is forwarded. Before it stands
//! `redact`, after it `forward`.
//!
//! A cleared object is kept, sealed under its study's key, so that neither a restart nor a late film
//! has to clear it again.

use std::time::Instant;

use cloister_deid::gate;
use cloister_log::LogError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::deidentify::{Context, Facts};
use crate::error::{Later, SpoolError, StepError};
use crate::keys::{self, SecretKey};
use crate::metric::{self, Step};
use crate::quarantine::Reason;
use crate::redact::{Engine, Redacted};
use crate::spool::record::Record;
use crate::spool::sealed::{SealedReader, Slot};
use crate::spool::worklist::ObjectState;
use crate::spool::{Id, Spool};

const META: &[u8] = b"cleared-meta-v1";

/// Sealed in the log beside a cleared object's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    facts: Facts,
    object_bytes: u64,
    /// Absent in what an older version cleared.
    #[serde(default)]
    rendition_bytes: u64,
    object_sha256: [u8; 32],
    rendition_sha256: [u8; 32],
    redacted_boxes: u32,
}

/// An object that may leave: on disk, encrypted. Made by [`clear`], or found again by [`cleared_of`],
/// whose authenticated encryption proves that `clear` made it.
pub(crate) struct Cleared {
    file: Id,
    meta: Meta,
}

impl Cleared {
    pub(crate) fn facts(&self) -> &Facts {
        &self.meta.facts
    }

    pub(crate) fn object_sha256(&self) -> [u8; 32] {
        self.meta.object_sha256
    }

    pub(crate) fn rendition_sha256(&self) -> [u8; 32] {
        self.meta.rendition_sha256
    }

    /// Places with burned-in text that were blanked.
    pub(crate) fn redacted_boxes(&self) -> u32 {
        self.meta.redacted_boxes
    }

    /// Bytes of the object; the rendition follows it in the same file.
    pub(crate) fn object_bytes(&self) -> u64 {
        self.meta.object_bytes
    }

    /// Bytes of the rendition, 0 if an older version cleared it.
    pub(crate) fn rendition_bytes(&self) -> u64 {
        self.meta.rendition_bytes
    }

    /// Reads object and rendition, in this order.
    pub(crate) fn read(&self, spool: &Spool, key: &SecretKey) -> Result<SealedReader, SpoolError> {
        SealedReader::open(&spool.cleared(), self.file, &keys::cipher(key), Slot::Study)
    }
}

/// Looks once more, then stores.
pub(crate) async fn clear(
    spool: &Spool,
    engine: &Engine,
    redacted: Redacted,
) -> Result<(), StepError> {
    let started = Instant::now();
    let (handle, id) = (spool.clone(), redacted.id());
    let (object, rendition, findings, context) = redacted.into_parts();
    engine.check(object.clone(), &findings).await?;
    let boxes = u32::try_from(findings.redacted()).unwrap_or(u32::MAX);
    let task = tokio::task::spawn_blocking(move || {
        check_and_write(&handle, &object, &rendition, boxes, context)
    });
    let written = task.await.map_err(|error| {
        if error.is_panic() {
            StepError::Quarantine(Reason::ResidualIdentifier)
        } else {
            Later::Stopping.into()
        }
    })?;
    let (file, study_pseudonym, meta) = written?;
    let record = Record::Cleared {
        object: id,
        file,
        study_pseudonym,
        meta,
    };
    let appended = spool.append(record).await.inspect_err(|error| {
        // In the other cases the record may be there after a restart, and then it needs its file.
        if matches!(error, LogError::Full | LogError::TooLarge) {
            spool.discard_cleared(file);
        }
    });
    appended.map_err(Later::from)?;
    metric::step(Step::Clear, started.elapsed());
    Ok(())
}

fn check_and_write(
    spool: &Spool,
    object: &[u8],
    rendition: &[u8],
    redacted_boxes: u32,
    context: Context,
) -> Result<(Id, String, Vec<u8>), StepError> {
    let Context {
        id: _,
        study,
        facts,
        known,
        policy,
        unredacted: _,
    } = context;
    gate::look(object, &known, policy)
        .map_err(|_| StepError::Quarantine(Reason::ResidualIdentifier))?;
    drop(known);
    let key = spool.study_key(study)?;
    // One report names one patient: a film of somebody else under the same study stays here.
    if cleared_of(spool, study, &key)?
        .first()
        .is_some_and(|first| !same_patient(first.facts(), &facts))
    {
        return Err(StepError::Quarantine(Reason::PatientConflict));
    }
    let cipher = keys::cipher(&key);
    let file = Id::random()?;
    let mut writer = spool.write_cleared(file, &cipher)?;
    writer.write(object)?;
    writer.write(rendition)?;
    writer.finish()?;
    let study_pseudonym = facts.study_pseudonym.clone();
    let meta = Meta {
        facts,
        object_bytes: object.len() as u64,
        rendition_bytes: rendition.len() as u64,
        object_sha256: Sha256::digest(object).into(),
        rendition_sha256: Sha256::digest(rendition).into(),
        redacted_boxes,
    };
    let plain = Zeroizing::new(serde_json::to_vec(&meta).map_err(|_| SpoolError::Sealed)?);
    let meta = keys::seal_small(&cipher, &purpose(file), &plain).map_err(SpoolError::from)?;
    Ok((file, study_pseudonym, meta))
}

fn same_patient(one: &Facts, other: &Facts) -> bool {
    if one.patient_id.is_empty() && other.patient_id.is_empty() {
        return one.patient_name == other.patient_name && one.birth_date == other.birth_date;
    }
    one.patient_id == other.patient_id && one.issuer == other.issuer
}

fn purpose(file: Id) -> Vec<u8> {
    [META, file.as_bytes()].concat()
}

/// Every cleared object of a study, in order of arrival.
pub(crate) fn cleared_of(
    spool: &Spool,
    study: Id,
    key: &SecretKey,
) -> Result<Vec<Cleared>, SpoolError> {
    let sealed: Vec<(Id, Vec<u8>)> = {
        let worklist = spool.worklist();
        let objects = worklist.objects_of(study).into_iter();
        let cleared = objects.filter_map(|object| match &object.state {
            ObjectState::Cleared { file, meta } => Some((*file, meta.clone())),
            _ => None,
        });
        cleared.collect()
    };
    let cipher = keys::cipher(key);
    let open = |(file, sealed): (Id, Vec<u8>)| {
        let plain = keys::open_small(&cipher, &purpose(file), &sealed)?;
        let meta = serde_json::from_slice(&plain).map_err(|_| SpoolError::Sealed)?;
        Ok(Cleared { file, meta })
    };
    sealed.into_iter().map(open).collect()
}
