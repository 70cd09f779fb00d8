//! After `render`, before `blank`: where is text? Every frame, every view. The text-presence net looks at
//! every pixel, and the detector of lines looks again where that fires or sharp strokes stand. Without
//! the presence net the detector of lines looks at everything: at native scale in tiles that overlap by
//! more than a line of small text is high, and once more from afar for large letters.

use crate::components::{Component, Rule, Score, components};
use crate::edges::strokes;
use crate::error::RedactError;
use crate::model::{Detector, Map};
use crate::presence::{Presence, REACH, Seen};
use crate::redacted::FoundBox;
use crate::render::{Grey, Views};
use crate::rendition::scale_to;

/// Long side above which a film is looked at from afar instead of at native scale: text that a person
/// can read on a film of this size is larger than two of its pixels.
const NATIVE_SIDE: usize = 2560;

/// Cores thicker than this are looked at again from afar, where they are about `NORMAL` thick.
const THICK: usize = 28;
const NORMAL: usize = 10;

/// Short side below which a film is enlarged twofold (the authors of the net use the same bound).
const SMALL_SIDE: usize = 736;

/// Side of the squares in which places are gathered that the second detector looks at, in pixels; it
/// sees one more on every side.
const SQUARE: usize = 32;
/// Share of a place seen from afar that is known from the look at native scale: its boxes are closer.
const SEEN_NEAR: f32 = 0.4;
/// Part of a frame that text may cover: beyond it the presence net needs a second opinion.
const CROWDED: usize = 10;
/// Pixels around what was blanked in which something new is believed.
const BESIDE: usize = 64;
/// Lines lower than this are enlarged twofold for it.
const LOW: usize = 16;

/// Finds text in every frame.
pub(crate) fn find(
    views: &mut Views<'_>,
    detector: &mut Detector,
    mut presence: Option<&mut Presence>,
) -> Result<Vec<FoundBox>, RedactError> {
    let mut boxes = Vec::new();
    for frame in 0..views.film().frames {
        let mut found = Vec::new();
        for view in views.frame(frame) {
            match presence.as_deref_mut() {
                Some(presence) => look_guided(view, presence, detector, &mut found)?,
                None => look(view, detector, &mut found)?,
            }
        }
        boxes.extend(joined(found).into_iter().map(|c| FoundBox {
            frame: frame as u32,
            x: c.left as u32,
            y: c.top as u32,
            w: (c.right - c.left) as u32,
            h: (c.bottom - c.top) as u32,
            score: c.score,
            ..FoundBox::default()
        }));
    }
    Ok(boxes)
}

/// What the presence net is sure of counts. Where it doubts, the detector of lines decides; and where it
/// is sure, that one finds the rest of the line.
fn look_guided(
    view: &Grey,
    presence: &mut Presence,
    detector: &mut Detector,
    found: &mut Vec<Component>,
) -> Result<(), RedactError> {
    let Seen {
        sure,
        doubtful,
        far,
    } = presence.look(view)?;
    let sure = believed(sure, 0, view, detector)?;
    let mut places: Vec<Component> = strokes(view);
    places.retain(|stroke| !sure.iter().any(|text| holds(text, stroke)));
    places.extend(&sure);
    places.extend(doubtful);
    ask(&places, view, 1, view, detector, found)?;
    if let Some(mut far) = far {
        far.places
            .retain(|place| share_under(place, far.factor, &sure) < SEEN_NEAR);
        ask(&far.places, &far.picture, far.factor, view, detector, found)?;
    }
    found.extend(sure);
    Ok(())
}

/// Share of a place, of a picture made smaller by `factor`, that lies under `others`.
fn share_under(place: &Component, factor: usize, others: &[Component]) -> f32 {
    let side = |from: usize, to: usize, other_from: usize, other_to: usize| {
        (to * factor)
            .min(other_to)
            .saturating_sub((from * factor).max(other_from))
    };
    let shared = |other: &Component| {
        side(place.left, place.right, other.left, other.right)
            * side(place.top, place.bottom, other.top, other.bottom)
    };
    let area = (place.right - place.left) * (place.bottom - place.top) * factor * factor;
    others.iter().map(shared).sum::<usize>() as f32 / area.max(1) as f32
}

