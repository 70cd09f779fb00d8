//! The last look at what will leave, and what happens without the text-presence net.

use bytes::Bytes;
use cloister_redact::phantom::{BurnedText, Phantom, PhantomSpec};
use cloister_redact::{Findings, Redactor};
use cloister_scrub::KnownIdentifiers;

use crate::support::{Film, code, config, nobody, pool, wait};

fn spec(seed: u64, text: &[(&str, u32, u32, u32)]) -> PhantomSpec {
    let mut spec = PhantomSpec::square(seed, 900);
    let line = |&(line, x, y, height): &(&str, u32, u32, u32)| BurnedText {
        line: line.to_owned(),
        x,
        y,
        height,
        grey: 1.0,
    };
    spec.text = text.iter().map(line).collect();
    spec
}

fn check(pool: &Redactor, object: Vec<u8>, findings: &Findings) -> &'static str {
    code(wait(pool.check(Bytes::from(object), findings)))
}

pub(crate) fn text_does_not_leave() {
    let pool = pool();
    let written = spec(
        91,
        &[
            ("R", 60, 60, 42),
            ("MEIER^HANS", 500, 40, 28),
            ("12.03.1961", 40, 850, 14),
        ],
    );
    let film = Film::of(Phantom::draw(&written)).encode();
    let redacted = wait(pool.redact(film.clone(), &KnownIdentifiers::new())).unwrap();
    let (object, _, findings) = redacted.into_parts();
    assert_eq!(check(&pool, object, &findings), "ok");
    // A step that forgot to blank, or blanked another frame or another place.
    assert_eq!(check(&pool, film.clone(), &findings), "text_left");
    let mut moved = findings;
    for found in &mut moved.boxes {
        found.frame += 1;
    }
    assert_eq!(check(&pool, film, &moved), "text_left");
    let bare = Film::of(Phantom::draw(&spec(92, &[]))).encode();
    assert_eq!(check(&pool, bare.clone(), &Findings::default()), "ok");
    assert_eq!(
        check(&pool, bare[..bare.len() / 2].to_vec(), &Findings::default()),
        "undecodable_malformed"
    );
}

pub(crate) fn without_the_presence_net_the_detector_looks_at_everything() {
    assert!(pool().has_presence(), "the committed bundle is trusted");
    let mut config = config();
    config.presence_bundle = std::env::temp_dir().join("no-such-bundle");
    let pool = Redactor::start(config).unwrap();
    assert!(!pool.has_presence());
    let phantom = Phantom::draw(&spec(93, &[("SMITH^JOHN", 520, 60, 24)]));
    let (x, y, w, h) = phantom.ink[0];
    let found = wait(pool.detect(Film::of(phantom).encode(), &nobody())).unwrap();
    let covers = |px: u32, py: u32| crate::support::is_inside(&found.boxes, 0, px, py);
    assert!(
        covers(x, y) && covers(x + w - 1, y + h - 1),
        "{:?}",
        found.boxes
    );
}
