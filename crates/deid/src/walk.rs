//! Walks the structure of an encoded data set and checks every declared length against the bytes
//! that are there. The first step of reading: nothing is allocated by a length that the sender
//! merely declared, and nothing recurses. Building the object comes next.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::{
    charset::dictionary_vr,
    read::{MAX_DEPTH, ReadFault},
};

/// Elements, items and fragments of one object. An enhanced multi-frame object of some thousand
/// frames stays below; in memory each costs about thirty times its shortest encoding.
pub(crate) const MAX_PARTS: usize = 1 << 19;

const UNDEFINED: u32 = 0xFFFF_FFFF;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// How elements are encoded (PS3.5 annex A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coding {
    pub(crate) explicit: bool,
    pub(crate) big_endian: bool,
}

impl Coding {
    pub(crate) const EXPLICIT_LE: Self = Self {
        explicit: true,
        big_endian: false,
    };
    pub(crate) const IMPLICIT_LE: Self = Self {
        explicit: false,
        big_endian: false,
    };
    pub(crate) const EXPLICIT_BE: Self = Self {
        explicit: true,
        big_endian: true,
    };
}

/// What stands next in a data set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Element {
        tag: Tag,
        vr: VR,
        value: &'a [u8],
        big_endian: bool,
    },
    Fragments {
        tag: Tag,
        offsets: &'a [u8],
        fragments: Vec<&'a [u8]>,
    },
    Item,
    ItemEnd,
    Sequence {
        tag: Tag,
    },
    SequenceEnd,
}

/// An element header, its value not yet looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) tag: Tag,
    pub(crate) vr: VR,
    /// `None` is undefined length.
    pub(crate) length: Option<usize>,
    /// Where the value begins.
    pub(crate) value: usize,
    /// As the sender wrote it; false where the dictionary names the VR.
    written_un: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DataSet,
    Sequence,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    coding: Coding,
    /// No byte from here on belongs to it: its own end, or that of what is around it.
    bound: usize,
    /// It ends at `bound`; otherwise at a delimiter.
    defined: bool,
}

