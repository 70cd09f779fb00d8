//! Lossless JPEG (ISO/IEC 10918-1 annex H) of each predictor and depth, from an encoder of our own.

use super::layouts::{COLUMNS, GREY, Header, ROWS, encapsulated, picture, redact};
use super::{decode, parse, tests::numbers};
use crate::encode::encode;
use crate::film::Photometric;

pub(super) const SYNTAX: &str = "1.2.840.10008.1.2.4.70";

/// A frame with every difference category coded in five bits.
pub(super) fn frame(values: &[i64], channels: u8, precision: u8, predictor: u8) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8, 0xFF, 0xC3, 0, 8 + 3 * channels, precision];
    out.extend((ROWS as u16).to_be_bytes());
    out.extend((COLUMNS as u16).to_be_bytes());
    out.push(channels);
    (1..=channels).for_each(|id| out.extend([id, 0x11, 0]));
    out.extend([0xFF, 0xC4, 0, 19 + 17, 0, 0, 0, 0, 0, 17]);
    out.extend([0; 11]);
    out.extend(0..17);
    out.extend([0xFF, 0xDA, 0, 6 + 2 * channels, channels]);
    (1..=channels).for_each(|id| out.extend([id, 0]));
    out.extend([predictor, 0, 0]);
    let (mut held, mut count) = (0_u64, 0_u32);
    let mut put = |bits: u64, size: u32, out: &mut Vec<u8>| {
        held = (held << size) | bits;
        count += size;
        while count >= 8 {
            count -= 8;
            let byte = (held >> count) as u8;
            out.push(byte);
            if byte == 0xFF {
                out.push(0);
            }
        }
    };
    let channels = usize::from(channels);
    for y in 0..ROWS {
        for place in 0..COLUMNS * channels {
            let (x, channel) = (place / channels, place % channels);
            let at = |x: usize, y: usize| values[(y * COLUMNS + x) * channels + channel];
            let guess = match (x, y) {
                (0, 0) => 1 << (precision - 1),
                (_, 0) => at(x - 1, 0),
                (0, _) => at(0, y - 1),
                _ => {
                    let (left, upper, corner) = (at(x - 1, y), at(x, y - 1), at(x - 1, y - 1));
                    match predictor {
                        1 => left,
                        2 => upper,
                        3 => corner,
                        4 => left + upper - corner,
                        5 => left + ((upper - corner) >> 1),
                        6 => upper + ((left - corner) >> 1),
                        _ => (left + upper) >> 1,
                    }
                }
            };
            // Modulo 2^16 (H.1.2.1).
            let difference = i64::from((at(x, y) - guess) as i16);
            let size = 64 - difference.unsigned_abs().leading_zeros();
            put(u64::from(size), 5, &mut out);
            if size < 16 {
                let bits = if difference < 0 {
                    difference - 1
                } else {
                    difference
                };
                put(bits as u64 & ((1 << size) - 1), size, &mut out);
            }
        }
    }
    put(0x7F, 7, &mut out);
    out.extend([0xFF, 0xD9]);
    out
}

#[test]
fn every_predictor_gives_the_samples_back() {
    for (allocated, stored) in [(8, 8), (16, 12), (16, 16)] {
        for predictor in 1..=7 {
            let header = Header {
                bits: (allocated, stored, stored - 1),
                ..GREY
            };
            let values = picture(&header);
            let packed = frame(&values, 1, stored as u8, predictor);
            let mut syntaxes = vec!["1.2.840.10008.1.2.4.57"];
            if predictor == 1 {
                syntaxes.push(SYNTAX);
            }
            for syntax in syntaxes {
                let object = encapsulated(syntax, &header, vec![packed.clone()]);
                let film = decode(&object).unwrap();
                assert!(
                    numbers(&film) == values,
                    "{stored} bits, predictor {predictor}"
                );
                redact(object.clone(), 0);
                let mut film = film;
                let same = parse(&encode(object, &mut film, &[]).unwrap()).unwrap();
                assert_eq!(same.meta().transfer_syntax(), syntax);
            }
        }
    }
}

#[test]
fn colours_stay_what_the_header_says_they_are() {
    for (name, meant) in [
        ("YBR_FULL", Photometric::YbrFull),
        ("RGB", Photometric::Rgb),
    ] {
        let header = Header {
            photometric: name,
            channels: 3,
            ..GREY
        };
        let values = picture(&header);
        let packed = frame(&values, 3, 8, 1);
        let film = decode(&encapsulated(SYNTAX, &header, vec![packed])).unwrap();
        assert!(numbers(&film) == values, "{name}");
        assert_eq!(film.photometric, meant);
    }
}