/// What the presence net is sure of, as far as it is to be believed. `blanked` pixels count with what is
/// seen.
pub(crate) fn believed(
    sure: Vec<Component>,
    blanked: usize,
    view: &Grey,
    detector: &mut Detector,
) -> Result<Vec<Component>, RedactError> {
    let is_crowded = is_crowded(&sure, blanked, view);
    confirmed(sure, is_crowded, view, detector)
}

/// A net that takes a good part of a frame for text is out of its domain: other organs than it was taught.
fn is_crowded(sure: &[Component], blanked: usize, view: &Grey) -> bool {
    let area = |one: &Component| (one.right - one.left) * (one.bottom - one.top);
    let all = blanked + sure.iter().map(area).sum::<usize>();
    all * CROWDED > view.width * view.height
}

/// On a crowded frame the detector of lines decides at each place.
fn confirmed(
    places: Vec<Component>,
    is_crowded: bool,
    view: &Grey,
    detector: &mut Detector,
) -> Result<Vec<Component>, RedactError> {
    if !is_crowded {
        return Ok(places);
    }
    let mut found = Vec::new();
    ask(&places, view, 1, view, detector, &mut found)?;
    Ok(found)
}

/// The detector of lines looks at places of `picture`, which is `view` made smaller by `factor`.
fn ask(
    places: &[Component],
    picture: &Grey,
    factor: usize,
    view: &Grey,
    detector: &mut Detector,
    found: &mut Vec<Component>,
) -> Result<(), RedactError> {
    let (tile, overlap) = (detector.tile(), detector.overlap());
    for place in gathered(places, picture) {
        let (width, height) = (place.right - place.left, place.bottom - place.top);
        let (tops, lefts) = (starts(height, tile, overlap), starts(width, tile, overlap));
        for (top, left) in tops
            .iter()
            .flat_map(|top| lefts.iter().map(move |left| (top, left)))
        {
            let (left, top) = (place.left + left, place.top + top);
            let (width, height) = (tile.min(place.right - left), tile.min(place.bottom - top));
            let part = cut(picture, left, top, width, height);
            let is_low = place.thickness < LOW && 2 * width.max(height) <= tile;
            let enlarge = if is_low { 2 } else { 1 };
            let scale = factor as f32 / enlarge as f32;
            let at = Place {
                left: (left * factor) as f32,
                top: (top * factor) as f32,
                across: scale,
                down: scale,
            };
            let part = if is_low {
                enlarged(&part, enlarge)
            } else {
                part
            };
            look_at(&part, at, view, detector, found)?;
        }
    }
    Ok(())
}

/// What is plainly text in one view, of whose frame so many pixels were blanked.
pub(crate) fn plainly(
    view: &Grey,
    blanked: usize,
    detector: &mut Detector,
    presence: Option<&mut Presence>,
) -> Result<Vec<Component>, RedactError> {
    if let Some(presence) = presence {
        let sure = presence.look_near(view)?.sure;
        let is_crowded = is_crowded(&sure, blanked, view);
        let mut plain = sure;
        plain.retain(|place| presence.is_plain(place));
        return confirmed(plain, is_crowded, view, detector);
    }
    let mut found = Vec::new();
    look(view, detector, &mut found)?;
    Ok(found)
}

