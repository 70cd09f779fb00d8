//! No configuration, and no order of events, yields a commitment for what may be erased without the
//! archive having it. Long, because the orders of events are judged against a model of their own.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::spool::record::StoredRecord;
use crate::spool::worklist::{Keep, VersionState};

fn id(kind: u8, number: u8) -> Id {
    let mut hash = [number; 32];
    hash[0] = kind;
    Id::of_hash(&hash)
}

fn object(number: u8) -> Id {
    id(1, number)
}

fn stored(number: u8, study: u8, conflict: bool) -> Record {
    Record::Stored(StoredRecord {
        object: object(number),
        study: id(2, study),
        instance: [number; 32],
        content: [number; 32],
        calling_ae: "CT".to_owned(),
        bytes: 1,
        at_unix_ms: 1,
        conflict,
        sop_class: None,
    })
}

fn relayed(relayed: Relayed) -> Record {
    Record::Relayed {
        relayed: Box::new(relayed),
    }
}

fn requested(request: u8, wanted: Vec<Wanted>) -> Record {
    relayed(Relayed::Requested(Requested {
        request: id(3, request),
        calling_ae: "CT".to_owned(),
        sealed: vec![1],
        content: id(4, request),
        wanted,
        at_unix_ms: 1,
    }))
}

fn asked(transaction: u8, objects: &[u8]) -> Record {
    relayed(Relayed::Asked {
        transaction: Uuid::from_u128(transaction.into()),
        objects: objects.iter().copied().map(object).collect(),
        at_unix_ms: 1,
    })
}

fn heard(transaction: u8, committed: &[u8], failed: &[u8]) -> Record {
    let refused = |number: &u8| (object(*number), Failure::ResourceLimitation);
    relayed(Relayed::Heard {
        transaction: Uuid::from_u128(transaction.into()),
        committed: committed.iter().copied().map(object).collect(),
        failed: failed.iter().map(refused).collect(),
        lacking: Vec::new(),
        at_unix_ms: 1,
    })
}

/// As after a restart, or a compaction.
fn again(list: &Worklist) -> Worklist {
    let mut fresh = Worklist::default();
    for (sequence, record) in (0_u64..).zip(list.snapshot()) {
        let bytes = serde_json::to_vec(&record).unwrap();
        fresh.apply(sequence, serde_json::from_slice(&bytes).unwrap());
    }
    fresh.arrivals_from(list);
    fresh
}

/// What the archive has said in the open, kept beside the worklist by other means.
#[derive(Debug, Default)]
struct Archive {
    open: BTreeMap<u8, BTreeSet<Id>>,
    has: BTreeSet<Id>,
}

#[derive(Debug, Clone)]
enum Step {
    Store(u8, u8, bool),
    Assemble(u8),
    Accept(u8),
    Quarantine(u8, bool),
    Send(Vec<u8>),
    Ask(u8, Vec<u8>),
    Hear(u8, Vec<u8>, Vec<u8>),
    Unheard(u8),
    GiveUp(u8),
    Again(u8),
    Request(u8, Vec<u8>),
    Overdue(u8),
    Report(u8),
    Retention,
    Purge(u8),
    Discard(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::vec(0_u8..8, 0..5);
    prop_oneof![
        3 => (0_u8..8, 0_u8..3, prop::bool::weighted(0.1)).prop_map(|(a, b, c)| Step::Store(a, b, c)),
        2 => (0_u8..3).prop_map(Step::Assemble),
        2 => (0_u8..3).prop_map(Step::Accept),
        1 => (0_u8..8, any::<bool>()).prop_map(|(a, b)| Step::Quarantine(a, b)),
        2 => some().prop_map(Step::Send),
        3 => (0_u8..4, some()).prop_map(|(a, b)| Step::Ask(a, b)),
        3 => (0_u8..4, some(), some()).prop_map(|(a, b, c)| Step::Hear(a, b, c)),
        1 => (0_u8..4).prop_map(Step::Unheard),
        1 => (0_u8..8).prop_map(Step::GiveUp),
        1 => (0_u8..8).prop_map(Step::Again),
        3 => (0_u8..4, some()).prop_map(|(a, b)| Step::Request(a, b)),
        1 => (0_u8..4).prop_map(Step::Overdue),
        1 => (0_u8..4).prop_map(Step::Report),
        3 => Just(Step::Retention),
        1 => (0_u8..8).prop_map(Step::Purge),
        1 => (0_u8..3).prop_map(Step::Discard),
        2 => Just(Step::Restart),
    ]
}

/// The world: a worklist under one configuration, and what is true of it.
struct World {
    list: Worklist,
    archive: Archive,
    relay: bool,
    keep: Keep,
    sequence: u64,
    version: u32,
    stored: BTreeSet<u8>,
    /// Objects that some modality was, or will be, told are committed.
    promised: BTreeSet<Id>,
    gone: BTreeSet<Id>,
}

impl World {
    fn apply(&mut self, record: Record) {
        self.sequence += 1;
        self.list.apply(self.sequence, record);
    }

