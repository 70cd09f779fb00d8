//! Every layout without ../shared: small objects made here, decoded, redacted and decoded again.
//! Outside the boxes no sample changes, in no frame; frames without boxes keep their bytes where the
//! transfer syntax stays. Long, because a layout is a few lines and there are many.

use dicom_core::value::{PixelFragmentSequence, PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::tests::numbers;
use super::{decode, forget_samples, frames, parse};
use crate::config::Fill;
use crate::encode::encode;
use crate::error::{RedactError, Undecodable};
use crate::film::Film;
use crate::redacted::FoundBox;
use crate::{blank, rle};

const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(super) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const BIG: &str = "1.2.840.10008.1.2.2";
const RLE: &str = "1.2.840.10008.1.2.5";
pub(super) const JPEG: &str = "1.2.840.10008.1.2.4.50";
pub(super) const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";

pub(super) const ROWS: usize = 48;
pub(super) const COLUMNS: usize = 64;

/// What a header says.
#[derive(Clone)]
pub(super) struct Header {
    pub(super) photometric: &'static str,
    pub(super) channels: usize,
    pub(super) frames: usize,
    /// Allocated, stored, high bit.
    pub(super) bits: (u16, u16, u16),
    pub(super) signed: bool,
    pub(super) planar: bool,
}

pub(super) const GREY: Header = Header {
    photometric: "MONOCHROME2",
    channels: 1,
    frames: 1,
    bits: (8, 8, 7),
    signed: false,
    planar: false,
};

fn object(
    syntax: &str,
    header: &Header,
    element: DataElement<InMemDicomObject>,
) -> DefaultDicomObject {
    let text =
        |tag: Tag, vr: VR, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let number = |tag: Tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let (allocated, stored, high) = header.bits;
    let mut elements = vec![
        text(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.7"),
        text(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
        number(tags::SAMPLES_PER_PIXEL, header.channels as u16),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, header.photometric),
        text(tags::NUMBER_OF_FRAMES, VR::IS, &header.frames.to_string()),
        number(tags::ROWS, ROWS as u16),
        number(tags::COLUMNS, COLUMNS as u16),
        number(tags::BITS_ALLOCATED, allocated),
        number(tags::BITS_STORED, stored),
        number(tags::HIGH_BIT, high),
        number(tags::PIXEL_REPRESENTATION, header.signed.into()),
    ];
    if header.channels > 1 {
        elements.push(number(tags::PLANAR_CONFIGURATION, header.planar.into()));
    }
    elements.push(element);
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    let object = InMemDicomObject::from_element_iter(elements)
        .with_meta(meta)
        .unwrap();
    let mut bytes = Vec::new();
    object.write_all(&mut bytes).unwrap();
    parse(&bytes).unwrap()
}

/// The element for little endian samples in the syntax' own byte order.
fn native(syntax: &str, header: &Header, bytes: &[u8]) -> DefaultDicomObject {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let value = if syntax == BIG {
        // Words in their order, the upper word of a wider sample first.
        let words: Vec<u16> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_le_bytes(*pair))
            .collect();
        let words = match header.bits.0 {
            32 => words.chunks(2).flat_map(|w| [w[1], w[0]]).collect(),
            _ => words,
        };
        PrimitiveValue::U16(words.into())
    } else {
        PrimitiveValue::U8(bytes.into())
    };
    object(
        syntax,
        header,
        DataElement::new(tags::PIXEL_DATA, VR::OW, value),
    )
}

pub(super) fn encapsulated(
    syntax: &str,
    header: &Header,
    frames: Vec<Vec<u8>>,
) -> DefaultDicomObject {
    let (mut table, mut at) = (Vec::new(), 0);
    let frames: Vec<Vec<u8>> = frames
        .into_iter()
        .map(|mut frame| {
            frame.resize(frame.len().next_multiple_of(2), 0);
            table.push(at);
            at += frame.len() as u32 + 8;
            frame
        })
        .collect();
    let sequence = PixelFragmentSequence::new(table, frames);
    let value: Value<InMemDicomObject> = Value::PixelSequence(sequence);
    object(
        syntax,
        header,
        DataElement::new(tags::PIXEL_DATA, VR::OB, value),
    )
}

/// Values that fill the stored bits, with some structure.
pub(super) fn picture(header: &Header) -> Vec<i64> {
    let (_, stored, _) = header.bits;
    let size = 1_i64 << stored;
    let mut state = 12_345_u64;
    (0..ROWS * COLUMNS * header.channels * header.frames)
        .map(|at| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as i64;
            let value = (at as i64 * size / 5000 + noise % (size / 16 + 2)) % size;
            if header.signed {
                value - size / 2
            } else {
                value
            }
        })
        .collect()
}

