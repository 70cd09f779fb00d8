//! The fuzz targets' functions on mutated seeds, without a fuzzer: what `make test` can afford.
//!
//! `CLOISTER_MUTATIONS=N` sets the number of runs of each; `CLOISTER_SEEDS=DIR` writes the seeds to
//! `DIR/<target>` for a fuzzer's corpus.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::semicolon_if_nothing_returned,
    clippy::items_after_statements,
    reason = "test code"
)]

mod common;

use std::fs;

use cloister_deid::fuzzing;
use common::{EXPLICIT, Film, fragments, item, meta, raw, sequence, undefined_sequence};

/// Seeds by target; the first byte selects a variant.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut film = Film::new("ISO_IR 100", b"Kanarinski^Zwitsch\xe9rine", "KV4815162342");
    let name = film.elements.get(&(0x0010, 0x0010)).unwrap().clone();
    film.elements
        .insert((8, 0x2218), undefined_sequence((8, 0x2218), &name));
    film.elements
        .insert((8, 0x1140), sequence((8, 0x1140), &name));
    let jpeg = [
        &[0xFF, 0xD8, 0xFF, 0xE0, 0, 16][..],
        b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0",
        &[
            0xFF, 0xFE, 0, 6, 1, 2, 3, 4, 0xFF, 0xC0, 0, 11, 8, 0, 4, 0, 4, 1, 1, 0x11, 0,
        ],
        &[
            0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 1, 0xFF, 0, 2, 0xFF, 0xD9,
        ],
    ]
    .concat();
    let j2k = [
        &[0xFF, 0x4F, 0xFF, 0x51, 0, 41][..],
        &[0; 35],
        &[1, 7, 1, 1, 0xFF, 0x64, 0, 4, 0, 1],
        &[
            0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 22, 0, 1, 0xFF, 0x64, 0, 4, 0, 1,
        ],
        &[0xFF, 0x93, 1, 2, 0xFF, 0xD9],
    ]
    .concat();
    let jxl = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x10ExifDOE^JANE\0\0\0\x0cjxlc\xff\x0a12".to_vec();
    let rle = [&[1, 0, 0, 0, 64, 0, 0, 0][..], &[0; 56], &[193, 7, 1, 2]].concat();
    let with = |first: u8, rest: &[u8]| [&[first], rest].concat();
    match target {
        "data_set" => {
            let mut big = vec![0, 8, 0, 0x60, b'C', b'S', 0, 2, b'C', b'R'];
            big.extend([0, 0x28, 0, 0x10, b'U', b'S', 0, 2, 0, 4]);
            let mut unknown = vec![9, 0, 1, 16, 255, 255, 255, 255];
            unknown.extend(item(0xE000, u32::MAX));
            unknown.extend([0x10, 0, 0x10, 0, 4, 0, 0, 0, b'D', b'O', b'E', b'^']);
            unknown.extend(item(0xE00D, 0));
            unknown.extend(item(0xE0DD, 0));
            let mut un = raw((9, 0x1001), "UN", u32::MAX, &unknown[8..]);
            un.extend(fragments(&[0; 4], &[&jpeg]));
            vec![
                with(0, &film.data_set()),
                with(0, &un),
                with(0, &meta(EXPLICIT, &[])),
                with(1, &unknown),
                with(2, &big),
            ]
        }
        "charset" => (0..16)
            .map(|code| {
                with(
                    code,
                    b"Yamada^\xfb\xf3=\x1b$B;3ED\x1b(B^\x1b$)C\xd1\xce\\\x1b-F\xc4\x1b$(D0!\x1b)I\xd4",
                )
            })
            .collect(),
        "frame" => vec![with(0, &jpeg), with(1, &j2k), with(2, &jxl), with(3, &rle)],
        _ => {
            let clean = cloister_deid::Deidentifier::default()
                .deidentify(&film.encode(), "", &common::ids())
                .unwrap()
                .0;
            vec![film.encode(), clean.to_bytes().unwrap()]
        }
    }
}

/// A small generator of our own (xorshift), so that a failure is found again by its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    const TELLING: [u8; 12] = [
        0, 1, 0x1b, 0x5c, 0x7f, 0x80, 0xff, 0xfe, 0xe0, 0xdd, 0xd9, 0x0d,
    ];
    let mut data = seed.to_vec();
    for _ in 0..=dice.roll(6) {
        let at = dice.roll(data.len());
        match dice.roll(6) {
            0 => data.truncate(at),
            1 => data.insert(at, TELLING[dice.roll(12)]),
            2 => {
                let end = (at + dice.roll(24)).min(data.len());
                let part = data[at..end].to_vec();
                let to = dice.roll(data.len());
                data.splice(to..to, part);
            }
            3 => {
                let end = (at + dice.roll(12)).min(data.len());
                data.drain(at..end);
            }
            4 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = TELLING[dice.roll(12)];
                }
            }
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = dice.roll(256) as u8;
                }
            }
        }
    }
    data
}

#[test]
fn mutated_seeds_neither_panic_nor_break_a_promise() {
    let runs = std::env::var("CLOISTER_MUTATIONS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3_000_usize);
    type Target = (&'static str, fn(&[u8]), usize);
    let targets: [Target; 4] = [
        ("data_set", fuzzing::data_set, 1),
        ("charset", fuzzing::charset, 1),
        ("frame", fuzzing::frame, 1),
        // Each run makes a search of its own.
        ("gate", fuzzing::look, 20),
    ];
    for (name, target, share) in targets {
        let seeds = seeds(name);
        if let Some(dir) = std::env::var_os("CLOISTER_SEEDS") {
            let dir = std::path::Path::new(&dir).join(name);
            fs::create_dir_all(&dir).unwrap();
            for (index, seed) in seeds.iter().enumerate() {
                fs::write(dir.join(format!("seed-{index}")), seed).unwrap();
            }
        }
        for run in 0..runs / share {
            let mut dice =
                Dice(0x9E37_79B9_7F4A_7C15 ^ (run as u64 + 1).wrapping_mul(0x1234_5678_9ABC_DEF1));
            dice.roll(2);
            let data = mutate(&seeds[run % seeds.len()], &mut dice);
            target(&data);
        }
        println!("{name}: {} runs", runs / share);
    }
}
