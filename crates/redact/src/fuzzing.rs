//! What the fuzz target in `fuzz/` calls: takes any bytes, must end, and must hold what it says. No
//! part of the public interface.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::Fill;
use crate::decode::{decode, forget_samples, parse};
use crate::redacted::{Action, FoundBox, Source};
use crate::{blank, encode};

/// Native, run-length, JPEG of every process, JPEG-LS, JPEG 2000, HTJ2K, JPEG XL, deflated.
const SYNTAXES: [&str; 20] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.4.111",
    "1.2.840.10008.1.2.8.1",
    "1.2.840.10008.1.2.4.55",
];
const PHOTOMETRIC: [(&str, u16); 8] = [
    ("MONOCHROME2", 1),
    ("MONOCHROME1", 1),
    ("PALETTE COLOR", 1),
    ("RGB", 3),
    ("YBR_FULL", 3),
    ("YBR_FULL_422", 3),
    ("YBR_ICT", 3),
    ("YBR_RCT", 3),
];

/// What the first bytes say about the object.
struct Header {
    syntax: &'static str,
    photometric: (&'static str, u16),
    planar: u16,
    allocated: u16,
    stored: u16,
    signed: u16,
    rows: u16,
    columns: u16,
    frames: u16,
}

const HEADER_BYTES: usize = 8;

impl Header {
    fn of(bytes: [u8; HEADER_BYTES]) -> Option<Self> {
        let [syntax, colour, allocated, stored, rows, columns, frames, _] = bytes.map(u16::from);
        let allocated = [1, 8, 16, 32][usize::from(allocated % 4)];
        Some(Self {
            syntax: SYNTAXES.get(usize::from(syntax) % SYNTAXES.len())?,
            photometric: *PHOTOMETRIC.get(usize::from(colour) % PHOTOMETRIC.len())?,
            planar: colour / 128,
            allocated,
            stored: stored % 64 % allocated + 1,
            signed: stored / 128,
            rows: rows % 64 + 1,
            columns: columns % 64 + 1,
            frames: frames % 3 + 1,
        })
    }

    fn is_native(&self) -> bool {
        matches!(
            self.syntax,
            "1.2.840.10008.1.2"
                | "1.2.840.10008.1.2.1"
                | "1.2.840.10008.1.2.1.99"
                | "1.2.840.10008.1.2.2"
        )
    }

