//! The worklist as few records: what a compacted log begins with.

use serde::{Deserialize, Serialize};

use super::{Forgotten, Object, ObjectState, Study, Version, Worklist};
use crate::quarantine::Reason;
use crate::spool::Id;
use crate::spool::record::Record;

/// Objects of one record: with a few KiB each it stays far below the log's limit.
const PIECE: usize = 10_000;

/// One study, or a piece of one: the first has everything but the objects that follow.
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
        self.snapshot_in(PIECE)
    }

    fn snapshot_in(&self, piece: usize) -> Vec<Record> {
        let studies = self.studies.iter().flat_map(|(id, study)| {
            let objects = study.objects.values();
            let mut objects = objects.filter_map(|id| self.objects.get(id).cloned());
            let mut pieces = vec![Snapshot {
                study: *id,
                objects: objects.by_ref().take(piece).collect(),
                versions: study.versions.clone(),
                pseudonym: study.pseudonym.clone(),
                purged: study.purged,
                before: study.before,
            }];
            loop {
                let more: Vec<Object> = objects.by_ref().take(piece).collect();
                if more.is_empty() {
                    break;
                }
                pieces.push(Snapshot {
                    study: *id,
                    objects: more,
                    versions: Vec::new(),
                    pseudonym: None,
                    purged: 0,
                    before: None,
                });
            }
            let pieces = pieces.into_iter();
            pieces.map(|piece| Record::Snapshot(Box::new(piece)))
        });
        let forgotten = self.forgotten.iter().map(|(id, left)| Record::Erased {
            study: *id,
            objects: Vec::new(),
            left: *left,
        });
        // After the objects that they are about.
        let relay = self.relay_records().into_iter();
        studies.chain(forgotten).chain(relay).collect()
    }

    /// Records that a snapshot would have.
    pub(crate) fn live_records(&self) -> u64 {
        let pieces = |study: &Study| study.objects.len().div_ceil(PIECE).max(1);
        let studies: usize = self.studies.values().map(pieces).sum();
        (studies + self.forgotten.len() + self.relay_len()) as u64
    }

    /// Times of arrival are no part of a snapshot: a study that was quiet before stays quiet.
    pub(crate) fn arrivals_from(&mut self, older: &Self) {
        self.keep_holding(older);
        for (id, study) in &mut self.studies {
            if let Some(older) = older.studies.get(id) {
                study.last_arrival = older.last_arrival;
            }
        }
    }

    pub(super) fn restore(&mut self, sequence: u64, snapshot: Snapshot) {
        let study = self
            .studies
            .entry(snapshot.study)
            .or_insert_with(|| Study::new(snapshot.before));
        study.versions.extend(snapshot.versions);
        study.pseudonym = snapshot.pseudonym.or(study.pseudonym.take());
        study.purged += snapshot.purged;
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
            self.objects.insert(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::quarantine::DeadReason;
    use crate::spool::record::StoredRecord;
    use crate::spool::worklist::Novelty::{Duplicate, New};
    use crate::spool::worklist::{Keep, VersionState};

    fn id(byte: u8) -> Id {
        Id::of_hash(&[byte; 32])
    }

    fn record(kind: u8, study: u8, object: u8, extra: u8) -> Record {
        let (study, object, at_unix_ms) = (id(study), id(100 + object), i64::from(extra) * 1000);
        let version = u32::from(extra % 3) + 1;
        match kind {
            0..=3 => Record::Stored(StoredRecord {
                object,
                study,
                instance: [extra % 5; 32],
                content: [extra; 32],
                calling_ae: "CT".to_owned(),
                bytes: 1,
                at_unix_ms,
                conflict: extra % 4 == 3,
                sop_class: None,
            }),
            4 => Record::Assembled {
                study,
                version,
                report: Uuid::from_u128(extra.into()),
                replaces: None,
                objects: vec![object, id(100 + extra % 8)],
                at_unix_ms,
            },
            5 => Record::Attempted {
                object,
                boot: id(extra),
            },
            6 => Record::Cleared {
                object,
                file: id(200),
                study_pseudonym: "study-1".to_owned(),
                meta: vec![extra],
            },
            7 => {
                let reasons = [Reason::ProcessDied, Reason::NoRoute, Reason::UidConflict];
                let reason = reasons[usize::from(extra) % 3];
                Record::Quarantined {
                    object,
                    reason,
                    at_unix_ms,
                }
            }
            8 => Record::Accepted {
                study,
                version,
                at_unix_ms,
            },
            9 => {
                let reason = DeadReason::GaveUp;
                Record::DeadLettered {
                    study,
                    version,
                    reason,
                    at_unix_ms,
                }
            }
            10 => Record::Retried {
                study,
                version,
                at_unix_ms,
            },
            11 => Record::Released { object, at_unix_ms },
            12 => Record::Purged { object, at_unix_ms },
            _ => Record::Withheld {
                study,
                version,
                at_unix_ms,
            },
        }
    }

    fn text(list: &Worklist) -> Vec<String> {
        let records = list.snapshot();
        records
            .iter()
            .map(|record| serde_json::to_string(record).unwrap())
            .collect()
    }

    #[test]
    fn a_damaged_film_is_still_new_in_a_snapshot_and_its_purge_leaves_the_second_copy_alone() {
        let mut list = Worklist::default();
        list.apply(0, record(0, 1, 1, 1));
        let (object, at_unix_ms) = (id(101), 0);
        let reason = Reason::Damaged;
        list.apply(
            1,
            Record::Quarantined {
                object,
                reason,
                at_unix_ms,
            },
        );
        let mut again = Worklist::default();
        for (sequence, record) in (0_u64..).zip(list.snapshot()) {
            again.apply(sequence, record);
        }
        assert_eq!(again.novelty(&[1; 32], &[1; 32]), New);
        again.apply(9, record(0, 1, 2, 1));
        again.apply(10, Record::Purged { object, at_unix_ms });
        assert_eq!(again.novelty(&[1; 32], &[1; 32]), Duplicate);
    }

    proptest! {
        #[test]
        fn a_snapshot_adds_up_to_the_same_worklist(
            steps in prop::collection::vec((0_u8..15, 1_u8..4, 0_u8..16, 0_u8..20), 0..60),
        ) {
            let mut list = Worklist::default();
            let mut seen = std::collections::BTreeSet::new();
            for (sequence, (kind, study, object, extra)) in (0_u64..).zip(steps) {
                // A random name is never used twice.
                if kind <= 3 && !seen.insert(object) {
                    continue;
                }
                if kind == 14 {
                    let erasure = list.erasure(id(study), 5);
                    if let Some(erasure) = erasure {
                        list.apply(sequence, erasure);
                    }
                    continue;
                }
                list.apply(sequence, record(kind, study, object, extra));
            }
            let mut again = Worklist::default();
            // Pieces of three objects, where a real one has thousands.
            for (sequence, record) in (0_u64..).zip(list.snapshot_in(3)) {
                let bytes = serde_json::to_vec(&record).unwrap();
                again.apply(sequence, serde_json::from_slice(&bytes).unwrap());
            }
            prop_assert_eq!(text(&again), text(&list));
            for study in 1..4 {
                prop_assert_eq!(again.withheld(id(study)), list.withheld(id(study)));
            }
            let keep = Keep { forwarded_ms: 10, quarantined_ms: 20 };
            prop_assert_eq!(again.over(keep, 8000), list.over(keep, 8000));
            prop_assert_eq!(again.files(), list.files());
            let quiet = std::time::Duration::ZERO;
            let due = |list: &Worklist| format!("{:?}", list.due(quiet).0);
            prop_assert_eq!(due(&again), due(&list));
            for instance in 0..5 {
                for content in 0..20 {
                    prop_assert_eq!(
                        again.novelty(&[instance; 32], &[content; 32]),
                        list.novelty(&[instance; 32], &[content; 32])
                    );
                }
            }
        }

        #[test]
        fn nothing_is_over_before_its_report_is_released(
            steps in prop::collection::vec((0_u8..14, 1_u8..4, 0_u8..8, 0_u8..20), 0..60),
        ) {
            let mut list = Worklist::default();
            for (sequence, (kind, study, object, extra)) in (0_u64..).zip(steps) {
                list.apply(sequence, record(kind, study, object, extra));
            }
            let keep = Keep { forwarded_ms: 0, quarantined_ms: 0 };
            for study in list.over(keep, i64::MAX).0 {
                let last = list.study(study).and_then(Study::decided);
                let accepted = last.is_some_and(|last| last.state == VersionState::Accepted);
                let quarantined = |object: &&Object| {
                    matches!(object.state, ObjectState::Quarantined { .. })
                };
                let unreleased = list.objects_of(study);
                prop_assert!(
                    accepted || unreleased.iter().all(quarantined),
                    "{last:?}"
                );
            }
        }
    }
}
