//! What de-identification takes out of pixel data (comments and application segments in frames, bytes
//! behind the last run, unused bits) changes no sample; and what stands above the stored bits.

use cloister_deid::{Deidentifier, HmacPseudonyms, Policy};
use dicom_core::value::{PixelFragmentSequence, PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use zeroize::Zeroizing;

use super::{Kind, decode, parse, tests};
use crate::error::{RedactError, Undecodable};
use crate::film::Film;
use crate::phantom::{Phantom, PhantomSpec};

const NATIVE: &str = "1.2.840.10008.1.2.1";
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const RLE: &str = "1.2.840.10008.1.2.5";

/// A comment in front of everything else, as JPEG and JPEG 2000 have it.
const NOTE: &[u8] = b"DOE^JANE";

fn written(object: &DefaultDicomObject) -> Vec<u8> {
    let mut out = Vec::new();
    object.write_all(&mut out).unwrap();
    out
}

fn tidied(object: &DefaultDicomObject) -> Option<DefaultDicomObject> {
    let ids = HmacPseudonyms::new(Zeroizing::new([3; 32]));
    let (clean, _) = Deidentifier::new(Policy::basic())
        .deidentify(&written(object), "SITE", &ids)
        .ok()?;
    let bytes = clean.to_bytes().unwrap();
    assert!(!bytes.windows(NOTE.len()).any(|window| window == NOTE));
    Some(parse(&bytes).unwrap())
}

fn object(
    syntax: &str,
    phantom: &Phantom,
    stored: u16,
    pixels: Value<InMemDicomObject>,
) -> DefaultDicomObject {
    let text =
        |tag: Tag, vr: VR, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let number = |tag: Tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let allocated = if phantom.bits == 8 { 8 } else { 16 };
    let vr = if syntax == NATIVE { VR::OW } else { VR::OB };
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    InMemDicomObject::from_element_iter([
        text(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.1"),
        text(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        number(tags::SAMPLES_PER_PIXEL, 1),
        number(tags::ROWS, phantom.height as u16),
        number(tags::COLUMNS, phantom.width as u16),
        number(tags::BITS_ALLOCATED, allocated),
        number(tags::BITS_STORED, stored),
        number(tags::HIGH_BIT, stored - 1),
        number(tags::PIXEL_REPRESENTATION, 0),
        DataElement::new(tags::PIXEL_DATA, vr, pixels),
    ])
    .with_meta(meta)
    .unwrap()
}

fn native(phantom: &Phantom, stored: u16, pixels: Vec<u8>) -> DefaultDicomObject {
    let value = Value::Primitive(PrimitiveValue::U8(pixels.into()));
    object(NATIVE, phantom, stored, value)
}

fn one_frame(syntax: &str, phantom: &Phantom, stored: u16, frame: Vec<u8>) -> DefaultDicomObject {
    let sequence = PixelFragmentSequence::new(vec![0], vec![frame]);
    object(syntax, phantom, stored, Value::PixelSequence(sequence))
}

fn jpeg_ls(film: &DefaultDicomObject) -> Vec<u8> {
    let syntax = TransferSyntaxRegistry.get(JPEG_LS).unwrap();
    let Codec::EncapsulatedPixelData(_, Some(writer)) = syntax.codec() else {
        panic!("no JPEG-LS encoder");
    };
    let mut out = Vec::new();
    let options = dicom_encoding::adapters::EncodeOptions::default();
    writer.encode_frame(film, 0, options, &mut out).unwrap();
    out
}

/// The frame with a comment, where its kind has comments.
fn noted(uid: &str, frame: &[u8]) -> Option<Vec<u8>> {
    let at = match Kind::of(uid) {
        Kind::Jpeg | Kind::JpegLs if frame.starts_with(&[0xFF, 0xD8]) => 2,
        Kind::Jpeg2000 if frame.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]) => {
            4 + usize::from(u16::from_be_bytes([frame[4], frame[5]]))
        }
        _ => return None,
    };
    let mut segments = Vec::new();
    if Kind::of(uid) == Kind::Jpeg2000 {
        segments.extend([0xFF, 0x64, 0, NOTE.len() as u8 + 4, 0, 1]);
        segments.extend(NOTE);
    } else {
        for code in [0xFE, 0xE1] {
            segments.extend([0xFF, code, 0, NOTE.len() as u8 + 2]);
            segments.extend(NOTE);
        }
    }
    Some([&frame[..at], &segments, &frame[at..]].concat())
}

fn same(a: &Film, b: &Film) -> bool {
    a.samples == b.samples && a.bits_stored == b.bits_stored && a.signed == b.signed
}

fn phantom(bits: u32) -> Phantom {
    Phantom::draw(&PhantomSpec {
        bits,
        ..PhantomSpec::square(11, 96)
    })
}

#[test]
fn tidying_leaves_the_samples_of_phantoms_as_they_are() {
    let deep = phantom(12);
    let film = native(&deep, 12, deep.bytes());
    let wanted = decode(&film).unwrap();

    // Names in unused bits.
    let dirty = deep
        .bytes()
        .chunks(2)
        .flat_map(|pair| [pair[0], pair[1] | 0xA0])
        .collect();
    let kept = decode(&tidied(&native(&deep, 12, dirty)).unwrap()).unwrap();
    assert!(same(&kept, &wanted));

    let frame = noted(JPEG_LS, &jpeg_ls(&film)).unwrap();
    let kept = decode(&tidied(&one_frame(JPEG_LS, &deep, 12, frame)).unwrap()).unwrap();
    assert!(same(&kept, &wanted));

    // Runs of literals, the last one too long.
    let mut frame = vec![0; 64];
    frame[0] = 2;
    for (plane, byte) in [1, 0].into_iter().enumerate() {
        let begun = (frame.len() as u32).to_le_bytes();
        frame[4 + plane * 4..8 + plane * 4].copy_from_slice(&begun);
        let samples: Vec<u8> = deep.bytes().iter().skip(byte).step_by(2).copied().collect();
        let runs = samples.chunks(100);
        let last = runs.len() - 1;
        for (index, run) in runs.enumerate() {
            let more = if index == last { NOTE } else { &[] };
            frame.push((run.len() + more.len() - 1) as u8);
            frame.extend(run);
            frame.extend(more);
        }
        frame.extend(vec![0x80; frame.len() % 2]);
    }
    let kept = decode(&tidied(&one_frame(RLE, &deep, 12, frame)).unwrap()).unwrap();
    assert!(same(&kept, &wanted));

    let shallow = phantom(8);
    let mut frame = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut frame)
        .encode(
            &shallow.samples_8bit(),
            96,
            96,
            image::ExtendedColorType::L8,
        )
        .unwrap();
    let wanted = decode(&one_frame(JPEG, &shallow, 8, frame.clone())).unwrap();
    let mut frame = noted(JPEG, &frame).unwrap();
    frame.extend(NOTE);
    let kept = decode(&tidied(&one_frame(JPEG, &shallow, 8, frame)).unwrap()).unwrap();
    assert!(same(&kept, &wanted));
}