/// A walk through one data set.
pub(crate) struct Walker<'a> {
    data: &'a [u8],
    at: usize,
    frames: Vec<Frame>,
    sequences: usize,
    parts: usize,
    pixels_seen: bool,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(data: &'a [u8], coding: Coding) -> Self {
        let root = Frame {
            kind: Kind::DataSet,
            coding,
            bound: data.len(),
            defined: true,
        };
        Self {
            data,
            at: 0,
            frames: vec![root],
            sequences: 0,
            parts: 0,
            pixels_seen: false,
        }
    }

    /// The next token; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Token<'a>>, ReadFault> {
        loop {
            let Some(frame) = self.frames.last().copied() else {
                return Ok(None);
            };
            if self.at >= frame.bound {
                if !frame.defined || self.at > frame.bound {
                    return Err(ReadFault::Malformed);
                }
                self.frames.pop();
                match (frame.kind, self.frames.is_empty()) {
                    (Kind::DataSet, true) => return Ok(None),
                    (Kind::DataSet, false) => return Ok(Some(Token::ItemEnd)),
                    (Kind::Sequence, _) => {
                        self.sequences -= 1;
                        return Ok(Some(Token::SequenceEnd));
                    }
                }
            }
            let token = match frame.kind {
                Kind::DataSet => self.in_data_set(frame)?,
                Kind::Sequence => self.in_sequence(frame)?,
            };
            if token.is_some() {
                return Ok(token);
            }
        }
    }

    fn count(&mut self) -> Result<(), ReadFault> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(ReadFault::TooLarge);
        }
        Ok(())
    }

    fn in_sequence(&mut self, frame: Frame) -> Result<Option<Token<'a>>, ReadFault> {
        let (tag, length) = item_header(self.data, self.at, frame.bound, frame.coding)?;
        self.at += 8;
        match tag {
            ITEM => {
                self.count()?;
                let (bound, defined) = end(self.at, length, frame.bound)?;
                self.frames.push(Frame {
                    kind: Kind::DataSet,
                    bound,
                    defined,
                    ..frame
                });
                Ok(Some(Token::Item))
            }
            SEQUENCE_END if !frame.defined && length == 0 => {
                self.frames.pop();
                self.sequences -= 1;
                Ok(Some(Token::SequenceEnd))
            }
            // Some senders delimit items of defined length as well.
            ITEM_END if length == 0 => Ok(None),
            _ => Err(ReadFault::Malformed),
        }
    }

    fn in_data_set(&mut self, frame: Frame) -> Result<Option<Token<'a>>, ReadFault> {
        let root = self.frames.len() == 1;
        let rest = self.data.get(self.at..frame.bound).unwrap_or_default();
        // Zeros after the last element pad the file. No data set holds (0000,0000), so this is
        // looked at once.
        if root && rest.starts_with(&[0; 4]) {
            if !self.pixels_seen && rest.iter().any(|byte| *byte != 0) {
                return Err(ReadFault::Malformed);
            }
            self.at = frame.bound;
            return Ok(None);
        }
        if rest.len() >= 8 {
            let (tag, length) = item_header(self.data, self.at, frame.bound, frame.coding)?;
            if tag == ITEM_END && !frame.defined && length == 0 {
                self.at += 8;
                self.frames.pop();
                return Ok(Some(Token::ItemEnd));
            }
        }
        let header = match header(self.data, self.at, frame.bound, frame.coding) {
            Ok(header) => header,
            // Whatever follows the pixels and is no element goes with the trailing bytes.
            Err(ReadFault::Malformed) if root && self.pixels_seen => {
                self.at = frame.bound;
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        };
        self.count()?;
        self.at = header.value;
        self.element(header, frame, root)
    }

    fn element(
        &mut self,
        header: Header,
        frame: Frame,
        root: bool,
    ) -> Result<Option<Token<'a>>, ReadFault> {
        let Header {
            tag, vr, length, ..
        } = header;
        // PS3.5 section 6.2.2 note 2 and CP-246: inside UN everything is implicit VR little endian.
        let inner = if header.written_un {
            Coding::IMPLICIT_LE
        } else {
            frame.coding
        };
        let pixels = tag == tags::PIXEL_DATA;
        let Some(length) = length else {
            if pixels && matches!(vr, VR::OB | VR::OW | VR::UN) {
                self.pixels_seen |= root;
                return self.fragments(tag, frame).map(Some);
            }
            if !matches!(vr, VR::SQ | VR::UN) {
                return Err(ReadFault::Malformed);
            }
            let inner = if header.written_un && explicit_inside(self.data, self.at, frame.bound) {
                Coding::EXPLICIT_LE
            } else {
                inner
            };
            return self.open(tag, inner, frame.bound, false).map(Some);
        };
        let value = self
            .data
            .get(self.at..self.at + length)
            .ok_or(ReadFault::Malformed)?;
        // UN that the dictionary knows as a sequence is one if it begins like one.
        let item_first = value.starts_with(&[0xFE, 0xFF, 0x00, 0xE0]);
        if vr == VR::SQ && (!header.written_un || item_first || value.is_empty()) {
            return self.open(tag, inner, self.at + length, true).map(Some);
        }
        self.at += length;
        self.pixels_seen |= root && pixels;
        // Group lengths are retired and may be wrong; padding says nothing (PS3.3 section C.12.2).
        if tag.element() == 0 || tag == tags::DATA_SET_TRAILING_PADDING {
            return Ok(None);
        }
        Ok(Some(Token::Element {
            tag,
            vr: if vr == VR::SQ { VR::UN } else { vr },
            value,
            big_endian: inner.big_endian,
        }))
    }

    fn open(
        &mut self,
        tag: Tag,
        coding: Coding,
        bound: usize,
        defined: bool,
    ) -> Result<Token<'a>, ReadFault> {
        self.sequences += 1;
        if self.sequences > MAX_DEPTH {
            return Err(ReadFault::TooDeep);
        }
        self.frames.push(Frame {
            kind: Kind::Sequence,
            coding,
            bound,
            defined,
        });
        Ok(Token::Sequence { tag })
    }

    /// Encapsulated pixels (PS3.5 section A.4): an offset table, then fragments.
    fn fragments(&mut self, tag: Tag, frame: Frame) -> Result<Token<'a>, ReadFault> {
        let mut parts: Vec<&'a [u8]> = Vec::new();
        loop {
            let (item, length) = item_header(self.data, self.at, frame.bound, frame.coding)?;
            self.at += 8;
            match item {
                ITEM if length != UNDEFINED => {
                    self.count()?;
                    let (end, _) = end(self.at, length, frame.bound)?;
                    parts.push(self.data.get(self.at..end).ok_or(ReadFault::Malformed)?);
                    self.at = end;
                }
                SEQUENCE_END if length == 0 => break,
                _ => return Err(ReadFault::Malformed),
            }
        }
        if parts.is_empty() {
            return Err(ReadFault::Malformed);
        }
        let fragments = parts.split_off(1);
        Ok(Token::Fragments {
            tag,
            offsets: parts.first().copied().unwrap_or_default(),
            fragments,
        })
    }
}

/// Where something that begins at `at` ends: its own length if that fits, else the bound around it.
fn end(at: usize, length: u32, bound: usize) -> Result<(usize, bool), ReadFault> {
    if length == UNDEFINED {
        return Ok((bound, false));
    }
    let end = at
        .checked_add(length as usize)
        .filter(|end| *end <= bound)
        .ok_or(ReadFault::Malformed)?;
    Ok((end, true))
}