pub(super) fn bytes_of(values: &[i64], header: &Header) -> Vec<u8> {
    let (allocated, stored, high) = header.bits;
    let shift = high + 1 - stored;
    let width = usize::from(allocated / 8);
    values
        .iter()
        .flat_map(|value| {
            let raised = (value << shift).to_le_bytes();
            raised[..width].to_vec()
        })
        .collect()
}

fn found(frame: u32) -> FoundBox {
    FoundBox {
        frame,
        x: 9,
        y: 5,
        w: 21,
        h: 12,
        score: 1.0,
        ..FoundBox::default()
    }
}

/// Blanks a box and checks what stays.
pub(super) fn redact(mut object: DefaultDicomObject, frame: u32) -> (Film, DefaultDicomObject) {
    let before = decode(&object).unwrap();
    forget_samples(&mut object, &before);
    let mut film = before.clone();
    let boxes = film.snapped(vec![found(frame)]);
    blank::blank(&mut film, &boxes, Fill::default());
    let bytes = encode(object, &mut film, &boxes).unwrap();
    let written = parse(&bytes).unwrap();
    let after = decode(&written).unwrap();
    assert_eq!(after.samples, film.samples, "the film is what was written");
    let pixel = before.channels * before.bytes_per_sample;
    let mut changed = 0;
    let both = before
        .samples
        .chunks(pixel)
        .zip(after.samples.chunks(pixel))
        .enumerate();
    for (at, (a, b)) in both {
        let (x, y) = (at % COLUMNS, at / COLUMNS % ROWS);
        let inside = boxes.iter().any(|found| {
            at / COLUMNS / ROWS == found.frame as usize
                && (found.x as usize..(found.x + found.w) as usize).contains(&x)
                && (found.y as usize..(found.y + found.h) as usize).contains(&y)
        });
        assert!(inside || a == b, "pixel {x},{y}");
        changed += usize::from(a != b);
    }
    assert!(changed > 50, "{changed} pixels changed");
    // Without a box nothing changes at all.
    let mut untouched = after.clone();
    let twice = encode(parse(&bytes).unwrap(), &mut untouched, &[]).unwrap();
    assert_eq!(twice, bytes);
    (before, written)
}

fn headers() -> Vec<Header> {
    let mut all = Vec::new();
    let depths = [
        (8, 8, 7, false),
        (8, 6, 5, false),
        (8, 8, 7, true),
        (16, 12, 11, false),
        (16, 12, 13, false),
        (16, 16, 15, true),
        (16, 12, 11, true),
        (32, 32, 31, false),
        (32, 20, 19, false),
        (32, 32, 31, true),
    ];
    for (allocated, stored, high, signed) in depths {
        let grey = Header {
            bits: (allocated, stored, high),
            signed,
            frames: 2,
            ..GREY
        };
        let rgb = Header {
            photometric: "RGB",
            channels: 3,
            ..grey.clone()
        };
        all.extend([
            Header {
                photometric: "MONOCHROME1",
                ..grey.clone()
            },
            Header {
                planar: true,
                ..rgb.clone()
            },
            Header {
                photometric: "YBR_FULL",
                ..rgb.clone()
            },
            grey,
            rgb,
        ]);
    }
    all
}

#[test]
fn uncompressed_samples_of_every_depth_stay_outside_the_boxes() {
    for header in headers() {
        let values = picture(&header);
        let mut stored = values.clone();
        if header.planar {
            let plane = ROWS * COLUMNS;
            stored = values
                .chunks(plane * 3)
                .flat_map(|frame| (0..3).flat_map(|c| frame.iter().skip(c).step_by(3)))
                .copied()
                .collect();
        }
        let bytes = bytes_of(&stored, &header);
        for syntax in [IMPLICIT, EXPLICIT, DEFLATED, BIG] {
            let object = native(syntax, &header, &bytes);
            assert_eq!(
                numbers(&decode(&object).unwrap()),
                values,
                "{syntax} {:?}",
                header.bits
            );
            let (_, written) = redact(object, 1);
            let kept = written
                .element(tags::PIXEL_DATA)
                .unwrap()
                .to_bytes()
                .unwrap();
            assert_eq!(kept[..bytes.len() / 2], bytes[..bytes.len() / 2], "frame 0");
            let stays = if syntax == BIG { EXPLICIT } else { syntax };
            assert_eq!(written.meta().transfer_syntax(), stays);
        }
    }
}

