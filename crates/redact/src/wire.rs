//! What pool and worker say to each other: frames of one kind byte, a length and a payload, with a
//! bound on the length that is checked before anything is allocated.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::config::{Fill, Outside};
use crate::error::{RedactError, Undecodable};

/// First message to a worker, JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) detector_bundle: std::path::PathBuf,
    pub(crate) presence_bundle: std::path::PathBuf,
    pub(crate) runtime_library: std::path::PathBuf,
    pub(crate) max_object_bytes: u64,
    pub(crate) fill: Fill,
    pub(crate) outside: Outside,
}

/// What a worker is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Begin = 1,
    Redact = 2,
    RedactPicture = 3,
    Detect = 4,
    Preview = 5,
    /// The parent's answer to [`READ`]: JSON of a verdict.
    Judged = 6,
    /// Places that may show text, and the object that is to leave.
    Check = 7,
}

impl Ask {
    pub(crate) fn of(kind: u8) -> Option<Self> {
        [
            Self::Begin,
            Self::Redact,
            Self::RedactPicture,
            Self::Detect,
            Self::Preview,
            Self::Judged,
            Self::Check,
        ]
        .into_iter()
        .find(|ask| *ask as u8 == kind)
    }
}

/// Kind byte of an answer that worked; others are error codes.
pub(crate) const DONE: u8 = 0;

/// Kind byte of an answer that is none yet: what the boxes say, for the parent to judge.
pub(crate) const READ: u8 = 200;

/// Every error a worker can report, by its number on the wire.
const ERRORS: [RedactError; 13] = [
    RedactError::TextLeft,
    RedactError::EncodeFailed,
    RedactError::DetectorFailed,
    RedactError::Protocol,
    RedactError::StartFailed,
    RedactError::TooLarge,
    RedactError::UnknownTransferSyntax,
    RedactError::Undecodable(Undecodable::Malformed),
    RedactError::Undecodable(Undecodable::NoPixels),
    RedactError::Undecodable(Undecodable::BadAttributes),
    RedactError::Undecodable(Undecodable::UnsupportedLayout),
    RedactError::Undecodable(Undecodable::Codec),
    RedactError::Undecodable(Undecodable::SizeMismatch),
];
const NOT_A_PICTURE: u8 = 100;

pub(crate) fn error_to_kind(error: RedactError) -> u8 {
    match ERRORS.iter().position(|&one| one == error) {
        Some(at) => at as u8 + 1,
        None if error == RedactError::Undecodable(Undecodable::NotAPicture) => NOT_A_PICTURE,
        None => error_to_kind(RedactError::Protocol),
    }
}

pub(crate) fn kind_to_error(kind: u8) -> RedactError {
    if kind == NOT_A_PICTURE {
        return RedactError::Undecodable(Undecodable::NotAPicture);
    }
    ERRORS
        .get(usize::from(kind).wrapping_sub(1))
        .copied()
        .unwrap_or(RedactError::Protocol)
}

/// Writes one frame.
pub(crate) fn write(out: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    write_pieces(out, kind, &[payload])
}

/// Writes one frame whose payload lies in pieces: a film is not copied to get a head.
pub(crate) fn write_pieces(
    out: &mut impl Write,
    kind: u8,
    pieces: &[impl AsRef<[u8]>],
) -> io::Result<()> {
    let length = pieces
        .iter()
        .map(|piece| piece.as_ref().len())
        .sum::<usize>();
    let length = u32::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    out.write_all(&[kind])?;
    out.write_all(&length.to_le_bytes())?;
    for piece in pieces {
        out.write_all(piece.as_ref())?;
    }
    out.flush()
}

/// Reads one frame of at most `max_bytes`.
pub(crate) fn read(from: &mut impl Read, max_bytes: u64) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u64::from(u32::from_le_bytes(length));
    if length > max_bytes {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut payload = Vec::new();
    from.take(length).read_to_end(&mut payload)?;
    if payload.len() as u64 == length {
        Ok((kind, payload))
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

/// Puts parts behind each other, each with its length.
pub(crate) fn join(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// What comes before the last part, so that this need not be copied behind the others.
pub(crate) fn head(parts: &[&[u8]], last: usize) -> Vec<u8> {
    let mut out = join(parts);
    out.extend_from_slice(&(last as u64).to_le_bytes());
    out
}

/// Takes exactly `N` parts apart. The last one, which is the film where there is one, keeps the memory
/// that it came in.
pub(crate) fn split<const N: usize>(mut bytes: Vec<u8>) -> Option<[Vec<u8>; N]> {
    let mut parts = Vec::with_capacity(N);
    let mut rest = bytes.as_slice();
    for _ in 1..N {
        let (part, behind) = first(rest)?;
        parts.push(part.to_vec());
        rest = behind;
    }
    let (last, behind) = first(rest)?;
    if !behind.is_empty() {
        return None;
    }
    let before = bytes.len() - last.len();
    bytes.drain(..before);
    parts.push(bytes);
    parts.try_into().ok()
}

/// A part, and what comes behind it.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(8)?;
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::{
        ERRORS, error_to_kind, head, join, kind_to_error, read, split, write, write_pieces,
    };
    use crate::error::{RedactError, Undecodable};

    #[test]
    fn every_error_survives_the_wire() {
        for error in ERRORS
            .into_iter()
            .chain([RedactError::Undecodable(Undecodable::NotAPicture)])
        {
            assert_eq!(kind_to_error(error_to_kind(error)), error);
        }
    }

    proptest::proptest! {
        #[test]
        fn frames_and_parts_come_back(kind in 0u8.., a in proptest::collection::vec(0u8.., 0..50), b in proptest::collection::vec(0u8.., 0..50)) {
            let mut bytes = Vec::new();
            write(&mut bytes, kind, &join(&[&a, &b])).unwrap();
            let (found, payload) = read(&mut bytes.as_slice(), 1000).unwrap();
            assert_eq!((found, split::<2>(payload)), (kind, Some([a.clone(), b.clone()])));
            assert!(read(&mut bytes.as_slice(), 15).is_err());
            let mut pieces = Vec::new();
            write_pieces(&mut pieces, kind, &[head(&[&a], b.len()), b]).unwrap();
            assert_eq!(pieces, bytes);
        }

        #[test]
        fn garbage_is_never_taken_apart_wrongly(bytes in proptest::collection::vec(0u8.., 0..60)) {
            let _parts = split::<3>(bytes.clone());
            let _frame = read(&mut bytes.as_slice(), 1000);
        }
    }
}
