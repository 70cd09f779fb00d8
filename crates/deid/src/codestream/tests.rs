use proptest::prelude::*;

use super::{Unfollowed, jpeg, jpeg_xl, jpeg2000, rle};

fn segment(code: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFF, code];
    out.extend((body.len() as u16 + 2).to_be_bytes());
    out.extend(body);
    out
}

fn film(extra: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8];
    out.extend(segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0"));
    out.extend(extra);
    out.extend(segment(0xC0, &[8, 0, 1, 0, 1, 1, 1, 0x11, 0]));
    out.extend(segment(0xDA, &[1, 1, 0, 0, 63, 0]));
    out.extend([1, 2, 0xFF, 0, 3, 0xFF, 0xD0, 4]);
    out.extend([0xFF, 0xD9]);
    out
}

#[test]
fn a_jpeg_loses_comments_exif_and_what_follows_its_end() {
    let clean = film(&[]);
    assert_eq!(jpeg(&clean).unwrap(), clean);
    let mut dirty = film(
        &[
            segment(0xFE, b"DOE^JANE"),
            segment(0xE1, b"Exif\0\0DOE^JANE"),
            segment(0xED, b"Photoshop DOE^JANE"),
        ]
        .concat(),
    );
    dirty.extend(b"DOE^JANE");
    assert_eq!(jpeg(&dirty).unwrap(), clean);
    // A thumbnail, and bytes after what Adobe defined.
    let thumb = segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01DOE");
    let adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01DOE^JANE");
    let kept = jpeg(&film(&[thumb, adobe].concat())).unwrap();
    assert!(!kept.windows(3).any(|w| w == b"DOE"));
    assert!(kept.windows(5).any(|w| w == b"Adobe"));
    for end in 0..dirty.len() {
        jpeg(&dirty[..end]).ok();
    }
    assert_eq!(jpeg(&film(&segment(0xDB, b"DOE^JANE"))), Err(Unfollowed));
    assert_eq!(jpeg(&film(&segment(0x02, b"DOE^JANE"))), Err(Unfollowed));
}

/// One component; the sizes do not matter here.
const SIZE: [u8; 39] = {
    let mut body = [0; 39];
    body[35] = 1;
    body
};

fn codestream(main: &[u8], tile: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFF, 0x4F];
    out.extend(segment(0x51, &SIZE));
    out.extend(main);
    let length = 12 + tile.len() as u32 + 2 + 4;
    let mut start = vec![0, 0];
    start.extend(length.to_be_bytes());
    start.extend([0, 1]);
    out.extend(segment(0x90, &start));
    out.extend(tile);
    out.extend([0xFF, 0x93, 1, 2, 3, 4, 0xFF, 0xD9]);
    out
}

#[test]
fn a_jpeg2000_loses_comments_in_both_headers_and_its_boxes() {
    let clean = codestream(&[], &[]);
    assert_eq!(jpeg2000(&clean, false).unwrap(), clean);
    let comment = segment(0x64, b"\0\x01DOE^JANE");
    let mut dirty = codestream(&comment, &comment);
    dirty.extend(b"DOE^JANE");
    assert_eq!(jpeg2000(&dirty, false).unwrap(), clean);
    let mut file = b"\0\0\0\x0cjP  \r\n\x87\n".to_vec();
    file.extend(b"\0\0\0\x10xml DOE^JANE");
    file.extend((clean.len() as u32 + 8).to_be_bytes());
    file.extend(b"jp2c");
    file.extend(&clean);
    assert_eq!(jpeg2000(&file, false).unwrap(), clean);
}

#[test]
fn a_file_within_a_file_is_refused_and_the_last_tile_ends_at_its_marker() {
    let mut nested = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\0jp2c".to_vec();
    nested = nested.repeat(20_000);
    assert_eq!(jpeg2000(&nested, false), Err(Unfollowed));
    // Psot = 0: up to the end marker, and a second one behind the name.
    let mut open = codestream(&[], &[]);
    let start = open.len() - 20;
    assert_eq!(open[start..start + 2], [0xFF, 0x90]);
    open[start + 6..start + 10].fill(0);
    let clean = open.clone();
    assert_eq!(jpeg2000(&open, false).unwrap(), clean);
    open.extend(b"DOE^JANE\xff\xd9");
    assert_eq!(jpeg2000(&open, false).unwrap(), clean);
    // Packet number FFD9H is no end, nor is FFH before a packet that begins with D9H.
    let packets = b"\xff\x91\0\x04\xff\xd9\x01\xff\x91\0\x04\0\xff\xd9\x02";
    let mut numbered = clean.clone();
    numbered.splice(clean.len() - 2..clean.len() - 2, packets.iter().copied());
    let whole = numbered.clone();
    numbered.extend(b"DOE^JANE\xff\xd9");
    assert_eq!(jpeg2000(&numbered, false).unwrap(), whole);
}

