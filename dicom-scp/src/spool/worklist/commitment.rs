//! What the archive has, and who asked. Only the archive's own report makes an object committed
//! ([`Relayed::Heard`]), and only a committed object, or one that was given up and that an operator
//! wants gone, may leave ([`Worklist::leave`]).

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::objects::Underway;
use super::{Object, ObjectState, Worklist};
use crate::quarantine::Reason;
use crate::spool::Id;
use crate::spool::record::Record;

mod records;
mod requests;

pub(crate) use records::{
    ArchiveStep, Archiving, Failure, Outcome, Question, Relayed, Remembered, Request, RequestState,
    Requested, Transaction, Wanted,
};
pub(crate) use requests::Load;
use requests::Requests;

/// Who wants something erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaver {
    Retention,
    Operator,
}

/// Permission to erase. Only [`Worklist::leave`] makes one.
#[derive(Debug)]
pub(crate) struct Leave(());

/// How long that is remembered (30 days): a modality that asks so late sends again.
const REMEMBERED_MS: i64 = 30 * 24 * 3_600_000;
/// Of one record of a snapshot.
const REMEMBERED_PIECE: usize = 10_000;

/// Everything that is known about it.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// There is an archive: what it has not committed is held.
    holding: bool,
    transactions: BTreeMap<Uuid, Transaction>,
    requests: Requests,
    /// References that were taken down in this log.
    references: u64,
    remembered: BTreeMap<Id, Remembered>,
}

impl Worklist {
    /// An object goes. If the archive has committed to it, whoever asks later is still told so.
    pub(super) fn remember(&mut self, object: &Object) {
        let instance = Id::of_hash(&object.stored.instance);
        if object.archiving.step != ArchiveStep::Committed {
            // The archive was never heard to have these bytes, whatever it said of those before.
            if let Some(before) = self.relay.remembered.get_mut(&instance) {
                before.doubtful = true;
            }
            return;
        }
        let remembered = Remembered {
            instance,
            calling_ae: object.stored.calling_ae.clone(),
            sop_class: object.stored.sop_class.clone(),
            at_unix_ms: object.stored.at_unix_ms,
            content: Some(Id::of_hash(&object.stored.content)),
            doubtful: false,
        };
        self.relay.remembered.insert(instance, remembered);
    }

    /// What is known of an instance of which nothing is here any more.
    pub(crate) fn remembered(&self, instance: &[u8; 32]) -> Option<&Remembered> {
        let remembered = self.relay.remembered.get(&Id::of_hash(instance));
        remembered.filter(|remembered| !remembered.doubtful)
    }

    /// Whether the archive has committed to other bytes under this name: these could take their
    /// place there.
    pub(super) fn is_remembered_otherwise(&self, instance: &[u8; 32], content: &[u8; 32]) -> bool {
        let remembered = self.relay.remembered.get(&Id::of_hash(instance));
        let content = Id::of_hash(content);
        remembered.is_some_and(|one| one.content.is_some_and(|before| before != content))
    }

    /// Something came under a name that may be remembered.
    pub(super) fn doubt_remembered(&mut self, instance: &[u8; 32], content: &[u8; 32]) {
        if let Some(remembered) = self.relay.remembered.get_mut(&Id::of_hash(instance)) {
            remembered.doubt_unless(content);
        }
    }

    pub(super) fn forget_remembered(&mut self, now_unix_ms: i64) {
        self.relay
            .remembered
            .retain(|_, one| now_unix_ms.saturating_sub(one.at_unix_ms) < REMEMBERED_MS);
    }

    /// From now on nothing is erased before the archive has it.
    pub(crate) fn hold_for_archive(&mut self) {
        self.relay.holding = true;
    }

    /// Whether there is an archive.
    pub(crate) fn is_holding(&self) -> bool {
        self.relay.holding
    }

    pub(super) fn keep_holding(&mut self, older: &Self) {
        self.relay.holding = older.relay.holding;
    }

