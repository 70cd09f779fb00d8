//! The option to retain safe private attributes (PS3.15 E.3.10): a list of those that are known to
//! identify nobody, with the creator that owns each. The cleaner asks; all others go.

use std::{collections::HashMap, str::FromStr, sync::LazyLock};

use dicom_core::{DataElement, Tag, VR};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{charset::values, clean::Cleaner, retain::is_text};

/// Group, low byte of the element, creator. Taken from PS3.15 Table E.3.10-1, only rows whose VR
/// the private dictionaries in use confirm; sequences and opaque bytes are left out.
type Key = (u16, u8, &'static str);

static SAFE: LazyLock<HashMap<Key, VR>> = LazyLock::new(|| {
    include_str!("../table/safe_private.tsv")
        .lines()
        .filter_map(parse)
        .collect()
});

fn parse(line: &'static str) -> Option<(Key, VR)> {
    let mut fields = line.split('\t');
    let group = u16::from_str_radix(fields.next()?, 16).ok()?;
    let low = u8::from_str_radix(fields.next()?, 16).ok()?;
    let creator = fields.next()?;
    let vr = VR::from_str(fields.next()?).ok()?;
    Some(((group, low, creator), vr))
}

/// The element that names the creator of a private attribute (PS3.5 section 7.8.1).
fn reserved_by(tag: Tag) -> Option<Tag> {
    let [block, _] = tag.element().to_be_bytes();
    (block >= 0x10).then(|| Tag(tag.group(), u16::from(block)))
}

/// Creator and VR of a private attribute on the list.
fn listed(object: &InMemDicomObject, tag: Tag, codes: &[String]) -> Option<(&'static str, VR)> {
    let [_, low] = tag.element().to_be_bytes();
    let owner = values(object.get(reserved_by(tag)?)?, codes);
    let [owner] = owner.as_slice() else {
        return None;
    };
    let (&(.., creator), &vr) = SAFE
        .iter()
        .find(|((group, byte, name), _)| *group == tag.group() && *byte == low && name == owner)?;
    Some((creator, vr))
}

/// Whether a private attribute is on the list, or is a creator of one that could be.
pub(crate) fn is_listed(object: &InMemDicomObject, tag: Tag, codes: &[String]) -> bool {
    if reserved_by(tag).is_some() {
        return listed(object, tag, codes).is_some();
    }
    let owner = object.get(tag).map(|element| values(element, codes));
    owner.is_some_and(|owner| {
        SAFE.keys()
            .any(|(group, _, name)| *group == tag.group() && owner.as_slice() == [*name])
    })
}

impl Cleaner<'_> {
    /// A safe private attribute and its creator. The creator is written from the list, so that the
    /// object's own text does not pass.
    pub(crate) fn safe_private(
        &self,
        object: &InMemDicomObject,
        element: &InMemElement,
        codes: &[String],
    ) -> Option<[InMemElement; 2]> {
        let tag = element.header().tag;
        let (creator, vr) = listed(object, tag, codes)?;
        let reserved = reserved_by(tag)?;
        let mut kept = self.retained_as(element, vr, codes)?;
        if vr == VR::LO || vr == VR::SH {
            // Text may say anything: only what no detector knows stays.
            kept = self.quiet(kept, codes)?;
        }
        // Numbers that an implicit VR brought as unknown stay unknown: their bytes were searched.
        debug_assert!(kept.vr() == vr || !is_text(vr));
        Some([kept, DataElement::new(reserved, VR::LO, creator)])
    }

    fn quiet(&self, element: InMemElement, codes: &[String]) -> Option<InMemElement> {
        values(&element, codes)
            .iter()
            .all(|text| self.says_nothing(text))
            .then_some(element)
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::SAFE;

    #[test]
    fn every_row_is_read_and_holds_neither_names_nor_opaque_bytes() {
        let lines = include_str!("../table/safe_private.tsv").lines().count();
        assert_eq!(SAFE.len(), lines);
        for ((group, ..), vr) in SAFE.iter() {
            assert_eq!(group % 2, 1);
            let plain = ["DS", "IS", "CS", "LO", "SH", "FL", "FD", "US", "SS", "SL"];
            assert!(plain.contains(&VR::to_string(*vr)));
        }
    }
}