#[test]
fn names_in_unused_bits_go_although_no_box_is_found() {
    let header = Header {
        bits: (16, 12, 11),
        ..GREY
    };
    let values = picture(&header);
    let dirty: Vec<i64> = values.iter().map(|value| value | 0x5000).collect();
    let plain = bytes_of(&values, &header);
    let object = native(EXPLICIT, &header, &bytes_of(&dirty, &header));
    let mut film = decode(&object).unwrap();
    let written = parse(&encode(object, &mut film, &[]).unwrap()).unwrap();
    assert_eq!(
        written
            .element(tags::PIXEL_DATA)
            .unwrap()
            .to_bytes()
            .unwrap(),
        plain
    );

    let frame = rle::encode(&bytes_of(&dirty, &header), COLUMNS, 1, 2).unwrap();
    let object = encapsulated(RLE, &header, vec![frame]);
    let mut film = decode(&object).unwrap();
    let written = parse(&encode(object, &mut film, &[]).unwrap()).unwrap();
    let clean = frames(&written, 1).unwrap()[0].concat();
    assert_eq!(rle::decode(&clean, ROWS * COLUMNS, 1, 2).unwrap(), plain);
}

#[test]
fn one_bit_pixels_run_on_from_frame_to_frame() {
    let header = Header {
        bits: (1, 1, 0),
        frames: 3,
        ..GREY
    };
    let values = picture(&header);
    let packed: Vec<u8> = values
        .chunks(8)
        .map(|eight| {
            eight
                .iter()
                .rev()
                .fold(0, |byte, bit| (byte << 1) | *bit as u8)
        })
        .collect();
    for syntax in [EXPLICIT, BIG] {
        let object = native(syntax, &header, &packed);
        assert_eq!(numbers(&decode(&object).unwrap()), values);
        redact(object, 1);
    }
    let rle = packed
        .chunks(ROWS * COLUMNS / 8)
        .map(|frame| rle::encode(frame, COLUMNS / 8, 1, 1).unwrap())
        .collect();
    let object = encapsulated(RLE, &header, rle);
    assert_eq!(numbers(&decode(&object).unwrap()), values);
    redact(object, 1);
}

#[test]
fn pixels_that_share_their_colour_are_blanked_in_pairs() {
    let header = Header {
        photometric: "YBR_FULL_422",
        channels: 3,
        frames: 2,
        ..GREY
    };
    let quads: Vec<u8> = (0..ROWS * COLUMNS * 2 * 2)
        .map(|at| (at * 7 % 251) as u8)
        .collect();
    let object = native(EXPLICIT, &header, &quads);
    let film = decode(&object).unwrap();
    assert_eq!(film.samples[..6], [0, 14, 21, 7, 14, 21]);
    let (_, written) = redact(object, 1);
    let kept = written
        .element(tags::PIXEL_DATA)
        .unwrap()
        .to_bytes()
        .unwrap();
    assert_eq!(kept[..quads.len() / 2], quads[..quads.len() / 2]);
}

#[test]
fn samples_in_floating_point_stay_outside_the_boxes() {
    let header = Header {
        bits: (32, 32, 31),
        ..GREY
    };
    let values: Vec<f32> = (0..ROWS * COLUMNS)
        .map(|at| {
            if at == 7 {
                f32::NAN
            } else {
                at as f32 * 0.37 - 300.0
            }
        })
        .collect();
    let value = PrimitiveValue::F32(values.iter().copied().collect());
    let element = DataElement::new(tags::FLOAT_PIXEL_DATA, VR::OF, value);
    let (before, _) = redact(object(EXPLICIT, &header, element), 0);
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert_eq!(before.samples, bytes);

    let header = Header {
        bits: (64, 64, 63),
        ..GREY
    };
    let value = PrimitiveValue::F64(values.iter().map(|value| f64::from(*value)).collect());
    let element = DataElement::new(tags::DOUBLE_FLOAT_PIXEL_DATA, VR::OD, value);
    redact(object(BIG, &header, element), 0);
}

