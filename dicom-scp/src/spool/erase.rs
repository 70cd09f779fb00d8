//! Erasing: first the record, then the keys, then the files. A kill in between leaves files that no
//! record names, and the next start destroys them the same way.

use super::record::Record;
use super::worklist::ObjectState;
use super::{Id, Spool, sealed};
use crate::error::SpoolError;

impl Spool {
    /// Erases a study if `still` says so once nothing comes into it any more. The number of its
    /// objects, or `None` if it stays.
    pub(crate) async fn erase_study(
        &self,
        study: Id,
        still: impl FnOnce(&super::Worklist) -> Option<Record>,
    ) -> Result<Option<u32>, SpoolError> {
        let alone = self.alone().await;
        let (record, objects, cleared) = {
            let worklist = self.worklist();
            let Some(record) = still(&worklist) else {
                return Ok(None);
            };
            let of_study = worklist.objects_of(study);
            let objects: Vec<Id> = of_study.iter().map(|object| object.stored.object).collect();
            let cleared = of_study.iter().filter_map(|object| match object.state {
                ObjectState::Cleared { file, .. } => Some(file),
                _ => None,
            });
            (record, objects, cleared.collect::<Vec<_>>())
        };
        self.append(record).await?;
        let count = objects.len() as u32;
        let spool = self.clone();
        let destroyed = tokio::task::spawn_blocking(move || {
            // The study's key first: without it nothing of the rest can be opened.
            sealed::destroy(&spool.0.disk, &spool.0.dir.join("keys"), study)?;
            spool.0.disk.sync_dir(&spool.0.dir.join("keys"))?;
            spool.destroy_all(&objects, &cleared)
        });
        let destroyed = destroyed.await;
        drop(alone);
        destroyed.map_err(|_| SpoolError::Sealed)??;
        self.compact_if_long().await?;
        Ok(Some(count))
    }

    /// Erases one object of the quarantine. False if it is not, or not any more, in it.
    pub(crate) async fn erase_object(
        &self,
        object: Id,
        record: Record,
    ) -> Result<bool, SpoolError> {
        let alone = self.alone().await;
        let study = {
            let worklist = self.worklist();
            let entry = worklist.object(object);
            let Some(entry) =
                entry.filter(|entry| matches!(entry.state, ObjectState::Quarantined { .. }))
            else {
                return Ok(false);
            };
            entry.stored.study
        };
        self.append(record).await?;
        let orphaned = self.worklist().study(study).is_none();
        let spool = self.clone();
        let destroyed = tokio::task::spawn_blocking(move || {
            if orphaned {
                sealed::destroy(&spool.0.disk, &spool.0.dir.join("keys"), study)?;
                spool.0.disk.sync_dir(&spool.0.dir.join("keys"))?;
            }
            spool.destroy_all(&[object], &[])
        });
        let destroyed = destroyed.await;
        drop(alone);
        destroyed.map_err(|_| SpoolError::Sealed)??;
        Ok(true)
    }

    fn destroy_all(&self, objects: &[Id], cleared: &[Id]) -> Result<(), SpoolError> {
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
    pub(crate) async fn renew_keys(&self) -> Result<u32, SpoolError> {
        let alone = self.alone().await;
        let (studies, waiting) = {
            let worklist = self.worklist();
            let studies: Vec<Id> = worklist.studies().map(|(id, _)| *id).collect();
            (studies, worklist.received())
        };
        let spool = self.clone();
        let renewed = tokio::task::spawn_blocking(move || {
            let mut count = 0;
            for study in studies {
                count += u32::from(spool.renew_study_key(study)?);
            }
            let keys = spool.keys();
            for object in waiting {
                let (newest, all) = (keys.wrapping(), keys.wrappings());
                match sealed::renew(&spool.0.disk, &spool.objects(), object, newest, &all) {
                    Ok(()) => count += 1,
                    // Found again, and quarantined, when the object is opened.
                    Err(SpoolError::Sealed | SpoolError::Key(_) | SpoolError::Missing { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(count)
        });
        let renewed = renewed.await;
        drop(alone);
        renewed.map_err(|_| SpoolError::Sealed)?
    }

    /// False if the study has no key yet.
    fn renew_study_key(&self, study: Id) -> Result<bool, SpoolError> {
        let path = self.study_key_file(study);
        if !path.exists() {
            return Ok(false);
        }
        let key = self.study_key(study)?;
        let purpose = super::study_key_purpose(study);
        let wrapped = crate::keys::wrap(self.0.keys.wrapping(), &purpose, &key)?;
        let replaced = self.0.disk.write_atomic(&path, &wrapped, 0o600);
        if replaced.is_err() {
            // Either wrapping opens it, but which name is durable is unknown.
            self.0.space.distrust();
        }
        Ok(replaced.map(|()| true)?)
    }
}
