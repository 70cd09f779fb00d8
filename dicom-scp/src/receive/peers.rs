//! How many connections there may be, in all and from one address, so that one peer's half-open
//! sockets never take the places of the others.
//!
//! When all places are taken, a newcomer gets the place of a connection that has not yet said who
//! it is, of the address that holds the most places, if that address holds more than the
//! newcomer's would. An association is never ended for another.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Counts connections.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    table: Arc<Mutex<Table>>,
    in_all: usize,
    per_peer: usize,
}

#[derive(Debug, Default)]
struct Table {
    all: usize,
    next: u64,
    peers: HashMap<IpAddr, Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Connections before their first request, the oldest first.
    strangers: VecDeque<(u64, CancellationToken)>,
}

/// A place; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place {
    peers: Peers,
    peer: IpAddr,
    number: u64,
    evicted: CancellationToken,
}

impl Peers {
    pub(crate) fn new(in_all: usize, per_peer: usize) -> Self {
        Self {
            table: Arc::default(),
            in_all,
            per_peer,
        }
    }

    /// A place for `peer`, if there is one.
    pub(crate) fn place(&self, peer: IpAddr) -> Option<Place> {
        let mut table = self.lock();
        let held = table.peers.get(&peer).map_or(0, |held| held.all);
        if held >= self.per_peer || (table.all >= self.in_all && !table.evict(held + 1)) {
            return None;
        }
        let (number, evicted) = (table.next, CancellationToken::new());
        table.next += 1;
        table.all += 1;
        let held = table.peers.entry(peer).or_default();
        held.all += 1;
        held.strangers.push_back((number, evicted.clone()));
        Some(Place {
            peers: self.clone(),
            peer,
            number,
            evicted,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Frees the place of a stranger whose address holds more than `held`.
    fn evict(&mut self, held: usize) -> bool {
        let greediest = self
            .peers
            .iter()
            .filter(|(_, other)| other.all > held && !other.strangers.is_empty())
            .max_by_key(|(_, other)| other.all)
            .map(|(peer, _)| *peer);
        let Some(peer) = greediest else {
            return false;
        };
        let oldest = self
            .peers
            .get_mut(&peer)
            .and_then(|held| held.strangers.pop_front());
        if let Some((_, token)) = oldest {
            token.cancel();
            self.free(peer);
        }
        true
    }

    fn free(&mut self, peer: IpAddr) {
        self.all -= 1;
        if let Some(held) = self.peers.get_mut(&peer) {
            held.all -= 1;
            if held.all == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

impl Place {
    /// From now on nobody takes this place: the peer has said who it is.
    pub(crate) fn keep(&self) {
        if let Some(held) = self.peers.lock().peers.get_mut(&self.peer) {
            held.strangers.retain(|(number, _)| *number != self.number);
        }
    }

    /// Resolves when the place was given to another.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keep();
        let mut table = self.peers.lock();
        // Under the lock, so an eviction is either seen here or finds nobody.
        if !self.evicted.is_cancelled() {
            table.free(self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn one_peers_limit_is_not_anothers_and_a_dropped_place_is_free_again() {
        let peers = Peers::new(3, 2);
        let first = peers.place(ip(2)).unwrap();
        let second = peers.place(ip(2)).unwrap();
        assert!(peers.place(ip(2)).is_none());
        for place in [&first, &second] {
            place.keep();
        }
        let _other = peers.place(ip(3)).unwrap();
        assert!(peers.place(ip(4)).is_none(), "in all");
        drop(first);
        assert!(peers.place(ip(2)).is_some());
    }

    #[test]
    fn strangers_of_a_greedy_address_make_room_and_associations_never_do() {
        let peers = Peers::new(4, 3);
        let greedy: Vec<_> = (0..3).map(|_| peers.place(ip(2)).unwrap()).collect();
        let _modest = peers.place(ip(3)).unwrap();
        greedy[0].keep();
        let newcomer = peers.place(ip(4)).unwrap();
        let evicted: Vec<_> = greedy.iter().map(|p| p.evicted.is_cancelled()).collect();
        assert_eq!(evicted, [false, true, false], "the oldest stranger");
        // Now 2, 1 and 1: nobody holds more than a second place of the newcomer would make.
        assert!(peers.place(ip(4)).is_none());
        let another = peers.place(ip(5)).unwrap();
        assert!(greedy[2].evicted.is_cancelled());
        assert!(
            peers.place(ip(6)).is_none(),
            "only associations and modest ones are left"
        );
        drop((greedy, newcomer, another));
        assert_eq!(peers.lock().all, 1);
    }
}