#[test]
fn a_frame_of_runs_changes_and_the_others_keep_their_bytes() {
    for header in headers() {
        let width = usize::from(header.bits.0 / 8);
        let values = picture(&header);
        let bytes = bytes_of(&values, &header);
        let size = ROWS * COLUMNS * header.channels * width;
        let packed: Vec<Vec<u8>> = bytes
            .chunks(size)
            .map(|frame| rle::encode(frame, COLUMNS, header.channels, width).unwrap())
            .collect();
        let object = encapsulated(RLE, &header, packed.clone());
        assert_eq!(
            numbers(&decode(&object).unwrap()),
            values,
            "{:?}",
            header.bits
        );
        let (_, written) = redact(object, 1);
        assert_eq!(written.meta().transfer_syntax(), RLE);
        let kept = frames(&written, 2).unwrap();
        assert_eq!(kept[0], &packed[..1]);
        assert_ne!(kept[1], &packed[1..]);
    }
}

pub(super) fn jpeg_frames(header: &Header) -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = picture(header).iter().map(|value| *value as u8).collect();
    let frame = |samples: &[u8]| {
        let mut out = Vec::new();
        let kind = match header.channels {
            1 => image::ExtendedColorType::L8,
            _ => image::ExtendedColorType::Rgb8,
        };
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 92)
            .encode(samples, COLUMNS as u32, ROWS as u32, kind)
            .unwrap();
        out
    };
    bytes
        .chunks(ROWS * COLUMNS * header.channels)
        .map(frame)
        .collect()
}

#[test]
fn of_a_jpeg_only_the_blocks_under_the_box_change() {
    for (photometric, channels) in [("MONOCHROME2", 1), ("YBR_FULL", 3)] {
        let header = Header {
            photometric,
            channels,
            frames: 3,
            ..GREY
        };
        let packed = jpeg_frames(&header);
        let object = encapsulated(JPEG, &header, packed.clone());
        let (before, written) = redact(object, 1);
        assert_eq!(before.stored.grid, (8, 8));
        assert_eq!(written.meta().transfer_syntax(), JPEG);
        let kept = frames(&written, 3).unwrap();
        let even = |frame: &Vec<u8>| {
            let mut frame = frame.clone();
            frame.resize(frame.len().next_multiple_of(2), 0);
            frame
        };
        assert_eq!(kept[0].concat(), even(&packed[0]));
        assert_eq!(kept[2].concat(), even(&packed[2]));
    }
}

#[test]
fn what_cannot_be_changed_in_place_leaves_uncompressed_and_the_same_outside() {
    let header = Header {
        bits: (16, 12, 11),
        frames: 2,
        ..GREY
    };
    let values = picture(&header);
    let packed = jpeg_ls_frames(&header);
    let object = encapsulated(JPEG_LS, &header, packed.clone());
    assert_eq!(numbers(&decode(&object).unwrap()), values);
    let mut untouched = decode(&object).unwrap();
    let same = parse(&encode(object.clone(), &mut untouched, &[]).unwrap()).unwrap();
    assert_eq!(same.meta().transfer_syntax(), JPEG_LS);
    assert_eq!(
        same.element(tags::PIXEL_DATA).unwrap().fragments(),
        object.element(tags::PIXEL_DATA).unwrap().fragments()
    );
    let (_, written) = redact(object, 1);
    assert_eq!(written.meta().transfer_syntax(), EXPLICIT);
}

