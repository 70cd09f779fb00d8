//! Burned-in text on phantoms.

use std::io::Cursor;
use std::time::Instant;

use cloister_redact::phantom::{BurnedText, Phantom, PhantomSpec};
use dicom_dictionary_std::tags;

use crate::support::{Film, is_inside, nobody, pixels, pool, wait};

fn line(line: &str, x: u32, y: u32, height: u32, grey: f32) -> BurnedText {
    BurnedText {
        line: line.to_owned(),
        x,
        y,
        height,
        grey,
    }
}

pub(crate) fn is_blanked_and_nothing_else_changes() {
    let pool = pool();
    let cases = [
        (
            11,
            512,
            12,
            "MONOCHROME2",
            vec![
                line("DOE^JANE", 20, 20, 14, 0.95),
                line("12.03.1961", 360, 470, 12, 1.0),
            ],
        ),
        (
            12,
            768,
            16,
            "MONOCHROME1",
            vec![
                line("MEIER^HANS", 30, 30, 28, 0.9),
                line("ID 4711", 560, 700, 21, 1.0),
            ],
        ),
        (
            13,
            1024,
            8,
            "MONOCHROME2",
            vec![
                line("SMITH JOHN", 660, 40, 21, 1.0),
                line("1234567", 40, 960, 35, 0.9),
            ],
        ),
        (
            14,
            1300,
            12,
            "MONOCHROME2",
            vec![
                line("PHANTOM^PETRA", 500, 640, 35, 1.0),
                line("RJ7", 60, 60, 90, 1.0),
            ],
        ),
    ];
    for (seed, side, bits, photometric, text) in cases {
        let mut spec = PhantomSpec::square(seed, side);
        spec.bits = bits;
        let plain = Phantom::draw(&spec).bytes();
        spec.text = text;
        let mut film = Film::of(Phantom::draw(&spec));
        film.photometric = photometric;
        let start = Instant::now();
        let redacted = wait(pool.redact(film.encode(), &nobody())).unwrap();
        println!(
            "  {side}²: {} boxes, {} ms",
            redacted.boxes().len(),
            start.elapsed().as_millis()
        );
        let (before, after) = (film.phantom.bytes(), pixels(redacted.object()));
        let step = if bits == 8 { 1 } else { 2 };
        let (mut ink, mut left) = (0, 0);
        for (at, ((clean, marked), now)) in plain
            .chunks(step)
            .zip(before.chunks(step))
            .zip(after.chunks(step))
            .enumerate()
        {
            let (x, y) = (at as u32 % side, at as u32 / side);
            if is_inside(redacted.boxes(), 0, x, y) {
                ink += u32::from(clean != marked);
            } else {
                assert_eq!(marked, now, "{side}: outside the boxes nothing changes");
                left += u32::from(clean != marked);
            }
        }
        assert!(
            ink > 300 && left == 0,
            "{side}: {left} ink pixels left, {ink} blanked: {:?}",
            redacted.boxes()
        );
    }
}

pub(crate) fn films_without_text_stay_almost_whole() {
    let pool = pool();
    for (seed, side) in [(21, 512), (22, 1024), (23, 2000)] {
        let film = Film::of(Phantom::draw(&PhantomSpec::square(seed, side)));
        let start = Instant::now();
        let boxes = wait(pool.detect(film.encode(), &nobody())).unwrap().boxes;
        let blanked: u32 = boxes.iter().map(|b| b.w * b.h).sum();
        println!(
            "  {side}²: {} boxes, {} ms",
            boxes.len(),
            start.elapsed().as_millis()
        );
        assert!(blanked * 200 <= side * side, "{side}: {boxes:?}");
    }
}

