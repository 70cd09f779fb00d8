//! Codestreams that hold more than what their decoder gives: rows below the height that the header
//! names, text behind the last block, segments that no decoder reads. None of it may leave.

use dicom_object::DefaultDicomObject;

use super::layouts::{
    COLUMNS, EXPLICIT, GREY, Header, JPEG, JPEG_LS, ROWS, encapsulated, jpeg_ls_frames, picture,
};
use super::{decode, frames, lossless, parse};
use crate::dct::Jpeg;
use crate::encode::encode;

const NOTE: &[u8] = b"Mrs Jane Smith MRN 8837261";

/// The object as it leaves when no text is found in it, and its syntax.
fn untouched(object: &DefaultDicomObject) -> (DefaultDicomObject, String) {
    let mut film = decode(object).unwrap();
    let bytes = encode(object.clone(), &mut film, &[]).unwrap();
    assert!(!contains(&bytes), "the name is still there");
    let written = parse(&bytes).unwrap();
    let again = decode(&written).unwrap();
    assert_eq!(again.samples, decode(object).unwrap().samples);
    assert!(!again.stored.unclean);
    let syntax = written.meta().transfer_syntax().trim_end_matches('\0');
    let syntax = syntax.to_owned();
    (written, syntax)
}

fn contains(bytes: &[u8]) -> bool {
    bytes.windows(NOTE.len()).any(|window| window == NOTE)
}

/// The frame with something in front of its end marker.
fn with_end(frame: &[u8], extra: &[u8]) -> Vec<u8> {
    let end = frame.len() - frame.iter().rev().position(|byte| *byte == 0xD9).unwrap() - 2;
    [&frame[..end], extra, &frame[end..]].concat()
}

/// The frame header of a JPEG now says another height.
fn with_height(frame: &[u8], height: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let at = frame.windows(3).position(|three| {
        three[0] == 0xFF && matches!(three[1], 0xC0 | 0xC1 | 0xC3 | 0xF7) && three[2] == 0
    });
    let at = at.unwrap() + 5;
    frame[at..at + 2].copy_from_slice(&(height as u16).to_be_bytes());
    frame
}

/// A grey JPEG whose lower rows are bright stripes.
fn tall(height: usize) -> Vec<u8> {
    let samples: Vec<u8> = (0..height * COLUMNS)
        .map(|at| {
            if at / COLUMNS < ROWS {
                (at % 97) as u8
            } else {
                (at % 5) as u8 * 60
            }
        })
        .collect();
    let mut out = Vec::new();
    let kind = image::ExtendedColorType::L8;
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 92)
        .encode(&samples, COLUMNS as u32, height as u32, kind)
        .unwrap();
    out
}

#[test]
fn rows_below_the_height_of_a_jpeg_do_not_come_back() {
    let whole = tall(ROWS + 80);
    assert!(Jpeg::read(&whole, COLUMNS, ROWS + 80).is_ok());
    let object = encapsulated(JPEG, &GREY, vec![with_height(&whole, ROWS)]);
    let (written, syntax) = untouched(&object);
    assert_eq!(syntax, JPEG);
    let kept = frames(&written, 1).unwrap()[0].concat();
    assert!(kept.len() < whole.len() * 3 / 4);
    let back = with_height(&kept, ROWS + 80);
    assert!(Jpeg::read(&back, COLUMNS, ROWS + 80).is_err());
    // An honest frame keeps its bytes.
    let object = encapsulated(JPEG, &GREY, vec![tall(ROWS)]);
    let (written, _) = untouched(&object);
    assert!(frames(&written, 1).unwrap() == frames(&object, 1).unwrap());
}

#[test]
fn text_behind_the_last_block_of_a_jpeg_goes() {
    let frame = tall(ROWS);
    let restart = [&[0xFF, 0xD0], NOTE].concat();
    let table = [&[0xFF, 0xDB, 0, 67, 1], &NOTE.repeat(3)[..64]].concat();
    for extra in [NOTE, &restart, &table, &[0x11; 20]] {
        let object = encapsulated(JPEG, &GREY, vec![with_end(&frame, extra)]);
        let (written, syntax) = untouched(&object);
        assert_eq!(syntax, JPEG);
        let kept = frames(&written, 1).unwrap()[0].concat();
        assert!(kept.len() <= frame.len());
    }
    // Without an end marker, and behind one.
    for extra in [
        [&frame[..frame.len() - 2], NOTE].concat(),
        [&frame, NOTE].concat(),
    ] {
        untouched(&encapsulated(JPEG, &GREY, vec![extra]));
    }
    // Bytes that merely fill up are no reason to write anything anew.
    let object = encapsulated(JPEG, &GREY, vec![with_end(&frame, &[0, 0, 0xFF])]);
    let (written, _) = untouched(&object);
    assert!(frames(&written, 1).unwrap() == frames(&object, 1).unwrap());
}

