//! What the archive has, and who asked. Only the archive's own report makes an object committed
//! ([`Relayed::Heard`]), and only a committed object, or one that was given up and that an operator
//! wants gone, may leave ([`Worklist::leave`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Object, ObjectState, Worklist};
use crate::quarantine::Reason;
use crate::spool::Id;
use crate::spool::record::{Record, hex_bytes};

/// Why an object is not committed: Failure Reason (0008,1197), PS3.3 section C.14.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    /// 0110H, and every reason that is not listed there.
    Processing,
    NoSuchInstance,
    ResourceLimitation,
    SopClassNotSupported,
    ClassInstanceConflict,
    DuplicateTransaction,
}

impl Failure {
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Processing => 0x0110,
            Self::NoSuchInstance => 0x0112,
            Self::ResourceLimitation => 0x0213,
            Self::SopClassNotSupported => 0x0122,
            Self::ClassInstanceConflict => 0x0119,
            Self::DuplicateTransaction => 0x0131,
        }
    }

    pub(crate) const fn of(code: u16) -> Self {
        match code {
            0x0112 => Self::NoSuchInstance,
            0x0213 => Self::ResourceLimitation,
            0x0122 => Self::SopClassNotSupported,
            0x0119 => Self::ClassInstanceConflict,
            0x0131 => Self::DuplicateTransaction,
            _ => Self::Processing,
        }
    }

    /// Stable code for the control socket.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Processing => "PROCESSING_FAILURE",
            Self::NoSuchInstance => "NO_SUCH_INSTANCE",
            Self::ResourceLimitation => "RESOURCE_LIMITATION",
            Self::SopClassNotSupported => "SOP_CLASS_NOT_SUPPORTED",
            Self::ClassInstanceConflict => "CLASS_INSTANCE_CONFLICT",
            Self::DuplicateTransaction => "DUPLICATE_TRANSACTION",
        }
    }
}

/// How far an original is on its way to the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archiving {
    pub(crate) step: ArchiveStep,
    /// When somebody last asked for another try; 0 = since it came.
    since_unix_ms: i64,
}

/// A step of that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ArchiveStep {
    #[default]
    Not,
    /// Its C-STORE was answered with success.
    Sent,
    /// A transaction names it.
    Asked,
    /// The archive's own report lists it as committed.
    Committed,
    /// Given up, until somebody asks again.
    Failed(Failure),
}

/// Who wants something erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaver {
    Retention,
    Operator,
}

/// Permission to erase. Only [`Worklist::leave`] makes one.
#[derive(Debug)]
pub(crate) struct Leave(());

/// One change. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Relayed {
    /// The archive has answered the C-STORE of these with success.
    Sent { objects: Vec<Id> },
    /// The archive is going to be asked; written before it is, so that its report is recognised.
    Asked {
        transaction: Uuid,
        objects: Vec<Id>,
        at_unix_ms: i64,
    },
    /// A question as it stood when the log was compacted.
    Open {
        transaction: Uuid,
        objects: Vec<Id>,
        at_unix_ms: i64,
    },
    /// The archive has not reported in time, or refuses to be asked: its objects go there again.
    Unheard { transaction: Uuid },
    /// The archive's N-EVENT-REPORT. The only record that makes anything committed.
    Heard {
        transaction: Uuid,
        committed: Vec<Id>,
        failed: Vec<(Id, Failure)>,
        at_unix_ms: i64,
    },
    /// Not tried any more.
    GivenUp {
        objects: Vec<Id>,
        failure: Failure,
        at_unix_ms: i64,
    },
    /// Somebody asks for these again.
    Again { objects: Vec<Id>, at_unix_ms: i64 },
    /// A modality's N-ACTION, durable before its response.
    Requested(Requested),
    /// A modality is told now: what is undecided has failed.
    Overdue { request: Id, at_unix_ms: i64 },
    /// The modality has answered the report with success.
    Reported { request: Id, at_unix_ms: i64 },
    /// The report is a dead letter.
    Undeliverable { request: Id, at_unix_ms: i64 },
    /// The report is to be delivered once more.
    Deliver { request: Id, at_unix_ms: i64 },
    /// Nobody is going to ask about this one any more.
    Forgot { request: Id },
    /// A request as it stood when the log was compacted.
    Request(Request),
    /// What was known of erased objects when the log was compacted.
    Remembered(Vec<Remembered>),
}

/// A modality's N-ACTION.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requested {
    /// Keyed hash of calling AE title and Transaction UID.
    pub(crate) request: Id,
    pub(crate) calling_ae: String,
    /// Transaction UID and references, sealed.
    #[serde(with = "hex_bytes")]
    pub(crate) sealed: Vec<u8>,
    /// Keyed hash of the references: another list under the same Transaction UID is another request.
    pub(crate) content: Id,
    /// In the order of the references.
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) at_unix_ms: i64,
}

