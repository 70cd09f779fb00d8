//! Real films; skipped where ../shared is absent.

use std::time::Instant;

use crate::support::{code, data, is_inside, nobody, pool, wait};

pub(crate) fn films_lose_every_word_of_the_ground_truth() {
    let Some(folder) = data() else { return };
    let truth = std::fs::read(folder.join("presidio/ground_truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
    let pool = pool();
    for (file, name) in [
        ("0_ORIGINAL_compressed.dcm", "sample_data/0_ORIGINAL.dcm"),
        ("2_ORIGINAL.dcm", "sample_data/2_ORIGINAL.dcm"),
        ("RGB_ORIGINAL.dcm", "sample_data/RGB_ORIGINAL.dcm"),
    ] {
        let Some(words) = truth.get(name).and_then(|words| words.as_array()) else {
            continue;
        };
        let start = Instant::now();
        let bytes = std::fs::read(folder.join("presidio").join(file)).unwrap();
        let boxes = wait(pool.detect(bytes, &nobody())).unwrap().boxes;
        println!(
            "  {file}: {} boxes, {} ms",
            boxes.len(),
            start.elapsed().as_millis()
        );
        for word in words {
            let at = |key: &str| word[key].as_u64().unwrap() as u32;
            let (x, y, w, h) = (at("left"), at("top"), at("width"), at("height"));
            // Presidio measured in a picture with a border of 25 pixels: the plate that the chest film's
            // last word ends on ends at 806, and its box at 839.
            let (x, y) = (x.saturating_sub(25), y.saturating_sub(25));
            let open = (x..x + w).flat_map(|px| (y..y + h).map(move |py| (px, py)));
            let open = open
                .filter(|&(px, py)| !is_inside(&boxes, 0, px, py))
                .count();
            assert_eq!(
                open, 0,
                "{file}: a box of the ground truth at {x},{y} is not covered: {boxes:?}"
            );
        }
    }
}

pub(crate) fn films_of_every_codec_pass_the_pool() {
    let Some(folder) = data() else { return };
    let pool = pool();
    for file in [
        "pydicom-data/RG1_J2KI.dcm",
        "robyoung/RG1_JLSN",
        "torchxrayvision/Fake_MONOHR1.dcm",
    ] {
        let start = Instant::now();
        let result = wait(pool.redact(std::fs::read(folder.join(file)).unwrap(), &nobody()));
        println!("  {file}: {} ms", start.elapsed().as_millis());
        assert_eq!(code(result), "ok", "{file}");
    }
}
