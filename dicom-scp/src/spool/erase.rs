//! Erasing: first the record, then the keys, then the files. A kill in between leaves files that no
//! record names, and the next start destroys them the same way.

use super::record::Record;
use super::sealed::{SealedReader, Slot};
use super::worklist::ObjectState;
use super::worklist::commitment::{Leave, Leaver};
use super::{Id, Spool, sealed};
use crate::error::SpoolError;
use crate::keys::KeyError;

impl Spool {
    /// Erases a study if `still` says so once nothing comes into it any more. The number of its
    /// objects, or `None` if it stays.
    pub(crate) async fn erase_study(
        &self,
        study: Id,
        by: Leaver,
        still: impl FnOnce(&super::Worklist) -> Option<Record>,
    ) -> Result<Option<u32>, SpoolError> {
        let alone = self.alone().await;
        let (record, objects, cleared, leave) = {
            let worklist = self.worklist();
            let Some(record) = still(&worklist) else {
                return Ok(None);
            };
            let of_study = worklist.objects_of(study);
            let Some(leave) = worklist.leave(&of_study, by) else {
                return Ok(None);
            };
            let objects: Vec<Id> = of_study.iter().map(|object| object.stored.object).collect();
            let cleared = of_study.iter().filter_map(|object| match object.state {
                ObjectState::Cleared { file, .. } => Some(file),
                _ => None,
            });
            (record, objects, cleared.collect::<Vec<_>>(), leave)
        };
        self.append(record).await?;
        let count = objects.len() as u32;
        let spool = self.clone();
        let destroyed = tokio::task::spawn_blocking(move || {
            // The study's key first: without it nothing of the rest can be opened.
            sealed::destroy(&spool.0.disk, &spool.0.dir.join("keys"), study)?;
            spool.0.disk.sync_dir(&spool.0.dir.join("keys"))?;
            spool.destroy_all(&objects, &cleared, &leave)
        });
        let destroyed = self.over(destroyed.await);
        drop(alone);
        destroyed?;
        if let Err(error) = self.compact_if_long().await {
            tracing::error!(%error, "The spool's log cannot be compacted.");
        }
        Ok(Some(count))
    }

    /// Erases one object of the quarantine. False if it is not, or not any more, in it.
    pub(crate) async fn erase_object(
        &self,
        object: Id,
        record: Record,
    ) -> Result<bool, SpoolError> {
        let alone = self.alone().await;
        let (study, leave) = {
            let worklist = self.worklist();
            let entry = worklist.object(object);
            let Some(entry) =
                entry.filter(|entry| matches!(entry.state, ObjectState::Quarantined { .. }))
            else {
                return Ok(false);
            };
            let Some(leave) = worklist.leave(&[entry], Leaver::Operator) else {
                return Ok(false);
            };
            (entry.stored.study, leave)
        };
        self.append(record).await?;
        let orphaned = self.worklist().study(study).is_none();
        let spool = self.clone();
        let destroyed = tokio::task::spawn_blocking(move || {
            if orphaned {
                sealed::destroy(&spool.0.disk, &spool.0.dir.join("keys"), study)?;
                spool.0.disk.sync_dir(&spool.0.dir.join("keys"))?;
            }
            spool.destroy_all(&[object], &[], &leave)
        });
        let destroyed = self.over(destroyed.await);
        drop(alone);
        destroyed?;
        Ok(true)
    }

    /// The record says that it is gone, so nobody tries again: what is left, the next start destroys.
    fn over(
        &self,
        destroyed: Result<Result<(), SpoolError>, tokio::task::JoinError>,
    ) -> Result<(), SpoolError> {
        let destroyed = destroyed.unwrap_or(Err(SpoolError::Sealed));
        destroyed.inspect_err(|error| {
            tracing::error!(%error, "An erasure did not come to its end.");
            self.0.space.distrust();
        })
    }

    /// `Leave` is what the archive's word, or its absence from the configuration, gives.
    fn destroy_all(
        &self,
        objects: &[Id],
        cleared: &[Id],
        _leave: &Leave,
    ) -> Result<(), SpoolError> {
        for (dir, ids) in [(self.objects(), objects), (self.cleared(), cleared)] {
            for id in ids {
                let length = sealed::destroy(&self.0.disk, &dir, *id)?;
                self.0.space.freed(length);
            }
            if !ids.is_empty() {
                self.0.disk.sync_dir(&dir)?;
            }
        }
        Ok(())
    }

