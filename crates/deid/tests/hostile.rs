//! Files that no honest writer makes: what is refused, what is mended, and what they cost.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::semicolon_if_nothing_returned,
    clippy::items_after_statements,
    reason = "test code"
)]

mod common;

use std::process::Command;

use cloister_deid::{DeidError, Deidentified, Deidentifier, Policy, gate, read};
use cloister_scrub::KnownIdentifiers;
use common::{
    BIG_ENDIAN, DEFLATED, EXPLICIT, Film, IMPLICIT, JPEG, JPEG_2000, contains, element, fragments,
    ids, item, meta, raw, real_files, sequence, undefined_sequence,
};
use dicom_dictionary_std::tags;

fn film() -> Film {
    Film::new("ISO_IR 192", b"Davidson^Douglas", "292821506")
}

fn clean(encoded: &[u8]) -> Result<(Deidentified, KnownIdentifiers, Vec<u8>), DeidError> {
    let (clean, known) = Deidentifier::default().deidentify(encoded, "SITE", &ids())?;
    let bytes = clean.to_bytes()?;
    gate::look(&bytes, &known, Policy::basic()).unwrap();
    assert!(!contains(&bytes.to_ascii_lowercase(), b"davidson"));
    assert!(!contains(&bytes, b"292821506"));
    Ok((clean, known, bytes))
}

fn refused(encoded: &[u8]) -> DeidError {
    read(encoded).map(drop).unwrap_err()
}

#[test]
fn what_devices_get_wrong_is_mended() {
    let name = b"Davidson^Douglas";
    type Edit = fn(&mut Film);
    let cases: [(&str, Edit); 12] = [
        ("group lengths", |f| {
            f.put((0x0010, 0), "UL", &[255, 255, 255, 127]);
        }),
        ("trailing padding", |f| {
            f.put((0xFFFC, 0xFFFC), "OB", b"Davidson");
        }),
        ("bytes after the end", |f| {
            f.after.extend(b"Davidson^Douglas 292821506")
        }),
        ("zeros after the end", |f| f.after.extend([0; 333])),
        ("odd length", |f| {
            let odd = raw((0x0010, 0x1010), "AS", 3, b"40Y");
            f.elements.insert((0x0010, 0x1010), odd);
        }),
        ("UN with a known tag", |f| {
            f.put((0x0010, 0x0010), "UN", b"Davidson^Douglas");
        }),
        ("UN sequence of defined length", |f| {
            let mut inner = vec![0x10, 0, 0x10, 0, 16, 0, 0, 0];
            inner.extend(b"Davidson^Douglas");
            let mut value = item(0xE000, inner.len() as u32);
            value.extend(inner);
            let tag = (0x0010, 0x1002);
            f.elements
                .insert(tag, raw(tag, "UN", value.len() as u32, &value));
        }),
        (
            "private UN of undefined length in a defined sequence",
            |f| {
                let mut un = raw((0x0009, 0x1001), "UN", u32::MAX, &item(0xE000, u32::MAX));
                un.extend([0x10, 0, 0x10, 0, 16, 0, 0, 0]);
                un.extend(b"Davidson^Douglas");
                un.extend(item(0xE00D, 0));
                un.extend(item(0xE0DD, 0));
                let tag = (0x0008, 0x2218);
                f.elements.insert(tag, sequence(tag, &un));
            },
        ),
        ("VR of another kind", |f| {
            f.put((0x0010, 0x0010), "LO", b"Davidson^Douglas");
        }),
        ("number of no whole width", |f| {
            let odd = raw((0x0028, 0x0106), "US", 3, b"Dav");
            f.elements.insert((0x0028, 0x0106), odd);
        }),
        ("long text", |f| {
            let text = b"Davidson ".repeat(9_000);
            f.put((0x0008, 0x0119), "UC", &text);
            f.put((0x0008, 0x1190), "UR", &text);
            f.put((0x0040, 0xA160), "UT", &text);
        }),
        ("64-bit numbers", |f| {
            f.put((0x0009, 0x1001), "SV", b"Davidson");
            f.put((0x0009, 0x1002), "UV", b"Davidson");
            f.put((0x0009, 0x1003), "OV", b"Davidson");
        }),
    ];
    for (case, edit) in cases {
        for syntax in [EXPLICIT, DEFLATED] {
            let mut film = film();
            film.syntax = syntax.into();
            edit(&mut film);
            let (_, known, _) = clean(&film.encode()).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert!(known.is_hit(std::str::from_utf8(name).unwrap()), "{case}");
        }
    }
}