#[test]
fn tidying_leaves_the_samples_of_real_files_as_they_are() {
    let Some(folder) = tests::data() else { return };
    let (mut compared, mut commented, mut refused) = (0, 0, 0);
    for line in tests::FACTS.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split('\t').next().unwrap();
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let Ok(mut object) = parse(&bytes) else {
            continue;
        };
        let Ok(wanted) = decode(&object) else {
            continue;
        };
        let uid = object.meta().transfer_syntax().to_owned();
        let pixels = object.element(tags::PIXEL_DATA).unwrap();
        let frame = match pixels.fragments() {
            Some([one]) => noted(&uid, one),
            _ => None,
        };
        if let Some(frame) = frame {
            let sequence = PixelFragmentSequence::new(vec![0], vec![frame]);
            object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, sequence));
            commented += 1;
        }
        let Some(clean) = tidied(&object) else {
            refused += 1;
            continue;
        };
        let kept = decode(&clean).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(same(&kept, &wanted), "{name}");
        compared += 1;
    }
    eprintln!("{compared} compared, {commented} of them with a comment; {refused} refused");
    assert!(compared > 100 && commented > 20 && refused < compared / 10);
}

#[test]
fn a_lossless_frame_with_something_above_the_stored_bits_is_refused() {
    let deep = phantom(12);
    let plain = native(&deep, 16, deep.bytes());
    let kept = decode(&one_frame(JPEG_LS, &deep, 12, jpeg_ls(&plain))).unwrap();
    assert_eq!((kept.samples, kept.bits_stored), (deep.bytes(), 12));
    let overlaid: Vec<u8> = deep
        .bytes()
        .chunks(2)
        .enumerate()
        .flat_map(|(at, pair)| [pair[0], pair[1] | if at % 7 == 0 { 0xF0 } else { 0 }])
        .collect();
    let overlaid = one_frame(JPEG_LS, &deep, 12, jpeg_ls(&native(&deep, 16, overlaid)));
    assert_eq!(
        decode(&overlaid).map(drop),
        Err(RedactError::Undecodable(Undecodable::BadAttributes))
    );
}