/// What the presence net is sure of where its answer may have changed because places were blanked.
pub(crate) fn near(
    view: &Grey,
    blanked: &[Component],
    presence: &mut Presence,
) -> Result<Vec<Component>, RedactError> {
    let changed: Vec<Component> = blanked
        .iter()
        .map(|place| Component {
            left: place.left.saturating_sub(REACH),
            top: place.top.saturating_sub(REACH),
            right: place.right + REACH,
            bottom: place.bottom + REACH,
            ..*place
        })
        .collect();
    let mut found = Vec::new();
    for place in gathered(&changed, view) {
        // Whole steps of the net from the film's corner: it says what it said of the whole film.
        let (left, top) = presence.aligned(place.left, place.top);
        let part = cut(view, left, top, place.right - left, place.bottom - top);
        let seen = presence.look_near(&part)?.sure.into_iter();
        let moved = seen.map(|one| Component {
            left: one.left + left,
            top: one.top + top,
            right: one.right + left,
            bottom: one.bottom + top,
            ..one
        });
        // At the part's own edges the net sees less than within the whole.
        let is_beside = |one: &Component| {
            blanked.iter().any(|place| {
                one.left < place.right + BESIDE
                    && one.right + BESIDE > place.left
                    && one.top < place.bottom + BESIDE
                    && one.bottom + BESIDE > place.top
            })
        };
        found.extend(moved.filter(is_beside));
    }
    Ok(found)
}

fn holds(outer: &Component, inner: &Component) -> bool {
    outer.left <= inner.left
        && outer.top <= inner.top
        && outer.right >= inner.right
        && outer.bottom >= inner.bottom
}

/// Rectangles that hold every place with what is around it, none much larger than what it holds; their
/// thickness is that of the thinnest place inside.
fn gathered(places: &[Component], view: &Grey) -> Vec<Component> {
    let (across, down) = (view.width.div_ceil(SQUARE), view.height.div_ceil(SQUARE));
    let mut squares = Map {
        width: across,
        probability: vec![0.0; across * down],
    };
    for place in places {
        for y in place.top / SQUARE..place.bottom.div_ceil(SQUARE).min(down) {
            let row = y * across;
            let columns = place.left / SQUARE..place.right.div_ceil(SQUARE).min(across);
            if let Some(part) = squares
                .probability
                .get_mut(row + columns.start..row + columns.end)
            {
                part.fill(1.0);
            }
        }
    }
    let rule = Rule {
        pixel: 0.5,
        component: 0.5,
        score: Score::Highest,
        reach: 1,
        smallest: 1,
    };
    let mut rectangles = components(&squares, across, down, rule);
    for one in &mut rectangles {
        one.left = (one.left * SQUARE).saturating_sub(SQUARE);
        one.top = (one.top * SQUARE).saturating_sub(SQUARE);
        one.right = ((one.right + 1) * SQUARE).min(view.width);
        one.bottom = ((one.bottom + 1) * SQUARE).min(view.height);
        let inside = places.iter().filter(|place| {
            place.left < one.right
                && place.right > one.left
                && place.top < one.bottom
                && place.bottom > one.top
        });
        one.thickness = inside.map(|place| place.thickness).min().unwrap_or(LOW);
    }
    rectangles
}

fn look(
    view: &Grey,
    detector: &mut Detector,
    found: &mut Vec<Component>,
) -> Result<(), RedactError> {
    let (long, short) = (view.width.max(view.height), view.width.min(view.height));
    if short < SMALL_SIDE && long < SMALL_SIDE * 2 {
        // Small films carry small text: the net wants letters of about 15 pixels.
        tiles(&enlarged(view, 2), view, detector, found)?;
    } else if long > NATIVE_SIDE {
        tiles(&scale_to(view, NATIVE_SIDE), view, detector, found)?;
    } else {
        tiles(view, view, detector, found)?;
    }
    if long > detector.tile() + detector.overlap() {
        tiles(&scale_to(view, detector.tile()), view, detector, found)?;
    }
    Ok(())
}