#[test]
fn elements_out_of_order_are_read_and_doubled_ones_refused() {
    let film = film();
    let mut parts: Vec<&Vec<u8>> = film.elements.values().collect();
    let last = parts.len() - 1;
    // (0008,0005) stays first: what stands before it would be read by another set.
    parts[1..last].reverse();
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    file.extend(meta(EXPLICIT, &[]));
    let head = file.clone();
    file.extend(parts.iter().copied().flatten());
    clean(&file).unwrap();

    let mut twice = head.clone();
    twice.extend(film.data_set());
    twice.extend(element((0x0010, 0x0010), "PN", b"Other^Name"));
    assert_eq!(refused(&twice), DeidError::Duplicate);
    // The same thing said twice is said once.
    let mut same = head.clone();
    same.extend(film.data_set());
    same.extend(element((0x0010, 0x0010), "PN", b"Davidson^Douglas"));
    clean(&same).unwrap();
    let mut nested = film;
    let two = [
        element((0x0010, 0x0010), "PN", b"Davidson^Douglas"),
        element((0x0010, 0x0010), "PN", b""),
    ];
    nested.elements.insert(
        (0x0010, 0x1002),
        undefined_sequence((0x0010, 0x1002), &two.concat()),
    );
    assert_eq!(refused(&nested.encode()), DeidError::Duplicate);
    let mut late = head;
    late.extend(element((0x0010, 0x0010), "PN", b"Davidson^Douglas"));
    late.extend(element((0x0008, 0x0005), "CS", b"ISO_IR 192"));
    assert_eq!(refused(&late), DeidError::Duplicate);
}

#[test]
fn a_file_without_preamble_and_one_with_group_2_in_its_data_set_are_read() {
    let whole = film().encode();
    clean(&whole[128..]).unwrap();
    clean(&whole[132..]).unwrap();
    let mut film = film();
    film.preamble = *b"Davidson^Douglas Davidson^Douglas Davidson^Douglas Davidson^Douglas \
        Davidson^Douglas Davidson^Douglas Davidson^Douglas Davidson!";
    film.meta = element((2, 0x16), "AE", b"DAVIDSON");
    film.meta.extend(element((2, 0x102), "OB", b"Davidson"));
    clean(&film.encode()).unwrap();
    // A wrong group length of the meta group.
    let mut wrong = film.encode();
    wrong[140..144].copy_from_slice(&[4, 0, 0, 0]);
    clean(&wrong).unwrap();
    film.elements
        .insert((0x0008, 0x0001), element((4, 0x1500), "CS", b"DAVIDSON"));
    clean(&film.encode()).unwrap();
}

