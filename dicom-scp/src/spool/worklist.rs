//! What the log adds up to, in memory: rebuilt at start, changed by the same `apply` while running.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Id;
use super::record::{Record, StoredRecord, hex_bytes};
use crate::quarantine::{DeadReason, Reason};

pub(crate) mod commitment;
mod ending;
mod objects;
mod snapshot;

use commitment::{Archiving, Relay};
use objects::Objects;

pub(crate) use ending::Keep;
pub(crate) use objects::Underway;
pub(crate) use snapshot::Snapshot;

/// What is known about one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Object {
    pub(crate) stored: StoredRecord,
    pub(crate) state: ObjectState,
    /// Processes that began to work on it and have not said what became of it.
    pub(crate) attempts: BTreeSet<Id>,
    /// How far it is on its way to the archive.
    #[serde(default)]
    pub(crate) archiving: Archiving,
}

/// How far an object came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ObjectState {
    /// Acknowledged; its study is not quiet yet, or an earlier version is on its way.
    Waiting,
    /// Part of a version that is being cleared.
    Assembled,
    /// Cleared; the file holds object and rendition.
    Cleared {
        file: Id,
        #[serde(with = "hex_bytes")]
        meta: Vec<u8>,
    },
    /// In quarantine.
    Quarantined { reason: Reason, at_unix_ms: i64 },
}

/// One report of a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) report: Uuid,
    pub(crate) replaces: Option<Uuid>,
    pub(crate) objects: Vec<Id>,
    pub(crate) state: VersionState,
    /// When it came into this state.
    pub(crate) since_unix_ms: i64,
}

/// How far a version came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VersionState {
    /// Being cleared or forwarded.
    Pending,
    /// Released by the sidecar.
    Accepted,
    /// Nothing could be cleared.
    Withheld,
    /// Not tried again by itself.
    Dead(DeadReason),
}

/// What stays of a study whose data are erased: a film that comes later makes a report that replaces
/// the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forgotten {
    pub(crate) version: u32,
    pub(crate) report: Option<Uuid>,
    pub(crate) at_unix_ms: i64,
}

/// What is known about one study.
#[derive(Debug, Clone)]
pub(crate) struct Study {
    /// In order of arrival: number of the log's record, and place in it.
    pub(crate) objects: BTreeMap<(u64, u32), Id>,
    pub(crate) versions: Vec<Version>,
    pub(crate) pseudonym: Option<String>,
    /// Objects that an operator erased and that a report has to count as missing.
    purged: u32,
    /// From before its data were erased.
    before: Option<Forgotten>,
    /// When the last object came; at start, the start: its sender may still be at it.
    last_arrival: Instant,
}

impl Study {
    fn new(before: Option<Forgotten>) -> Self {
        Self {
            objects: BTreeMap::new(),
            versions: Vec::new(),
            pseudonym: None,
            purged: 0,
            before,
            last_arrival: Instant::now(),
        }
    }

    fn pending(&self) -> Option<&Version> {
        self.versions
            .last()
            .filter(|version| version.state == VersionState::Pending)
    }

    /// The newest version that is not withheld.
    fn decided(&self) -> Option<&Version> {
        let mut versions = self.versions.iter().rev();
        versions.find(|version| version.state != VersionState::Withheld)
    }

    /// The version that waits for a human, whatever was withheld after it.
    pub(crate) fn dead_letter(&self) -> Option<&Version> {
        self.decided()
            .filter(|version| matches!(version.state, VersionState::Dead(_)))
    }

    /// The report that the next one replaces.
    fn current(&self) -> Option<Uuid> {
        let accepted = self
            .versions
            .iter()
            .rev()
            .find(|version| version.state == VersionState::Accepted);
        accepted
            .map(|version| version.report)
            .or(self.before.and_then(|before| before.report))
    }

    fn number(&self) -> u32 {
        let before = self.before.map_or(0, |before| before.version);
        self.versions.last().map_or(before, |last| last.number)
    }
}

/// How an object relates to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    New,
    Duplicate,
    Conflict,
}