    /// The one rule of what may be erased where an archive is configured. Without one nobody can ask
    /// for a commitment, and retention alone decides.
    pub(super) fn may_go(&self, object: &Object, by: Leaver) -> bool {
        if !self.relay.holding {
            return true;
        }
        match object.archiving.step {
            ArchiveStep::Committed => true,
            // Whoever asked was told, or will be, that it has failed.
            ArchiveStep::Failed(_) => by == Leaver::Operator,
            // It cannot be sent or asked about (again): nobody is ever told that it is committed.
            ArchiveStep::Not | ArchiveStep::Sent => by == Leaver::Operator && !is_relayed(object),
            ArchiveStep::Asked => false,
        }
    }

    /// Permission to erase all of these, or none.
    pub(crate) fn leave(&self, objects: &[&Object], by: Leaver) -> Option<Leave> {
        let all = objects.iter().all(|object| self.may_go(object, by));
        all.then_some(Leave(()))
    }

    pub(super) fn relayed(&mut self, relayed: Relayed) {
        match relayed {
            Relayed::Sent { objects } => {
                for id in objects {
                    self.step(id, |step| match step {
                        ArchiveStep::Not | ArchiveStep::Failed(_) => ArchiveStep::Sent,
                        other => other,
                    });
                }
            }
            Relayed::Asked {
                transaction,
                objects,
                at_unix_ms,
            } => {
                for id in &objects {
                    self.step(*id, |step| match step {
                        ArchiveStep::Committed => step,
                        _ => ArchiveStep::Asked,
                    });
                }
                let asked = Transaction {
                    objects,
                    at_unix_ms,
                    state: Question::Open,
                };
                self.relay.transactions.insert(transaction, asked);
            }
            Relayed::Open {
                transaction,
                objects,
                at_unix_ms,
                state,
            } => {
                let open = Transaction {
                    objects,
                    at_unix_ms,
                    state,
                };
                self.relay.transactions.insert(transaction, open);
            }
            Relayed::Unheard { transaction } => self.unheard(transaction),
            Relayed::Closed { transaction } => {
                self.relay.transactions.remove(&transaction);
            }
            Relayed::Heard {
                transaction,
                committed,
                failed,
                lacking,
                at_unix_ms,
            } => {
                let Some(asked) = self.relay.transactions.get_mut(&transaction) else {
                    return;
                };
                let late = asked.state == Question::Late;
                asked.state = Question::Answered;
                let asked: BTreeSet<Id> = std::mem::take(&mut asked.objects).into_iter().collect();
                for id in committed.iter().filter(|id| asked.contains(id)) {
                    self.step(*id, |_| ArchiveStep::Committed);
                    self.relay
                        .requests
                        .decide(*id, Outcome::Committed, at_unix_ms);
                }
                // It was asked about the others again, and says so again.
                if late {
                    return;
                }
                for (id, failure) in failed.iter().filter(|(id, _)| asked.contains(id)) {
                    self.fail(*id, *failure, at_unix_ms);
                }
                for id in lacking.iter().filter(|id| asked.contains(id)) {
                    self.step(*id, |step| match step {
                        ArchiveStep::Asked => ArchiveStep::Not,
                        other => other,
                    });
                }
            }
            Relayed::GivenUp {
                objects,
                failure,
                at_unix_ms,
            } => {
                for id in objects {
                    self.fail(id, failure, at_unix_ms);
                }
            }
            Relayed::Again {
                objects,
                at_unix_ms,
            } => {
                for id in objects {
                    self.objects.change(id, |object| {
                        if matches!(object.archiving.step, ArchiveStep::Failed(_)) {
                            object.archiving = Archiving {
                                step: ArchiveStep::Not,
                                since_unix_ms: at_unix_ms,
                            };
                        }
                    });
                }
            }
            Relayed::Requested(requested) => self.requested(requested),
            Relayed::Overdue {
                request,
                at_unix_ms,
            } => {
                let late = Outcome::Failed(Failure::Processing);
                self.relay.requests.decide_rest(request, late, at_unix_ms);
            }
            Relayed::Reported {
                request,
                at_unix_ms,
            } => self.request_state(request, RequestState::Reported(at_unix_ms)),
            Relayed::Undeliverable {
                request,
                at_unix_ms,
            } => self.request_state(request, RequestState::Undeliverable(at_unix_ms)),
            Relayed::Deliver {
                request,
                at_unix_ms,
            } => self.request_state(request, RequestState::Decided(at_unix_ms)),
            Relayed::Forgot { request } => self.relay.requests.remove(request),
            Relayed::Request(mut request) => {
                let open = request.outcomes.iter().filter(|outcome| outcome.is_none());
                request.undecided = open.count();
                self.relay.references += request.load().references as u64;
                self.relay.requests.insert(request);
            }
            Relayed::Remembered(all) => {
                let all = all.into_iter().map(|one| (one.instance, one));
                self.relay.remembered.extend(all);
            }
        }
    }

