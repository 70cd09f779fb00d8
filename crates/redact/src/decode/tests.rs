//! Real files against values another decoder computed, and bytes that are no files at all.

use std::path::PathBuf;

use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::entries;
use proptest::prelude::*;

use super::{decode, parse};
use crate::error::{RedactError, Undecodable};
use crate::film::Film;

/// Lines of the table: `file family frames rows columns channels photometric min max sum crc`.
pub(super) const FACTS: &str = include_str!("facts.tsv");

pub(super) fn data() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dicom");
    if !folder.is_dir() {
        eprintln!("SKIPPED: ../shared/data/dicom is not here");
        return None;
    }
    Some(folder)
}

/// CRC-32 (IEEE), bit by bit: the table's last column.
fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|n| {
            (0..8).fold(n, |c, _| {
                if c & 1 == 1 {
                    0xEDB8_8320 ^ (c >> 1)
                } else {
                    c >> 1
                }
            })
        })
        .collect();
    !bytes.fold(!0, |crc, byte| {
        table[usize::from((crc as u8) ^ byte)] ^ (crc >> 8)
    })
}

/// Opens also what the gateway's own reader takes and the library's does not: a file without preamble
/// and identifiers, and one whose data set is implicit although its syntax is explicit.
pub(super) fn open(bytes: &[u8]) -> Result<DefaultDicomObject, RedactError> {
    if let Ok(object) = parse(bytes) {
        return Ok(object);
    }
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let mut at = if bytes.get(128..132) == Some(b"DICM") {
        132
    } else {
        0
    };
    let mut syntax = None;
    while bytes.get(at..at + 2) == Some(&[2, 0]) {
        let (element, wide) = (word(at + 2), &bytes[at + 4..at + 6] == b"OB");
        let (from, length) = if wide {
            (at + 12, word(at + 8))
        } else {
            (at + 8, word(at + 6))
        };
        if element == 0x10 {
            syntax = std::str::from_utf8(&bytes[from..from + length]).ok();
        }
        at = from + length;
    }
    let malformed = RedactError::Undecodable(Undecodable::Malformed);
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax.ok_or(malformed)?)
        .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.7")
        .media_storage_sop_instance_uid("2.25.1")
        .build()
        .map_err(|_| malformed)?;
    [
        entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
        entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
    ]
    .iter()
    .find_map(|coding| InMemDicomObject::read_dataset_with_ts(&bytes[at..], coding).ok())
    .map(|object| object.with_exact_meta(meta))
    .ok_or(malformed)
}

/// Whole numbers of all samples, interleaved.
pub(super) fn numbers(film: &Film) -> Vec<i64> {
    film.samples
        .chunks_exact(film.bytes_per_sample)
        .map(|sample| match (sample, film.signed) {
            ([a], false) => i64::from(*a),
            ([a], true) => i64::from(a.cast_signed()),
            ([a, b], false) => i64::from(u16::from_le_bytes([*a, *b])),
            ([a, b], true) => i64::from(i16::from_le_bytes([*a, *b])),
            ([a, b, c, d], false) => i64::from(u32::from_le_bytes([*a, *b, *c, *d])),
            ([a, b, c, d], true) => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
            _ => panic!("no whole number"),
        })
        .collect()
}

#[test]
fn real_files_decode_to_the_values_another_decoder_gives() {
    let Some(folder) = data() else { return };
    let (mut same, mut wrong) = (0, Vec::new());
    for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
        let facts: Vec<&str> = line.split('\t').collect();
        let bytes = std::fs::read(folder.join(facts[0])).unwrap();
        let film = match open(&bytes).and_then(|object| decode(&object)) {
            Ok(film) => film,
            Err(error) => {
                wrong.push(format!("{} {}", facts[0], error.code()));
                continue;
            }
        };
        let values = numbers(&film);
        let number = |at: usize| facts[at].parse::<i64>().unwrap();
        let shape = [film.frames, film.height, film.width, film.channels].map(|v| v as i64);
        let ok = shape == [number(2), number(3), number(4), number(5)] && {
            let sum: i64 = values.iter().sum();
            let (min, max) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            let crc = crc32(values.iter().flat_map(|v| v.to_le_bytes()));
            let exact = format!("{crc:08x}") == facts[10];
            let near = (sum - number(9)).abs() * 2 <= values.len() as i64
                && (min - number(7)).abs() <= 2
                && (max - number(8)).abs() <= 2;
            exact || (facts[1] == "lossy" && near)
        };
        if ok {
            same += 1;
        } else {
            wrong.push(facts[0].to_owned());
        }
    }
    eprintln!("{same} as pydicom");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_file_without_pixels_and_one_that_is_none_are_refused() {
    assert_eq!(
        parse(b"hello").map(|_| ()),
        Err(RedactError::Undecodable(Undecodable::Malformed))
    );
    let Some(folder) = data() else { return };
    let bytes = std::fs::read(folder.join("presidio/0_ORIGINAL_no_pixels.dcm")).unwrap();
    let result = parse(&bytes).and_then(|object| decode(&object));
    assert_eq!(
        result.map(|_| ()),
        Err(RedactError::Undecodable(Undecodable::NoPixels))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_behind_a_dicom_head_never_panics_the_parser(bytes in proptest::collection::vec(0u8.., 0..400), head in any::<bool>()) {
        let mut file = Vec::new();
        if head {
            file.resize(128, 0);
            file.extend_from_slice(b"DICM");
        }
        file.extend(bytes);
        let _film = std::panic::catch_unwind(|| parse(&file).and_then(|object| decode(&object)).map(|_| ()));
        let _picture = crate::picture::decode(&file);
    }
}
