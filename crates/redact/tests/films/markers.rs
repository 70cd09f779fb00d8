//! What may stay, through real workers.

use std::time::Instant;

use cloister_redact::phantom::{BurnedText, Phantom, PhantomSpec};
use cloister_redact::{Action, FoundBox, MarkerPolicy, Redactor};
use cloister_scrub::{Kind, KnownIdentifiers};

use crate::support::{Film, config, nobody, pixels, pool, wait};

fn line(line: &str, x: u32, y: u32, height: u32) -> BurnedText {
    BurnedText {
        line: line.to_owned(),
        x,
        y,
        height,
        grey: 1.0,
    }
}

fn spec(seed: u64, text: &[(&str, u32, u32, u32)]) -> PhantomSpec {
    let mut spec = PhantomSpec::square(seed, 1024);
    spec.text = text.iter().map(|&(l, x, y, h)| line(l, x, y, h)).collect();
    spec
}

fn patient(name: &str) -> KnownIdentifiers {
    let mut known = KnownIdentifiers::new();
    known.add(Kind::Name, name);
    known
}

/// What happened to the line of the phantom with this number.
fn action(boxes: &[FoundBox], phantom: &Phantom, line: usize) -> Option<Action> {
    let (x, y, w, h) = phantom.ink[line];
    let (x, y) = (x + w / 2, y + h / 2);
    boxes
        .iter()
        .find(|b| (b.x..b.x + b.w).contains(&x) && (b.y..b.y + b.h).contains(&y))
        .map(|found| found.action)
}

pub(crate) fn stay_and_names_go() {
    let spec = spec(
        71,
        &[
            ("R", 60, 60, 42),
            ("LINDQVIST^BRIGITTE", 620, 40, 21),
            ("AP ERECT", 800, 960, 28),
            ("4711-0815", 40, 970, 21),
        ],
    );
    let phantom = Phantom::draw(&spec);
    let film = Film::of(phantom.clone());
    let mut known = patient("Lindqvist^Brigitte");
    known.add(Kind::Mrn, "47110815");
    let start = Instant::now();
    let redacted = wait(pool().redact(film.encode(), &known)).unwrap();
    println!("  {} ms", start.elapsed().as_millis());
    let boxes = redacted.boxes();
    let actions: Vec<_> = (0..4).map(|at| action(boxes, &phantom, at)).collect();
    let (keep, redact) = (Some(Action::Keep), Some(Action::Redact));
    assert_eq!(actions, [keep, redact, keep, redact], "{boxes:?}");
    // A line may have been found in more than one box.
    assert!(redacted.findings().own_identifiers >= 2);
    // The words of a label may have been found one by one.
    assert!(redacted.findings().kept() >= 2);
    // A marker that stays is there, sample for sample.
    let (before, after) = (phantom.bytes(), pixels(redacted.object()));
    let (x, y, w, h) = phantom.ink[0];
    for row in y..y + h {
        let from = (row * 1024 + x) as usize * 2;
        let row = from..from + w as usize * 2;
        assert_eq!(before[row.clone()], after[row]);
    }
}

pub(crate) fn go_by_policy_and_where_they_are_the_patients_name() {
    let spec = spec(72, &[("R", 60, 60, 42), ("SITTING", 800, 960, 28)]);
    let phantom = Phantom::draw(&spec);
    let film = Film::of(phantom.clone()).encode();
    let actions = |pool: &Redactor, known: &KnownIdentifiers| -> Vec<_> {
        let found = wait(pool.detect(film.clone(), known)).unwrap();
        (0..2)
            .map(|at| action(&found.boxes, &phantom, at))
            .collect()
    };
    let (keep, redact) = (Some(Action::Keep), Some(Action::Redact));
    let keeping = pool();
    assert_eq!(actions(&keeping, &nobody()), [keep, keep]);
    assert_eq!(actions(&keeping, &patient("Sitting^Bull")), [keep, redact]);
    assert_eq!(actions(&keeping, &patient("R^Anna")), [redact, keep]);
    let mut strict = config();
    strict.markers = MarkerPolicy::Redact;
    let strict = Redactor::start(strict).unwrap();
    assert_eq!(actions(&strict, &nobody()), [redact, redact]);
}

pub(crate) fn with_anything_beside_them_go() {
    let spec = spec(
        73,
        &[
            ("R JS", 60, 60, 42),
            ("R", 700, 60, 42),
            ("MEIER", 760, 60, 42),
            ("L 12", 60, 940, 35),
            ("J", 900, 940, 35),
        ],
    );
    let phantom = Phantom::draw(&spec);
    let found = wait(pool().detect(Film::of(phantom.clone()).encode(), &nobody())).unwrap();
    for at in 0..5 {
        let done = action(&found.boxes, &phantom, at);
        assert_ne!(done, Some(Action::Keep), "{at}: {:?}", found.boxes);
    }
}

/// Where a pixel of the turned film comes from.
type Origin = fn(usize, usize) -> (usize, usize);

pub(crate) fn are_read_at_any_quarter_turn_and_dark_on_light() {
    let spec = spec(74, &[("PA", 60, 60, 35)]);
    let plain = Phantom::draw(&spec);
    let known = nobody();
    let pool = pool();
    let turned: [(&str, Origin); 3] = [
        ("upwards", |x, y| (1023 - y, x)),
        ("downwards", |x, y| (y, 1023 - x)),
        ("over head", |x, y| (1023 - x, 1023 - y)),
    ];
    for (name, from) in turned {
        let mut film = plain.clone();
        for (at, sample) in film.samples.iter_mut().enumerate() {
            let (x, y) = from(at % 1024, at / 1024);
            *sample = plain.samples[y * 1024 + x];
        }
        let found = wait(pool.detect(Film::of(film).encode(), &known)).unwrap();
        assert_eq!(found.kept(), 1, "{name}: {:?}", found.boxes);
    }
    let mut inverse = Film::of(plain);
    inverse.photometric = "MONOCHROME1";
    let found = wait(pool.detect(inverse.encode(), &known)).unwrap();
    assert_eq!(found.kept(), 1, "inverse: {:?}", found.boxes);
}