    fn step(&mut self, id: Id, change: impl FnOnce(ArchiveStep) -> ArchiveStep) {
        self.objects.change(id, |object| {
            object.archiving.step = change(object.archiving.step);
        });
    }

    /// The archive has these, or nobody knows: it is asked again, and says what it lacks.
    fn unheard(&mut self, transaction: Uuid) {
        let Some(unheard) = self.relay.transactions.get_mut(&transaction) else {
            return;
        };
        if unheard.state != Question::Open {
            return;
        }
        unheard.state = Question::Late;
        for id in unheard.objects.clone() {
            self.step(id, |step| match step {
                ArchiveStep::Asked => ArchiveStep::Sent,
                other => other,
            });
        }
    }

    fn fail(&mut self, id: Id, failure: Failure, at_unix_ms: i64) {
        let mut failed = true;
        self.step(id, |step| match step {
            // Said before; a second transaction takes nothing back.
            ArchiveStep::Committed => {
                failed = false;
                step
            }
            _ => ArchiveStep::Failed(failure),
        });
        if failed {
            let failed = Outcome::Failed(failure);
            self.relay.requests.decide(id, failed, at_unix_ms);
        }
    }

    fn requested(&mut self, requested: Requested) {
        self.relay.references += requested.wanted.len() as u64;
        if self.relay.requests.get(requested.request).is_some() {
            return;
        }
        let outcome = |wanted: &Wanted| match wanted {
            Wanted::Failed(failure) => Some(Outcome::Failed(*failure)),
            Wanted::Erased(instance)
                if self
                    .relay
                    .remembered
                    .get(instance)
                    .is_some_and(|remembered| !remembered.doubtful) =>
            {
                Some(Outcome::Committed)
            }
            Wanted::Erased(_) => Some(Outcome::Failed(Failure::NoSuchInstance)),
            Wanted::Object(id) => match self.objects.get(id).map(|object| object.archiving.step) {
                Some(ArchiveStep::Committed) => Some(Outcome::Committed),
                Some(ArchiveStep::Failed(failure)) => Some(Outcome::Failed(failure)),
                Some(_) => None,
                None => Some(Outcome::Failed(Failure::NoSuchInstance)),
            },
        };
        let outcomes: Vec<_> = requested.wanted.iter().map(outcome).collect();
        let undecided = outcomes.iter().filter(|outcome| outcome.is_none()).count();
        let state = match undecided {
            0 => RequestState::Decided(requested.at_unix_ms),
            _ => RequestState::Open,
        };
        self.relay.requests.insert(Request {
            requested,
            outcomes,
            state,
            undecided,
        });
    }

    fn request_state(&mut self, id: Id, state: RequestState) {
        let request = self.relay.requests.get(id);
        if request.is_some_and(|request| request.state != RequestState::Open) {
            self.relay.requests.state(id, state);
        }
    }

    /// Objects that are so far on their way to the archive, those tried for the longest time first.
    pub(crate) fn underway(&self, stage: Underway) -> impl ExactSizeIterator<Item = Id> {
        self.objects.underway(stage).iter().map(|(_, id)| *id)
    }