#[test]
fn what_has_no_known_form_is_refused() {
    let refused = |header: &Header, code| {
        let object = native(EXPLICIT, header, &vec![0; ROWS * COLUMNS * 64]);
        assert_eq!(
            decode(&object).map(drop),
            Err(RedactError::Undecodable(code))
        );
    };
    let with = |bits, channels, photometric| Header {
        photometric,
        channels,
        bits,
        ..GREY
    };
    let unsupported = Undecodable::UnsupportedLayout;
    refused(&with((64, 64, 63), 1, "MONOCHROME2"), unsupported);
    refused(&with((24, 24, 23), 1, "MONOCHROME2"), unsupported);
    refused(&with((1, 1, 0), 3, "RGB"), unsupported);
    refused(&with((8, 8, 7), 4, "CMYK"), unsupported);
    refused(&with((8, 8, 7), 3, "YBR_PARTIAL_420"), unsupported);
    refused(
        &with((16, 17, 16), 1, "MONOCHROME2"),
        Undecodable::BadAttributes,
    );
    let both = Header { frames: 1, ..GREY };
    let mut object = native(EXPLICIT, &both, &vec![0; ROWS * COLUMNS]);
    let value = PrimitiveValue::F32([0.0; 4].into_iter().collect());
    object.put(DataElement::new(tags::FLOAT_PIXEL_DATA, VR::OF, value));
    let bad = Err(RedactError::Undecodable(Undecodable::BadAttributes));
    assert_eq!(decode(&object).map(drop), bad);
}

/// Frames of JPEG-LS.
pub(super) fn jpeg_ls_frames(header: &Header) -> Vec<Vec<u8>> {
    let plain = native(EXPLICIT, header, &bytes_of(&picture(header), header));
    let syntax = TransferSyntaxRegistry.get(JPEG_LS).unwrap();
    let Codec::EncapsulatedPixelData(_, Some(writer)) = syntax.codec() else {
        panic!("no JPEG-LS encoder");
    };
    (0..header.frames as u32)
        .map(|frame| {
            let mut out = Vec::new();
            let options = dicom_encoding::adapters::EncodeOptions::default();
            writer
                .encode_frame(&plain, frame, options, &mut out)
                .unwrap();
            out
        })
        .collect()
}

/// Small objects of each codec that has an encoder here.
fn of_each_codec() -> Vec<DefaultDicomObject> {
    let deep = Header {
        bits: (16, 12, 11),
        ..GREY
    };
    let plain = native(EXPLICIT, &deep, &bytes_of(&picture(&deep), &deep));
    let runs = rle::encode(&bytes_of(&picture(&deep), &deep), COLUMNS, 1, 2).unwrap();
    vec![
        encapsulated(JPEG_LS, &deep, jpeg_ls_frames(&deep)),
        encapsulated(RLE, &deep, vec![runs]),
        encapsulated(JPEG, &GREY, jpeg_frames(&GREY)),
        native(DEFLATED, &deep, &bytes_of(&picture(&deep), &deep)),
        plain,
    ]
}

#[test]
fn damaged_objects_of_each_codec_are_decoded_or_refused() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut objects: Vec<Vec<u8>> = of_each_codec()
        .iter()
        .map(|object| {
            let mut bytes = Vec::new();
            object.write_all(&mut bytes).unwrap();
            bytes
        })
        .collect();
    if let Some(folder) = super::tests::data() {
        // JPEG 2000, its high-throughput form, and lossless JPEG have no encoder here.
        for name in [
            "pydicom/JPEG2000.dcm",
            "pydicom/JPGExtended.dcm",
            "pydicom-data/JPEG-LL.dcm",
            "pydicom-data/HTJ2K_08_RGB.dcm",
        ] {
            objects.push(std::fs::read(folder.join(name)).unwrap());
        }
    }
    let (mut decoded, mut refused) = (0, 0);
    for good in &objects {
        for round in 0..24 {
            let mut bytes = good.clone();
            if round % 4 == 0 {
                bytes.truncate(next(good.len()));
            }
            for _ in 0..=(round % 5) {
                // Most damage goes to the codestream.
                let from = if round % 3 == 0 { 0 } else { good.len() / 4 };
                if let Some(byte) = bytes.get_mut(from + next(good.len() - from)) {
                    *byte = next(256) as u8;
                }
            }
            // A codec may panic: the worker answers that the same way.
            let result = std::panic::catch_unwind(|| {
                let object = parse(&bytes)?;
                let mut film = decode(&object)?;
                let boxes = film.snapped(vec![found(0)]);
                blank::blank(&mut film, &boxes, Fill::default());
                encode(object, &mut film, &boxes)
            });
            match result {
                Ok(Ok(_)) => decoded += 1,
                _ => refused += 1,
            }
        }
    }
    eprintln!("{decoded} decoded, {refused} refused");
    assert!(decoded > 20 && refused > 20);
}