pub(crate) fn on_one_frame_of_many_is_found() {
    let spec = PhantomSpec::square(31, 384);
    let plain = Phantom::draw(&spec);
    let marked = Phantom::draw(&spec.with_text(&["DOE^JANE"]));
    let ink = marked.ink[0];
    let mut film = Film::of(plain.clone());
    film.frames = vec![plain.bytes(), plain.bytes(), marked.bytes(), plain.bytes()];
    let redacted = wait(pool().redact(film.encode(), &nobody())).unwrap();
    let (x, y, w, h) = ink;
    for (px, py) in [
        (x, y),
        (x + w - 1, y),
        (x, y + h - 1),
        (x + w - 1, y + h - 1),
    ] {
        assert!(
            is_inside(redacted.boxes(), 2, px, py),
            "{:?} {ink:?}",
            redacted.boxes()
        );
    }
    let size = plain.bytes().len();
    assert_eq!(
        &pixels(redacted.object())[..size],
        plain.bytes().as_slice(),
        "frame 0 is untouched"
    );
}

pub(crate) fn outside_the_window_is_found() {
    // The upper band is one flat clipped white in the window; the name in it is brighter still.
    let mut phantom = Phantom::draw(&PhantomSpec::square(41, 512));
    for sample in phantom.samples.iter_mut().take(512 * 80) {
        *sample = 3000;
    }
    let mut marked = phantom.clone();
    let stamp = Phantom::draw(&{
        let mut spec = PhantomSpec::square(41, 512);
        spec.text = vec![line("DOE^JANE", 40, 20, 28, 1.0)];
        spec
    });
    let bare = Phantom::draw(&PhantomSpec::square(41, 512));
    let mut inked = Vec::new();
    for (at, (a, b)) in stamp.samples.iter().zip(&bare.samples).enumerate() {
        if a != b {
            marked.samples[at] = 3900;
            inked.push(at as u32);
        }
    }
    let mut film = Film::of(marked);
    film.window = Some(("1200", "2400"));
    let redacted = wait(pool().redact(film.encode(), &nobody())).unwrap();
    assert!(!inked.is_empty());
    let left = inked
        .iter()
        .filter(|&&at| !is_inside(redacted.boxes(), 0, at % 512, at / 512))
        .count();
    assert_eq!(left, 0, "{:?}", redacted.boxes());
}

pub(crate) fn on_a_picture_is_blanked() {
    let mut spec = PhantomSpec::square(51, 600).with_text(&["DOE^JANE 4711"]);
    spec.bits = 8;
    let phantom = Phantom::draw(&spec);
    let picture = image::GrayImage::from_raw(600, 600, phantom.samples_8bit()).unwrap();
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let redacted = wait(pool().redact_picture(png.into_inner(), &nobody())).unwrap();
    let after = image::load_from_memory(redacted.rendition())
        .unwrap()
        .into_luma8();
    let (x, y, w, h) = phantom.ink[0];
    let white = (x..x + w)
        .flat_map(|px| (y..y + h).map(move |py| (px, py)))
        .filter(|&(px, py)| {
            assert!(
                is_inside(redacted.boxes(), 0, px, py),
                "{:?}",
                redacted.boxes()
            );
            after.get_pixel(px, py).0[0] > 200
        });
    assert_eq!(white.count(), 0);
}

pub(crate) fn the_object_describes_its_new_pixels() {
    let film = Film::of(Phantom::draw(&PhantomSpec::square(61, 1100)));
    let redacted = wait(pool().redact(film.encode(), &nobody())).unwrap();
    let object = dicom_object::from_reader(redacted.object()).unwrap();
    let text = |tag| object.element(tag).unwrap().to_str().unwrap().into_owned();
    assert_eq!(object.meta().transfer_syntax(), "1.2.840.10008.1.2.1");
    assert_eq!(text(tags::BURNED_IN_ANNOTATION), "NO");
    assert_eq!(text(tags::LOSSY_IMAGE_COMPRESSION), "01");
    assert_eq!(
        (
            text(tags::BITS_STORED).as_str(),
            text(tags::HIGH_BIT).as_str()
        ),
        ("12", "11")
    );
    let rendition = image::load_from_memory(redacted.rendition()).unwrap();
    assert_eq!((rendition.width(), rendition.height()), (1000, 1000));
    assert_eq!(rendition.color(), image::ColorType::L8);
}