/// A study that is quiet.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) study: Id,
    pub(crate) version: u32,
    pub(crate) replaces: Option<Uuid>,
    pub(crate) objects: Vec<Id>,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Worklist {
    objects: Objects,
    /// Contents seen under each SOP Instance UID, keyed hashes both.
    instances: HashMap<[u8; 32], Vec<[u8; 32]>>,
    studies: BTreeMap<Id, Study>,
    forgotten: BTreeMap<Id, Forgotten>,
    relay: Relay,
}

impl Worklist {
    /// One more record. A record about something unknown changes nothing.
    pub(crate) fn apply(&mut self, sequence: u64, record: Record) {
        match record {
            Record::Stored(stored) => self.stored(sequence, stored),
            Record::Assembled {
                study,
                version,
                report,
                replaces,
                objects,
                at_unix_ms,
            } => {
                for id in &objects {
                    self.objects
                        .change(*id, |object| object.state = ObjectState::Assembled);
                }
                if let Some(study) = self.studies.get_mut(&study) {
                    let state = VersionState::Pending;
                    study.versions.push(Version {
                        number: version,
                        report,
                        replaces,
                        objects,
                        state,
                        since_unix_ms: at_unix_ms,
                    });
                }
            }
            Record::Attempted { object, boot } => {
                self.objects
                    .change(object, |object| object.attempts.insert(boot));
            }
            Record::Cleared {
                object,
                file,
                study_pseudonym,
                meta,
            } => {
                let study = self.objects.change(object, |object| {
                    object.state = ObjectState::Cleared { file, meta };
                    object.stored.study
                });
                if let Some(study) = study.and_then(|study| self.studies.get_mut(&study)) {
                    study.pseudonym = Some(study_pseudonym);
                }
            }
            Record::Quarantined {
                object,
                reason,
                at_unix_ms,
            } => {
                let named = self.objects.change(object, |object| {
                    object.state = ObjectState::Quarantined { reason, at_unix_ms };
                    (object.stored.instance, object.stored.content)
                });
                // Our copy is gone: the sender's next try is not a duplicate but the only copy.
                if let Some((instance, content)) = named.filter(|_| reason == Reason::Damaged) {
                    self.forget_content(&instance, &content);
                }
            }
            Record::Accepted {
                study,
                version,
                at_unix_ms,
            } => self.settle(study, version, VersionState::Accepted, at_unix_ms),
            Record::Withheld {
                study,
                version,
                at_unix_ms,
            } => self.settle(study, version, VersionState::Withheld, at_unix_ms),
            Record::DeadLettered {
                study,
                version,
                reason,
                at_unix_ms,
            } => self.settle(study, version, VersionState::Dead(reason), at_unix_ms),
            Record::Retried {
                study,
                version,
                at_unix_ms,
            } => self.settle(study, version, VersionState::Pending, at_unix_ms),
            Record::Released { object, .. } => self.released(object),
            Record::Purged { object, .. } => self.purged(object),
            Record::Erased {
                study,
                objects,
                left,
            } => self.erased(study, &objects, left),
            Record::Snapshot(snapshot) => self.restore(sequence, *snapshot),
            Record::Relayed { relayed } => self.relayed(*relayed),
        }
    }

    fn stored(&mut self, sequence: u64, stored: StoredRecord) {
        self.doubt_remembered(&stored.instance, &stored.content);
        self.instances
            .entry(stored.instance)
            .or_default()
            .push(stored.content);
        let before = self.forgotten.remove(&stored.study);
        let study = self
            .studies
            .entry(stored.study)
            .or_insert_with(|| Study::new(before));
        study.objects.insert((sequence, 0), stored.object);
        let state = if stored.conflict {
            ObjectState::Quarantined {
                reason: Reason::UidConflict,
                at_unix_ms: stored.at_unix_ms,
            }
        } else {
            study.last_arrival = Instant::now();
            ObjectState::Waiting
        };
        let attempts = BTreeSet::new();
        self.objects.insert(Object {
            stored,
            state,
            attempts,
            archiving: Archiving::default(),
        });
    }

    fn settle(&mut self, study: Id, number: u32, state: VersionState, at_unix_ms: i64) {
        let Some(study) = self.studies.get_mut(&study) else {
            return;
        };
        if let Some(version) = study
            .versions
            .iter_mut()
            .find(|version| version.number == number)
        {
            version.state = state;
            version.since_unix_ms = at_unix_ms;
        }
    }