    /// Wraps every key that an older wrapping key wraps under the newest one. Done again after a
    /// kill, it ends in the same state. The number of keys that it looked at.
    ///
    /// # Errors
    /// [`SpoolError::NotRenewed`] when all others are done but some cannot be opened.
    pub(crate) async fn renew_keys(&self) -> Result<u32, SpoolError> {
        let (studies, waiting) = {
            let worklist = self.worklist();
            let studies: Vec<Id> = worklist.studies().map(|(id, _)| *id).collect();
            (studies, worklist.received())
        };
        let mut renewed = Renewed::default();
        // Whatever comes meanwhile is wrapped under the newest key anyway.
        for studies in studies.chunks(RENEWED_AT_A_TIME) {
            renewed.add(self.renew_alone(studies, Self::renew_study_key).await?);
        }
        for waiting in waiting.chunks(RENEWED_AT_A_TIME) {
            renewed.add(self.renew_alone(waiting, Self::renew_object_key).await?);
        }
        match renewed.closed {
            0 => Ok(renewed.looked_at),
            keys => Err(SpoolError::NotRenewed { keys }),
        }
    }

    async fn renew_alone(&self, ids: &[Id], renew: Renew) -> Result<Renewed, SpoolError> {
        let alone = self.alone().await;
        let (spool, ids) = (self.clone(), ids.to_vec());
        let task = tokio::task::spawn_blocking(move || {
            let mut renewed = Renewed::default();
            for id in ids {
                match renew(&spool, id) {
                    Ok(there) => renewed.looked_at += u32::from(there),
                    Err(SpoolError::Key(error @ KeyError::Opening)) => {
                        tracing::error!(%id, %error, "A key of the spool cannot be wrapped again.");
                        renewed.closed += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(renewed)
        });
        let renewed = task.await;
        drop(alone);
        renewed.map_err(|_| SpoolError::Sealed)?
    }

    /// False if the study has no key, or not any more.
    fn renew_study_key(&self, study: Id) -> Result<bool, SpoolError> {
        let making = self.key_making();
        let path = self.study_key_file(study);
        if !path.exists() {
            return Ok(false);
        }
        let key = self.study_key_under(&making, study)?;
        let purpose = super::study_key_purpose(study);
        let wrapped = crate::keys::wrap(self.0.keys.wrapping(), &purpose, &key)?;
        let replaced = self.0.disk.write_atomic(&path, &wrapped, 0o600);
        if replaced.is_err() {
            // Either wrapping opens it, but which name is durable is unknown.
            self.0.space.distrust();
        }
        Ok(replaced.map(|()| true)?)
    }

    /// False if no receive key wraps the object's key, or not any more.
    fn renew_object_key(&self, object: Id) -> Result<bool, SpoolError> {
        let Some(study) = self.worklist().is_received(object) else {
            return Ok(false);
        };
        let keys = self.keys();
        let (newest, all) = (keys.wrapping(), keys.wrappings());
        match sealed::renew(&self.0.disk, &self.objects(), object, newest, &all) {
            Ok(()) => Ok(true),
            // No key opens what is cut or gone: it is quarantined when somebody wants to read it.
            Err(SpoolError::Sealed | SpoolError::Missing { .. }) => Ok(false),
            // Released again, or a conflict: under its study's key, which is renewed.
            Err(SpoolError::Key(KeyError::Opening)) if self.opens_with_study(object, study)? => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn opens_with_study(&self, object: Id, study: Id) -> Result<bool, SpoolError> {
        if !self.study_key_file(study).exists() {
            return Ok(false);
        }
        let key = self.study_key(study)?;
        let cipher = crate::keys::cipher(&key);
        let opened = SealedReader::open(&self.objects(), object, &cipher, Slot::Study);
        Ok(opened.is_ok())
    }
}

/// Objects come in between.
const RENEWED_AT_A_TIME: usize = 64;

type Renew = fn(&Spool, Id) -> Result<bool, SpoolError>;

/// What became of some keys.
#[derive(Debug, Clone, Copy, Default)]
struct Renewed {
    looked_at: u32,
    /// No wrapping key opens these.
    closed: u32,
}

impl Renewed {
    fn add(&mut self, other: Self) {
        self.looked_at += other.looked_at;
        self.closed += other.closed;
    }
}