#[test]
fn big_endian_and_implicit_numbers_and_text_come_out_right() {
    let mut implicit = film();
    implicit.syntax = IMPLICIT.into();
    let mut data = Vec::new();
    for (tag, encoded) in &implicit.elements {
        let long = matches!(&encoded[4..6], b"OB" | b"OW" | b"SQ" | b"UT" | b"UN");
        let value = &encoded[if long { 12 } else { 8 }..];
        data.extend(tag.0.to_le_bytes());
        data.extend(tag.1.to_le_bytes());
        data.extend((value.len() as u32).to_le_bytes());
        data.extend(value);
    }
    // A private sequence, whose VR nobody says.
    let mut private = vec![0x09, 0, 0x01, 0x10, 255, 255, 255, 255];
    private.extend(item(0xE000, u32::MAX));
    private.extend([0x10, 0, 0x10, 0, 16, 0, 0, 0]);
    private.extend(b"Davidson^Douglas");
    private.extend(item(0xE00D, 0));
    private.extend(item(0xE0DD, 0));
    let at = implicit
        .elements
        .range(..(9, 0))
        .map(|(_, e)| {
            let long = matches!(&e[4..6], b"OB" | b"OW" | b"SQ" | b"UT" | b"UN");
            e.len() - if long { 4 } else { 0 }
        })
        .sum::<usize>();
    data.splice(at..at, private);
    implicit.elements.clear();
    implicit.after = data;
    let (object, _, _) = clean(&implicit.encode()).unwrap();
    assert_eq!(
        object
            .object()
            .element(tags::ROWS)
            .unwrap()
            .to_int::<u16>()
            .unwrap(),
        4
    );

    let mut big = film();
    big.syntax = BIG_ENDIAN.into();
    let mut data = Vec::new();
    for (tag, encoded) in &big.elements {
        data.extend(tag.0.to_be_bytes());
        data.extend(tag.1.to_be_bytes());
        data.extend(&encoded[4..6]);
        let (value, long) = if &encoded[4..6] == b"OB" {
            (encoded[12..].to_vec(), true)
        } else {
            (encoded[8..].to_vec(), false)
        };
        if long {
            data.extend([0, 0]);
            data.extend((value.len() as u32).to_be_bytes());
        } else {
            data.extend((value.len() as u16).to_be_bytes());
        }
        if &encoded[4..6] == b"US" {
            data.extend(value.iter().rev());
        } else {
            data.extend(value);
        }
    }
    big.elements.clear();
    big.after = data;
    let (object, _, bytes) = clean(&big.encode()).unwrap();
    assert_eq!(
        object
            .object()
            .element(tags::ROWS)
            .unwrap()
            .to_int::<u16>()
            .unwrap(),
        4
    );
    let back = dicom_object::from_reader(&bytes[..]).unwrap();
    assert_eq!(
        back.element(tags::ROWS).unwrap().to_int::<u16>().unwrap(),
        4
    );
}

#[test]
fn unused_bits_and_pixels_beyond_the_last_frame_go() {
    let mut film = film();
    film.shape(2, 4, 16, 12);
    // Text in the four high bits of each sample, and after the last sample.
    let mut pixels: Vec<u8> = (0..8_u16)
        .flat_map(|i| (0x0ABC | (i << 12)).to_le_bytes())
        .collect();
    pixels.extend(b"nobody sees this");
    film.put((0x7FE0, 0x0010), "OW", &pixels);
    let (object, _, _) = clean(&film.encode()).unwrap();
    let kept = object.object().element(tags::PIXEL_DATA).unwrap();
    assert_eq!(kept.to_multi_int::<u16>().unwrap(), [0x0ABC; 8]);
    // Signed: the sign fills the unused bits.
    film.put((0x0028, 0x0103), "US", &[1, 0]);
    let (object, _, _) = clean(&film.encode()).unwrap();
    let kept = object.object().element(tags::PIXEL_DATA).unwrap();
    assert_eq!(kept.to_multi_int::<u16>().unwrap(), [0xFABC; 8]);
    // Nobody says how large a frame is.
    film.elements.remove(&(0x0028, 0x0010));
    let result = Deidentifier::default().deidentify(&film.encode(), "", &ids());
    assert_eq!(result.err(), Some(DeidError::Pixels));
}

fn jpeg(extra: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8];
    out.extend(extra);
    out.extend([0xFF, 0xC0, 0, 11, 8, 0, 4, 0, 4, 1, 1, 0x11, 0]);
    out.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]);
    // Bytes of a sequence delimiter amid the entropy-coded data.
    out.extend([0xFE, 0xFF, 0x00, 0xDD, 0xE0, 0, 0, 0, 0, 0xFF, 0xD9]);
    out
}

fn marker(code: u8, text: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFF, code];
    out.extend((text.len() as u16 + 2).to_be_bytes());
    out.extend(text);
    out
}