    /// Whether an object was here before.
    pub(crate) fn novelty(&self, instance: &[u8; 32], content: &[u8; 32]) -> Novelty {
        let contents = self.instances.get(instance).filter(|all| !all.is_empty());
        match contents {
            Some(contents) if contents.contains(content) => Novelty::Duplicate,
            Some(_) => Novelty::Conflict,
            None if self.is_remembered_otherwise(instance, content) => Novelty::Conflict,
            None => Novelty::New,
        }
    }

    /// Studies that were quiet for `quiet`, and when to look again.
    pub(crate) fn due(&self, quiet: Duration) -> (Vec<Due>, Option<Duration>) {
        let mut due = Vec::new();
        let mut next: Option<Duration> = None;
        for (id, study) in &self.studies {
            let waiting = self.waiting(study);
            // One version at a time: a later one has to name the report that it replaces.
            if waiting.is_empty() || study.pending().is_some() {
                continue;
            }
            let left = quiet.saturating_sub(study.last_arrival.elapsed());
            if left.is_zero() {
                let version = study.number() + 1;
                due.push(Due {
                    study: *id,
                    version,
                    replaces: study.current(),
                    objects: waiting,
                });
            } else {
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
        (due, next)
    }

    fn waiting(&self, study: &Study) -> Vec<Id> {
        let waits = |id: &Id| {
            self.objects
                .get(id)
                .is_some_and(|object| matches!(object.state, ObjectState::Waiting))
        };
        study.objects.values().copied().filter(waits).collect()
    }

    /// Versions that are on their way.
    pub(crate) fn pending(&self) -> Vec<(Id, Version)> {
        let pending = self
            .studies
            .iter()
            .filter_map(|(id, study)| Some((*id, study.pending()?.clone())));
        pending.collect()
    }

    pub(crate) fn object(&self, id: Id) -> Option<&Object> {
        self.objects.get(&id)
    }

    /// Objects of a study in order of arrival.
    pub(crate) fn objects_of(&self, study: Id) -> Vec<&Object> {
        let study = self.studies.get(&study);
        study
            .into_iter()
            .flat_map(|study| study.objects.values())
            .filter_map(|id| self.objects.get(id))
            .collect()
    }

    pub(crate) fn study(&self, id: Id) -> Option<&Study> {
        self.studies.get(&id)
    }

    pub(crate) fn studies(&self) -> impl Iterator<Item = (&Id, &Study)> {
        self.studies.iter()
    }

    /// Every object in quarantine.
    pub(crate) fn quarantine(&self) -> impl Iterator<Item = (&Object, Reason, i64)> {
        self.objects
            .values()
            .filter_map(|object| match object.state {
                ObjectState::Quarantined { reason, at_unix_ms } => {
                    Some((object, reason, at_unix_ms))
                }
                _ => None,
            })
    }

    /// Objects whose key the receive key may still wrap: not assembled yet, or from before conflicts
    /// were wrapped under their study's key.
    pub(crate) fn received(&self) -> Vec<Id> {
        let received = self.objects.values().filter(|object| received(object));
        received.map(|object| object.stored.object).collect()
    }

    /// Whether the receive key may still wrap the object's key; its study if so.
    pub(crate) fn is_received(&self, id: Id) -> Option<Id> {
        let object = self.objects.get(&id)?;
        received(object).then_some(object.stored.study)
    }

    /// Objects whose file somebody may still want to read: neither cleared nor known to be damaged.
    pub(crate) fn needed(&self) -> Vec<Id> {
        let needed = self.objects.values().filter(|object| {
            !matches!(
                object.state,
                ObjectState::Cleared { .. }
                    | ObjectState::Quarantined {
                        reason: Reason::Damaged,
                        ..
                    }
            )
        });
        needed.map(|object| object.stored.object).collect()
    }

    /// Objects in quarantine that make a study incomplete.
    pub(crate) fn withheld(&self, study: Id) -> u32 {
        let withheld = |object: &&Object| matches!(object.state, ObjectState::Quarantined { reason, .. } if reason.withholds());
        let purged = self.studies.get(&study).map_or(0, |study| study.purged);
        purged + self.objects_of(study).into_iter().filter(withheld).count() as u32
    }

    /// Files that belong to something: objects, cleared objects, study keys.
    pub(crate) fn files(&self) -> (BTreeSet<Id>, BTreeSet<Id>, BTreeSet<Id>) {
        let cleared = self
            .objects
            .values()
            .filter_map(|object| match object.state {
                ObjectState::Cleared { file, .. } => Some(file),
                _ => None,
            });
        (
            self.objects.keys().copied().collect(),
            cleared.collect(),
            self.studies.keys().copied().collect(),
        )
    }
}

fn received(object: &Object) -> bool {
    matches!(
        object.state,
        ObjectState::Waiting
            | ObjectState::Quarantined {
                reason: Reason::UidConflict,
                ..
            }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(object: u8, study: u8, instance: u8, content: u8, conflict: bool) -> Record {
        let id = |byte: u8| Id::of_hash(&[byte; 32]);
        Record::Stored(StoredRecord {
            object: id(object),
            study: id(study),
            instance: [instance; 32],
            content: [content; 32],
            calling_ae: "CT".to_owned(),
            bytes: 1,
            at_unix_ms: 0,
            conflict,
            sop_class: None,
        })
    }

    #[test]
    fn a_late_film_waits_for_the_version_on_its_way_and_then_replaces_its_report() {
        let mut list = Worklist::default();
        list.apply(0, stored(1, 9, 1, 1, false));
        let (due, _) = list.due(Duration::ZERO);
        let report = Uuid::from_u128(5);
        let (study, objects) = (due[0].study, due[0].objects.clone());
        list.apply(
            1,
            Record::Assembled {
                study,
                version: 1,
                report,
                replaces: None,
                objects,
                at_unix_ms: 0,
            },
        );
        list.apply(2, stored(2, 9, 2, 2, false));
        assert!(list.due(Duration::ZERO).0.is_empty());
        list.apply(
            3,
            Record::Accepted {
                study,
                version: 1,
                at_unix_ms: 0,
            },
        );
        let (due, _) = list.due(Duration::ZERO);
        assert_eq!(
            (due[0].version, due[0].replaces, due[0].objects.len()),
            (2, Some(report), 1)
        );
    }

    #[test]
    fn other_bytes_under_a_used_uid_are_a_conflict_and_do_not_make_the_study_incomplete() {
        let mut list = Worklist::default();
        list.apply(0, stored(1, 9, 1, 1, false));
        assert_eq!(list.novelty(&[1; 32], &[1; 32]), Novelty::Duplicate);
        assert_eq!(list.novelty(&[1; 32], &[2; 32]), Novelty::Conflict);
        list.apply(1, stored(2, 9, 1, 2, true));
        assert_eq!(list.novelty(&[1; 32], &[2; 32]), Novelty::Duplicate);
        let study = Id::of_hash(&[9; 32]);
        assert_eq!((list.withheld(study), list.quarantine().count()), (0, 1));
        assert_eq!(list.due(Duration::ZERO).0[0].objects.len(), 1);
    }

    #[test]
    fn a_film_whose_copy_is_damaged_is_new_again() {
        let mut list = Worklist::default();
        list.apply(0, stored(1, 9, 1, 1, false));
        for (reason, novelty) in [
            (Reason::NotChest, Novelty::Duplicate),
            (Reason::Damaged, Novelty::New),
        ] {
            let object = Id::of_hash(&[1; 32]);
            let record = Record::Quarantined {
                object,
                reason,
                at_unix_ms: 0,
            };
            list.apply(1, record);
            assert_eq!(list.novelty(&[1; 32], &[1; 32]), novelty, "{reason:?}");
        }
    }

    #[test]
    fn attempts_are_counted_by_process() {
        let mut list = Worklist::default();
        list.apply(0, stored(1, 9, 1, 1, false));
        let object = Id::of_hash(&[1; 32]);
        for boot in [7, 7, 8] {
            let boot = Id::of_hash(&[boot; 32]);
            list.apply(1, Record::Attempted { object, boot });
        }
        assert_eq!(
            list.object(object).map(|object| object.attempts.len()),
            Some(2)
        );
    }

    #[test]
    fn an_object_that_comes_in_time_starts_the_quiet_time_again() {
        let mut list = Worklist::default();
        list.apply(0, stored(1, 9, 1, 1, false));
        let (due, next) = list.due(Duration::from_mins(1));
        assert!(due.is_empty() && next.is_some_and(|next| next > Duration::from_secs(50)));
    }
}
