//! Frames made here, mutated, and blocks that must come back.

use proptest::prelude::*;

use super::header::Component;
use super::header::Scan;
use super::{Block, Jpeg, JpegError};

/// Sampling factors of the first component; the other two have one each.
#[derive(Debug, Clone)]
struct Shape {
    width: usize,
    height: usize,
    precision: u8,
    factors: Vec<(u8, u8)>,
    restart: u16,
    interleaved: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let factor = prop_oneof![Just(1_u8), Just(2)];
    let factors = prop_oneof![
        Just(vec![(1, 1)]),
        (factor.clone(), factor).prop_map(|first| vec![first, (1, 1), (1, 1)]),
    ];
    (
        1_usize..70,
        1_usize..50,
        prop_oneof![Just(8_u8), Just(12)],
        factors,
        0_u16..5,
        any::<bool>(),
    )
        .prop_map(
            |(width, height, precision, factors, restart, interleaved)| Shape {
                width,
                height,
                precision,
                factors,
                restart,
                interleaved,
            },
        )
}

/// Components of a scan, and where its SOS stands.
type Head = (Vec<usize>, std::ops::Range<usize>);

/// The segments of a frame with empty scans, and where each SOS stands.
fn segments(shape: &Shape) -> (Vec<u8>, Vec<Head>) {
    let mut out = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    out.extend((0..64).map(|at| 1 + at / 8));
    let count = shape.factors.len() as u8;
    out.extend([0xFF, 0xC1, 0, 8 + 3 * count, shape.precision]);
    out.extend((shape.height as u16).to_be_bytes());
    out.extend((shape.width as u16).to_be_bytes());
    out.push(count);
    for (at, (across, down)) in (1..).zip(&shape.factors) {
        out.extend([at, (across << 4) | down, 0]);
    }
    out.extend([0xFF, 0xDD, 0, 4]);
    out.extend(shape.restart.to_be_bytes());
    let all: Vec<usize> = (0..usize::from(count)).collect();
    let groups = if shape.interleaved {
        vec![all]
    } else {
        all.into_iter().map(|at| vec![at]).collect()
    };
    let mut scans: Vec<Head> = Vec::new();
    for group in groups {
        let start = out.len();
        out.extend([0xFF, 0xDA, 0, 6 + 2 * group.len() as u8, group.len() as u8]);
        for &at in &group {
            out.extend([at as u8 + 1, if at == 0 { 0 } else { 0x11 }]);
        }
        out.extend([0, 63, 0]);
        scans.push((group, start..out.len()));
    }
    (out, scans)
}

/// A frame with these blocks.
fn build<'b>(
    bytes: &'b [u8],
    shape: &Shape,
    scans: &[Head],
    mut next: impl FnMut() -> Block,
) -> Jpeg<'b> {
    let across = shape
        .factors
        .iter()
        .map(|f| usize::from(f.0))
        .max()
        .unwrap();
    let down = shape
        .factors
        .iter()
        .map(|f| usize::from(f.1))
        .max()
        .unwrap();
    let (mcus, lines) = (
        shape.width.div_ceil(8 * across),
        shape.height.div_ceil(8 * down),
    );
    let mut jpeg = Jpeg::empty(bytes, shape.width, shape.height);
    jpeg.precision = shape.precision.into();
    (jpeg.across, jpeg.down) = (across, down);
    for (at, &(h, v)) in shape.factors.iter().enumerate() {
        let (h, v) = (usize::from(h), usize::from(v));
        let (width, height) = (
            (shape.width * h).div_ceil(across),
            (shape.height * v).div_ceil(down),
        );
        let (blocks_across, blocks_down) = (mcus * h, lines * v);
        let mut blocks = vec![[0; 64]; blocks_across * blocks_down];
        for (place, block) in blocks.iter_mut().enumerate() {
            let (x, y) = (place % blocks_across, place / blocks_across);
            // What fills up an MCU is in no scan of one component.
            if shape.interleaved && shape.factors.len() > 1
                || x < width.div_ceil(8) && y < height.div_ceil(8)
            {
                *block = next();
            }
            if x >= width.div_ceil(8) || y >= height.div_ceil(8) {
                // Nobody sees it: more than a mean would be taken away.
                block[1..].fill(0);
            }
        }
        let quantizer = std::array::from_fn(|at| 1 + at as u16 / 8);
        jpeg.components.push(Component {
            id: at as u8 + 1,
            across: h,
            down: v,
            table: 0,
            quantizer,
            width,
            height,
            blocks_across,
            blocks_down,
            blocks,
            seen: true,
        });
    }
    for (group, head) in scans {
        let parts = group
            .iter()
            .map(|&at| (at, usize::from(at > 0), usize::from(at > 0)))
            .collect();
        jpeg.scans.push(Scan {
            parts,
            restart: shape.restart.into(),
            head: head.clone(),
            end: head.end,
        });
    }
    jpeg
}

