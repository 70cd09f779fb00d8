//! What three components are, frame by frame, and where their planes lie.

use super::layouts::{
    COLUMNS, GREY, Header, JPEG, ROWS, bytes_of, encapsulated, jpeg_frames, picture, redact,
};
use super::{decode, tests::numbers};
use crate::error::{RedactError, Undecodable};
use crate::film::Photometric;

fn colour(photometric: &'static str, frames: usize) -> Header {
    Header {
        photometric,
        channels: 3,
        frames,
        ..GREY
    }
}

/// The frame with these of the segments and identifiers that tell what its components are.
fn told(frame: &[u8], jfif: bool, adobe: Option<u8>, ids: [u8; 3], factors: u8) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8];
    if jfif {
        out.extend(b"\xff\xe0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00");
    }
    if let Some(transform) = adobe {
        out.extend(b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00");
        out.push(transform);
    }
    let mut at = 2;
    loop {
        let (code, length) = (
            frame[at + 1],
            usize::from(frame[at + 2]) * 256 + usize::from(frame[at + 3]),
        );
        let mut segment = frame[at..at + 2 + length].to_vec();
        at += segment.len();
        match code {
            0xE0..=0xEF => continue,
            0xC0..=0xC2 => (0..3).for_each(|index| segment[10 + index * 3] = ids[index]),
            0xDA => (0..3).for_each(|index| segment[5 + index * 2] = ids[index]),
            _ => {}
        }
        if matches!(code, 0xC0..=0xC2) && factors != 0x11 {
            segment[11] = factors;
        }
        out.extend(segment);
        if code == 0xDA {
            out.extend(&frame[at..]);
            return out;
        }
    }
}

#[test]
fn components_are_what_the_ijgs_decoder_takes_them_for() {
    let (ybr, rgb) = (Photometric::YbrFull, Photometric::Rgb);
    for (jfif, adobe, ids, meant) in [
        (false, None, *b"RGB", rgb),
        (false, Some(0), [1, 2, 3], rgb),
        (false, Some(1), *b"RGB", ybr),
        (true, Some(0), [1, 2, 3], ybr),
        (true, None, *b"RGB", ybr),
    ] {
        for name in ["YBR_FULL", "RGB"] {
            let header = colour(name, 1);
            let frame = told(&jpeg_frames(&header)[0], jfif, adobe, ids, 0x11);
            let film = decode(&encapsulated(JPEG, &header, vec![frame])).unwrap();
            assert_eq!(film.photometric, meant, "{jfif} {adobe:?} {ids:?} {name}");
        }
    }
    // Nothing tells: the header does.
    for (name, meant) in [("YBR_FULL", ybr), ("RGB", rgb)] {
        let header = colour(name, 1);
        let frame = told(&jpeg_frames(&header)[0], false, None, [1, 2, 3], 0x11);
        let film = decode(&encapsulated(JPEG, &header, vec![frame])).unwrap();
        assert_eq!(film.photometric, meant);
    }
}

#[test]
fn frames_that_disagree_about_their_colours_are_refused() {
    let header = colour("YBR_FULL", 2);
    let packed = jpeg_frames(&header);
    let first = told(&packed[0], false, Some(0), [1, 2, 3], 0x11);
    let second = told(&packed[1], true, None, [1, 2, 3], 0x11);
    for frames in [vec![first.clone(), second.clone()], vec![second, first]] {
        assert_eq!(
            decode(&encapsulated(JPEG, &header, frames)).map(drop),
            Err(RedactError::Undecodable(Undecodable::BadAttributes))
        );
    }
}

#[test]
fn planes_of_encapsulated_uncompressed_frames_become_pixels() {
    for planar in [false, true] {
        let header = Header {
            planar,
            ..colour("RGB", 2)
        };
        let values = picture(&header);
        let mut stored = values.clone();
        if planar {
            stored = values
                .chunks(ROWS * COLUMNS * 3)
                .flat_map(|frame| (0..3).flat_map(|c| frame.iter().skip(c).step_by(3)))
                .copied()
                .collect();
        }
        let bytes = bytes_of(&stored, &header);
        let frames = bytes.chunks(bytes.len() / 2).map(<[u8]>::to_vec).collect();
        let object = encapsulated("1.2.840.10008.1.2.1.98", &header, frames);
        assert!(numbers(&decode(&object).unwrap()) == values, "{planar}");
        redact(object, 1);
    }
}