#[test]
fn compressed_frames_lose_their_metadata_and_tables_stay_true() {
    let dirty = jpeg(
        &[
            marker(0xE1, b"Exif\0\0GPS of Davidson"),
            marker(0xFE, b"Davidson"),
        ]
        .concat(),
    );
    let bare = jpeg(&[]);
    let mut film = film();
    film.syntax = JPEG.into();
    film.put((0x0028, 0x0008), "IS", b"2");
    // The table says something else than offsets.
    film.elements
        .insert((0x7FE0, 0x0010), fragments(b"Davidson", &[&dirty, &bare]));
    let (object, _, bytes) = clean(&film.encode()).unwrap();
    let kept = object.object().element(tags::PIXEL_DATA).unwrap();
    let frames = kept.fragments().unwrap();
    assert!(frames.iter().all(|frame| frame.starts_with(&bare)));
    assert_eq!(
        kept.offset_table().unwrap(),
        [0, frames[0].len() as u32 + 8]
    );
    let back = dicom_object::from_reader(&bytes[..]).unwrap();
    assert_eq!(
        back.element(tags::PIXEL_DATA).unwrap().fragments().unwrap(),
        frames
    );

    // The extended table.
    let table = |words: [u64; 2]| {
        words
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect::<Vec<_>>()
    };
    film.put((0x7FE0, 0x0001), "OV", &table([0, 999]));
    film.put((0x7FE0, 0x0002), "OV", &table([5, 5]));
    film.elements
        .insert((0x7FE0, 0x0010), fragments(&[], &[&dirty, &bare]));
    let (object, _, _) = clean(&film.encode()).unwrap();
    let length = frames[0].len() as u64;
    let numbers = |tag| {
        object
            .object()
            .element(tag)
            .unwrap()
            .to_multi_int::<u64>()
            .unwrap()
    };
    assert_eq!(numbers(tags::EXTENDED_OFFSET_TABLE), [0, length + 8]);
    assert_eq!(
        numbers(tags::EXTENDED_OFFSET_TABLE_LENGTHS),
        [length, length]
    );

    // One frame in pieces: a marker may lie across two of them.
    film.put((0x0028, 0x0008), "IS", b"1");
    let (a, b) = dirty.split_at(10);
    film.elements
        .insert((0x7FE0, 0x0010), fragments(&[], &[a, b]));
    clean(&film.encode()).unwrap();

    for (syntax, pixels) in [
        (JPEG, fragments(&[], &[b"no frame at all"])),
        (JPEG_2000, fragments(&[], &[&dirty])),
        ("1.2.840.10008.1.2.4.102", fragments(&[], &[&dirty])),
        (JPEG, element((0x7FE0, 0x0010), "OB", &[0; 16])),
        (EXPLICIT, fragments(&[], &[&dirty])),
    ] {
        film.syntax = syntax.into();
        film.elements.insert((0x7FE0, 0x0010), pixels);
        let result = Deidentifier::default().deidentify(&film.encode(), "", &ids());
        assert_eq!(result.err(), Some(DeidError::Pixels), "{syntax}");
    }
}

