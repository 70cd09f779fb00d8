//! One run per report id: whoever comes second with the same id waits for the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

type Lanes = Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>;

/// The report ids that are being worked on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights(Arc<Lanes>);

/// The right to work on one report id, until dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    lanes: Arc<Lanes>,
    id: Uuid,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Flights {
    /// Waits until nobody else works on `id`.
    pub(crate) async fn enter(&self, id: Uuid) -> Flight {
        let lane = Arc::clone(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(id)
                .or_default(),
        );
        // Made before waiting, so that a waiter that is cancelled cleans up as well.
        let mut flight = Flight {
            lanes: Arc::clone(&self.0),
            id,
            guard: None,
        };
        flight.guard = Some(lane.lock_owned().await);
        flight
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // Waiters hold a clone each; only the map's own is left when there are none.
        if lanes
            .get(&self.id)
            .is_some_and(|lane| Arc::strong_count(lane) == 1)
        {
            lanes.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_id_waits_and_leaves_nothing_behind() {
        let flights = Flights::default();
        let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
        let first = flights.enter(one).await;
        let mut second = Box::pin(flights.enter(one));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(flights.enter(other).await);
        drop(first);
        drop(second.await);
        assert!(flights.0.lock().unwrap().is_empty());
    }
}
