//! Walks a data set while it streams past: finds the few UIDs that the answer depends on, and tells
//! a whole data set from a cut or broken one. Keeps no values but those UIDs, so its memory does
//! not grow with the object. The thorough reading happens later, in `deidentify`.

use std::io::{self, Write};

use cloister_phi::{Phi, Uid};
use dicom_dictionary_std::uids;
use flate2::write::DeflateDecoder;

/// Nesting that no real object reaches.
const MAX_DEPTH: usize = 64;
/// A UID with padding is at most this long.
const MAX_UID_BYTES: u32 = 66;
const UNDEFINED: u32 = u32::MAX;

/// The data set is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("the data set is cut")]
    Cut,
    #[error("the data set is not encoded as its transfer syntax says")]
    Malformed,
    #[error("a UID is missing or is none")]
    Uid,
    #[error("the inflated data set is too large")]
    TooLarge,
}

/// What the answer and the assembly depend on.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    pub(crate) sop_class: Uid,
    pub(crate) sop_instance: Phi<Uid>,
    pub(crate) study: Phi<Uid>,
}

/// A scan in progress.
pub(crate) enum Scan {
    Plain(Walk),
    Deflated(Box<DeflateDecoder<Inflated>>),
}

/// What an inflated data set is written to.
pub(crate) struct Inflated {
    walk: Walk,
    left: u64,
}

