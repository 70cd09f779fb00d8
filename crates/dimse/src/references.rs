//! The data sets of Storage Commitment (PS3.4 tables J.3-1 and J.3-2): a Transaction UID, and lists of
//! SOP classes and instances. Read with bounds: depth, length and number of references; what is not
//! known is skipped.

use cloister_phi::{Phi, Uid};
use zeroize::Zeroizing;

const TRANSACTION_UID: u32 = 0x0008_1195;
const FAILURE_REASON: u32 = 0x0008_1197;
const FAILED_SOP_SEQUENCE: u32 = 0x0008_1198;
const REFERENCED_SOP_SEQUENCE: u32 = 0x0008_1199;
const REFERENCED_SOP_CLASS_UID: u32 = 0x0008_1150;
const REFERENCED_SOP_INSTANCE_UID: u32 = 0x0008_1155;
const ITEM: u32 = 0xFFFE_E000;
const ITEM_END: u32 = 0xFFFE_E00D;
const SEQUENCE_END: u32 = 0xFFFE_E0DD;
const UNDEFINED: u32 = u32::MAX;
/// The sequences are flat; nothing that is skipped needs more.
const MAX_DEPTH: u8 = 8;

/// The data set is not one of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferencesError {
    /// Not a data set, or one without its Transaction UID.
    #[error("the data set is malformed")]
    Malformed,
    /// More than the reader takes.
    #[error("too many references")]
    TooMany,
}

type Result<T> = std::result::Result<T, ReferencesError>;
const MALFORMED: ReferencesError = ReferencesError::Malformed;

/// A SOP class and instance.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Referenced SOP Class UID.
    pub class: Uid,
    /// Referenced SOP Instance UID.
    pub instance: Phi<Uid>,
}

/// A whole data set.
#[derive(Debug, Clone)]
pub struct References {
    /// Of the one who asks.
    pub transaction: Phi<Uid>,
    /// Asked about, or committed.
    pub referenced: Vec<Reference>,
    /// With the Failure Reason.
    pub failed: Vec<(Reference, u16)>,
}

impl References {
    /// Reads a data set in implicit or explicit VR little endian, with at most `most` references in
    /// each list.
    ///
    /// # Errors
    /// [`ReferencesError`].
    pub fn parse(bytes: &[u8], implicit: bool, most: usize) -> Result<Self> {
        let mut elements = Elements {
            rest: bytes,
            implicit,
            depth: 0,
        };
        let (mut transaction, mut referenced, mut failed) = (None, Vec::new(), Vec::new());
        while let Some((tag, value)) = elements.next()? {
            match tag {
                TRANSACTION_UID => transaction = Some(Phi::new(uid(value)?)),
                REFERENCED_SOP_SEQUENCE => {
                    for item in elements.items(value)? {
                        let (reference, _) = reference(item)?;
                        referenced.push(reference);
                        if referenced.len() > most {
                            return Err(ReferencesError::TooMany);
                        }
                    }
                }
                FAILED_SOP_SEQUENCE => {
                    for item in elements.items(value)? {
                        failed.push(reference(item)?);
                        if failed.len() > most {
                            return Err(ReferencesError::TooMany);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Self {
            transaction: transaction.ok_or(MALFORMED)?,
            referenced,
            failed,
        })
    }

    /// The data set, in the order of its elements.
    pub fn encode(&self, implicit: bool) -> Zeroizing<Vec<u8>> {
        let mut out = Writer {
            bytes: Zeroizing::new(Vec::new()),
            implicit,
        };
        out.uid(TRANSACTION_UID, self.transaction.expose());
        if !self.failed.is_empty() {
            let mut items = out.nested();
            for (reference, reason) in &self.failed {
                let mut item = out.nested();
                item.reference(reference);
                item.element(FAILURE_REASON, *b"US", &reason.to_le_bytes());
                items.item(&item);
            }
            out.element(FAILED_SOP_SEQUENCE, *b"SQ", &items.bytes);
        }
        if !self.referenced.is_empty() {
            let mut items = out.nested();
            for reference in &self.referenced {
                let mut item = out.nested();
                item.reference(reference);
                items.item(&item);
            }
            out.element(REFERENCED_SOP_SEQUENCE, *b"SQ", &items.bytes);
        }
        out.bytes
    }
}

/// One item: class and instance, and the reason where there is one.
fn reference(mut item: Elements<'_>) -> Result<(Reference, u16)> {
    let (mut class, mut instance, mut reason) = (None, None, 0x0110);
    while let Some((tag, value)) = item.next()? {
        match tag {
            REFERENCED_SOP_CLASS_UID => class = Some(uid(value)?),
            REFERENCED_SOP_INSTANCE_UID => instance = Some(Phi::new(uid(value)?)),
            FAILURE_REASON => {
                let short = value.bytes.try_into().map_err(|_| MALFORMED)?;
                reason = u16::from_le_bytes(short);
            }
            _ => {}
        }
    }
    let reference = Reference {
        class: class.ok_or(MALFORMED)?,
        instance: instance.ok_or(MALFORMED)?,
    };
    Ok((reference, reason))
}

fn uid(value: Value<'_>) -> Result<Uid> {
    let text = std::str::from_utf8(value.bytes).map_err(|_| MALFORMED)?;
    Uid::parse(text).map_err(|_| MALFORMED)
}

/// A value, without the delimiter of one of undefined length.
#[derive(Debug, Clone, Copy)]
struct Value<'a> {
    bytes: &'a [u8],
}

/// Elements, one after the other.
#[derive(Debug)]
struct Elements<'a> {
    rest: &'a [u8],
    implicit: bool,
    depth: u8,
}

impl<'a> Elements<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (value, rest) = self.rest.split_at_checked(length).ok_or(MALFORMED)?;
        self.rest = rest;
        Ok(value)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (value, rest) = self.rest.split_first_chunk::<N>().ok_or(MALFORMED)?;
        self.rest = rest;
        Ok(*value)
    }

