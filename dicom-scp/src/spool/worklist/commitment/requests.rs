//! The requests of modalities, who waits for what, and for how many there is room.

use std::collections::{BTreeMap, BTreeSet};

use super::{Outcome, Request, RequestState, Wanted};
use crate::spool::Id;

const FIRST: Id = Id([0; 16]);
const LAST: Id = Id([u8::MAX; 16]);

/// So many requests, and references in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    pub(crate) requests: usize,
    pub(crate) references: usize,
}

impl Load {
    const fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            references: self.references + other.references,
        }
    }

    const fn less(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            references: self.references.saturating_sub(other.references),
        }
    }

    const fn part(self, of: usize) -> Self {
        Self {
            requests: self.requests / of,
            references: self.references / of,
        }
    }

    const fn fits(self, limit: Self) -> bool {
        self.requests <= limit.requests && self.references <= limit.references
    }
}

/// All requests on record. Each change goes through here, which keeps the orders.
#[derive(Debug, Default)]
pub(super) struct Requests {
    all: BTreeMap<Id, Request>,
    /// Object, request and place of every reference that waits for the archive.
    waiting: BTreeSet<(Id, Id, u32)>,
    /// Decided and not told yet, by who asked.
    due: BTreeMap<String, BTreeSet<Id>>,
    /// Nobody waits for these any more, since then.
    over: BTreeSet<(i64, Id)>,
    /// By who asked.
    load: BTreeMap<String, Load>,
    total: Load,
}

impl Requests {
    pub(super) fn get(&self, id: Id) -> Option<&Request> {
        self.all.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Id, &Request)> {
        self.all.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) const fn total(&self) -> Load {
        self.total
    }

    pub(super) fn insert(&mut self, request: Request) {
        let id = request.requested.request;
        self.remove(id);
        let load = request.load();
        self.total = self.total.and(load);
        let theirs = self.load.entry(request.requested.calling_ae.clone());
        let theirs = theirs.or_default();
        *theirs = theirs.and(load);
        self.waiting.extend(request.waiting());
        self.all.insert(id, request);
        self.enter(id);
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.leave(id);
        let Some(request) = self.all.remove(&id) else {
            return;
        };
        for one in request.waiting() {
            self.waiting.remove(&one);
        }
        let load = request.load();
        self.total = self.total.less(load);
        let calling = &request.requested.calling_ae;
        if let Some(theirs) = self.load.get_mut(calling) {
            *theirs = theirs.less(load);
            if theirs.requests == 0 {
                self.load.remove(calling);
            }
        }
    }

    /// For every open request that names the object.
    pub(super) fn decide(&mut self, object: Id, decided: Outcome, at_unix_ms: i64) {
        let named = self
            .waiting
            .range((object, FIRST, 0)..=(object, LAST, u32::MAX));
        let named: Vec<_> = named.copied().collect();
        for one in named {
            self.waiting.remove(&one);
            let (_, id, place) = one;
            let Some(request) = self.all.get_mut(&id) else {
                continue;
            };
            if let Some(outcome) = request.outcomes.get_mut(place as usize)
                && outcome.is_none()
            {
                *outcome = Some(decided);
                request.undecided = request.undecided.saturating_sub(1);
            }
            if request.undecided == 0 && request.state == RequestState::Open {
                self.state(id, RequestState::Decided(at_unix_ms));
            }
        }
    }

    /// Everything that is still open becomes this.
    pub(super) fn decide_rest(&mut self, id: Id, decided: Outcome, at_unix_ms: i64) {
        let Some(request) = self.all.get_mut(&id) else {
            return;
        };
        for one in request.waiting() {
            self.waiting.remove(&one);
        }
        for outcome in &mut request.outcomes {
            outcome.get_or_insert(decided);
        }
        request.undecided = 0;
        if request.state == RequestState::Open {
            self.state(id, RequestState::Decided(at_unix_ms));
        }
    }

