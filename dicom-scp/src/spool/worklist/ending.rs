//! How objects and studies leave the worklist, and when they may.

use super::commitment::Leaver;
use super::{Forgotten, ObjectState, Study, VersionState, Worklist};
use crate::quarantine::Reason;
use crate::spool::Id;
use crate::spool::record::Record;

/// How long identified data are kept, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// After the sidecar has released the report of the newest version.
    pub(crate) forwarded_ms: i64,
    /// After an object went to quarantine.
    pub(crate) quarantined_ms: i64,
}

/// What stays of an erased study is forgotten as well after so long (400 days).
const FORGOTTEN_MS: i64 = 400 * 24 * 3_600_000;

impl Worklist {
    pub(super) fn released(&mut self, object: Id) {
        self.objects.change(object, |object| {
            if matches!(object.state, ObjectState::Quarantined { .. }) {
                object.state = ObjectState::Waiting;
                // A human vouches: the next process may try as often as the first one.
                object.attempts.clear();
            }
        });
    }

    pub(super) fn purged(&mut self, id: Id) {
        let Some(object) = self.objects.remove(&id) else {
            return;
        };
        self.remember(&object);
        let counts =
            matches!(object.state, ObjectState::Quarantined { reason, .. } if reason.withholds());
        // A damaged one's are forgotten already, and may be a second copy's by now.
        let damaged = matches!(
            object.state,
            ObjectState::Quarantined {
                reason: Reason::Damaged,
                ..
            }
        );
        if !damaged {
            self.forget_content(&object.stored.instance, &object.stored.content);
        }
        if let Some(study) = self.studies.get_mut(&object.stored.study) {
            study.objects.retain(|_, other| *other != id);
            study.purged += u32::from(counts);
            // Nothing was ever reported on it and nothing is left of it.
            if study.objects.is_empty() && study.versions.is_empty() && study.before.is_none() {
                self.studies.remove(&object.stored.study);
            }
        }
    }

    pub(super) fn erased(&mut self, id: Id, objects: &[Id], left: Forgotten) {
        for object in objects {
            if let Some(object) = self.objects.remove(object) {
                self.remember(&object);
                self.forget_content(&object.stored.instance, &object.stored.content);
            }
        }
        let Some(study) = self.studies.get_mut(&id) else {
            self.forgotten.insert(id, left);
            return;
        };
        study.objects.retain(|_, other| !objects.contains(other));
        if study.objects.is_empty() {
            self.studies.remove(&id);
            self.forgotten.insert(id, left);
        } else {
            study.versions.clear();
            study.before = Some(left);
        }
    }

    pub(super) fn forget_content(&mut self, instance: &[u8; 32], content: &[u8; 32]) {
        if let Some(contents) = self.instances.get_mut(instance) {
            // One object's: another one may have the same bytes.
            if let Some(at) = contents.iter().position(|other| other == content) {
                contents.swap_remove(at);
            }
            if contents.is_empty() {
                self.instances.remove(instance);
            }
        }
    }

