//! Builds files byte by byte, so that tests can say what no writer would.

#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each test binary uses a part"
)]

pub mod objects;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use cloister_deid::HmacPseudonyms;
use zeroize::Zeroizing;

pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub const JPEG: &str = "1.2.840.10008.1.2.4.50";
pub const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
pub const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
pub const RLE: &str = "1.2.840.10008.1.2.5";

pub type Tag = (u16, u16);

pub fn ids() -> HmacPseudonyms {
    HmacPseudonyms::new(Zeroizing::new([9; 32]))
}

/// A value in explicit VR little endian, padded to even length.
pub fn element(tag: Tag, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if matches!(vr, "UI" | "OB" | "UN") {
            0
        } else {
            b' '
        });
    }
    raw(tag, vr, value.len() as u32, &value)
}

/// A value with a length of one's own choice.
pub fn raw(tag: Tag, vr: &str, length: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(tag.0.to_le_bytes());
    out.extend(tag.1.to_le_bytes());
    out.extend(vr.as_bytes());
    if matches!(
        vr,
        "OB" | "OD" | "OF" | "OL" | "OV" | "OW" | "SQ" | "SV" | "UC" | "UN" | "UR" | "UT" | "UV"
    ) {
        out.extend([0, 0]);
        out.extend(length.to_le_bytes());
    } else {
        out.extend((length as u16).to_le_bytes());
    }
    out.extend(value);
    out
}

/// An item or delimiter header.
pub fn item(element: u16, length: u32) -> Vec<u8> {
    let mut out = vec![0xFE, 0xFF];
    out.extend(element.to_le_bytes());
    out.extend(length.to_le_bytes());
    out
}

pub fn sequence(tag: Tag, contents: &[u8]) -> Vec<u8> {
    let mut value = item(0xE000, contents.len() as u32);
    value.extend(contents);
    raw(tag, "SQ", value.len() as u32, &value)
}

pub fn undefined_sequence(tag: Tag, contents: &[u8]) -> Vec<u8> {
    let mut out = raw(tag, "SQ", u32::MAX, &item(0xE000, u32::MAX));
    out.extend(contents);
    out.extend(item(0xE00D, 0));
    out.extend(item(0xE0DD, 0));
    out
}

pub fn fragments(table: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut out = raw((0x7FE0, 0x0010), "OB", u32::MAX, &[]);
    for part in [&[table], parts].concat() {
        let mut part = part.to_vec();
        if part.len() % 2 == 1 {
            part.push(0);
        }
        out.extend(item(0xE000, part.len() as u32));
        out.extend(part);
    }
    out.extend(item(0xE0DD, 0));
    out
}

pub struct Film {
    pub preamble: [u8; 128],
    /// Elements of group 2 after the mandatory ones.
    pub meta: Vec<u8>,
    pub syntax: String,
    pub elements: BTreeMap<Tag, Vec<u8>>,
    pub after: Vec<u8>,
}

impl Film {
    /// A 4 × 4 film of a patient whose name comes in this character set.
    pub fn new(charset: &str, name: &[u8], id: &str) -> Self {
        let mut film = Self {
            preamble: [0; 128],
            meta: Vec::new(),
            syntax: EXPLICIT.into(),
            elements: BTreeMap::new(),
            after: Vec::new(),
        };
        let text: [(Tag, &str, &[u8]); 19] = [
            ((0x0008, 0x0005), "CS", charset.as_bytes()),
            ((0x0008, 0x0008), "CS", b"ORIGINAL\\PRIMARY"),
            ((0x0008, 0x0016), "UI", b"1.2.840.10008.5.1.4.1.1.1"),
            ((0x0008, 0x0018), "UI", b"1.2.276.5.20160705.1001"),
            ((0x0008, 0x0020), "DA", b"20160705"),
            ((0x0008, 0x0050), "SH", b"ACC778812"),
            ((0x0008, 0x0060), "CS", b"CR"),
            ((0x0008, 0x0070), "LO", b"Example Works"),
            ((0x0010, 0x0010), "PN", name),
            ((0x0010, 0x0020), "LO", id.as_bytes()),
            ((0x0010, 0x0030), "DA", b"19760616"),
            ((0x0010, 0x0040), "CS", b"F"),
            ((0x0018, 0x0015), "CS", b"CHEST"),
            ((0x0018, 0x5101), "CS", b"AP"),
            ((0x0020, 0x000D), "UI", b"1.2.276.5.20160705.1"),
            ((0x0020, 0x000E), "UI", b"1.2.276.5.20160705.2"),
            ((0x0020, 0x0013), "IS", b"1"),
            ((0x0028, 0x0004), "CS", b"MONOCHROME2"),
            ((0x0028, 0x0301), "CS", b"NO"),
        ];
        for (tag, vr, value) in text {
            film.put(tag, vr, value);
        }
        film.shape(4, 4, 8, 8);
        let pixels: Vec<u8> = (0..16).collect();
        film.put((0x7FE0, 0x0010), "OB", &pixels);
        film
    }

    pub fn put(&mut self, tag: Tag, vr: &str, value: &[u8]) {
        self.elements.insert(tag, element(tag, vr, value));
    }

    pub fn shape(&mut self, rows: u16, columns: u16, allocated: u16, stored: u16) {
        for (element, value) in [
            (0x0002, 1),
            (0x0010, rows),
            (0x0011, columns),
            (0x0100, allocated),
            (0x0101, stored),
            (0x0102, stored - 1),
            (0x0103, 0),
        ] {
            self.put((0x0028, element), "US", &value.to_le_bytes());
        }
    }

    pub fn data_set(&self) -> Vec<u8> {
        let mut data: Vec<u8> = self.elements.values().flatten().copied().collect();
        data.extend(&self.after);
        data
    }

    pub fn encode(&self) -> Vec<u8> {
        let data = self.data_set();
        let mut out = self.preamble.to_vec();
        out.extend(b"DICM");
        out.extend(meta(&self.syntax, &self.meta));
        if self.syntax == DEFLATED {
            use std::io::Write as _;
            let level = flate2::Compression::default();
            let mut deflater = flate2::write::DeflateEncoder::new(&mut out, level);
            deflater.write_all(&data).unwrap();
            deflater.finish().unwrap();
        } else {
            out.extend(data);
        }
        out
    }
}

/// The file meta information for a syntax.
pub fn meta(syntax: &str, more: &[u8]) -> Vec<u8> {
    let mut group = element((2, 1), "OB", &[0, 1]);
    group.extend(element((2, 2), "UI", b"1.2.840.10008.5.1.4.1.1.1"));
    group.extend(element((2, 3), "UI", b"1.2.276.5.20160705.1001"));
    group.extend(element((2, 0x10), "UI", syntax.as_bytes()));
    group.extend(element((2, 0x12), "UI", b"1.2.276.5.1"));
    group.extend(more);
    let mut out = element((2, 0), "UL", &(group.len() as u32).to_le_bytes());
    out.extend(group);
    out
}

/// Public files, where `../shared/data/dicom` lies beside the project.
pub fn real_files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dicom");
    let mut found = Vec::new();
    let mut work = vec![dir];
    while let Some(dir) = work.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                work.push(path);
            } else if !matches!(
                path.extension().and_then(|e| e.to_str()),
                Some("md" | "csv" | "png" | "json")
            ) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