    fn tag(&mut self) -> Result<u32> {
        let [g0, g1, e0, e1] = self.chunk()?;
        Ok(u32::from_be_bytes([g1, g0, e1, e0]))
    }

    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.tag()?;
        if matches!(tag, ITEM | ITEM_END | SEQUENCE_END) {
            return Err(MALFORMED);
        }
        let length = if self.implicit {
            u32::from_le_bytes(self.chunk()?)
        } else {
            match &self.chunk::<2>()? {
                b"OB" | b"OW" | b"OF" | b"OD" | b"OL" | b"OV" | b"SQ" | b"UC" | b"UR" | b"UT"
                | b"UN" | b"SV" | b"UV" => {
                    self.chunk::<2>()?;
                    u32::from_le_bytes(self.chunk()?)
                }
                _ => u32::from(u16::from_le_bytes(self.chunk()?)),
            }
        };
        let bytes = if length == UNDEFINED {
            self.until_sequence_end()?
        } else {
            self.take(length as usize)?
        };
        Ok(Some((tag, Value { bytes })))
    }

    /// The items of a sequence of undefined length, and past its delimiter.
    fn until_sequence_end(&mut self) -> Result<&'a [u8]> {
        let whole = self.rest;
        loop {
            let before = self.rest.len();
            match self.tag()? {
                SEQUENCE_END => {
                    self.chunk::<4>()?;
                    return whole.get(..whole.len() - before).ok_or(MALFORMED);
                }
                ITEM => {
                    self.item()?;
                }
                _ => return Err(MALFORMED),
            }
        }
    }

    /// The item whose tag was read.
    fn item(&mut self) -> Result<Elements<'a>> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            return Err(MALFORMED);
        }
        let length = u32::from_le_bytes(self.chunk()?);
        let inner = |rest| Elements {
            rest,
            implicit: self.implicit,
            depth,
        };
        if length != UNDEFINED {
            let implicit = self.implicit;
            let rest = self.take(length as usize)?;
            return Ok(Elements {
                rest,
                implicit,
                depth,
            });
        }
        let whole = self.rest;
        let mut elements = inner(whole);
        loop {
            let before = elements.rest;
            let mut ahead = inner(before);
            if ahead.tag()? == ITEM_END {
                ahead.chunk::<4>()?;
                let length = whole.len() - before.len();
                self.rest = ahead.rest;
                let rest = whole.get(..length).ok_or(MALFORMED)?;
                return Ok(Elements {
                    rest,
                    implicit: self.implicit,
                    depth,
                });
            }
            elements.next()?;
        }
    }

    /// The items of a sequence's value.
    fn items(&self, value: Value<'a>) -> Result<Vec<Elements<'a>>> {
        let mut all = Elements {
            rest: value.bytes,
            implicit: self.implicit,
            depth: self.depth,
        };
        let mut items = Vec::new();
        while !all.rest.is_empty() {
            if all.tag()? != ITEM {
                return Err(MALFORMED);
            }
            items.push(all.item()?);
        }
        Ok(items)
    }
}

/// A data set being written.
struct Writer {
    bytes: Zeroizing<Vec<u8>>,
    implicit: bool,
}

impl Writer {
    fn nested(&self) -> Self {
        Self {
            bytes: Zeroizing::new(Vec::new()),
            implicit: self.implicit,
        }
    }

    fn tag(&mut self, tag: u32) {
        let [g1, g0, e1, e0] = tag.to_be_bytes();
        self.bytes.extend_from_slice(&[g0, g1, e0, e1]);
    }