    fn erase(&mut self, study: Id, by: Leaver) {
        let of_study: Vec<Object> = self.list.objects_of(study).into_iter().cloned().collect();
        let named: Vec<&Object> = of_study.iter().collect();
        if self.list.leave(&named, by).is_none() {
            return;
        }
        let ids = of_study.iter().map(|object| object.stored.object);
        self.gone.extend(ids);
        if let Some(record) = self.list.erasure(study, 1) {
            self.apply(record);
        }
    }

    fn take(&mut self, step: Step) {
        let ids = |numbers: Vec<u8>| numbers.into_iter().map(object).collect::<Vec<_>>();
        // Without an archive the room runs no relay, and its SOP class is not negotiated.
        let relays = self.relay;
        match step {
            Step::Store(number, study, conflict) if self.stored.insert(number) => {
                self.apply(stored(number, study, conflict));
            }
            Step::Assemble(study) => {
                let (due, _) = self.list.due(std::time::Duration::ZERO);
                let due = due.into_iter().find(|due| due.study == id(2, study));
                if let Some(due) = due {
                    self.version = due.version;
                    self.apply(Record::Assembled {
                        study: due.study,
                        version: due.version,
                        report: Uuid::from_u128(1),
                        replaces: None,
                        objects: due.objects.clone(),
                        at_unix_ms: 1,
                    });
                    for object in due.objects {
                        self.apply(Record::Cleared {
                            object,
                            file: object,
                            study_pseudonym: "study-1".to_owned(),
                            meta: Vec::new(),
                        });
                    }
                }
            }
            Step::Accept(study) => {
                let pending = self.list.pending();
                if let Some((study, version)) = pending.iter().find(|one| one.0 == id(2, study)) {
                    assert_eq!(version.state, VersionState::Pending);
                    self.apply(Record::Accepted {
                        study: *study,
                        version: version.number,
                        at_unix_ms: 1,
                    });
                }
            }
            Step::Quarantine(number, damaged) => {
                let reason = if damaged {
                    Reason::Damaged
                } else {
                    Reason::NotChest
                };
                self.apply(Record::Quarantined {
                    object: object(number),
                    reason,
                    at_unix_ms: 1,
                });
            }
            Step::Send(numbers) if relays => self.apply(relayed(Relayed::Sent {
                objects: ids(numbers),
            })),
            Step::Ask(transaction, numbers) if relays => {
                let numbers: Vec<u8> = numbers
                    .into_iter()
                    .filter(|number| self.list.object(object(*number)).is_some())
                    .collect();
                self.apply(asked(transaction, &numbers));
                let named = numbers.into_iter().map(object).collect();
                self.archive.open.insert(transaction, named);
            }
            Step::Hear(transaction, committed, failed) if relays => {
                // As `answer` sorts them: named as failed is not committed.
                let committed: Vec<u8> = committed
                    .into_iter()
                    .filter(|number| !failed.contains(number))
                    .collect();
                self.apply(heard(transaction, &committed, &failed));
                let asked = self.archive.open.remove(&transaction).unwrap_or_default();
                let has = committed.into_iter().map(object);
                self.archive.has.extend(has.filter(|id| asked.contains(id)));
            }
            Step::Unheard(transaction) if relays => {
                self.apply(relayed(Relayed::Unheard {
                    transaction: Uuid::from_u128(transaction.into()),
                }));
                // The archive may report late, and then it has them.
            }
            Step::GiveUp(number) if relays => self.apply(relayed(Relayed::GivenUp {
                objects: vec![object(number)],
                failure: Failure::Processing,
                at_unix_ms: 1,
            })),
            Step::Again(number) if relays => self.apply(relayed(Relayed::Again {
                objects: vec![object(number)],
                at_unix_ms: 1,
            })),
            Step::Request(request, numbers) if relays => {
                let wanted =
                    numbers
                        .into_iter()
                        .map(|number| match self.list.object(object(number)) {
                            Some(found) if is_relayed(found) => Wanted::Object(object(number)),
                            Some(_) => Wanted::Failed(Failure::Processing),
                            // Whether it is remembered is not for the one who asks to say.
                            None => Wanted::Erased(Id::of_hash(&[number; 32])),
                        });
                let wanted = wanted.collect();
                self.apply(requested(request, wanted));
            }
            Step::Overdue(request) => self.apply(relayed(Relayed::Overdue {
                request: id(3, request),
                at_unix_ms: 1,
            })),
            Step::Report(request) => self.apply(relayed(Relayed::Reported {
                request: id(3, request),
                at_unix_ms: 1,
            })),
            Step::Retention => {
                for study in self.list.over(self.keep, i64::MAX).0 {
                    self.erase(study, Leaver::Retention);
                }
            }
            Step::Purge(number) => {
                let purged = self.list.object(object(number)).cloned();
                let Some(purged) = purged else { return };
                let held = matches!(purged.state, ObjectState::Quarantined { .. });
                if held && self.list.leave(&[&purged], Leaver::Operator).is_some() {
                    self.gone.insert(object(number));
                    self.apply(Record::Purged {
                        object: object(number),
                        at_unix_ms: 1,
                    });
                }
            }
            Step::Discard(study) => self.erase(id(2, study), Leaver::Operator),
            Step::Restart => self.list = again(&self.list),
            // What only a relay does, and a random name used twice.
            _ => {}
        }
    }

