//! Puts fragments together to frames: one frame, one fragment each, or by the offset table.

use std::borrow::Cow;

use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;

use super::{Result, bad};
use crate::error::Undecodable;

/// The fragments of each frame.
pub(crate) fn frames(object: &DefaultDicomObject, frames: usize) -> Result<Vec<&[Vec<u8>]>> {
    let Some(Value::PixelSequence(sequence)) = object
        .get(tags::PIXEL_DATA)
        .map(dicom_core::DataElement::value)
    else {
        return Err(bad(Undecodable::Malformed));
    };
    split(sequence, frames)
}

/// One frame's bytes.
pub(crate) fn joined(fragments: &[Vec<u8>]) -> Cow<'_, [u8]> {
    match fragments {
        [one] => Cow::Borrowed(one.as_slice()),
        more => Cow::Owned(more.concat()),
    }
}

pub(super) fn split(
    sequence: &PixelFragmentSequence<Vec<u8>>,
    frames: usize,
) -> Result<Vec<&[Vec<u8>]>> {
    let (fragments, offsets) = (sequence.fragments(), sequence.offset_table());
    if frames == 1 && !fragments.is_empty() {
        return Ok(vec![fragments]);
    }
    if fragments.len() == frames {
        return Ok(fragments.chunks(1).collect());
    }
    let mismatch = || bad(Undecodable::SizeMismatch);
    if offsets.len() != frames {
        return Err(mismatch());
    }
    let mut starts = Vec::with_capacity(frames);
    let mut position = 0_usize;
    for (at, fragment) in fragments.iter().enumerate() {
        let wanted = offsets.get(starts.len());
        if wanted.is_some_and(|&offset| offset as usize == position) {
            starts.push(at);
        } else if starts.is_empty() {
            return Err(mismatch());
        }
        // PS3.5 A.4: offsets count the item tag and its length, 8 bytes.
        position = position.saturating_add(fragment.len() + 8);
    }
    if starts.len() != frames {
        return Err(mismatch());
    }
    let ends = starts.iter().skip(1).copied().chain([fragments.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| fragments.get(start..end).ok_or_else(mismatch))
        .collect()
}