/// Hostile files: what they are, what they are refused with, and their bytes.
fn hostile() -> Vec<(&'static str, Option<DeidError>, Vec<u8>)> {
    let file = |syntax: &str, data: &[u8]| {
        let mut out = vec![0; 128];
        out.extend(b"DICM");
        out.extend(meta(syntax, &[]));
        out.extend(data);
        out
    };
    let many = [
        element((0x0010, 0x0010), "PN", b""),
        raw((0x0008, 0x2218), "SQ", u32::MAX, &[]),
    ]
    .concat();
    let items: Vec<u8> = std::iter::repeat_n(item(0xE000, 0), 600_000)
        .flatten()
        .collect();
    let mut deep = Vec::new();
    for _ in 0..200_000 {
        deep.extend(raw(
            (0x0008, 0x2218),
            "SQ",
            u32::MAX,
            &item(0xE000, u32::MAX),
        ));
    }
    let elements: Vec<u8> = (0..400_000_u32)
        .flat_map(|i| {
            let mut out = ((i >> 14) as u16 * 2 + 9).to_le_bytes().to_vec();
            out.extend(((i & 0x3FFF) as u16).to_le_bytes());
            out.extend(0_u32.to_le_bytes());
            out
        })
        .collect();
    let mut slashes = vec![0x08, 0, 0x70, 0];
    slashes.extend(8_000_000_u32.to_le_bytes());
    slashes.extend(vec![b'\\'; 8_000_000]);
    let mut bomb = film();
    bomb.syntax = DEFLATED.into();
    bomb.put((0x7FE0, 0x0010), "OW", &vec![0; 100 << 20]);
    let parts = [
        raw((0x7FE0, 0x0010), "OB", u32::MAX, &[]),
        std::iter::repeat_n(item(0xE000, 0), 600_000)
            .flatten()
            .collect(),
    ];
    let unreadable = Some(DeidError::Unreadable);
    let large = Some(DeidError::TooLarge);
    vec![
        (
            "text of 4 GiB",
            unreadable,
            file(EXPLICIT, &raw((8, 8), "UT", 0xFFFF_FFFE, b"x")),
        ),
        (
            "pixels of 4 GiB",
            unreadable,
            file(EXPLICIT, &raw((0x7FE0, 0x0010), "OW", 0xFFFF_FFF0, b"x")),
        ),
        (
            "fragment of 4 GiB",
            unreadable,
            file(
                JPEG,
                &[
                    raw((0x7FE0, 0x0010), "OB", u32::MAX, &item(0xE000, 0)),
                    item(0xE000, 0xFFFF_FFF0),
                ]
                .concat(),
            ),
        ),
        (
            "offset table of 4 GiB",
            unreadable,
            file(
                JPEG,
                &raw((0x7FE0, 0x0010), "OB", u32::MAX, &item(0xE000, 0xFFFF_FFF0)),
            ),
        ),
        (
            "item of 4 GiB",
            unreadable,
            file(
                EXPLICIT,
                &raw((8, 0x2218), "SQ", u32::MAX, &item(0xE000, 0xFFFF_FFF0)),
            ),
        ),
        (
            "sequence of 4 GiB",
            unreadable,
            file(
                EXPLICIT,
                &raw((8, 0x2218), "SQ", 0xFFFF_FFF0, &item(0xE000, 0)),
            ),
        ),
        ("meta of 4 GiB", unreadable, {
            let mut out = vec![0; 128];
            out.extend(b"DICM");
            out.extend(raw((2, 1), "OB", 0xFFFF_FFF0, b"x"));
            out
        }),
        ("depth", Some(DeidError::TooDeep), file(EXPLICIT, &deep)),
        ("items", large, file(EXPLICIT, &[many, items].concat())),
        ("fragments", large, file(JPEG, &parts.concat())),
        ("elements", None, file(IMPLICIT, &elements)),
        ("values", None, file(IMPLICIT, &slashes)),
        ("deflated", large, bomb.encode()),
    ]
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    for (case, fault, bytes) in hostile() {
        assert_eq!(read(&bytes).map(drop).err(), fault, "{case}");
    }
}

/// Reading may take this many bytes for each that was sent, and so many in all.
const FACTOR: u64 = 40;
const CONSTANT: u64 = 80 << 20;

#[test]
fn reading_costs_a_small_multiple_of_what_was_sent() {
    let mut cases: Vec<(String, Vec<u8>)> = hostile()
        .into_iter()
        .map(|(case, _, bytes)| (case.to_owned(), bytes))
        .collect();
    // The file that asked another parser for 1.25 GiB.
    let known = real_files()
        .into_iter()
        .filter(|path| path.ends_with("SC_rgb_jpeg.dcm"));
    cases.extend(known.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())));
    let dir = tempfile::tempdir().unwrap();
    for (case, bytes) in cases {
        let path = dir.path().join("hostile.dcm");
        std::fs::write(&path, &bytes).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_reads_one_file",
                "--ignored",
                "--test-threads=1",
            ])
            .env("CLOISTER_HOSTILE_FILE", &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && said.contains("1 passed"),
            "{case}, {} bytes: {said}",
            bytes.len()
        );
    }
}

/// The other half of the test above: a process of its own, whose address space cannot grow.
#[test]
#[ignore = "run by reading_costs_a_small_multiple_of_what_was_sent"]
fn child_reads_one_file() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let path = std::env::var_os("CLOISTER_HOSTILE_FILE").unwrap();
    let bytes = std::fs::read(path).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let pages = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))
        .and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap();
    let limit = pages * 1024 + FACTOR * bytes.len() as u64 + CONSTANT;
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(Resource::As, limit).unwrap();
    let beyond = (FACTOR * bytes.len() as u64 + 2 * CONSTANT) as usize;
    assert!(
        Vec::<u8>::new().try_reserve_exact(beyond).is_err(),
        "no limit"
    );
    drop(read(&bytes));
}