fn blocks(seed: u64) -> impl FnMut() -> Block {
    let mut state = seed | 1;
    move || {
        std::array::from_fn(|at| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match (at, state % 4) {
                (0, _) => (state >> 20) as i16 % 1000,
                (_, 0) => (state >> 20) as i16 % (1 << (state % 14)),
                _ => 0,
            }
        })
    }
}

fn frame(shape: &Shape, seed: u64) -> Vec<u8> {
    let (bytes, scans) = segments(shape);
    build(&bytes, shape, &scans, blocks(seed)).write().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn blocks_come_back_from_any_form(shape in shape(), seed in 1_u64..) {
        let (bytes, scans) = segments(&shape);
        let made = build(&bytes, &shape, &scans, blocks(seed));
        let written = made.write().unwrap();
        let read = Jpeg::read(&written, shape.width, shape.height).unwrap();
        for (a, b) in made.components.iter().zip(&read.components) {
            prop_assert!(a.blocks == b.blocks);
        }
        let bytes = if shape.precision > 8 { 2 } else { 1 };
        prop_assert_eq!(read.samples().len(), shape.width * shape.height * shape.factors.len() * bytes);
        // And once more, from what was read.
        prop_assert_eq!(Jpeg::read(&read.write().unwrap(), shape.width, shape.height).unwrap().samples(), read.samples());
    }

    #[test]
    fn only_blocks_under_the_rectangle_change(shape in shape(), seed in 1_u64.., x in 0_usize..70, y in 0_usize..50, w in 1_usize..30, h in 1_usize..30) {
        let written = frame(&shape, seed);
        let before = Jpeg::read(&written, shape.width, shape.height).unwrap();
        let mut jpeg = Jpeg::read(&written, shape.width, shape.height).unwrap();
        jpeg.blank((x, y, x + w, y + h), &[100, 128, 128]);
        let written = jpeg.write().unwrap();
        let after = Jpeg::read(&written, shape.width, shape.height).unwrap();
        let (across, down) = after.grid();
        for (a, b) in before.components.iter().zip(&after.components) {
            for (at, (old, new)) in a.blocks.iter().zip(&b.blocks).enumerate() {
                let (column, row) = (at % a.blocks_across / a.across, at / a.blocks_across / a.down);
                let inside = (x / across..(x + w).div_ceil(across)).contains(&column)
                    && (y / down..(y + h).div_ceil(down)).contains(&row);
                if inside {
                    prop_assert!(new[1..].iter().all(|value| *value == 0));
                } else {
                    prop_assert!(old == new);
                }
            }
        }
    }

    #[test]
    fn damaged_frames_are_read_or_refused(shape in shape(), seed in 1_u64.., hits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..), 1..6), cut in any::<prop::sample::Index>(), short in any::<bool>()) {
        let mut bytes = frame(&shape, seed);
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if short {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(mut jpeg) = Jpeg::read(&bytes, shape.width, shape.height) {
            jpeg.blank((0, 0, 9, 9), &[0, 0, 0]);
            let _samples = jpeg.samples();
            let _written = jpeg.write();
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(0_u8.., 0..300)) {
        let data = [&[0xFF, 0xD8, 0xFF], data.as_slice()].concat();
        let _jpeg = Jpeg::read(&data, 16, 16);
    }
}

#[test]
fn a_frame_of_another_size_or_kind_is_refused() {
    let shape = Shape {
        width: 20,
        height: 12,
        precision: 12,
        factors: vec![(1, 1)],
        restart: 0,
        interleaved: true,
    };
    let mut bytes = frame(&shape, 7);
    assert!(Jpeg::read(&bytes, 20, 12).is_ok());
    assert_eq!(
        Jpeg::read(&bytes, 20, 13).map(drop),
        Err(JpegError::Damaged)
    );
    let at = bytes
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC1])
        .unwrap();
    bytes[at + 1] = 0xC2;
    assert_eq!(
        Jpeg::read(&bytes, 20, 12).map(drop),
        Err(JpegError::NotSequential)
    );
}