#[test]
fn mapping_tables_are_refused_and_a_run_ends_with_the_samples() {
    let preset = segment(0xF8, &[1, 0, 255, 0, 3, 0, 7, 0, 21, 0, 64]);
    assert!(jpeg(&film(&preset)).is_ok());
    let mapping = segment(0xF8, b"\x02\x01\x01DOE^JANE");
    assert_eq!(jpeg(&film(&mapping)), Err(Unfollowed));
    let mut frame = vec![0_u8; 64];
    frame[0] = 1;
    frame[4] = 64;
    frame.extend([254, 9, 8]);
    frame.extend(b"12DOE^JAN");
    let kept = rle(&frame, 5).unwrap();
    assert_eq!(kept[64..], [254, 9, 1, b'1', b'2', 0]);
}

#[test]
fn jpeg_xl_boxes_and_rle_gaps_go() {
    let mut file = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x10Exif DOE^JAN".to_vec();
    file.truncate(12);
    file.extend(b"\0\0\0\x10ExifDOE^JANE");
    file.extend(b"\0\0\0\x0cjxlc\xff\x0a12");
    let kept = jpeg_xl(&file).unwrap();
    assert_eq!(kept.len(), 24);
    let mut frame = vec![0_u8; 64];
    frame[0] = 1;
    frame[4] = 72;
    frame[60] = b'D';
    frame.extend(b"DOE^JANE");
    frame.extend([1, 7, 7, 254, 9, 0]);
    frame.extend(b"DOE^JANE");
    let kept = rle(&frame, 5).unwrap();
    assert_eq!(kept[64..], [1, 7, 7, 254, 9, 0]);
    assert_eq!(
        kept[..64].iter().map(|b| usize::from(*b)).sum::<usize>(),
        65
    );
    assert_eq!(rle(&frame, 500), Err(Unfollowed));
}

/// A Huffman table for differences, all of its codes of eight bits.
fn dc(symbols: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 17];
    body[8] = symbols.len() as u8;
    body.extend(symbols);
    body
}

#[test]
fn tables_of_a_jpeg_are_tables_and_a_scan_reads_them() {
    let table = segment(0xC4, &dc(&[0, 1, 2, 3]));
    let quantization = segment(0xDB, &[&[0; 1][..], &[16; 64]].concat());
    let interval = segment(0xDD, &[0, 2]);
    let needed = [table.clone(), quantization.clone(), interval].concat();
    let clean = film(&needed);
    assert_eq!(jpeg(&clean).unwrap(), clean);
    // What is defined again before a scan, and slots that no scan names.
    let mut words = [&[1; 1][..], &b"DOE^JANE".repeat(8)].concat();
    let unused = segment(0xDB, &words);
    words[0] = 0;
    let again = [segment(0xDB, &words), segment(0xDD, b"DO")].concat();
    assert_eq!(
        jpeg(&film(&[again, unused, needed].concat())).unwrap(),
        clean
    );
    let mut both = dc(&[5, 4]);
    both[0] = 3;
    both.extend(dc(&[0, 1, 2, 3]));
    let kept = jpeg(&film(&segment(0xC4, &both))).unwrap();
    assert_eq!(kept, film(&table));
    // Too many symbols, one again and again, and more codes than their length has.
    let mut acs = dc(b"DOE^JANE");
    acs[0] = 0x10;
    let mut crowded = dc(&[1, 2, 3]);
    crowded.swap(1, 8);
    for body in [dc(b"DOEJANE"), dc(&[7, 7]), dc(&[0; 200]), acs, crowded] {
        assert_eq!(jpeg(&film(&segment(0xC4, &body))), Err(Unfollowed));
    }
    // Arithmetic coding, a second frame, a preset of words, and larger sizes.
    let second = segment(0xC0, &[8, 0, 1, 0, 1, 1, 1, 0x11, 0]);
    let coding = segment(0xCC, b"DOE^JANE");
    let preset = segment(0xF8, b"\x01\0\xffDOE^JANE");
    let sizes = segment(0xF8, b"\x04\x04DOE^JANE");
    for refused in [second, coding, preset, sizes] {
        assert_eq!(jpeg(&film(&refused)), Err(Unfollowed));
    }
}

