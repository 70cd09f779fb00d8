//! How many connections there may be, in all and from one address, so that one peer's half-open
//! sockets never take the places of the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    in_all: usize,
    per_peer: usize,
}

/// A place; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    pub(crate) fn new(in_all: usize, per_peer: usize) -> Self {
        Self {
            counts: Arc::default(),
            in_all,
            per_peer,
        }
    }

    /// A place for `peer`, if there is one.
    pub(crate) fn place(&self, peer: IpAddr) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= self.in_all {
            return None;
        }
        let count = counts.entry(peer).or_insert(0);
        if *count >= self.per_peer {
            return None;
        }
        *count += 1;
        Some(Place {
            peers: self.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .peers
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Peers;

    #[test]
    fn one_peers_limit_is_not_anothers_and_a_dropped_place_is_free_again() {
        let peers = Peers::new(3, 2);
        let (a, b) = ("127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap());
        let first = peers.place(a).unwrap();
        let _second = peers.place(a).unwrap();
        assert!(peers.place(a).is_none());
        let _other = peers.place(b).unwrap();
        assert!(peers.place(b).is_none(), "in all");
        drop(first);
        assert!(peers.place(a).is_some());
    }
}