/// What is known of a reference when it is asked about. There is no way to say "committed" here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    Object(Id),
    /// Erased here; whether the archive has committed to it is looked up when the record is applied.
    Erased(Id),
    Failed(Failure),
}

/// An object that the archive has committed to and that was erased here since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remembered {
    /// Keyed hash of the SOP Instance UID.
    pub(crate) instance: Id,
    pub(crate) calling_ae: String,
    pub(crate) sop_class: Option<String>,
    at_unix_ms: i64,
}

/// How long that is remembered (30 days): a modality that asks so late sends again.
const REMEMBERED_MS: i64 = 30 * 24 * 3_600_000;
/// Of one record of a snapshot.
const REMEMBERED_PIECE: usize = 10_000;

/// A request and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) requested: Requested,
    outcomes: Vec<Option<Outcome>>,
    pub(crate) state: RequestState,
}

/// Of one reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The archive has said so.
    Committed,
    Failed(Failure),
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestState {
    Open,
    /// Everything is decided, since then.
    Decided(i64),
    /// The modality knows, since then.
    Reported(i64),
    /// A dead letter, since then.
    Undeliverable(i64),
}

impl Request {
    /// Of every reference, in order; `None` until all are known.
    pub(crate) fn outcomes(&self) -> Option<Vec<Outcome>> {
        self.outcomes.iter().copied().collect()
    }

    /// Decided, committed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let committed = |outcome: &&Option<Outcome>| **outcome == Some(Outcome::Committed);
        (
            self.outcomes.iter().flatten().count(),
            self.outcomes.iter().filter(committed).count(),
        )
    }

    fn decide_if_all(&mut self, at_unix_ms: i64) {
        if self.state == RequestState::Open && self.outcomes.iter().all(Option::is_some) {
            self.state = RequestState::Decided(at_unix_ms);
        }
    }
}

/// A question to the archive that it has not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) objects: Vec<Id>,
    pub(crate) at_unix_ms: i64,
}

/// Everything that is known about it.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// There is an archive: what it has not committed is held.
    holding: bool,
    transactions: BTreeMap<Uuid, Transaction>,
    requests: BTreeMap<Id, Request>,
    remembered: BTreeMap<Id, Remembered>,
}

impl Worklist {
    /// An object goes. If the archive has committed to it, whoever asks later is still told so.
    pub(super) fn remember(&mut self, object: &Object) {
        if object.archiving.step != ArchiveStep::Committed {
            return;
        }
        let instance = Id::of_hash(&object.stored.instance);
        let remembered = Remembered {
            instance,
            calling_ae: object.stored.calling_ae.clone(),
            sop_class: object.stored.sop_class.clone(),
            at_unix_ms: object.stored.at_unix_ms,
        };
        self.relay.remembered.insert(instance, remembered);
    }

