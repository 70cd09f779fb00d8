//! JPEG 2000 without ../shared: two lossless codestreams of formulas, written by OpenJPEG 2.5 through
//! pylibjpeg-openjpeg (`testdata`; this project's own pictures).

use super::layouts::{COLUMNS, GREY, Header, ROWS, encapsulated, redact};
use super::{decode, tests::numbers};

fn values(channels: &[(i64, i64)], size: i64) -> Vec<i64> {
    (0..ROWS * COLUMNS)
        .flat_map(|at| {
            let (x, y) = ((at % COLUMNS) as i64, (at / COLUMNS) as i64);
            channels
                .iter()
                .map(move |(across, down)| (x * across + y * down) % size)
        })
        .collect()
}

#[test]
fn grey_and_colour_come_back_and_stay_outside_the_boxes() {
    let grey = Header {
        bits: (16, 12, 11),
        ..GREY
    };
    let frame = include_bytes!("testdata/grey12.j2k").to_vec();
    let object = encapsulated("1.2.840.10008.1.2.4.90", &grey, vec![frame]);
    assert!(numbers(&decode(&object).unwrap()) == values(&[(61, 37)], 4096));
    redact(object, 0);

    let colour = Header {
        photometric: "YBR_RCT",
        channels: 3,
        ..GREY
    };
    let frame = include_bytes!("testdata/rgb8.j2k").to_vec();
    let object = encapsulated("1.2.840.10008.1.2.4.90", &colour, vec![frame]);
    assert!(numbers(&decode(&object).unwrap()) == values(&[(4, 1), (1, 5), (3, 2)], 256));
    redact(object, 0);
}
