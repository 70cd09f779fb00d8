//! The objects, and the orders in which the relay asks for them: nobody walks them all for a few.

use std::collections::{BTreeMap, BTreeSet};

use super::Object;
use super::commitment::{ArchiveStep, is_relayed};
use crate::spool::Id;

const FIRST: Id = Id([0; 16]);
const LAST: Id = Id([u8::MAX; 16]);

/// A step that the relay itself goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Underway {
    Unsent,
    Sent,
    Asked,
}

/// All objects. Each change goes through [`Objects::change`], which keeps the orders.
#[derive(Debug, Default)]
pub(super) struct Objects {
    all: BTreeMap<Id, Object>,
    /// Since when, and which.
    unsent: BTreeSet<(i64, Id)>,
    sent: BTreeSet<(i64, Id)>,
    asked: BTreeSet<(i64, Id)>,
    /// By keyed hash of the SOP Instance UID.
    names: BTreeSet<([u8; 32], Id)>,
}

impl Objects {
    pub(super) fn get(&self, id: &Id) -> Option<&Object> {
        self.all.get(id)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Id> {
        self.all.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Object> {
        self.all.values()
    }

    pub(super) fn insert(&mut self, object: Object) {
        let id = object.stored.object;
        self.remove(&id);
        self.names.insert((object.stored.instance, id));
        if let Some(order) = self.order(stage(&object)) {
            order.insert(since(&object));
        }
        self.all.insert(id, object);
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<Object> {
        let object = self.all.remove(id)?;
        self.names.remove(&(object.stored.instance, *id));
        if let Some(order) = self.order(stage(&object)) {
            order.remove(&since(&object));
        }
        Some(object)
    }

    /// `None` if there is no such object.
    pub(super) fn change<T>(&mut self, id: Id, change: impl FnOnce(&mut Object) -> T) -> Option<T> {
        let object = self.all.get_mut(&id)?;
        let before = (stage(object), since(object));
        let changed = change(object);
        let after = (stage(object), since(object));
        if before != after {
            if let Some(order) = self.order(before.0) {
                order.remove(&before.1);
            }
            if let Some(order) = self.order(after.0) {
                order.insert(after.1);
            }
        }
        Some(changed)
    }

    /// Those that are so far, tried for the longest time first.
    pub(super) fn underway(&self, stage: Underway) -> &BTreeSet<(i64, Id)> {
        match stage {
            Underway::Unsent => &self.unsent,
            Underway::Sent => &self.sent,
            Underway::Asked => &self.asked,
        }
    }

    /// Everything under one SOP Instance UID.
    pub(super) fn under(&self, instance: &[u8; 32]) -> Vec<&Object> {
        let named = self.names.range((*instance, FIRST)..=(*instance, LAST));
        named.filter_map(|(_, id)| self.all.get(id)).collect()
    }

    fn order(&mut self, stage: Option<Underway>) -> Option<&mut BTreeSet<(i64, Id)>> {
        Some(match stage? {
            Underway::Unsent => &mut self.unsent,
            Underway::Sent => &mut self.sent,
            Underway::Asked => &mut self.asked,
        })
    }
}

fn stage(object: &Object) -> Option<Underway> {
    let stage = match object.archiving.step {
        ArchiveStep::Not => Underway::Unsent,
        ArchiveStep::Sent => Underway::Sent,
        ArchiveStep::Asked => Underway::Asked,
        ArchiveStep::Committed | ArchiveStep::Failed(_) => return None,
    };
    is_relayed(object).then_some(stage)
}

fn since(object: &Object) -> (i64, Id) {
    (object.archiving.since(&object.stored), object.stored.object)
}