    pub(super) fn state(&mut self, id: Id, state: RequestState) {
        self.leave(id);
        if let Some(request) = self.all.get_mut(&id) {
            request.state = state;
        }
        self.enter(id);
    }

    /// Decided and not told, by who asked.
    pub(super) fn due(&self) -> &BTreeMap<String, BTreeSet<Id>> {
        &self.due
    }

    /// What has to be forgotten before one more of so many references fits: of those that are over
    /// since before `before_unix_ms`, the oldest. `None` if it does not fit anyway. Titles are claimed, not proven: those that the
    /// configuration does not name (`known`) have a part of their own, so that they cannot keep the
    /// others out.
    pub(super) fn room(
        &self,
        calling: &str,
        references: usize,
        limit: Load,
        before_unix_ms: i64,
        known: impl Fn(&str) -> bool,
    ) -> Option<Vec<Id>> {
        let more = Load {
            requests: 1,
            references,
        };
        let is_stranger = !known(calling);
        let theirs = self.load.get(calling).copied().unwrap_or_default();
        let strangers = self.load.iter().filter(|(title, _)| !known(title));
        let strangers = strangers.fold(Load::default(), |sum, (_, load)| sum.and(*load));
        let title = limit.part(if is_stranger { 10 } else { 2 });
        let mut shares = vec![(self.total.and(more), limit), (theirs.and(more), title)];
        if is_stranger {
            shares.push((strangers.and(more), limit.part(2)));
        }
        let mut forgotten = Vec::new();
        let old = self.over.iter();
        for (_, id) in old.take_while(|(since, _)| *since < before_unix_ms) {
            if shares.iter().all(|(load, limit)| load.fits(*limit)) {
                break;
            }
            let Some(request) = self.all.get(id) else {
                continue;
            };
            let asked_by = request.requested.calling_ae.as_str();
            let counts = [true, asked_by == calling, !known(asked_by)];
            let mut helps = false;
            for ((load, limit), counts) in shares.iter_mut().zip(counts) {
                if counts {
                    helps |= !load.fits(*limit);
                }
            }
            if helps {
                for ((load, _), counts) in shares.iter_mut().zip(counts) {
                    if counts {
                        *load = load.less(request.load());
                    }
                }
                forgotten.push(*id);
            }
        }
        let fits = shares.iter().all(|(load, limit)| load.fits(*limit));
        fits.then_some(forgotten)
    }

    fn enter(&mut self, id: Id) {
        let Some(request) = self.all.get(&id) else {
            return;
        };
        match request.state {
            RequestState::Open => {}
            RequestState::Decided(_) => {
                let calling = request.requested.calling_ae.clone();
                self.due.entry(calling).or_default().insert(id);
            }
            RequestState::Reported(since) | RequestState::Undeliverable(since) => {
                self.over.insert((since, id));
            }
        }
    }

    fn leave(&mut self, id: Id) {
        let Some(request) = self.all.get(&id) else {
            return;
        };
        match request.state {
            RequestState::Open => {}
            RequestState::Decided(_) => {
                let calling = &request.requested.calling_ae;
                if let Some(due) = self.due.get_mut(calling) {
                    due.remove(&id);
                    if due.is_empty() {
                        self.due.remove(calling);
                    }
                }
            }
            RequestState::Reported(since) | RequestState::Undeliverable(since) => {
                self.over.remove(&(since, id));
            }
        }
    }
}

impl Request {
    pub(super) fn load(&self) -> Load {
        Load {
            requests: 1,
            references: self.requested.wanted.len(),
        }
    }

    fn waiting(&self) -> Vec<(Id, Id, u32)> {
        let places = (0_u32..).zip(self.requested.wanted.iter().zip(&self.outcomes));
        let waiting = places.filter_map(|(place, (wanted, outcome))| match (wanted, outcome) {
            (Wanted::Object(object), None) => Some((*object, self.requested.request, place)),
            _ => None,
        });
        waiting.collect()
    }
}