/// Enlarges by a whole number, linear between pixel centres.
fn enlarged(view: &Grey, factor: usize) -> Grey {
    let at = |new: usize, old_side: usize| {
        let place = ((new as f32 + 0.5) / factor as f32 - 0.5).max(0.0);
        let low = place as usize;
        (low, (low + 1).min(old_side - 1), place - low as f32)
    };
    let (width, height) = (view.width * factor, view.height * factor);
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        let (upper, lower, down) = at(y, view.height);
        for x in 0..width {
            let (left, right, across) = at(x, view.width);
            let value = |x: usize, y: usize| {
                f32::from(view.pixels.get(y * view.width + x).copied().unwrap_or(0))
            };
            let top = value(left, upper) * (1.0 - across) + value(right, upper) * across;
            let bottom = value(left, lower) * (1.0 - across) + value(right, lower) * across;
            pixels.push((top * (1.0 - down) + bottom * down + 0.5) as u8);
        }
    }
    Grey {
        width,
        height,
        pixels,
    }
}

/// Where a looked-at picture lies in the film: a pixel of it is `across` by `down` film pixels.
#[derive(Debug, Clone, Copy)]
struct Place {
    left: f32,
    top: f32,
    across: f32,
    down: f32,
}

/// Looks at `scaled` tile by tile and adds boxes in the pixels of `original`.
fn tiles(
    scaled: &Grey,
    original: &Grey,
    detector: &mut Detector,
    found: &mut Vec<Component>,
) -> Result<(), RedactError> {
    let across = original.width as f32 / scaled.width as f32;
    let down = original.height as f32 / scaled.height as f32;
    let long = scaled.width.max(scaled.height);
    // A little more than a tile is cheaper in one piece than in four that overlap.
    let in_one = long <= detector.tile() + detector.overlap();
    let side = if in_one { long } else { detector.tile() };
    for top in starts(scaled.height, side, detector.overlap()) {
        for left in starts(scaled.width, side, detector.overlap()) {
            let tile = cut(scaled, left, top, side, side);
            let place = Place {
                left: left as f32 * across,
                top: top as f32 * down,
                across,
                down,
            };
            look_at(&tile, place, original, detector, found)?;
        }
    }
    Ok(())
}

/// Looks at one picture. Cores far thicker than a line (the net takes a rib cage for a letter) are
/// looked at again from so far away that a letter of that size would be a normal one; they count only
/// if they are found there too.
fn look_at(
    picture: &Grey,
    place: Place,
    original: &Grey,
    detector: &mut Detector,
    found: &mut Vec<Component>,
) -> Result<(), RedactError> {
    let cores = seen(picture, detector)?;
    for core in cores {
        if core.thickness <= THICK {
            found.push(grown(core, place, original));
            continue;
        }
        let reach = (core.right - core.left).max(core.bottom - core.top) / 2;
        let (left, top) = (
            core.left.saturating_sub(REACH),
            core.top.saturating_sub(REACH),
        );
        let part = cut(
            picture,
            left,
            top,
            core.right + reach - left,
            core.bottom + reach - top,
        );
        let long = part.width.max(part.height);
        let small = scale_to(&part, (long * NORMAL / core.thickness).max(32).min(long));
        let across = place.across * part.width as f32 / small.width as f32;
        let down = place.down * part.height as f32 / small.height as f32;
        let nearer = Place {
            left: place.left + left as f32 * place.across,
            top: place.top + top as f32 * place.down,
            across,
            down,
        };
        for again in seen(&small, detector)?
            .into_iter()
            .filter(|again| again.thickness <= THICK)
        {
            found.push(grown(again, nearer, original));
        }
    }
    Ok(())
}

/// Cores in one picture; a picture without any contrast has no text and the net is not asked.
fn seen(picture: &Grey, detector: &mut Detector) -> Result<Vec<Component>, RedactError> {
    if picture.pixels.iter().min() == picture.pixels.iter().max() {
        return Ok(Vec::new());
    }
    let map = detector.look(&picture.pixels, picture.width, picture.height)?;
    Ok(components(
        &map,
        picture.width,
        picture.height,
        detector.rule(),
    ))
}

