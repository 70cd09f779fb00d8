//! Reads an encoded Part 10 file within limits. Nothing before it; collection and cleaning follow,
//! and the gate reads the result with the same limits. The object is built here from a walk that
//! checked every length; memory follows the bytes that are there.

use std::{
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
};

use dicom_dictionary_std::uids;
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_object::{FileDicomObject, FileMetaTable, InMemDicomObject};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::{
    build, meta,
    walk::{Coding, Walker, header},
};

/// Nested sequences beyond this depth are refused: the cleaner recurses, and no IOD comes near it.
pub(crate) const MAX_DEPTH: usize = 64;

/// Retired, and still sent.
const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// A deflated data set may grow to this many bytes.
const MAX_INFLATED_BYTES: u64 = 2 << 30;
/// It may always grow to this many, as an empty film does.
const FREE_INFLATED_BYTES: u64 = 32 << 20;
/// Beyond that it may be this many times as long as what was sent. Films deflate by 2 to 10.
const MAX_INFLATED_RATIO: u64 = 64;

/// Why an object could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFault {
    /// An attribute stands twice in one data set: which one counts is anybody's guess.
    Duplicate,
    /// Lengths, tags or VRs that do not fit the bytes that are there.
    Malformed,
    /// Nothing at the beginning says DICOM.
    NotDicom,
    TransferSyntax,
    TooDeep,
    TooLarge,
}

/// Reads a whole file: preamble (optional), file meta information and data set; or a data set alone.
///
/// Dropped on the way: group lengths, padding, and bytes after the pixels that are no element.
pub(crate) fn read(encoded: &[u8]) -> Result<FileDicomObject<InMemDicomObject>, ReadFault> {
    // Nothing here should panic; if it does, the object is malformed.
    catch_unwind(AssertUnwindSafe(|| read_inner(encoded))).unwrap_or(Err(ReadFault::Malformed))
}

fn read_inner(encoded: &[u8]) -> Result<FileDicomObject<InMemDicomObject>, ReadFault> {
    let (meta, rest) = split(encoded)?;
    let syntax = TransferSyntaxRegistry
        .get(meta.transfer_syntax())
        .ok_or(ReadFault::TransferSyntax)?;
    let inflated;
    let (data, coding) = match syntax.codec() {
        Codec::Dataset(Some(adapter)) => {
            let limit = (rest.len() as u64)
                .saturating_mul(MAX_INFLATED_RATIO)
                .clamp(FREE_INFLATED_BYTES, MAX_INFLATED_BYTES);
            inflated = inflate(adapter.adapt_reader(Box::new(rest)), limit)?;
            (inflated.as_slice(), Coding::EXPLICIT_LE)
        }
        Codec::Dataset(None) => return Err(ReadFault::TransferSyntax),
        _ => (rest, stated_or_seen(rest, coding(syntax.uid()))),
    };
    let object = build::object(Walker::new(data, coding))?;
    Ok(object.with_exact_meta(meta))
}

/// File meta information and the rest.
fn split(encoded: &[u8]) -> Result<(FileMetaTable, &[u8]), ReadFault> {
    let from = match (encoded.get(..4), encoded.get(128..132)) {
        (_, Some(b"DICM")) => 132,
        (Some(b"DICM"), _) => 4,
        // No preamble: group 2 begins at once, or the data set.
        _ => 0,
    };
    let rest = encoded.get(from..).unwrap_or_default();
    if let Some(syntax) = bare(rest) {
        return Ok((meta::of(syntax), rest));
    }
    meta::read(rest).map_err(|fault| match fault {
        ReadFault::NotDicom if from > 0 => ReadFault::Malformed,
        fault => fault,
    })
}

/// The transfer syntax of a data set that was stored without file meta information, as programs
/// from before PS3.10 did: it begins with group 8, whose VR or whose length comes next.
fn bare(encoded: &[u8]) -> Option<&'static str> {
    let vr = encoded.get(4..6)?.iter().all(u8::is_ascii_uppercase);
    // Only the first elements of the group can be first; (0008,0000) is its length.
    match encoded.get(..4)? {
        [8, 0, ..=0x18, 0] if vr => Some(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        [8, 0, ..=0x18, 0] => Some(uids::IMPLICIT_VR_LITTLE_ENDIAN),
        [0, 8, 0, ..=0x18] if vr => Some(EXPLICIT_VR_BIG_ENDIAN),
        _ => None,
    }
}

fn inflate(reader: impl Read, limit: u64) -> Result<Vec<u8>, ReadFault> {
    let mut out = Vec::new();
    reader
        .take(limit + 1)
        .read_to_end(&mut out)
        .map_err(|_| ReadFault::Malformed)?;
    if out.len() as u64 > limit {
        return Err(ReadFault::TooLarge);
    }
    Ok(out)
}

fn coding(syntax: &str) -> Coding {
    match syntax {
        uids::IMPLICIT_VR_LITTLE_ENDIAN => Coding::IMPLICIT_LE,
        EXPLICIT_VR_BIG_ENDIAN => Coding::EXPLICIT_BE,
        _ => Coding::EXPLICIT_LE,
    }
}

/// The coding of the transfer syntax, unless the first element is none in it and is one in the other:
/// some writers compress pixels and leave the rest implicit.
fn stated_or_seen(data: &[u8], stated: Coding) -> Coding {
    let first = |coding| header(data, 0, data.len(), coding).is_ok();
    let other = match stated {
        Coding::EXPLICIT_LE => Coding::IMPLICIT_LE,
        Coding::IMPLICIT_LE => Coding::EXPLICIT_LE,
        other => other,
    };
    if !first(stated) && first(other) {
        other
    } else {
        stated
    }
}

/// Depth of nested sequences in an object that others built.
pub(crate) fn within_depth(object: &InMemDicomObject) -> bool {
    // Depth first with a work list instead of recursion.
    let mut work = vec![(object, 0_usize)];
    while let Some((item, depth)) = work.pop() {
        if depth > MAX_DEPTH {
            return false;
        }
        for element in item.iter() {
            if let Some(items) = element.items() {
                work.extend(items.iter().map(|inner| (inner, depth + 1)));
            }
        }
    }
    true
}
