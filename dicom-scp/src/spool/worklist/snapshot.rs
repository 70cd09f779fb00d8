//! The worklist as few records: what a compacted log begins with.

use serde::{Deserialize, Serialize};

use super::{Forgotten, Object, ObjectState, Study, Version, Worklist};
use crate::quarantine::Reason;
use crate::spool::Id;
use crate::spool::record::Record;

/// One study, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    study: Id,
    /// In order of arrival.
    objects: Vec<Object>,
    versions: Vec<Version>,
    pseudonym: Option<String>,
    purged: u32,
    before: Option<Forgotten>,
}

impl Worklist {
    /// Records that add up to this worklist.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let studies = self.studies.iter().map(|(id, study)| {
            let objects = study.objects.values();
            let objects = objects.filter_map(|id| self.objects.get(id).cloned());
            Record::Snapshot(Box::new(Snapshot {
                study: *id,
                objects: objects.collect(),
                versions: study.versions.clone(),
                pseudonym: study.pseudonym.clone(),
                purged: study.purged,
                before: study.before,
            }))
        });
        let forgotten = self.forgotten.iter().map(|(id, left)| Record::Erased {
            study: *id,
            objects: Vec::new(),
            left: *left,
        });
        studies.chain(forgotten).collect()
    }

    /// Records that a snapshot would have.
    pub(crate) fn live_records(&self) -> u64 {
        (self.studies.len() + self.forgotten.len()) as u64
    }

    /// Times of arrival are no part of a snapshot: a study that was quiet before stays quiet.
    pub(crate) fn arrivals_from(&mut self, older: &Self) {
        for (id, study) in &mut self.studies {
            if let Some(older) = older.studies.get(id) {
                study.last_arrival = older.last_arrival;
            }
        }
    }

    pub(super) fn restore(&mut self, sequence: u64, snapshot: Snapshot) {
        let mut study = Study::new(snapshot.before);
        study.versions = snapshot.versions;
        study.pseudonym = snapshot.pseudonym;
        study.purged = snapshot.purged;
        for (at, object) in (0_u32..).zip(snapshot.objects) {
            let stored = &object.stored;
            let damaged = matches!(
                object.state,
                ObjectState::Quarantined {
                    reason: Reason::Damaged,
                    ..
                }
            );
            if !damaged {
                self.instances
                    .entry(stored.instance)
                    .or_default()
                    .push(stored.content);
            }
            study.objects.insert((sequence, at), stored.object);
            self.objects.insert(stored.object, object);
        }
        self.studies.insert(snapshot.study, study);
    }
}