/// A part of a picture, cut off at its edges.
fn cut(from: &Grey, left: usize, top: usize, width: usize, height: usize) -> Grey {
    let (right, bottom) = (
        (left + width).min(from.width),
        (top + height).min(from.height),
    );
    let rows = (top..bottom).flat_map(|row| {
        from.pixels
            .get(row * from.width + left..row * from.width + right)
            .unwrap_or_default()
    });
    Grey {
        width: right - left,
        height: bottom - top,
        pixels: rows.copied().collect(),
    }
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

/// The net is trained on shrunken text regions (DB, shrink ratio 0.4): a core is well below half of the
/// line's height. It grows by more than its own height on every side, then back to the scale of the
/// film.
fn grown(core: Component, place: Place, original: &Grey) -> Component {
    let margin = (core.thickness + core.thickness / 2) as f32 + 5.0;
    let low =
        |at: usize, from: f32, scale: f32| (from + (at as f32 - margin) * scale).max(0.0) as usize;
    let high =
        |at: usize, from: f32, scale: f32| (from + (at as f32 + margin) * scale).ceil() as usize;
    let left = low(core.left, place.left, place.across).min(original.width - 1);
    let top = low(core.top, place.top, place.down).min(original.height - 1);
    Component {
        left,
        top,
        right: high(core.right, place.left, place.across).clamp(left + 1, original.width),
        bottom: high(core.bottom, place.top, place.down).clamp(top + 1, original.height),
        ..core
    }
}

/// Joins boxes that are nearly the same (a line seen in two tiles or views) and drops boxes inside
/// others. Boxes that merely touch stay apart: their common hull could swallow a lung.
fn joined(mut boxes: Vec<Component>) -> Vec<Component> {
    let area = |c: &Component| (c.right - c.left) * (c.bottom - c.top);
    let mut out: Vec<Component> = Vec::new();
    while let Some(mut one) = boxes.pop() {
        while let Some(at) = out.iter().position(|other| {
            let hull = hull(&one, other);
            area(&hull) * 10 <= area(&one).max(area(other)) * 12
        }) {
            one = hull(&one, &out.swap_remove(at));
        }
        out.push(one);
    }
    out.sort_by_key(|c| (c.top, c.left));
    out
}

fn hull(one: &Component, other: &Component) -> Component {
    Component {
        left: one.left.min(other.left),
        top: one.top.min(other.top),
        right: one.right.max(other.right),
        bottom: one.bottom.max(other.bottom),
        score: one.score.max(other.score),
        thickness: one.thickness.max(other.thickness),
    }
}

#[cfg(test)]
mod tests {
    use super::{gathered, joined, starts};
    use crate::components::Component;
    use crate::render::Grey;

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
        fn every_place_is_looked_at_again(list in proptest::collection::vec((0usize..400, 0usize..300, 1usize..90, 1usize..90), 0..12)) {
            let view = Grey { width: 500, height: 400, pixels: Vec::new() };
            let places: Vec<Component> = list.iter().map(|&(x, y, w, h)| Component { left: x, top: y, right: x + w, bottom: y + h, score: 0.5, thickness: h }).collect();
            let rectangles = gathered(&places, &view);
            for place in &places {
                for (x, y) in [(place.left, place.top), (place.right - 1, place.bottom - 1), (place.left, place.bottom - 1)] {
                    assert!(rectangles.iter().any(|r| r.left <= x && x < r.right && r.top <= y && y < r.bottom));
                }
            }
            for r in rectangles {
                assert!(r.left < r.right && r.right <= 500 && r.top < r.bottom && r.bottom <= 400);
            }
        }

        #[test]
        fn joining_covers_what_was_found(list in proptest::collection::vec((0usize..90, 0usize..90, 1usize..20, 1usize..20), 0..20)) {
            let boxes: Vec<Component> = list.iter().map(|&(x, y, w, h)| Component { left: x, top: y, right: x + w, bottom: y + h, score: 0.5, thickness: 1 }).collect();
            let out = joined(boxes.clone());
            for b in boxes {
                assert!(out.iter().any(|o| o.left <= b.left && o.top <= b.top && o.right >= b.right && o.bottom >= b.bottom));
            }
        }
    }
}