    /// A Part 10 file in explicit VR little endian, whatever the syntax: a reader has to cope with
    /// what does not follow its own file meta information, too.
    fn file(&self, pixels: &[u8]) -> Vec<u8> {
        let mut meta = Vec::new();
        element(&mut meta, (0x0002, 0x0010), *b"UI", self.syntax.as_bytes());
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        let length = (meta.len() as u32).to_le_bytes();
        element(&mut file, (0x0002, 0x0000), *b"UL", &length);
        file.extend_from_slice(&meta);
        let number = |file: &mut Vec<u8>, at: u16, value: u16| {
            element(file, (0x0028, at), *b"US", &value.to_le_bytes());
        };
        element(
            &mut file,
            (0x0008, 0x0016),
            *b"UI",
            b"1.2.840.10008.5.1.4.1.1.7",
        );
        element(&mut file, (0x0008, 0x0018), *b"UI", b"2.25.1");
        let (photometric, samples) = self.photometric;
        number(&mut file, 0x0002, samples);
        element(&mut file, (0x0028, 0x0004), *b"CS", photometric.as_bytes());
        if samples > 1 {
            number(&mut file, 0x0006, self.planar);
        }
        let frames = self.frames.to_string();
        element(&mut file, (0x0028, 0x0008), *b"IS", frames.as_bytes());
        for (at, value) in [
            (0x0010, self.rows),
            (0x0011, self.columns),
            (0x0100, self.allocated),
            (0x0101, self.stored),
            (0x0102, self.stored - 1),
            (0x0103, self.signed),
        ] {
            number(&mut file, at, value);
        }
        file.extend_from_slice(&[0xe0, 0x7f, 0x10, 0x00]);
        file.extend_from_slice(if self.is_native() {
            b"OW\0\0"
        } else {
            b"OB\0\0"
        });
        if self.is_native() {
            let bits = usize::from(self.rows)
                * usize::from(self.columns)
                * usize::from(samples)
                * usize::from(self.frames)
                * usize::from(self.allocated);
            let mut pixels = pixels.to_vec();
            pixels.resize(bits.div_ceil(8).next_multiple_of(2), 0);
            file.extend_from_slice(&(pixels.len() as u32).to_le_bytes());
            file.extend_from_slice(&pixels);
            return file;
        }
        file.extend_from_slice(&u32::MAX.to_le_bytes());
        item(&mut file, &[]);
        let each = pixels.len().div_ceil(usize::from(self.frames)).max(1);
        for frame in pixels.chunks(each) {
            item(&mut file, frame);
        }
        file.extend_from_slice(&[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        file
    }
}

fn element(file: &mut Vec<u8>, tag: (u16, u16), vr: [u8; 2], value: &[u8]) {
    let padding = value.len() % 2;
    file.extend_from_slice(&tag.0.to_le_bytes());
    file.extend_from_slice(&tag.1.to_le_bytes());
    file.extend_from_slice(&vr);
    file.extend_from_slice(&((value.len() + padding) as u16).to_le_bytes());
    file.extend_from_slice(value);
    file.extend(std::iter::repeat_n(
        if vr == *b"UI" { 0 } else { b' ' },
        padding,
    ));
}

fn item(file: &mut Vec<u8>, value: &[u8]) {
    file.extend_from_slice(&[0xfe, 0xff, 0x00, 0xe0]);
    let padding = value.len() % 2;
    file.extend_from_slice(&((value.len() + padding) as u32).to_le_bytes());
    file.extend_from_slice(value);
    file.extend(std::iter::repeat_n(0, padding));
}

/// Decodes a small object with any header and any fragments, as a worker does, codecs that panic
/// included. What decodes can be blanked, is encoded, decodes again to the same size, and outside the
/// box its samples are what they were.
pub fn pixels(data: &[u8]) {
    let Some((header, pixels)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return;
    };
    let Some(one) = Header::of(*header) else {
        return;
    };
    let file = one.file(pixels);
    // As `worker` does: a codec's panic is an answer.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let object = parse(&file).ok()?;
        let film = decode(&object).ok()?;
        Some((object, film))
    }));
    let Ok(Some((mut object, film))) = opened else {
        return;
    };
    assert_eq!(film.samples.len(), film.frames * film.frame_bytes());
    forget_samples(&mut object, &film);
    let [.., at] = *header;
    let side = |whole: usize, part: u8| whole as u32 * u32::from(part) / 16;
    let boxes = film.snapped(vec![FoundBox {
        frame: 0,
        x: side(film.width, at % 16),
        y: side(film.height, at / 16),
        w: 5.min(film.width as u32),
        h: 4.min(film.height as u32),
        score: 1.0,
        action: Action::Redact,
        source: Source::Text,
    }]);
    let mut blanked = film.clone();
    let fill = if at % 2 == 0 {
        Fill::Background
    } else {
        Fill::Solid
    };
    blank::blank(&mut blanked, &boxes, fill);
    let Ok(encoded) = encode::encode(object, &mut blanked, &boxes) else {
        return;
    };
    let again = parse(&encoded).and_then(|object| decode(&object));
    let Ok(again) = again else {
        panic!("what was encoded cannot be decoded");
    };
    assert_eq!(
        (film.width, film.height, film.frames, film.channels),
        (again.width, again.height, again.frames, again.channels)
    );
    for frame in 0..film.frames {
        for channel in 0..film.channels {
            let before = film.values(frame, channel);
            let after = again.values(frame, channel);
            for (place, (before, after)) in before.iter().zip(&after).enumerate() {
                let (x, y) = ((place % film.width) as u32, (place / film.width) as u32);
                let inside = boxes.iter().any(|one| {
                    one.frame as usize == frame
                        && (one.x..one.x + one.w).contains(&x)
                        && (one.y..one.y + one.h).contains(&y)
                });
                assert!(
                    inside || before.total_cmp(after).is_eq(),
                    "a sample outside the box has changed"
                );
            }
        }
    }
}