#[test]
fn a_lossless_jpeg_stays_only_if_every_byte_of_it_was_read() {
    let long = Header { frames: 2, ..GREY };
    let values = picture(&long);
    let frame = lossless::frame(&values[..ROWS * COLUMNS], 1, 8, 1);
    let of = |frame: Vec<u8>| encapsulated(lossless::SYNTAX, &GREY, vec![frame]);
    assert_eq!(untouched(&of(frame.clone())).1, lossless::SYNTAX);
    let noted = of(with_end(&frame, NOTE));
    assert_eq!(untouched(&noted).1, EXPLICIT);
    let cut = of(cut_lossless(&frame));
    if decode(&cut).is_ok() {
        assert_eq!(untouched(&cut).1, EXPLICIT);
    }
}

/// The frame's first rows only, by its header, and the header's again: everything is coded twice.
fn cut_lossless(frame: &[u8]) -> Vec<u8> {
    let scan = frame
        .windows(2)
        .position(|two| two == [0xFF, 0xDA])
        .unwrap();
    let data = scan + 2 + usize::from(frame[scan + 3]);
    let coded = frame[data..frame.len() - 2].to_vec();
    with_end(frame, &coded)
}

#[test]
fn a_progressive_jpeg_leaves_uncompressed() {
    // A scan of means only, all the same.
    let mut frame = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    frame.extend([1; 64]);
    frame.extend([
        0xFF,
        0xC2,
        0,
        11,
        8,
        0,
        ROWS as u8,
        0,
        COLUMNS as u8,
        1,
        1,
        0x11,
        0,
    ]);
    frame.extend([0xFF, 0xC4, 0, 20, 0, 1]);
    frame.extend([0; 16]);
    frame.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0]);
    frame.extend([0; ROWS * COLUMNS / 512]);
    frame.extend(NOTE);
    frame.extend([0xFF, 0xD9]);
    let object = encapsulated(JPEG, &GREY, vec![frame]);
    assert_eq!(untouched(&object).1, EXPLICIT);
}

#[test]
fn jpeg_2000_leaves_uncompressed_whatever_is_in_it() {
    let header = Header {
        bits: (16, 12, 11),
        ..GREY
    };
    let frame = include_bytes!("testdata/grey12.j2k").to_vec();
    let siz = 4 + usize::from(u16::from_be_bytes([frame[4], frame[5]]));
    let mut segment = vec![0xFF, 0x79, 0, NOTE.len() as u8 + 2];
    segment.extend(NOTE);
    let listed = [&frame[..siz], &segment, &frame[siz..]].concat();
    let syntax = "1.2.840.10008.1.2.4.90";
    for frame in [frame.clone(), with_end(&frame, NOTE), listed] {
        let object = encapsulated(syntax, &header, vec![frame]);
        if decode(&object).is_ok() {
            assert_eq!(untouched(&object).1, EXPLICIT);
        }
    }
    assert_eq!(
        untouched(&encapsulated(syntax, &header, vec![frame])).1,
        EXPLICIT
    );
}

#[test]
fn jpeg_ls_with_something_left_over_is_refused() {
    let frame = jpeg_ls_frames(&GREY).remove(0);
    let object = |frame: Vec<u8>| encapsulated(JPEG_LS, &GREY, vec![frame]);
    assert_eq!(untouched(&object(frame.clone())).1, JPEG_LS);
    assert!(decode(&object(with_end(&frame, NOTE))).is_err());
    let tall = Header { frames: 1, ..GREY };
    let mut short = encapsulated(JPEG_LS, &tall, vec![with_height(&frame, ROWS - 8)]);
    short.put(dicom_core::DataElement::new(
        dicom_dictionary_std::tags::ROWS,
        dicom_core::VR::US,
        dicom_core::PrimitiveValue::from(ROWS as u16 - 8),
    ));
    assert!(decode(&short).is_err());
}
