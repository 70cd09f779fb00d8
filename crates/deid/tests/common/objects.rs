//! Builds objects in memory, where a writer's view is enough.

#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each test binary uses a part"
)]

use cloister_deid::{Policy, ProfileOption};
use dicom_core::{DataElement, Length, Tag, VR, value::DataSetSequence};
use dicom_object::{InMemDicomObject, mem::InMemElement};

pub fn text(tag: Tag, vr: VR, value: &str) -> InMemElement {
    DataElement::new(tag, vr, value)
}

pub fn items(tag: Tag, items: Vec<InMemDicomObject>) -> InMemElement {
    DataElement::new(tag, VR::SQ, DataSetSequence::new(items, Length::UNDEFINED))
}

/// A sequence of one item.
pub fn sequence(tag: Tag, item: InMemDicomObject) -> InMemElement {
    items(tag, vec![item])
}

pub fn policy(options: &[ProfileOption]) -> Policy {
    Policy::with(options.iter().copied()).unwrap()
}
