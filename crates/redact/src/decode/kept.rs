//! Every real file through de-identification, redaction and back: what is decodable is decoded, the
//! rest refused with a closed code; outside the boxes nothing changes.

use std::collections::BTreeMap;

use cloister_deid::{Deidentifier, HmacPseudonyms, Policy};
use dicom_object::DefaultDicomObject;
use zeroize::Zeroizing;

use super::{decode, forget_samples, frames, parse, tests};
use crate::blank;
use crate::config::Fill;
use crate::encode::encode;
use crate::error::RedactError;
use crate::film::{Family, Film};
use crate::redacted::FoundBox;
use crate::render::render_all;
use crate::rendition::rendition;

/// The sum of what happened to a file.
enum Outcome {
    NotDeidentified,
    Refused(RedactError),
    Kept,
}

fn outcome(bytes: &[u8]) -> Outcome {
    let ids = HmacPseudonyms::new(Zeroizing::new([3; 32]));
    let Ok((clean, _)) = Deidentifier::new(Policy::basic()).deidentify(bytes, "SITE", &ids) else {
        return Outcome::NotDeidentified;
    };
    let clean = clean.to_bytes().unwrap();
    let object = match parse(&clean) {
        Ok(object) => object,
        Err(error) => return Outcome::Refused(error),
    };
    match decode(&object) {
        Ok(film) => {
            keeps(object, &film);
            Outcome::Kept
        }
        Err(error) => Outcome::Refused(error),
    }
}

/// Redacts a part of the last frame, and nothing, and looks at the results.
fn keeps(object: DefaultDicomObject, before: &Film) {
    let mut bare = object.clone();
    forget_samples(&mut bare, before);
    let mut film = before.clone();
    let same = encode(bare.clone(), &mut film, &[]).unwrap();
    let same = parse(&same).unwrap();
    assert_eq!(decode(&same).unwrap().samples, before.samples);
    let proven = !matches!(before.stored.family, Family::Native | Family::Opaque);
    if proven && !before.stored.unclean {
        assert_eq!(
            same.meta().transfer_syntax(),
            object.meta().transfer_syntax()
        );
        assert!(frames(&same, film.frames).unwrap() == frames(&object, film.frames).unwrap());
    }

    let last = film.frames - 1;
    let boxes = film.snapped(vec![FoundBox {
        frame: last as u32,
        x: film.width as u32 / 3,
        y: film.height as u32 / 4,
        w: film.width as u32 / 5 + 1,
        h: film.height as u32 / 9 + 1,
        score: 1.0,
        ..FoundBox::default()
    }]);
    blank::blank(&mut film, &boxes, Fill::default());
    let written = parse(&encode(bare, &mut film, &boxes).unwrap()).unwrap();
    let after = decode(&written).unwrap();
    assert!(
        after.samples == film.samples,
        "the film is what was written"
    );
    // No view and no rendition of it fails, whatever its samples are.
    assert!(!render_all(&after, 0).is_empty());
    rendition(&after, &[], crate::config::Outside::Keep).unwrap();
    let stays = matches!(before.stored.family, Family::Rle | Family::Dct);
    if stays {
        assert_eq!(
            written.meta().transfer_syntax(),
            object.meta().transfer_syntax()
        );
        let (old, new) = (
            frames(&object, film.frames).unwrap(),
            frames(&written, film.frames).unwrap(),
        );
        assert!(
            before.stored.unclean || old[..last] == new[..last],
            "other frames keep their bytes"
        );
    }
    // Shared chroma is spread over the next pixels too.
    let spread = |grid: usize| usize::from(before.stored.family == Family::Dct && grid > 8) * 2;
    let (across, down) = (spread(before.stored.grid.0), spread(before.stored.grid.1));
    let pixel = before.channels * before.bytes_per_sample;
    let both = before
        .samples
        .chunks(pixel)
        .zip(after.samples.chunks(pixel));
    for (at, _) in both.enumerate().filter(|(_, (a, b))| a != b) {
        let (x, y) = (at % film.width, at / film.width % film.height);
        let inside = boxes.iter().any(|found| {
            let (left, top) = (found.x as usize, found.y as usize);
            at / film.width / film.height == last
                && (left.saturating_sub(across)..left + found.w as usize + across).contains(&x)
                && (top.saturating_sub(down)..top + found.h as usize + down).contains(&y)
        });
        assert!(inside, "pixel {x},{y}");
    }
}

#[test]
fn redaction_of_every_real_file_keeps_what_it_must() {
    let Some(folder) = tests::data() else { return };
    let inventory = std::fs::read_to_string(folder.join("inventory.csv")).unwrap();
    let mut counts: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in inventory.lines().skip(1) {
        let name = line.split(',').next().unwrap();
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            continue;
        };
        let decodable = line.rsplit(',').next().unwrap().starts_with("ok ");
        let result = std::panic::catch_unwind(|| outcome(&bytes));
        let result = result.unwrap_or_else(|_| panic!("{name}"));
        let code = match result {
            Outcome::NotDeidentified => "deidentify_failed",
            Outcome::Refused(error) => error.code(),
            Outcome::Kept => "kept",
        };
        *counts.entry((decodable, code)).or_default() += 1;
        if code != "kept" && code != "undecodable_no_pixels" {
            lines.push(format!("{name}: {code}, decodable {decodable}"));
        }
    }
    for ((decodable, code), count) in &counts {
        eprintln!("decodable {decodable}: {count} {code}");
    }
    eprintln!("{}", lines.join("\n"));
    let missed: Vec<_> = counts
        .keys()
        .filter(|(decodable, code)| *decodable && !["kept", "deidentify_failed"].contains(code))
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
    assert!(
        counts
            .get(&(true, "deidentify_failed"))
            .is_none_or(|count| *count <= 4)
    );
    assert!(
        counts
            .get(&(true, "kept"))
            .is_some_and(|count| *count >= 241)
    );
}