fn bytes<const N: usize>(data: &[u8], at: usize, bound: usize) -> Result<[u8; N], ReadFault> {
    at.checked_add(N)
        .filter(|end| *end <= bound)
        .and_then(|end| data.get(at..end))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(ReadFault::Malformed)
}

fn u16_at(data: &[u8], at: usize, bound: usize, big_endian: bool) -> Result<u16, ReadFault> {
    let bytes = bytes(data, at, bound)?;
    Ok(if big_endian {
        u16::from_be_bytes(bytes)
    } else {
        u16::from_le_bytes(bytes)
    })
}

fn u32_at(data: &[u8], at: usize, bound: usize, big_endian: bool) -> Result<u32, ReadFault> {
    let bytes = bytes(data, at, bound)?;
    Ok(if big_endian {
        u32::from_be_bytes(bytes)
    } else {
        u32::from_le_bytes(bytes)
    })
}

fn tag_at(data: &[u8], at: usize, bound: usize, big_endian: bool) -> Result<Tag, ReadFault> {
    Ok(Tag(
        u16_at(data, at, bound, big_endian)?,
        u16_at(data, at + 2, bound, big_endian)?,
    ))
}

fn item_header(
    data: &[u8],
    at: usize,
    bound: usize,
    coding: Coding,
) -> Result<(Tag, u32), ReadFault> {
    Ok((
        tag_at(data, at, bound, coding.big_endian)?,
        u32_at(data, at + 4, bound, coding.big_endian)?,
    ))
}

/// An element header whose value, if its length is defined, ends at or before `bound`.
pub(crate) fn header(
    data: &[u8],
    at: usize,
    bound: usize,
    coding: Coding,
) -> Result<Header, ReadFault> {
    let big = coding.big_endian;
    let tag = tag_at(data, at, bound, big)?;
    if tag.group() == 0xFFFE {
        return Err(ReadFault::Malformed);
    }
    let (written, length, value) = if coding.explicit {
        let code: [u8; 2] = bytes(data, at + 4, bound)?;
        // Codes to come have the long form (PS3.5 section 7.1.2); they are read as UN.
        let vr = VR::from_binary(code)
            .or_else(|| code.iter().all(u8::is_ascii_uppercase).then_some(VR::UN))
            .ok_or(ReadFault::Malformed)?;
        if is_short(vr) {
            let length = u32::from(u16_at(data, at + 6, bound, big)?);
            (Some(vr), length, at + 8)
        } else {
            (Some(vr), u32_at(data, at + 8, bound, big)?, at + 12)
        }
    } else {
        (None, u32_at(data, at + 4, bound, big)?, at + 8)
    };
    let (end, defined) = end(value, length, bound)?;
    let written_un = written == Some(VR::UN);
    let vr = match written {
        Some(vr) if vr != VR::UN => vr,
        _ => known_vr(tag),
    };
    Ok(Header {
        tag,
        vr,
        length: defined.then(|| end - value),
        value,
        written_un,
    })
}

/// The VR of an element that does not state one.
fn known_vr(tag: Tag) -> VR {
    if tag.group() % 2 == 1 {
        // Private creators are LO (PS3.5 section 7.8.1).
        return if matches!(tag.element(), 0x0010..=0x00FF) {
            VR::LO
        } else {
            VR::UN
        };
    }
    dictionary_vr(tag).unwrap_or(VR::UN)
}

/// VRs whose length has two bytes (PS3.5 section 7.1.2).
fn is_short(vr: VR) -> bool {
    !matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    )
}

/// Whether the first element of a UN sequence names its VR although it should not: its length,
/// read as implicit, does not fit, and a VR stands where one would.
fn explicit_inside(data: &[u8], at: usize, bound: usize) -> bool {
    let first = at + 8;
    header(data, first, bound, Coding::IMPLICIT_LE).is_err()
        && header(data, first, bound, Coding::EXPLICIT_LE).is_ok()
}

#[cfg(test)]
mod tests {
    use dicom_core::{Tag, VR};
    use proptest::prelude::*;

    use super::{Coding, Token, Walker};
    use crate::read::ReadFault;

    fn walk(data: &[u8], coding: Coding) -> Result<Vec<String>, ReadFault> {
        let mut walker = Walker::new(data, coding);
        let mut seen = Vec::new();
        while let Some(token) = walker.next()? {
            seen.push(match token {
                Token::Element { tag, vr, value, .. } => format!("{tag} {vr} {}", value.len()),
                Token::Fragments { fragments, .. } => format!("fragments {}", fragments.len()),
                Token::Item => "item".into(),
                Token::ItemEnd => "/item".into(),
                Token::Sequence { tag } => format!("{tag} SQ"),
                Token::SequenceEnd => "/SQ".into(),
            });
        }
        Ok(seen)
    }

