//! After `render`, before `blank`: where is text? Every frame, every view, native scale in tiles that
//! overlap by more than a line of small text is high, and once more from afar for large letters.

use crate::components::{Component, components};
use crate::error::RedactError;
use crate::film::Film;
use crate::model::Detector;
use crate::redacted::FoundBox;
use crate::render::{Grey, render_all};
use crate::rendition::scale_to;

/// Long side above which a film is looked at from afar instead of at native scale: text that a person
/// can read on a film of this size is larger than two of its pixels.
const NATIVE_SIDE: usize = 2560;

/// Finds text in every frame.
pub(crate) fn find(film: &Film, detector: &mut Detector) -> Result<Vec<FoundBox>, RedactError> {
    let mut boxes = Vec::new();
    for frame in 0..film.frames {
        let mut found = Vec::new();
        for view in render_all(film, frame) {
            look(&view, detector, &mut found)?;
        }
        boxes.extend(joined(found).into_iter().map(|c| FoundBox {
            frame: frame as u32,
            x: c.left as u32,
            y: c.top as u32,
            w: (c.right - c.left) as u32,
            h: (c.bottom - c.top) as u32,
            score: c.score,
        }));
    }
    Ok(boxes)
}

fn look(
    view: &Grey,
    detector: &mut Detector,
    found: &mut Vec<Component>,
) -> Result<(), RedactError> {
    // A frame without any contrast has no text; the net is not asked.
    if view.pixels.iter().min() == view.pixels.iter().max() {
        return Ok(());
    }
    let long = view.width.max(view.height);
    if long > NATIVE_SIDE {
        tiles(&scale_to(view, NATIVE_SIDE), view, detector, found)?;
    } else {
        tiles(view, view, detector, found)?;
    }
    if long > detector.tile() {
        tiles(&scale_to(view, detector.tile()), view, detector, found)?;
    }
    Ok(())
}

/// Looks at `scaled` tile by tile and adds boxes in the pixels of `original`.
fn tiles(
    scaled: &Grey,
    original: &Grey,
    detector: &mut Detector,
    found: &mut Vec<Component>,
) -> Result<(), RedactError> {
    let (tile, overlap) = (detector.tile(), detector.overlap());
    for top in starts(scaled.height, tile, overlap) {
        for left in starts(scaled.width, tile, overlap) {
            let (width, height) = (tile.min(scaled.width - left), tile.min(scaled.height - top));
            let mut pixels = Vec::with_capacity(width * height);
            for row in top..top + height {
                let from = row * scaled.width + left;
                pixels.extend_from_slice(
                    scaled
                        .pixels
                        .get(from..from + width)
                        .ok_or(RedactError::DetectorFailed)?,
                );
            }
            if pixels.iter().min() == pixels.iter().max() {
                continue;
            }
            let map = detector.look(&pixels, width, height)?;
            for core in components(&map, width, height, detector.thresholds()) {
                found.push(grown(core, left, top, scaled, original));
            }
        }
    }
    Ok(())
}

/// Where tiles begin so that they cover `side` and overlap by at least `overlap`.
fn starts(side: usize, tile: usize, overlap: usize) -> Vec<usize> {
    if side <= tile {
        return vec![0];
    }
    let mut starts: Vec<usize> = (0..side - tile).step_by(tile - overlap).collect();
    starts.push(side - tile);
    starts
}

/// The net is trained on shrunken text regions (DB, shrink ratio 0.4): a core is about 0.4 of the
/// line's height. It grows by its own height plus a margin on every side, then back to the scale of the film.
fn grown(core: Component, left: usize, top: usize, scaled: &Grey, original: &Grey) -> Component {
    let line = (core.right - core.left).min(core.bottom - core.top);
    let margin = line.min(96) + 4;
    let across = |at: usize| (at * original.width) / scaled.width;
    let down = |at: usize| (at * original.height) / scaled.height;
    Component {
        left: across((core.left + left).saturating_sub(margin)),
        top: down((core.top + top).saturating_sub(margin)),
        right: (across(core.right + left + margin) + 1).min(original.width),
        bottom: (down(core.bottom + top + margin) + 1).min(original.height),
        score: core.score,
    }
}

/// Joins boxes that mostly lie in each other: the same line seen in two tiles or views.
fn joined(mut boxes: Vec<Component>) -> Vec<Component> {
    let area = |c: &Component| (c.right - c.left) * (c.bottom - c.top);
    let mut out: Vec<Component> = Vec::new();
    while let Some(mut one) = boxes.pop() {
        while let Some(at) = out.iter().position(|other| {
            let width = one
                .right
                .min(other.right)
                .saturating_sub(one.left.max(other.left));
            let height = one
                .bottom
                .min(other.bottom)
                .saturating_sub(one.top.max(other.top));
            width * height * 2 > area(&one).min(area(other))
        }) {
            let other = out.swap_remove(at);
            one = Component {
                left: one.left.min(other.left),
                top: one.top.min(other.top),
                right: one.right.max(other.right),
                bottom: one.bottom.max(other.bottom),
                score: one.score.max(other.score),
            };
        }
        out.push(one);
    }
    out.sort_by_key(|c| (c.top, c.left));
    out
}

#[cfg(test)]
mod tests {
    use super::{joined, starts};
    use crate::components::Component;

    #[test]
    fn tiles_cover_every_pixel_and_overlap() {
        for side in [1, 959, 960, 961, 1000, 1760, 1761, 2560] {
            let starts = starts(side, 960, 160);
            let mut covered = 0;
            for start in &starts {
                assert!(*start == 0 || *start + 160 <= covered, "{side}: {starts:?}");
                covered = (start + 960).min(side);
            }
            assert_eq!(covered, side);
        }
    }

    proptest::proptest! {
        #[test]
        fn joining_covers_what_was_found(list in proptest::collection::vec((0usize..90, 0usize..90, 1usize..20, 1usize..20), 0..20)) {
            let boxes: Vec<Component> = list.iter().map(|&(x, y, w, h)| Component { left: x, top: y, right: x + w, bottom: y + h, score: 0.5 }).collect();
            let out = joined(boxes.clone());
            for b in boxes {
                assert!(out.iter().any(|o| o.left <= b.left && o.top <= b.top && o.right >= b.right && o.bottom >= b.bottom));
            }
        }
    }
}