    /// Objects that are not at the archive and tried since before `before_unix_ms`.
    pub(crate) fn archiving_overdue(&self, before_unix_ms: i64) -> Vec<Id> {
        let stages = [Underway::Unsent, Underway::Sent, Underway::Asked];
        let late = stages.into_iter().flat_map(|stage| {
            let oldest = self.objects.underway(stage).iter();
            oldest.take_while(|(since, _)| *since < before_unix_ms)
        });
        late.map(|(_, id)| *id).collect()
    }

    /// Objects that wait for somebody: given up, or such as never go to the archive.
    pub(crate) fn archiving_failed(&self) -> impl Iterator<Item = (&Object, Option<Failure>)> {
        self.objects
            .values()
            .filter_map(|object| match object.archiving.step {
                ArchiveStep::Failed(failure) => Some((object, Some(failure))),
                ArchiveStep::Not | ArchiveStep::Sent if !is_relayed(object) => Some((object, None)),
                _ => None,
            })
    }

    pub(crate) fn transaction(&self, transaction: Uuid) -> Option<&Transaction> {
        self.relay.transactions.get(&transaction)
    }

    pub(crate) fn transactions(&self) -> impl Iterator<Item = (&Uuid, &Transaction)> {
        self.relay.transactions.iter()
    }

    pub(crate) fn request(&self, request: Id) -> Option<&Request> {
        self.relay.requests.get(request)
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = (&Id, &Request)> {
        self.relay.requests.iter()
    }

    /// Requests that are decided and not told, by who asked.
    pub(crate) fn untold(&self) -> &BTreeMap<String, BTreeSet<Id>> {
        self.relay.requests.due()
    }

    /// What has to be forgotten, of what is over since before `before_unix_ms`, so that one more
    /// request fits, or `None` if it does not. `known` says whether a title stands in the
    /// configuration.
    pub(crate) fn room_for_request(
        &self,
        calling: &str,
        references: usize,
        limit: Load,
        before_unix_ms: i64,
        known: impl Fn(&str) -> bool,
    ) -> Option<Vec<Id>> {
        let requests = &self.relay.requests;
        requests.room(calling, references, limit, before_unix_ms, known)
    }

    /// Everything under an instance (keyed hash).
    pub(crate) fn under(&self, instance: &[u8; 32]) -> Vec<&Object> {
        self.objects.under(instance)
    }

    /// For a snapshot.
    pub(super) fn relay_records(&self) -> Vec<Record> {
        let asked = self.relay.transactions.iter();
        let asked = asked.map(|(transaction, asked)| Relayed::Open {
            transaction: *transaction,
            objects: asked.objects.clone(),
            at_unix_ms: asked.at_unix_ms,
            state: asked.state,
        });
        let requests = self.relay.requests.iter();
        let requests = requests.map(|(_, request)| request.clone());
        let remembered: Vec<_> = self.relay.remembered.values().cloned().collect();
        let remembered = remembered.chunks(REMEMBERED_PIECE);
        let remembered = remembered.map(|piece| Relayed::Remembered(piece.to_vec()));
        let remembered: Vec<_> = remembered.collect();
        let all = asked
            .chain(requests.map(Relayed::Request))
            .chain(remembered);
        all.map(|relayed| Record::Relayed {
            relayed: Box::new(relayed),
        })
        .collect()
    }

    pub(super) fn relay_len(&self) -> usize {
        let pieces = self.relay.remembered.len().div_ceil(REMEMBERED_PIECE);
        self.relay.transactions.len() + self.relay.requests.len() + pieces
    }

    /// References that were taken down in this log, and those of them that still count: a record of
    /// a request is as long as its list.
    pub(crate) fn relay_references(&self) -> (u64, u64) {
        let live = self.relay.requests.total().references as u64;
        (self.relay.references, live)
    }
}

/// Whether the object goes to the archive at all: of two under one name the second does not, or it
/// could take the place of the first there; and what cannot be opened cannot be sent.
pub(crate) fn is_relayed(object: &Object) -> bool {
    let damaged = matches!(
        object.state,
        ObjectState::Quarantined {
            reason: Reason::Damaged,
            ..
        }
    );
    !object.stored.conflict && !damaged
}

#[cfg(test)]
mod tests;
