use proptest::prelude::*;

use super::*;

fn explicit(tag: (u16, u16), vr: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend_from_slice(vr);
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN") {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    } else {
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    }
    out.extend_from_slice(value);
    out
}

/// An element of undefined length with whatever follows.
fn undefined(tag: (u16, u16), vr: &[u8], inside: &[u8]) -> Vec<u8> {
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend_from_slice(vr);
    out.extend_from_slice(&[0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    out.extend_from_slice(inside);
    out.extend_from_slice(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    out
}

fn item(length: u32, inside: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFE, 0xFF, 0x00, 0xE0];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(inside);
    if length == UNDEFINED {
        out.extend_from_slice(&[0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0]);
    }
    out
}

fn sample() -> Vec<u8> {
    let nested = explicit((0x0020, 0x000D), b"UI", b"9.9.9\0");
    let implicit = [&[0x08, 0, 0x18, 0, 6, 0, 0, 0][..], b"9.9.9\0"].concat();
    [
        explicit((0x0008, 0x0016), b"UI", b"1.2.3\0"),
        explicit((0x0008, 0x0018), b"UI", b"1.2.4\0"),
        undefined(
            (0x0008, 0x1115),
            b"SQ",
            &item(
                UNDEFINED,
                &undefined((0x0008, 0x1199), b"SQ", &item(14, &nested)),
            ),
        ),
        undefined((0x0009, 0x1001), b"UN", &item(UNDEFINED, &implicit)),
        explicit((0x0020, 0x000D), b"UI", b"1.2.5\0"),
        undefined(
            (0x7FE0, 0x0010),
            b"OB",
            &[item(0, &[]), item(4, &[1, 2, 3, 4])].concat(),
        ),
    ]
    .concat()
}

fn scan(syntax: &str, bytes: &[u8], step: usize) -> Result<Heading, ScanError> {
    let mut scan = Scan::new(syntax, 1 << 20);
    for part in bytes.chunks(step) {
        scan.push(part)?;
    }
    scan.finish()
}

#[test]
fn finds_the_outer_uids_and_not_the_nested_ones_at_any_split() {
    let bytes = sample();
    for step in [1, 2, 3, 7, bytes.len()] {
        let heading = scan(uids::EXPLICIT_VR_LITTLE_ENDIAN, &bytes, step).unwrap();
        assert_eq!(heading.sop_class.as_str(), "1.2.3");
        assert_eq!(heading.sop_instance.expose().as_str(), "1.2.4");
        assert_eq!(heading.study.expose().as_str(), "1.2.5");
    }
}

#[test]
fn every_cut_is_noticed_except_between_two_outer_elements() {
    let bytes = sample();
    // What ends after the last UID is whole as far as a walk can tell; without pixels it does not
    // get far.
    let pixels = bytes.len() - (12 + 8 + 12 + 8);
    for cut in 0..bytes.len() {
        let whole = scan(uids::EXPLICIT_VR_LITTLE_ENDIAN, &bytes[..cut], 5).is_ok();
        assert_eq!(whole, cut == pixels, "{cut}");
    }
}

#[test]
fn a_deflated_data_set_is_walked_and_a_bomb_is_stopped() {
    let deflate = |bytes: &[u8]| {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let small = deflate(&sample());
    for step in [1, 3, small.len()] {
        assert!(
            scan(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, &small, step).is_ok(),
            "{step}"
        );
    }
    let cut = &small[..small.len() - 3];
    assert!(scan(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, cut, 64).is_err());
    let bomb = deflate(&explicit((0x7FE0, 0x0010), b"OB", &vec![0; 4 << 20]));
    let stopped = scan(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, &bomb, 64).map(|_| ());
    assert_eq!(stopped, Err(ScanError::TooLarge));
}

#[test]
fn big_endian_and_implicit_are_read_as_they_say() {
    let implicit: Vec<u8> = [
        (0x0008u16, 0x0016u16, b"1.2.3\0"),
        (0x0008, 0x0018, b"1.2.4\0"),
        (0x0020, 0x000D, b"1.2.5\0"),
    ]
    .iter()
    .flat_map(|(group, element, value)| {
        [
            &group.to_le_bytes()[..],
            &element.to_le_bytes(),
            &6u32.to_le_bytes(),
            *value,
        ]
        .concat()
    })
    .collect();
    assert!(scan(uids::IMPLICIT_VR_LITTLE_ENDIAN, &implicit, 3).is_ok());
    assert!(scan(uids::EXPLICIT_VR_LITTLE_ENDIAN, &implicit, 3).is_err());
    let big: Vec<u8> = [
        (0x0008u16, 0x0016u16, b"1.2.3\0"),
        (0x0008, 0x0018, b"1.2.4\0"),
        (0x0020, 0x000D, b"1.2.5\0"),
    ]
    .iter()
    .flat_map(|(group, element, value)| {
        [
            &group.to_be_bytes()[..],
            &element.to_be_bytes(),
            b"UI",
            &6u16.to_be_bytes(),
            *value,
        ]
        .concat()
    })
    .collect();
    assert!(scan(crate::receive::EXPLICIT_VR_BIG_ENDIAN, &big, 3).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), step in 1usize..64, which in 0usize..4) {
        let syntax = [
            uids::IMPLICIT_VR_LITTLE_ENDIAN,
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
            crate::receive::EXPLICIT_VR_BIG_ENDIAN,
            uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        ][which];
        drop(scan(syntax, &bytes, step));
    }

    #[test]
    fn any_changed_byte_leaves_it_standing(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = sample();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        drop(scan(uids::EXPLICIT_VR_LITTLE_ENDIAN, &bytes, 16));
    }
}