    /// What is known of an instance of which nothing is here any more.
    pub(crate) fn remembered(&self, instance: &[u8; 32]) -> Option<&Remembered> {
        self.relay.remembered.get(&Id::of_hash(instance))
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
            ArchiveStep::Not => by == Leaver::Operator && !is_relayed(object),
            ArchiveStep::Sent | ArchiveStep::Asked => false,
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
                };
                self.relay.transactions.insert(transaction, asked);
            }
            Relayed::Open {
                transaction,
                objects,
                at_unix_ms,
            } => {
                let open = Transaction {
                    objects,
                    at_unix_ms,
                };
                self.relay.transactions.insert(transaction, open);
            }
            Relayed::Unheard { transaction } => {
                let unheard = self.relay.transactions.remove(&transaction);
                for id in unheard.into_iter().flat_map(|unheard| unheard.objects) {
                    self.step(id, |step| match step {
                        ArchiveStep::Asked => ArchiveStep::Not,
                        other => other,
                    });
                }
            }
            Relayed::Heard {
                transaction,
                committed,
                failed,
                at_unix_ms,
            } => {
                let asked = self.relay.transactions.remove(&transaction);
                let asked = asked.map(|asked| asked.objects).unwrap_or_default();
                for id in committed.iter().filter(|id| asked.contains(id)) {
                    self.step(*id, |_| ArchiveStep::Committed);
                    self.decide(*id, Outcome::Committed, at_unix_ms);
                }
                for (id, failure) in failed.iter().filter(|(id, _)| asked.contains(id)) {
                    self.fail(*id, *failure, at_unix_ms);
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
                    if let Some(object) = self.objects.get_mut(&id)
                        && matches!(object.archiving.step, ArchiveStep::Failed(_))
                    {
                        object.archiving = Archiving {
                            step: ArchiveStep::Not,
                            since_unix_ms: at_unix_ms,
                        };
                    }
                }
            }
            Relayed::Requested(requested) => self.requested(requested),
            Relayed::Overdue {
                request,
                at_unix_ms,
            } => {
                if let Some(request) = self.relay.requests.get_mut(&request) {
                    for outcome in &mut request.outcomes {
                        let late = Outcome::Failed(Failure::Processing);
                        outcome.get_or_insert(late);
                    }
                    request.decide_if_all(at_unix_ms);
                }
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
            Relayed::Forgot { request } => {
                self.relay.requests.remove(&request);
            }
            Relayed::Request(request) => {
                let id = request.requested.request;
                self.relay.requests.insert(id, request);
            }
            Relayed::Remembered(all) => {
                let all = all.into_iter().map(|one| (one.instance, one));
                self.relay.remembered.extend(all);
            }
        }
    }

    fn step(&mut self, id: Id, change: impl FnOnce(ArchiveStep) -> ArchiveStep) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.archiving.step = change(object.archiving.step);
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
            self.decide(id, Outcome::Failed(failure), at_unix_ms);
        }
    }

    /// For every open request that names the object.
    fn decide(&mut self, id: Id, decided: Outcome, at_unix_ms: i64) {
        for request in self.relay.requests.values_mut() {
            if request.state != RequestState::Open {
                continue;
            }
            let references = request.requested.wanted.iter();
            for (wanted, outcome) in references.zip(&mut request.outcomes) {
                if *wanted == Wanted::Object(id) {
                    outcome.get_or_insert(decided);
                }
            }
            request.decide_if_all(at_unix_ms);
        }
    }

    fn requested(&mut self, requested: Requested) {
        let outcome = |wanted: &Wanted| match wanted {
            Wanted::Failed(failure) => Some(Outcome::Failed(*failure)),
            Wanted::Erased(instance) if self.relay.remembered.contains_key(instance) => {
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
        let mut request = Request {
            outcomes: requested.wanted.iter().map(outcome).collect(),
            state: RequestState::Open,
            requested,
        };
        request.decide_if_all(request.requested.at_unix_ms);
        let id = request.requested.request;
        self.relay.requests.entry(id).or_insert(request);
    }

    fn request_state(&mut self, id: Id, state: RequestState) {
        if let Some(request) = self.relay.requests.get_mut(&id)
            && request.state != RequestState::Open
        {
            request.state = state;
        }
    }

    /// Objects at a step, oldest time first where there are more than `most`; with the time since
    /// when they are tried.
    pub(crate) fn archiving(&self, step: ArchiveStep, most: usize) -> Vec<(Id, i64)> {
        let at = |object: &&Object| object.archiving.step == step && is_relayed(object);
        let mut found: Vec<_> = self.objects.values().filter(at).map(since).collect();
        found.sort_by_key(|(_, since)| *since);
        found.truncate(most);
        found
    }

    /// Objects that are not at the archive and tried since before `before_unix_ms`.
    pub(crate) fn archiving_overdue(&self, before_unix_ms: i64) -> Vec<Id> {
        let late = |object: &&Object| {
            let open = matches!(
                object.archiving.step,
                ArchiveStep::Not | ArchiveStep::Sent | ArchiveStep::Asked
            );
            open && is_relayed(object) && since(object).1 < before_unix_ms
        };
        let late = self.objects.values().filter(late);
        late.map(|object| object.stored.object).collect()
    }

    /// Objects that wait for somebody: given up, or such as never go to the archive.
    pub(crate) fn archiving_failed(&self) -> impl Iterator<Item = (&Object, Option<Failure>)> {
        self.objects
            .values()
            .filter_map(|object| match object.archiving.step {
                ArchiveStep::Failed(failure) => Some((object, Some(failure))),
                ArchiveStep::Not if !is_relayed(object) => Some((object, None)),
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
        self.relay.requests.get(&request)
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = (&Id, &Request)> {
        self.relay.requests.iter()
    }

    /// Everything under each of these instances (keyed hashes), in one pass.
    pub(crate) fn under<'a>(
        &'a self,
        instances: &std::collections::HashSet<[u8; 32]>,
    ) -> BTreeMap<[u8; 32], Vec<&'a Object>> {
        let mut found: BTreeMap<[u8; 32], Vec<&Object>> = BTreeMap::new();
        for object in self.objects.values() {
            if instances.contains(&object.stored.instance) {
                found
                    .entry(object.stored.instance)
                    .or_default()
                    .push(object);
            }
        }
        found
    }

    /// For a snapshot.
    pub(super) fn relay_records(&self) -> Vec<Record> {
        let asked = self.relay.transactions.iter();
        let asked = asked.map(|(transaction, asked)| Relayed::Open {
            transaction: *transaction,
            objects: asked.objects.clone(),
            at_unix_ms: asked.at_unix_ms,
        });
        let requests = self.relay.requests.values().cloned();
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
}

fn since(object: &Object) -> (Id, i64) {
    let since = match object.archiving.since_unix_ms {
        0 => object.stored.at_unix_ms,
        since => since,
    };
    (object.stored.object, since)
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