    fn element(&mut self, tag: u32, vr: [u8; 2], value: &[u8]) {
        self.tag(tag);
        let length = value.len() as u32;
        if self.implicit {
            self.bytes.extend_from_slice(&length.to_le_bytes());
        } else if vr == *b"SQ" {
            self.bytes.extend_from_slice(b"SQ\0\0");
            self.bytes.extend_from_slice(&length.to_le_bytes());
        } else {
            self.bytes.extend_from_slice(&vr);
            // UIDs and numbers: 64 bytes at most.
            self.bytes.extend_from_slice(&(length as u16).to_le_bytes());
        }
        self.bytes.extend_from_slice(value);
    }

    fn uid(&mut self, tag: u32, uid: &Uid) {
        let mut value = uid.as_str().as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(0);
        }
        self.element(tag, *b"UI", &value);
    }

    fn reference(&mut self, reference: &Reference) {
        self.uid(REFERENCED_SOP_CLASS_UID, &reference.class);
        self.uid(REFERENCED_SOP_INSTANCE_UID, reference.instance.expose());
    }

    fn item(&mut self, item: &Self) {
        self.tag(ITEM);
        let length = item.bytes.len() as u32;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&item.bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(n: u32) -> Reference {
        Reference {
            class: Uid::parse("1.2.840.10008.5.1.4.1.1.1").unwrap(),
            instance: Phi::new(Uid::parse(&format!("1.2.3.{n}")).unwrap()),
        }
    }

    fn text(references: &References) -> Vec<String> {
        let one =
            |reference: &Reference| format!("{} {}", reference.class, reference.instance.expose());
        let failed = references.failed.iter();
        let failed = failed.map(|(reference, reason)| format!("{} {reason:x}", one(reference)));
        let referenced = references.referenced.iter().map(one);
        let transaction = references.transaction.expose().to_string();
        [transaction]
            .into_iter()
            .chain(referenced)
            .chain(failed)
            .collect()
    }

    /// The same list with every sequence and item of undefined length, and strangers in between.
    fn undefined(references: &References) -> Vec<u8> {
        let mut out = Writer {
            bytes: Zeroizing::new(Vec::new()),
            implicit: true,
        };
        let stranger = [0x40, 0, 0x75, 2, 255, 255, 255, 255];
        let end = |tag: u32, out: &mut Writer| {
            out.tag(tag);
            out.bytes.extend_from_slice(&[0; 4]);
        };
        // A sequence with an item with such a sequence, all of undefined length.
        out.bytes.extend_from_slice(&stranger);
        out.tag(ITEM);
        out.bytes.extend_from_slice(&[255; 4]);
        out.bytes.extend_from_slice(&stranger);
        end(SEQUENCE_END, &mut out);
        end(ITEM_END, &mut out);
        end(SEQUENCE_END, &mut out);
        out.uid(TRANSACTION_UID, references.transaction.expose());
        out.tag(REFERENCED_SOP_SEQUENCE);
        out.bytes.extend_from_slice(&[255; 4]);
        for reference in &references.referenced {
            out.tag(ITEM);
            out.bytes.extend_from_slice(&[255; 4]);
            out.reference(reference);
            end(ITEM_END, &mut out);
        }
        end(SEQUENCE_END, &mut out);
        out.bytes.to_vec()
    }

    #[test]
    fn what_is_written_is_read_again_in_both_encodings_and_with_undefined_lengths() {
        let mut references = References {
            transaction: Phi::new(Uid::parse("1.2.3").unwrap()),
            referenced: vec![reference(1), reference(22)],
            failed: vec![(reference(3), 0x0112)],
        };
        for implicit in [true, false] {
            let bytes = references.encode(implicit);
            let read = References::parse(&bytes, implicit, 2).unwrap();
            assert_eq!(text(&read), text(&references));
            assert!(References::parse(&bytes, !implicit, 2).is_err());
            let few = References::parse(&bytes, implicit, 1).unwrap_err();
            assert_eq!(few, ReferencesError::TooMany);
            for cut in 1..bytes.len() {
                let read = References::parse(&bytes[..cut], implicit, 2);
                assert!(read.is_err() || read.is_ok_and(|read| read.referenced.is_empty()));
            }
        }
        references.failed.clear();
        let read = References::parse(&undefined(&references), true, 2).unwrap();
        assert_eq!(text(&read), text(&references));
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let level = [
            0x40, 0, 0x75, 2, 255, 255, 255, 255, 254, 255, 0, 224, 255, 255, 255, 255,
        ];
        let deep = level.repeat(100_000);
        assert!(References::parse(&deep, true, 10).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            implicit: bool,
        ) {
            drop(References::parse(&bytes, implicit, 5));
        }

        #[test]
        fn no_change_of_a_good_one_makes_it_panic(at in 0usize..400, byte: u8, implicit: bool) {
            let references = References {
                transaction: Phi::new(Uid::parse("1.2.3").unwrap()),
                referenced: vec![reference(1), reference(2)],
                failed: vec![(reference(3), 0x0110)],
            };
            let mut bytes = references.encode(implicit).to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            drop(References::parse(&bytes, implicit, 5));
        }
    }
}