impl Write for Inflated {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(plain.len() as u64)
            .ok_or_else(|| io::Error::other(ScanError::TooLarge))?;
        self.walk.push(plain).map_err(io::Error::other)?;
        Ok(plain.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Scan {
    pub(crate) fn new(transfer_syntax: &str, max_bytes: u64) -> Self {
        match transfer_syntax {
            uids::IMPLICIT_VR_LITTLE_ENDIAN => Self::Plain(Walk::new(Encoding::ImplicitLittle)),
            super::EXPLICIT_VR_BIG_ENDIAN => Self::Plain(Walk::new(Encoding::ExplicitBig)),
            uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => {
                let inflated = Inflated {
                    walk: Walk::new(Encoding::ExplicitLittle),
                    left: max_bytes,
                };
                Self::Deflated(Box::new(DeflateDecoder::new(inflated)))
            }
            _ => Self::Plain(Walk::new(Encoding::ExplicitLittle)),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        match self {
            Self::Plain(walk) => walk.push(bytes),
            Self::Deflated(decoder) => {
                // One byte of padding may follow the deflated stream (PS3.5 A.5).
                let mut rest = bytes;
                while !rest.is_empty() {
                    match decoder.write(rest) {
                        Ok(0) => {
                            return if rest.len() <= 1 {
                                Ok(())
                            } else {
                                Err(ScanError::Malformed)
                            };
                        }
                        Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                        Err(error) => return Err(cause(&error)),
                    }
                }
                Ok(())
            }
        }
    }

    pub(crate) fn finish(self) -> Result<Heading, ScanError> {
        match self {
            Self::Plain(walk) => walk.finish(),
            Self::Deflated(decoder) => decoder
                .finish()
                .map_err(|error| cause(&error))?
                .walk
                .finish(),
        }
    }
}

fn cause(error: &io::Error) -> ScanError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ScanError>());
    inner
        .copied()
        .unwrap_or(if error.kind() == io::ErrorKind::UnexpectedEof {
            ScanError::Cut
        } else {
            ScanError::Malformed
        })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

/// An open element or item of undefined length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Items follow, with elements encoded so.
    Sequence(Encoding),
    /// Elements follow.
    Item(Encoding),
    /// Fragments of pixel data follow.
    Fragments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    SopClass,
    SopInstance,
    Study,
}

/// The state machine over an uncompressed stream.
pub(crate) struct Walk {
    encoding: Encoding,
    open: Vec<Open>,
    head: Vec<u8>,
    skip: u64,
    capture: Option<(Wanted, usize)>,
    value: Vec<u8>,
    found: [Option<Vec<u8>>; 3],
}

impl Walk {
    fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            open: Vec::new(),
            head: Vec::with_capacity(12),
            skip: 0,
            capture: None,
            value: Vec::new(),
            found: [None, None, None],
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), ScanError> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let now = self.skip.min(bytes.len() as u64);
                self.skip -= now;
                bytes = bytes.get(now as usize..).unwrap_or_default();
            } else if let Some((wanted, length)) = self.capture {
                let now = bytes.len().min(length - self.value.len());
                let (taken, rest) = bytes.split_at(now);
                self.value.extend_from_slice(taken);
                bytes = rest;
                if self.value.len() == length {
                    self.keep(wanted);
                }
            } else {
                let (taken, rest) = bytes.split_at(1);
                self.head.extend_from_slice(taken);
                bytes = rest;
                self.try_head()?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, wanted: Wanted) {
        self.capture = None;
        let slot = match wanted {
            Wanted::SopClass => &mut self.found[0],
            Wanted::SopInstance => &mut self.found[1],
            Wanted::Study => &mut self.found[2],
        };
        *slot = Some(std::mem::take(&mut self.value));
    }

    fn inside(&self) -> Encoding {
        match self.open.last() {
            Some(Open::Sequence(encoding) | Open::Item(encoding)) => *encoding,
            _ => self.encoding,
        }
    }

    /// PS3.5 section 7.1: tag, VR if explicit, length.
    fn try_head(&mut self) -> Result<(), ScanError> {
        let Some(head) = self.head.first_chunk::<8>() else {
            return Ok(());
        };
        let encoding = self.inside();
        let big = encoding == Encoding::ExplicitBig;
        let [g0, g1, e0, e1, tail @ ..] = *head;
        let [vr0, vr1, short0, short1] = tail;
        let u16_of = |bytes: [u8; 2]| {
            if big {
                u16::from_be_bytes(bytes)
            } else {
                u16::from_le_bytes(bytes)
            }
        };
        let u32_of = |bytes: [u8; 4]| {
            if big {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        };
        let tag = (u16_of([g0, g1]), u16_of([e0, e1]));
        // Items and delimiters have no VR in any encoding.
        if tag.0 == 0xFFFE {
            let length = u32_of(tail);
            self.head.clear();
            return self.item(tag.1, length);
        }
        if matches!(self.open.last(), Some(Open::Sequence(_) | Open::Fragments)) {
            return Err(ScanError::Malformed);
        }
        if encoding == Encoding::ImplicitLittle {
            self.head.clear();
            return self.element(tag, None, u32_of(tail));
        }
        let vr = [vr0, vr1];
        if !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(ScanError::Malformed);
        }
        let long = matches!(
            &vr,
            b"OB"
                | b"OD"
                | b"OF"
                | b"OL"
                | b"OV"
                | b"OW"
                | b"SQ"
                | b"SV"
                | b"UC"
                | b"UN"
                | b"UR"
                | b"UT"
                | b"UV"
        );
        if !long {
            self.head.clear();
            return self.element(tag, Some(vr), u16_of([short0, short1]).into());
        }
        let Some([_, _, _, _, _, _, _, _, length @ ..]) = self.head.first_chunk::<12>().copied()
        else {
            return Ok(());
        };
        self.head.clear();
        self.element(tag, Some(vr), u32_of(length))
    }

    fn item(&mut self, element: u16, length: u32) -> Result<(), ScanError> {
        match (element, self.open.last().copied()) {
            (0xE000, Some(Open::Sequence(encoding))) => {
                if length == UNDEFINED {
                    self.enter(Open::Item(encoding))?;
                } else {
                    self.skip = length.into();
                }
            }
            (0xE000, Some(Open::Fragments)) if length != UNDEFINED => self.skip = length.into(),
            (0xE00D, Some(Open::Item(_))) | (0xE0DD, Some(Open::Sequence(_) | Open::Fragments))
                if length == 0 =>
            {
                self.open.pop();
            }
            _ => return Err(ScanError::Malformed),
        }
        Ok(())
    }

    fn element(
        &mut self,
        tag: (u16, u16),
        vr: Option<[u8; 2]>,
        length: u32,
    ) -> Result<(), ScanError> {
        if length == UNDEFINED {
            let inside = self.inside();
            return match (vr.as_ref().map(<[u8; 2]>::as_slice), tag) {
                (None | Some(b"OB" | b"OW"), (0x7FE0, 0x0010)) => self.enter(Open::Fragments),
                (None | Some(b"SQ"), _) => self.enter(Open::Sequence(inside)),
                // CP-246: unknown of undefined length is a sequence in implicit little endian.
                (Some(b"UN"), _) => self.enter(Open::Sequence(Encoding::ImplicitLittle)),
                _ => Err(ScanError::Malformed),
            };
        }
        let wanted = match tag {
            (0x0008, 0x0016) => Some(Wanted::SopClass),
            (0x0008, 0x0018) => Some(Wanted::SopInstance),
            (0x0020, 0x000D) => Some(Wanted::Study),
            _ => None,
        };
        match wanted {
            Some(wanted) if self.open.is_empty() => {
                if length > MAX_UID_BYTES {
                    return Err(ScanError::Uid);
                }
                self.value.clear();
                self.capture = Some((wanted, length as usize));
                if length == 0 {
                    self.keep(wanted);
                }
            }
            _ => self.skip = length.into(),
        }
        Ok(())
    }

    fn enter(&mut self, open: Open) -> Result<(), ScanError> {
        if self.open.len() == MAX_DEPTH {
            return Err(ScanError::Malformed);
        }
        self.open.push(open);
        Ok(())
    }

    fn finish(self) -> Result<Heading, ScanError> {
        if self.skip > 0 || self.capture.is_some() || !self.head.is_empty() || !self.open.is_empty()
        {
            return Err(ScanError::Cut);
        }
        let [sop_class, sop_instance, study] = self.found.map(|found| {
            let text =
                String::from_utf8(found.ok_or(ScanError::Uid)?).map_err(|_| ScanError::Uid)?;
            Uid::parse(&text).map_err(|_| ScanError::Uid)
        });
        Ok(Heading {
            sop_class: sop_class?,
            sop_instance: Phi::new(sop_instance?),
            study: Phi::new(study?),
        })
    }
}

#[cfg(test)]
mod tests;