    /// Studies whose time is over at `now`, and when the next one's is.
    pub(crate) fn over(&self, keep: Keep, now_unix_ms: i64) -> (Vec<Id>, Option<i64>) {
        let mut over = Vec::new();
        let mut next: Option<i64> = None;
        for (id, study) in &self.studies {
            match self.over_at(study, keep) {
                Some(at) if at <= now_unix_ms => over.push(*id),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        (over, next)
    }

    /// Whether the study's time is over, looked at again under the lock.
    pub(crate) fn is_over(&self, study: Id, keep: Keep, now_unix_ms: i64) -> bool {
        self.studies
            .get(&study)
            .and_then(|study| self.over_at(study, keep))
            .is_some_and(|at| at <= now_unix_ms)
    }

    /// `None` while anything of the study may still have to leave: nothing is erased before its
    /// report is released and the archive, where there is one, has it; a dead letter waits for a
    /// human.
    fn over_at(&self, study: &Study, keep: Keep) -> Option<i64> {
        let last = study.versions.last().map(|version| version.state);
        if matches!(last, Some(VersionState::Pending | VersionState::Dead(_))) {
            return None;
        }
        // A version that nothing could be added to leaves the report before it as it was.
        let released = study
            .decided()
            .filter(|version| version.state == VersionState::Accepted)
            .map(|version| version.since_unix_ms.saturating_add(keep.forwarded_ms));
        let mut at = released;
        for object in study.objects.values().filter_map(|id| self.objects.get(id)) {
            if !self.may_go(object, Leaver::Retention) {
                return None;
            }
            let until = match object.state {
                ObjectState::Waiting | ObjectState::Assembled => return None,
                // Released: without a released version it cannot be cleared and at its end.
                ObjectState::Cleared { .. } => released?,
                ObjectState::Quarantined { at_unix_ms, .. } => {
                    at_unix_ms.saturating_add(keep.quarantined_ms)
                }
            };
            at = Some(at.map_or(until, |at| at.max(until)));
        }
        // Everything was purged: what is left is a number.
        at.or_else(|| study.objects.is_empty().then_some(i64::MIN))
    }

    /// What erasing the study puts on record.
    pub(crate) fn erasure(&self, study: Id, now_unix_ms: i64) -> Option<Record> {
        let entry = self.studies.get(&study)?;
        Some(Record::Erased {
            study,
            objects: entry.objects.values().copied().collect(),
            left: Forgotten {
                version: entry.number(),
                report: entry.current(),
                at_unix_ms: now_unix_ms,
            },
        })
    }

    /// What was erased long ago is not remembered any more.
    pub(crate) fn forget_old(&mut self, now_unix_ms: i64) {
        self.forget_remembered(now_unix_ms);
        self.forgotten
            .retain(|_, left| now_unix_ms.saturating_sub(left.at_unix_ms) < FORGOTTEN_MS);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::quarantine::DeadReason;
    use crate::spool::record::StoredRecord;

    const KEEP: Keep = Keep {
        forwarded_ms: 10,
        quarantined_ms: 20,
    };

    fn id(byte: u8) -> Id {
        Id::of_hash(&[byte; 32])
    }

    /// A film in a version of its own.
    fn version(list: &mut Worklist, number: u8) {
        list.apply(
            u64::from(number),
            Record::Stored(StoredRecord {
                object: id(number),
                study: id(9),
                instance: [number; 32],
                content: [number; 32],
                calling_ae: "CT".to_owned(),
                bytes: 1,
                at_unix_ms: 0,
                conflict: false,
                sop_class: None,
            }),
        );
        list.apply(
            100,
            Record::Assembled {
                study: id(9),
                version: number.into(),
                report: Uuid::from_u128(number.into()),
                replaces: None,
                objects: vec![id(number)],
                at_unix_ms: 0,
            },
        );
    }

    fn cleared(list: &mut Worklist, number: u8) {
        list.apply(
            200,
            Record::Cleared {
                object: id(number),
                file: id(100 + number),
                study_pseudonym: "study-1".to_owned(),
                meta: Vec::new(),
            },
        );
    }

    fn withheld(list: &mut Worklist, number: u8) {
        let (object, reason, at_unix_ms) = (id(number), Reason::NoRoute, 1000);
        let quarantined = Record::Quarantined {
            object,
            reason,
            at_unix_ms,
        };
        list.apply(300, quarantined);
        let (study, version) = (id(9), number.into());
        list.apply(
            301,
            Record::Withheld {
                study,
                version,
                at_unix_ms,
            },
        );
    }

    #[test]
    fn a_film_that_was_withheld_after_the_report_does_not_keep_the_study_for_ever() {
        let mut list = Worklist::default();
        version(&mut list, 1);
        cleared(&mut list, 1);
        let (study, at_unix_ms) = (id(9), 500);
        list.apply(
            400,
            Record::Accepted {
                study,
                version: 1,
                at_unix_ms,
            },
        );
        version(&mut list, 2);
        assert_eq!(list.over(KEEP, i64::MAX).0, []);
        withheld(&mut list, 2);
        assert_eq!(list.over(KEEP, 1019), (vec![], Some(1020)));
        assert_eq!(list.over(KEEP, 1020).0, [id(9)]);
    }

    #[test]
    fn what_a_dead_letter_cleared_waits_for_a_human_even_behind_a_withheld_version() {
        let mut list = Worklist::default();
        version(&mut list, 1);
        cleared(&mut list, 1);
        let (study, reason) = (id(9), DeadReason::GaveUp);
        let dead = Record::DeadLettered {
            study,
            version: 1,
            reason,
            at_unix_ms: 0,
        };
        list.apply(400, dead);
        version(&mut list, 2);
        withheld(&mut list, 2);
        assert_eq!(list.over(KEEP, i64::MAX).0, []);
        let dead = list.study(study).and_then(Study::dead_letter);
        assert_eq!(dead.map(|version| version.number), Some(1));
    }
}
