//! Every file that the inventory calls decodable, sample by sample against pydicom's raw decoder
//! (`tests/reference/decode.py`). Needs ../shared and a Python with pydicom's plugins, named by
//! `CLOISTER_REFERENCE_PYTHON`; without them one line says that it was skipped.

use std::process::Command;

use super::{decode, tests};
use crate::film::Film;

fn values(bytes: &[u8], kind: &str, size: usize) -> Vec<f64> {
    bytes
        .chunks_exact(size)
        .map(|sample| match (kind, sample) {
            ("u", [a]) => f64::from(*a),
            ("i", [a]) => f64::from(a.cast_signed()),
            ("u", [a, b]) => f64::from(u16::from_le_bytes([*a, *b])),
            ("i", [a, b]) => f64::from(i16::from_le_bytes([*a, *b])),
            ("u", [a, b, c, d]) => f64::from(u32::from_le_bytes([*a, *b, *c, *d])),
            ("i", [a, b, c, d]) => f64::from(i32::from_le_bytes([*a, *b, *c, *d])),
            ("f", [a, b, c, d]) => f64::from(f32::from_le_bytes([*a, *b, *c, *d])),
            ("f", eight) => f64::from_le_bytes(eight.try_into().unwrap()),
            _ => panic!("unknown samples"),
        })
        .collect()
}

fn ours(film: &Film) -> Vec<f64> {
    let kind = match (film.float, film.signed) {
        (true, _) => "f",
        (_, true) => "i",
        (_, false) => "u",
    };
    values(&film.samples, kind, film.bytes_per_sample)
}

#[test]
fn every_decodable_file_has_the_samples_of_pydicoms_raw_decoder() {
    let Some(folder) = tests::data() else { return };
    let Some(python) = std::env::var_os("CLOISTER_REFERENCE_PYTHON") else {
        eprintln!("SKIPPED: CLOISTER_REFERENCE_PYTHON names no Python with pydicom's plugins");
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/decode.py");
    let mut command = Command::new(python);
    let status = command
        .arg("-W")
        .arg("ignore")
        .arg(script)
        .arg(&folder)
        .arg(out.path());
    let status = status.status().unwrap();
    if status.code() == Some(3) {
        eprintln!("SKIPPED: this Python has not all of pydicom's plugins");
        return;
    }
    assert!(status.success());
    let index = std::fs::read_to_string(out.path().join("index.tsv")).unwrap();
    let (mut equal, mut near, mut failed) = (0, 0, Vec::new());
    for line in index.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields[at].parse::<usize>().unwrap();
        let wanted = std::fs::read(out.path().join(format!("{}.raw", fields[0]))).unwrap();
        let wanted = values(&wanted, fields[8], number(9));
        let bytes = std::fs::read(folder.join(fields[1])).unwrap();
        let film = match tests::open(&bytes).and_then(|object| decode(&object)) {
            Ok(film) => film,
            Err(error) => {
                failed.push(format!("{}: {}", fields[1], error.code()));
                continue;
            }
        };
        let found = ours(&film);
        let shape = [film.frames, film.height, film.width, film.channels];
        if shape != [number(3), number(4), number(5), number(6)] || found.len() != wanted.len() {
            failed.push(format!("{}: shape", fields[1]));
            continue;
        }
        let same = |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan();
        let most = found.iter().zip(&wanted).filter(|&pair| !same(pair));
        let most = most.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        // Lossless families exactly; lossy ones by 1, with shared chroma by 2.
        let allowed = match (fields[2], film.channels) {
            ("exact", _) => 0.0,
            (_, 1) => 1.0,
            _ if film.stored.grid.0 > 8 || film.stored.grid.1 > 8 => 2.0,
            _ => 1.0,
        };
        if most == 0.0 {
            equal += 1;
        } else if most <= allowed {
            near += 1;
        } else {
            failed.push(format!("{}: {most} apart", fields[1]));
        }
    }
    eprintln!(
        "{equal} equal, {near} lossy ones within their bound, {} not",
        failed.len()
    );
    assert_eq!(failed, Vec::<String>::new());
}