    fn check(&mut self) {
        self.check_orders();
        for (_, request) in self.list.requests() {
            for (wanted, outcome) in request.requested.wanted.iter().zip(&request.outcomes) {
                if *outcome == Some(Outcome::Committed) {
                    let id = match wanted {
                        Wanted::Object(id) => *id,
                        Wanted::Erased(instance) => {
                            let mut numbers = 0_u8..8;
                            let number = numbers.find(|n| Id::of_hash(&[*n; 32]) == *instance);
                            object(number.unwrap())
                        }
                        Wanted::Failed(_) => panic!("committed without an object"),
                    };
                    self.promised.insert(id);
                }
            }
        }
        assert!(
            self.relay || self.promised.is_empty(),
            "nobody could have asked"
        );
        assert!(
            self.promised.is_subset(&self.archive.has),
            "promised what the archive does not have"
        );
        let lost: Vec<_> = self.gone.intersection(&self.promised).collect();
        let lost = lost.into_iter().filter(|id| !self.archive.has.contains(id));
        assert_eq!(lost.count(), 0, "erased what was promised");
    }
}

impl World {
    /// What is kept in order is what walking over everything finds.
    fn check_orders(&self) {
        for (stage, step) in [
            (Underway::Unsent, ArchiveStep::Not),
            (Underway::Sent, ArchiveStep::Sent),
            (Underway::Asked, ArchiveStep::Asked),
        ] {
            let walked = self.list.objects.values();
            let walked = walked.filter(|one| one.archiving.step == step && is_relayed(one));
            let walked: BTreeSet<Id> = walked.map(|object| object.stored.object).collect();
            let kept: BTreeSet<Id> = self.list.underway(stage).collect();
            assert_eq!(kept, walked, "{stage:?}");
        }
        for number in 0..8 {
            let walked = self.list.objects.values();
            let walked = walked.filter(|one| one.stored.instance == [number; 32]);
            assert_eq!(self.list.under(&[number; 32]).len(), walked.count());
        }
        let requests = || self.list.requests().map(|(_, request)| request);
        for request in requests() {
            let open = request.outcomes.iter().filter(|one| one.is_none()).count();
            assert_eq!(request.undecided, open);
            assert_eq!(request.state == RequestState::Open, open > 0);
        }
        let decided = |request: &&Request| matches!(request.state, RequestState::Decided(_));
        let due: usize = self.list.untold().values().map(BTreeSet::len).sum();
        assert_eq!(due, requests().filter(decided).count());
        let references = requests()
            .map(|one| one.requested.wanted.len())
            .sum::<usize>();
        assert_eq!(self.list.relay_references().1, references as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_promised_that_the_archive_has_not_committed_and_nothing_goes_before(
        relay: bool,
        forwarded_ms in prop::sample::select(vec![0_i64, 10, i64::MAX / 4]),
        quarantined_ms in prop::sample::select(vec![0_i64, 10, i64::MAX / 4]),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut list = Worklist::default();
        if relay {
            list.hold_for_archive();
        }
        let mut world = World {
            list,
            archive: Archive::default(),
            relay,
            keep: Keep { forwarded_ms, quarantined_ms },
            sequence: 0,
            version: 0,
            stored: BTreeSet::new(),
            promised: BTreeSet::new(),
            gone: BTreeSet::new(),
        };
        for step in steps {
            let retention = matches!(step, Step::Retention);
            let before = world.gone.clone();
            world.take(step);
            world.check();
            if relay && retention {
                let went: Vec<_> = world.gone.difference(&before).collect();
                for id in went {
                    prop_assert!(world.archive.has.contains(id), "retention erased what only we had");
                }
            }
        }
    }
}

#[test]
fn a_report_decides_for_every_request_and_a_second_one_takes_nothing_back() {
    let mut list = Worklist::default();
    list.hold_for_archive();
    list.apply(1, stored(1, 1, false));
    list.apply(2, stored(2, 1, false));
    let both = vec![Wanted::Object(object(1)), Wanted::Object(object(2))];
    list.apply(3, requested(1, both));
    list.apply(4, requested(2, vec![Wanted::Object(object(1))]));
    list.apply(5, asked(1, &[1, 2]));
    list.apply(6, heard(2, &[1, 2], &[]));
    let state = |list: &Worklist, request: u8| list.request(id(3, request)).unwrap().state;
    assert_eq!(
        state(&list, 2),
        RequestState::Open,
        "of a question never asked"
    );
    list.apply(7, heard(1, &[1], &[2]));
    assert_eq!(state(&list, 1), RequestState::Decided(1));
    let outcomes = list.request(id(3, 1)).unwrap().outcomes();
    let lost = Outcome::Failed(Failure::ResourceLimitation);
    assert_eq!(outcomes, Some(vec![Outcome::Committed, lost]));
    list.apply(8, asked(2, &[1]));
    list.apply(9, heard(2, &[], &[1]));
    let step = |list: &Worklist, number| list.object(object(number)).unwrap().archiving.step;
    assert_eq!(step(&list, 1), ArchiveStep::Committed);
    list.apply(10, requested(3, vec![Wanted::Object(object(1))]));
    assert_eq!(state(&list, 3), RequestState::Decided(1), "known already");
}

#[test]
fn an_operator_may_erase_what_was_given_up_and_retention_may_not() {
    let mut list = Worklist::default();
    list.hold_for_archive();
    for (number, conflict) in [(1, false), (2, true)] {
        list.apply(number.into(), stored(number, 1, conflict));
    }
    let one = |list: &Worklist, number| list.object(object(number)).unwrap().clone();
    let may = |list: &Worklist, number, by| list.leave(&[&one(list, number)], by).is_some();
    assert!(!may(&list, 1, Leaver::Operator) && !may(&list, 1, Leaver::Retention));
    // It never goes there, so nobody is ever told that it is committed.
    assert!(may(&list, 2, Leaver::Operator) && !may(&list, 2, Leaver::Retention));
    list.apply(
        3,
        relayed(Relayed::GivenUp {
            objects: vec![object(1)],
            failure: Failure::Processing,
            at_unix_ms: 1,
        }),
    );
    assert!(may(&list, 1, Leaver::Operator) && !may(&list, 1, Leaver::Retention));
    let off = Worklist::default();
    assert!(off.leave(&[&one(&list, 1)], Leaver::Retention).is_some());
}

/// An object whose instance and content are not its number.
fn stored_as(number: u8, instance: u8, content: u8, conflict: bool) -> Record {
    let Record::Stored(one) = stored(number, number, conflict) else {
        unreachable!()
    };
    Record::Stored(StoredRecord {
        instance: [instance; 32],
        content: [content; 32],
        ..one
    })
}

fn purged(number: u8) -> Record {
    Record::Purged {
        object: object(number),
        at_unix_ms: 1,
    }
}

#[test]
fn a_commitment_to_the_bytes_before_is_none_to_others_under_the_same_name() {
    use crate::spool::worklist::Novelty;
    let erased = |list: &mut Worklist, number: u8| {
        let record = list.erasure(id(2, number), 1).unwrap();
        list.apply(20, record);
    };
    let told = |list: &mut Worklist, request: u8| {
        list.apply(
            30,
            requested(request, vec![Wanted::Erased(Id::of_hash(&[7; 32]))]),
        );
        list.request(id(3, request)).unwrap().outcomes().unwrap()[0]
    };
    let lost = Outcome::Failed(Failure::NoSuchInstance);
    for restarts in [false, true] {
        let mut list = Worklist::default();
        list.hold_for_archive();
        list.apply(1, stored_as(1, 7, 1, false));
        list.apply(2, asked(1, &[1]));
        list.apply(3, heard(1, &[1], &[]));
        erased(&mut list, 1);
        assert_eq!(told(&mut list, 1), Outcome::Committed);
        if restarts {
            list = again(&list);
        }
        // Others do not go to the archive, where they could take the place of the first.
        assert_eq!(list.novelty(&[7; 32], &[1; 32]), Novelty::New);
        assert_eq!(list.novelty(&[7; 32], &[2; 32]), Novelty::Conflict);
        list.apply(40, stored_as(2, 7, 2, true));
        assert!(list.remembered(&[7; 32]).is_none(), "whose?");
        list.apply(41, purged(2));
        if restarts {
            list = again(&list);
        }
        assert!(list.remembered(&[7; 32]).is_none(), "whose?");
        assert_eq!(told(&mut list, 2), lost);
        assert_eq!(list.novelty(&[7; 32], &[2; 32]), Novelty::Conflict);
        // The same bytes once more, committed once more: now it is known again.
        assert_eq!(list.novelty(&[7; 32], &[1; 32]), Novelty::New);
        list.apply(50, stored_as(3, 7, 1, false));
        list.apply(51, asked(2, &[3]));
        list.apply(52, heard(2, &[3], &[]));
        erased(&mut list, 3);
        assert_eq!(told(&mut list, 3), Outcome::Committed);
    }
}

#[test]
fn a_memory_of_an_earlier_version_does_not_outlive_what_comes_under_its_name() {
    let mut list = Worklist::default();
    list.hold_for_archive();
    let old = format!(
        "{{\"instance\":\"{}\",\"calling_ae\":\"CT\",\"sop_class\":null,\"at_unix_ms\":1}}",
        Id::of_hash(&[7; 32])
    );
    let old: Remembered = serde_json::from_str(&old).unwrap();
    list.apply(1, relayed(Relayed::Remembered(vec![old])));
    assert!(list.remembered(&[7; 32]).is_some());
    list.apply(2, stored_as(1, 7, 1, false));
    assert!(list.remembered(&[7; 32]).is_none());
}

#[test]
fn what_was_damaged_after_it_was_sent_is_listed_and_may_go_by_an_operators_hand() {
    let mut list = Worklist::default();
    list.hold_for_archive();
    list.apply(1, stored(1, 1, false));
    list.apply(
        2,
        relayed(Relayed::Sent {
            objects: vec![object(1)],
        }),
    );
    let may = |list: &Worklist, by| list.leave(&list.objects_of(id(2, 1)), by).is_some();
    assert!(!may(&list, Leaver::Operator));
    list.apply(
        3,
        Record::Quarantined {
            object: object(1),
            reason: Reason::Damaged,
            at_unix_ms: 1,
        },
    );
    assert_eq!(list.underway(Underway::Sent).len(), 0);
    let waiting: Vec<_> = list.archiving_failed().map(|(_, why)| why).collect();
    assert_eq!(waiting, [None], "never");
    assert!(may(&list, Leaver::Operator) && !may(&list, Leaver::Retention));
}

#[test]
fn a_late_report_commits_and_the_archive_is_asked_again_before_anything_is_sent_again() {
    let step = |list: &Worklist, number| list.object(object(number)).unwrap().archiving.step;
    let question = |list: &Worklist, number: u8| {
        let asked = list.transaction(Uuid::from_u128(number.into()));
        asked.map(|asked| asked.state)
    };
    for restarts in [false, true] {
        let mut list = Worklist::default();
        list.hold_for_archive();
        for number in [1, 2, 3] {
            list.apply(number.into(), stored(number, 1, false));
        }
        list.apply(4, requested(1, vec![Wanted::Object(object(1))]));
        list.apply(5, asked(1, &[1, 2, 3]));
        let transaction = Uuid::from_u128(1);
        list.apply(6, relayed(Relayed::Unheard { transaction }));
        assert_eq!(
            step(&list, 1),
            ArchiveStep::Sent,
            "asked again, not sent again"
        );
        list.apply(7, asked(2, &[1, 2, 3]));
        if restarts {
            list = again(&list);
        }
        // Late: what it commits to counts, and the rest waits for the newer question.
        list.apply(8, heard(1, &[1], &[2]));
        assert_eq!(step(&list, 1), ArchiveStep::Committed);
        assert_eq!(step(&list, 2), ArchiveStep::Asked);
        let told = list.request(id(3, 1)).unwrap().outcomes();
        assert_eq!(told, Some(vec![Outcome::Committed]));
        if restarts {
            list = again(&list);
        }
        // Once more the same, and then something else: heard once.
        list.apply(9, heard(1, &[1, 2], &[]));
        assert_eq!(step(&list, 2), ArchiveStep::Asked);
        assert_eq!(question(&list, 1), Some(Question::Answered));
        // It lacks the third: that one is sent again, and nobody is told that it failed.
        let lacks = relayed(Relayed::Heard {
            transaction: Uuid::from_u128(2),
            committed: vec![object(2)],
            failed: Vec::new(),
            lacking: vec![object(3), object(1)],
            at_unix_ms: 1,
        });
        list.apply(10, lacks);
        let steps = [1, 2, 3].map(|number| step(&list, number));
        let expected = [
            ArchiveStep::Committed,
            ArchiveStep::Committed,
            ArchiveStep::Not,
        ];
        assert_eq!(steps, expected);
        list.apply(11, relayed(Relayed::Closed { transaction }));
        assert_eq!(question(&list, 1), None);
    }
}

#[test]
fn the_records_of_an_earlier_version_are_read() {
    let zero = Uuid::nil();
    for old in [
        format!("{{\"open\":{{\"transaction\":\"{zero}\",\"objects\":[],\"at_unix_ms\":1}}}}"),
        format!(
            "{{\"heard\":{{\"transaction\":\"{zero}\",\"committed\":[],\"failed\":[],\"at_unix_ms\":1}}}}"
        ),
    ] {
        serde_json::from_str::<Relayed>(&old).unwrap();
    }
}

#[test]
fn strangers_cannot_keep_the_modalities_of_the_configuration_out() {
    let limit = Load {
        requests: 20,
        references: 200,
    };
    let known = |title: &str| title == "CT";
    let ask = |list: &mut Worklist, number: u8, title: &str, references: usize| {
        let Record::Relayed { relayed: one } = requested(
            number,
            vec![Wanted::Failed(Failure::NoSuchInstance); references],
        ) else {
            unreachable!()
        };
        let Relayed::Requested(one) = *one else {
            unreachable!()
        };
        list.apply(
            number.into(),
            relayed(Relayed::Requested(Requested {
                calling_ae: title.to_owned(),
                ..one
            })),
        );
    };
    let mut list = Worklist::default();
    let room = |list: &Worklist, title: &str, references| {
        list.room_for_request(title, references, limit, 10, known)
    };
    // A title that nobody knows has a tenth, in requests and in references.
    assert_eq!(room(&list, "A", 20), Some(vec![]));
    assert_eq!(room(&list, "A", 21), None);
    ask(&mut list, 1, "A", 1);
    ask(&mut list, 2, "A", 1);
    assert_eq!(room(&list, "A", 1), None);
    // All that nobody knows together have a half.
    for (number, title) in [(3, "B"), (4, "C"), (5, "D"), (6, "E")] {
        ask(&mut list, number, title, 20);
    }
    assert_eq!(room(&list, "F", 18), Some(vec![]));
    assert_eq!(room(&list, "F", 19), None);
    // Which costs the others nothing.
    assert_eq!(room(&list, "CT", 100), Some(vec![]));
    assert_eq!(room(&list, "CT", 101), None);
    // What is over makes room, the oldest first, and only where it helps.
    for (number, at_unix_ms) in [(1, 9), (2, 8), (3, 7)] {
        let request = id(3, number);
        list.apply(
            30,
            relayed(Relayed::Reported {
                request,
                at_unix_ms,
            }),
        );
    }
    let settled = |before| list.room_for_request("A", 1, limit, before, known);
    assert_eq!(settled(8), None, "told a moment ago");
    assert_eq!(room(&list, "A", 1), Some(vec![id(3, 2)]));
    assert_eq!(room(&list, "F", 19), Some(vec![id(3, 3)]));
    list.apply(31, relayed(Relayed::Forgot { request: id(3, 3) }));
    assert_eq!(room(&list, "F", 19), Some(vec![]));
}
