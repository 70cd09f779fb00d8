//! Real files against values another decoder computed, and bytes that are no files at all.

use std::path::PathBuf;

use proptest::prelude::*;

use super::{decode, parse};
use crate::error::{RedactError, Undecodable};

/// Lines of the table: `file family frames rows columns channels photometric min max sum crc`.
pub(super) const FACTS: &str = include_str!("facts.tsv");

/// Refused with these codes: 12-bit extended JPEG, two files with damaged structure, and 4:2:2 chroma
/// without compression. Each is quarantined.
const REFUSED: [&str; 4] = [
    "pydicom/JPGExtended.dcm undecodable_codec",
    "pydicom/SC_rgb_jpeg.dcm undecodable_malformed",
    "pydicom/SC_ybr_full_422_uncompressed.dcm undecodable_unsupported_layout",
    "robyoung/MR1_JLSL undecodable_codec",
];

/// Colour JPEG only: ours is RGB where the table has the raw YBR, and one RGB file without an Adobe
/// marker is taken for YBR by the codec.
const DIFFERENT: [&str; 5] = [
    "deid-data/ctbrain1.dcm",
    "deid-data/ctbrain2.dcm",
    "pydicom/SC_jpeg_no_color_transform.dcm",
    "pydicom/SC_rgb_small_odd_jpeg.dcm",
    "pydicom/examples_ybr_color.dcm",
];

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

#[test]
fn real_files_decode_to_the_values_another_decoder_gives() {
    let Some(folder) = data() else { return };
    let (mut same, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
        let facts: Vec<&str> = line.split('\t').collect();
        let bytes = std::fs::read(folder.join(facts[0])).unwrap();
        let film = match parse(&bytes).and_then(|object| decode(&object)) {
            Ok(film) => film,
            Err(error) => {
                refused.push(format!("{} {}", facts[0], error.code()));
                continue;
            }
        };
        let channels: Vec<Vec<Vec<i32>>> = (0..film.frames)
            .map(|frame| {
                (0..film.channels)
                    .map(|channel| film.values(frame, channel))
                    .collect()
            })
            .collect();
        let pixels = film.width * film.height;
        let values: Vec<i32> = channels
            .iter()
            .flat_map(|frame| {
                (0..pixels).flat_map(move |at| frame.iter().map(move |channel| channel[at]))
            })
            .collect();
        let number = |at: usize| facts[at].parse::<i64>().unwrap();
        let shape = [film.frames, film.height, film.width, film.channels].map(|v| v as i64);
        let ok = shape == [number(2), number(3), number(4), number(5)] && {
            let sum: i64 = values.iter().map(|&v| i64::from(v)).sum();
            let (min, max) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            let crc = crc32(values.iter().flat_map(|v| v.to_le_bytes()));
            let exact = format!("{crc:08x}") == facts[10];
            let near = (sum - number(9)).abs() * 2 <= values.len() as i64
                && (i64::from(min) - number(7)).abs() <= 3
                && (i64::from(max) - number(8)).abs() <= 3;
            exact || (facts[1] == "lossy" && near)
        };
        if ok {
            same += 1;
        } else {
            wrong.push(facts[0].to_owned());
        }
    }
    eprintln!("{same} as pydicom");
    assert_eq!(refused, REFUSED);
    assert_eq!(wrong, DIFFERENT);
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