#[test]
fn a_jpeg_says_once_what_colours_it_has() {
    let jfif = |words: &[u8]| segment(0xE0, &[b"JFIF\0\x01", words, b"\0\0"].concat());
    let clean = film(&[]);
    assert_eq!(jpeg(&film(&jfif(b"Jane D"))).unwrap(), clean);
    let adobe = |words: &[u8]| film(&segment(0xEE, &[b"Adobe\0", words, b"\x01"].concat()));
    let kept = jpeg(&adobe(b"Smith")).unwrap();
    assert_eq!(kept, adobe(b"\x64\0\0\0\0"));
}

#[test]
fn a_jpeg2000_keeps_what_decoding_needs_and_no_longer() {
    let coding = segment(0x52, &[0, 0, 0, 1, 0, 1, 4, 4, 0, 1]);
    let steps = segment(0x5C, &[0x20, 8, 9, 9, 10]);
    let clean = codestream(&[coding.clone(), steps.clone()].concat(), &[]);
    assert_eq!(jpeg2000(&clean, false).unwrap(), clean);
    // Places of components, lengths of packets, profiles.
    let helpful = [0x63, 0x57, 0x59].map(|code| segment(code, b"DOE^JANE"));
    let dirty = codestream(
        &[coding.clone(), steps.clone(), helpful.concat()].concat(),
        &segment(0x58, b"DOE^JANE"),
    );
    assert_eq!(jpeg2000(&dirty, false).unwrap(), clean);
    let long = segment(0x5C, &[&[0x20][..], b"DOE^JANE"].concat());
    for main in [
        segment(0x60, b"DOE^JANE"),
        segment(0x50, b"DOE^JANE"),
        segment(0x52, b"DOE^JANE^^^"),
        segment(0x5F, b"DOE^JAN"),
        segment(0x51, &SIZE),
        [coding.clone(), long].concat(),
        [coding.clone(), coding].concat(),
        [steps.clone(), steps].concat(),
    ] {
        assert_eq!(jpeg2000(&codestream(&main, &[]), false), Err(Unfollowed));
    }
    let packed = codestream(&[], &segment(0x61, b"DOE^JANE"));
    assert_eq!(jpeg2000(&packed, false), Err(Unfollowed));
    for code in 0x70..=0x79 {
        let extended = codestream(&segment(code, b"DOE^JANE"), &[]);
        assert_eq!(jpeg2000(&extended, false), Err(Unfollowed));
        assert_eq!(jpeg2000(&extended, true).unwrap(), extended);
    }
}

#[test]
fn listed_lengths_of_tile_parts_stay_true() {
    let listed =
        |length: u8, tile: &[u8]| codestream(&segment(0x55, &[0, 0x10, 0, 0, length]), tile);
    let clean = listed(18, &[]);
    assert_eq!(jpeg2000(&clean, false).unwrap(), clean);
    let comment = segment(0x64, b"\0\x01DOE^JANE");
    let dirty = listed(32, &comment);
    assert_eq!(jpeg2000(&dirty, false).unwrap(), clean);
    assert_eq!(jpeg2000(&listed(31, &comment), false), Err(Unfollowed));
    let words = codestream(&segment(0x55, b"\0\x40DOE^JANE"), &[]);
    assert_eq!(jpeg2000(&words, false), Err(Unfollowed));
}

proptest! {
    #[test]
    fn any_bytes_are_followed_or_refused(
        data in prop::collection::vec(any::<u8>(), 0..300),
        head in 0..5_usize,
    ) {
        let heads: [&[u8]; 5] = [&[], &[0xFF, 0xD8, 0xFF], &[0xFF, 0x4F, 0xFF], b"\0\0\0\x0cjP  ", &[1, 0, 0, 0, 64]];
        let data = [heads[head], &data].concat();
        jpeg(&data).ok();
        jpeg2000(&data, head == 2).ok();
        jpeg_xl(&data).ok();
        rle(&data, 100).ok();
    }
}