    /// UN of undefined length inside an item and a sequence of defined length: the private
    /// contents are implicit, and the walk comes back to explicit after them.
    #[test]
    fn unknown_sequences_stand_inside_defined_lengths() {
        let mut unknown = vec![9, 0, 1, 16, b'U', b'N', 0, 0, 255, 255, 255, 255];
        unknown.extend([0xfe, 0xff, 0, 0xe0, 255, 255, 255, 255]);
        unknown.extend([0x10, 0, 0x10, 0, 4, 0, 0, 0, b'D', b'O', b'E', b'^']);
        unknown.extend([0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0]);
        unknown.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        let mut item = vec![0xfe, 0xff, 0, 0xe0, unknown.len() as u8 + 10, 0, 0, 0];
        item.extend(&unknown);
        item.extend([0x10, 0, 0x40, 0, b'C', b'S', 2, 0, b'F', b' ']);
        let mut data = vec![
            8,
            0,
            0x11,
            0x11,
            b'S',
            b'Q',
            0,
            0,
            item.len() as u8,
            0,
            0,
            0,
        ];
        data.extend(&item);
        data.extend([0x10, 0, 0x40, 0, b'C', b'S', 2, 0, b'F', b' ']);
        assert_eq!(
            walk(&data, Coding::EXPLICIT_LE).unwrap(),
            [
                "(0008,1111) SQ",
                "item",
                "(0009,1001) SQ",
                "item",
                "(0010,0010) PN 4",
                "/item",
                "/SQ",
                "(0010,0040) CS 2",
                "/item",
                "/SQ",
                "(0010,0040) CS 2"
            ]
        );
        // The same in any shorter form is refused, except where an element happens to end.
        let whole = data.len() - 10;
        for end in 1..data.len() {
            assert_eq!(
                walk(&data[..end], Coding::EXPLICIT_LE).is_ok(),
                end == whole,
                "{end}"
            );
        }
    }

    #[test]
    fn lengths_beyond_what_is_there_or_around_are_refused() {
        // An item longer than its sequence.
        let data = [
            8, 0, 0x11, 0x11, b'S', b'Q', 0, 0, 8, 0, 0, 0, 0xfe, 0xff, 0, 0xe0, 16, 0, 0, 0, 0x10,
            0, 0x40, 0, b'C', b'S', 8, 0, b'F', b' ', b'F', b' ', b'F', b' ', b'F', b' ',
        ];
        assert_eq!(walk(&data, Coding::EXPLICIT_LE), Err(ReadFault::Malformed));
        // 4 GiB declared.
        let data = [8, 0, 8, 0, b'U', b'T', 0, 0, 254, 255, 255, 255, 1, 2];
        assert_eq!(walk(&data, Coding::EXPLICIT_LE), Err(ReadFault::Malformed));
        // An undefined length where none is allowed.
        let data = [8, 0, 8, 0, b'U', b'T', 0, 0, 255, 255, 255, 255, 1, 2];
        assert_eq!(walk(&data, Coding::EXPLICIT_LE), Err(ReadFault::Malformed));
    }

    #[test]
    fn fragments_may_hold_delimiter_bytes_and_trailing_bytes_go() {
        let mut data = vec![0xe0, 0x7f, 0x10, 0, b'O', b'B', 0, 0, 255, 255, 255, 255];
        data.extend([0xfe, 0xff, 0, 0xe0, 0, 0, 0, 0]);
        data.extend([0xfe, 0xff, 0, 0xe0, 8, 0, 0, 0]);
        data.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        data.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        let clean = walk(&data, Coding::EXPLICIT_LE).unwrap();
        assert_eq!(clean, ["fragments 1"]);
        data.extend(b"trailing bytes with DOE^JANE");
        assert_eq!(walk(&data, Coding::EXPLICIT_LE).unwrap(), clean);
        let implicit = [0x10, 0, 0x20, 0, 2, 0, 0, 0, b'7', b' ', 0, 0, 0, 0, 0, 0];
        assert_eq!(walk(&implicit, Coding::IMPLICIT_LE).unwrap().len(), 1);
        let big = [0, 0x28, 0, 0x10, b'U', b'S', 0, 2, 2, 0];
        assert_eq!(
            walk(&big, Coding::EXPLICIT_BE).unwrap(),
            ["(0028,0010) US 2"]
        );
        assert_eq!(super::known_vr(Tag(0x0009, 0x0010)), VR::LO);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(data in prop::collection::vec(any::<u8>(), 0..400)) {
            for coding in [Coding::EXPLICIT_LE, Coding::IMPLICIT_LE, Coding::EXPLICIT_BE] {
                walk(&data, coding).ok();
            }
        }
    }
}
