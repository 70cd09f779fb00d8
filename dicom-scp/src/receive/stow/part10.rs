//! The head of a DICOM file (PS3.10 section 7.1): preamble, `DICM` and the file meta information,
//! which say of what follows what a C-STORE-RQ and its presentation context say. The file meta
//! itself goes no further: `object` writes its own.

use bytes::{Buf as _, Bytes, BytesMut};
use cloister_phi::{Phi, Uid};

const PREAMBLE_BYTES: usize = 128;
/// Preamble, `DICM`, and (0002,0000) with its value.
const FIXED_BYTES: usize = PREAMBLE_BYTES + 4 + 12;
/// Longest file meta information; private information counts.
const MAX_META_BYTES: usize = 64 << 10;

const GROUP_LENGTH: [u8; 8] = [2, 0, 0, 0, b'U', b'L', 4, 0];

/// The part is no DICOM file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no DICOM file")]
pub(super) struct NotDicom;

/// What a file says of itself. Every name is optional here: an answer about a file with a bad one
/// still gives the others back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FileMeta {
    pub(super) sop_class: Option<Uid>,
    pub(super) sop_instance: Option<Phi<Uid>>,
    pub(super) transfer_syntax: Option<Uid>,
}

/// Collects the head of a file.
#[derive(Default)]
pub(super) struct Head(BytesMut);

impl Head {
    /// Takes the next bytes; once the head is whole, what it says and the beginning of the data set.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<(FileMeta, Bytes)>, NotDicom> {
        self.0.extend_from_slice(bytes);
        let Some(fixed) = self.0.first_chunk::<FIXED_BYTES>() else {
            return Ok(None);
        };
        let (prefix, rest) = fixed
            .split_at_checked(PREAMBLE_BYTES)
            .and_then(|(_, rest)| rest.split_at_checked(4))
            .ok_or(NotDicom)?;
        let length = rest.strip_prefix(&GROUP_LENGTH).ok_or(NotDicom)?;
        let length: [u8; 4] = length.try_into().map_err(|_| NotDicom)?;
        let length = u32::from_le_bytes(length) as usize;
        if prefix != b"DICM" || length > MAX_META_BYTES {
            return Err(NotDicom);
        }
        if self.0.len() < FIXED_BYTES + length {
            return Ok(None);
        }
        let mut whole = std::mem::take(&mut self.0).freeze();
        whole.advance(FIXED_BYTES);
        let meta = whole.split_to(length);
        Ok(Some((read(meta)?, whole)))
    }
}

/// Explicit VR little endian (PS3.10 section 7.1), group 0002 only.
fn read(mut elements: Bytes) -> Result<FileMeta, NotDicom> {
    let mut meta = FileMeta::default();
    while !elements.is_empty() {
        if elements.len() < 8 {
            return Err(NotDicom);
        }
        let (group, element) = (elements.get_u16_le(), elements.get_u16_le());
        let vr = [elements.get_u8(), elements.get_u8()];
        let mut length = usize::from(elements.get_u16_le());
        if matches!(&vr, b"OB" | b"OW" | b"UN" | b"UT" | b"SQ") {
            if elements.len() < 4 {
                return Err(NotDicom);
            }
            length = elements.get_u32_le() as usize;
        }
        if group != 2 || length > elements.len() {
            return Err(NotDicom);
        }
        let value = elements.split_to(length);
        let uid = || Uid::parse(std::str::from_utf8(&value).ok()?).ok();
        match element {
            0x0002 => meta.sop_class = uid(),
            0x0003 => meta.sop_instance = uid().map(Phi::new),
            0x0010 => meta.transfer_syntax = uid(),
            _ => {}
        }
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(element: u16, vr: [u8; 2], value: &[u8]) -> Vec<u8> {
        let mut out = vec![2, 0];
        out.extend_from_slice(&element.to_le_bytes());
        out.extend_from_slice(&vr);
        if vr == *b"OB" {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        } else {
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
        }
        out.extend_from_slice(value);
        out
    }

    fn file(meta: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
        let meta = meta.concat();
        let length = (meta.len() as u32).to_le_bytes();
        [&[0; 128][..], b"DICM", &GROUP_LENGTH, &length, &meta, rest].concat()
    }

    #[test]
    fn a_head_is_read_wherever_it_is_cut() {
        let meta = [
            element(1, *b"OB", &[0, 1]),
            element(2, *b"UI", b"1.2\0"),
            element(3, *b"UI", b"1.3\0"),
            element(0x10, *b"UI", b"1.4\0"),
        ];
        let file = file(&meta, b"the data set");
        for size in [1, 3, 100, 1000] {
            let (mut head, mut rest, mut found) = (Head::default(), Vec::new(), None);
            for chunk in file.chunks(size) {
                match &found {
                    Some(_) => rest.extend_from_slice(chunk),
                    None => {
                        if let Some((meta, first)) = head.push(chunk).unwrap() {
                            found = Some(meta);
                            rest.extend_from_slice(&first);
                        }
                    }
                }
            }
            let meta = found.unwrap();
            let text = |uid: Option<Uid>| uid.map(|uid| uid.as_str().to_owned());
            assert_eq!(text(meta.sop_class).as_deref(), Some("1.2"));
            assert_eq!(
                text(meta.sop_instance.map(Phi::into_inner)).as_deref(),
                Some("1.3")
            );
            assert_eq!(text(meta.transfer_syntax).as_deref(), Some("1.4"));
            assert_eq!(rest, b"the data set");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting_for_its_length() {
        let good = file(&[element(2, *b"UI", b"1.2\0")], b"");
        let mut huge = good.clone();
        huge[140..144].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut other_group = good.clone();
        other_group[144] = 8;
        let mut long_value = good.clone();
        long_value[150] = 200;
        let short = good[..1].repeat(200);
        for bad in [huge, other_group, long_value, short, good[4..].to_vec()] {
            assert!(Head::default().push(&[bad, vec![0; 200]].concat()).is_err());
        }
        assert!(Head::default().push(&good).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn no_meta_makes_it_panic(meta in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Head::default().push(&file(&[meta], b"x")));
        }
    }
}
