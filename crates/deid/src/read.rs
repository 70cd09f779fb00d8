//! Reads an encoded Part 10 file within limits. Nothing before it; collection and cleaning follow,
//! and the gate reads the result with the same limits.

use std::{
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
};

use dicom_dictionary_std::uids;
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_object::{FileDicomObject, FileMetaTable, InMemDicomObject};
use dicom_parser::dataset::{DataSetReader, DataToken};
use dicom_transfer_syntax_registry::{TransferSyntaxRegistry, entries};

use crate::unknown::without_unknown_sequences;

/// Nested sequences beyond this depth are refused: the parser and the cleaner recurse, and no IOD
/// comes near it.
pub(crate) const MAX_DEPTH: usize = 64;

/// Retired, and still sent.
const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// A deflated data set may grow to this many bytes.
const MAX_INFLATED_BYTES: u64 = 2 << 30;

/// Why an object could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFault {
    Malformed,
    TransferSyntax,
    TooDeep,
    TooLarge,
}

/// Reads a whole file: preamble (optional), file meta information and data set.
pub(crate) fn read(encoded: &[u8]) -> Result<FileDicomObject<InMemDicomObject>, ReadFault> {
    // The parser is young and the bytes are hostile; a panic is a malformed object.
    catch_unwind(AssertUnwindSafe(|| read_inner(encoded))).unwrap_or(Err(ReadFault::Malformed))
}

fn read_inner(encoded: &[u8]) -> Result<FileDicomObject<InMemDicomObject>, ReadFault> {
    let mut rest = match encoded.get(128..132) {
        Some(b"DICM") => encoded.get(128..).unwrap_or_default(),
        _ => encoded,
    };
    let meta = FileMetaTable::from_reader(&mut rest).map_err(|_| ReadFault::Malformed)?;
    let syntax = TransferSyntaxRegistry
        .get(meta.transfer_syntax())
        .ok_or(ReadFault::TransferSyntax)?;
    let inflated;
    let (data, syntax) = match syntax.codec() {
        Codec::Dataset(Some(adapter)) => {
            let mut out = Vec::new();
            adapter
                .adapt_reader(Box::new(rest))
                .take(MAX_INFLATED_BYTES + 1)
                .read_to_end(&mut out)
                .map_err(|_| ReadFault::Malformed)?;
            if out.len() as u64 > MAX_INFLATED_BYTES {
                return Err(ReadFault::TooLarge);
            }
            inflated = out;
            (
                inflated.as_slice(),
                &entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
            )
        }
        Codec::Dataset(None) => return Err(ReadFault::TransferSyntax),
        _ => (rest, syntax),
    };

    let known_only = (syntax.uid() != uids::IMPLICIT_VR_LITTLE_ENDIAN
        && syntax.uid() != EXPLICIT_VR_BIG_ENDIAN)
        .then(|| without_unknown_sequences(data))
        .flatten();
    let data = known_only.as_deref().unwrap_or(data);

    // Tokens are read without recursion, so this pass is safe at any depth.
    let mut depth = 0_usize;
    for token in DataSetReader::new_with_ts(data, syntax).map_err(|_| ReadFault::TransferSyntax)? {
        match token.map_err(|_| ReadFault::Malformed)? {
            DataToken::SequenceStart { .. } => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(ReadFault::TooDeep);
                }
            }
            DataToken::SequenceEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let object =
        InMemDicomObject::read_dataset_with_ts(data, syntax).map_err(|_| ReadFault::Malformed)?;
    Ok(object.with_exact_meta(meta))
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
