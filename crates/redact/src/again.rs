//! Looks at a film that was looked at before: beside what was blanked, while the samples are still held
//! (`beside`), and at every pixel of what will leave (`is_clean`).

use std::collections::{BTreeMap, BTreeSet};

use crate::components::Component;
use crate::error::RedactError;
use crate::film::Film;
use crate::find;
use crate::look::Tools;
use crate::redacted::FoundBox;
use crate::render::{Grey, Views};

/// Share of a place that a kept marker must cover to explain it.
const EXPLAINED: f32 = 0.7;
/// Grey steps from its median within which a pixel of a blanked place lies: lossy codecs ring.
const FLAT: u8 = 6;
/// Share of a place's pixels that may lie farther away.
const STRAY: usize = 50;
/// Pixels between those by which a view is known again.
const STRIDE: usize = 997;

/// Some pixels of every view of the frames that will be blanked, before they are.
pub(crate) struct Before(BTreeMap<usize, Vec<Vec<u8>>>);

impl Before {
    pub(crate) fn of(views: &mut Views<'_>, boxes: &[FoundBox]) -> Self {
        let redacted = boxes.iter().filter(|one| one.is_redacted());
        let frames: BTreeSet<usize> = redacted.map(|one| one.frame as usize).collect();
        let seen = frames
            .into_iter()
            .map(|frame| (frame, samples(views.frame(frame))));
        Self(seen.collect())
    }

    /// Whether a frame looks as before where nothing was blanked. It does not if its grey follows from all
    /// of its samples, and some of them are gone.
    fn is_like(&self, frame: usize, views: &[Grey], blanked: &[Component]) -> bool {
        let (now, Some(before)) = (samples(views), self.0.get(&frame)) else {
            return false;
        };
        let width = views.first().map_or(1, |view| view.width.max(1));
        let is_blanked = |at: usize| {
            let (x, y) = (at * STRIDE % width, at * STRIDE / width);
            blanked.iter().any(|place| {
                (place.left..place.right).contains(&x) && (place.top..place.bottom).contains(&y)
            })
        };
        now.len() == before.len()
            && now.iter().zip(before).all(|(now, before)| {
                let pairs = now.iter().zip(before).enumerate();
                pairs
                    .filter(|(_, (now, before))| now != before)
                    .all(|(at, _)| is_blanked(at))
            })
    }
}

fn samples(views: &[Grey]) -> Vec<Vec<u8>> {
    let some = |view: &Grey| view.pixels.iter().copied().step_by(STRIDE).collect();
    views.iter().map(some).collect()
}

/// What a look at the blanked film finds now: near the blanked places where the rest looks as before, and
/// everywhere else. Nothing if nothing was blanked, or without the presence net (the other detector joins
/// neighbours to lines by itself).
pub(crate) fn beside(
    film: &Film,
    before: &Before,
    known: &[FoundBox],
    tools: &mut Tools,
) -> Result<Vec<FoundBox>, RedactError> {
    let Some(presence) = &mut tools.presence else {
        return Ok(Vec::new());
    };
    let mut fresh = Vec::new();
    let mut views = Views::of(film);
    for frame in 0..film.frames {
        let here = |one: &&FoundBox| one.frame as usize == frame;
        let blanked: Vec<Component> = known
            .iter()
            .filter(here)
            .filter(|one| one.is_redacted())
            .map(component)
            .collect();
        if blanked.is_empty() {
            continue;
        }
        let pixels = area(known, frame);
        let seen = views.frame(frame);
        let is_like = before.is_like(frame, seen, &blanked);
        for view in seen {
            let seen = if is_like {
                find::near(view, &blanked, presence)?
            } else {
                presence.look_near(view)?.sure
            };
            let seen = find::believed(seen, pixels, view, &mut tools.detector)?;
            fresh.extend(unexplained(seen, view, frame, known));
        }
    }
    Ok(film.snapped(fresh))
}

/// Whether no view of any frame shows text but the markers that were kept.
pub(crate) fn is_clean(
    film: &Film,
    expected: &[FoundBox],
    tools: &mut Tools,
) -> Result<bool, RedactError> {
    tools.alert(false);
    let mut views = Views::of(film);
    for frame in 0..film.frames {
        let pixels = area(expected, frame);
        for view in views.frame(frame) {
            let (detector, presence) = (&mut tools.detector, tools.presence.as_mut());
            let seen = find::plainly(view, pixels, detector, presence)?;
            if !unexplained(seen, view, frame, expected).is_empty() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Places that are neither kept markers nor flat.
fn unexplained(
    seen: Vec<Component>,
    view: &Grey,
    frame: usize,
    known: &[FoundBox],
) -> Vec<FoundBox> {
    let kept = |place: &Component| {
        known
            .iter()
            .filter(|one| one.frame as usize == frame && !one.is_redacted())
            .any(|one| covered(place, &component(one)) >= EXPLAINED)
    };
    seen.into_iter()
        .filter(|place| !kept(place) && !is_flat(view, place))
        .map(|place| FoundBox {
            frame: frame as u32,
            x: place.left as u32,
            y: place.top as u32,
            w: (place.right - place.left) as u32,
            h: (place.bottom - place.top) as u32,
            score: place.score,
            ..FoundBox::default()
        })
        .collect()
}

/// Pixels of a frame that were blanked; where boxes overlap, more than there are.
fn area(known: &[FoundBox], frame: usize) -> usize {
    known
        .iter()
        .filter(|one| one.frame as usize == frame && one.is_redacted())
        .map(|one| one.w as usize * one.h as usize)
        .sum()
}

fn component(one: &FoundBox) -> Component {
    Component {
        left: one.x as usize,
        top: one.y as usize,
        right: one.x as usize + one.w as usize,
        bottom: one.y as usize + one.h as usize,
        score: one.score,
        thickness: one.h.min(one.w) as usize,
    }
}

/// Share of `place` that lies under `other`.
fn covered(place: &Component, other: &Component) -> f32 {
    let side = |from: usize, to: usize, other_from: usize, other_to: usize| {
        to.min(other_to).saturating_sub(from.max(other_from))
    };
    let shared = side(place.left, place.right, other.left, other.right)
        * side(place.top, place.bottom, other.top, other.bottom);
    let area = (place.right - place.left) * (place.bottom - place.top);
    shared as f32 / area.max(1) as f32
}

/// Whether nothing stands in a place: it is one grey.
fn is_flat(view: &Grey, place: &Component) -> bool {
    let rows = (place.top..place.bottom).flat_map(|row| {
        view.pixels
            .get(row * view.width + place.left..row * view.width + place.right)
            .unwrap_or_default()
    });
    let mut pixels: Vec<u8> = rows.copied().collect();
    if pixels.is_empty() {
        return true;
    }
    let middle = pixels.len() / 2;
    let (_, &mut median, _) = pixels.select_nth_unstable(middle);
    let stray = pixels.iter().filter(|pixel| pixel.abs_diff(median) > FLAT);
    stray.count() * STRAY <= pixels.len()
}

#[cfg(test)]
mod tests {
    use super::{Before, component, samples, unexplained};
    use crate::redacted::{Action, FoundBox};
    use crate::render::Grey;

    #[test]
    fn a_view_is_known_again_but_where_it_was_blanked() {
        let view = |shift: u8| Grey {
            width: 100,
            height: 100,
            pixels: (0..10_000).map(|at| (at % 200) as u8 + shift).collect(),
        };
        let before = Before([(0, samples(&[view(0)]))].into());
        assert!(before.is_like(0, &[view(0)], &[]));
        assert!(!before.is_like(0, &[view(1)], &[]));
        assert!(!before.is_like(0, &[view(0), view(0)], &[]), "another view");
        let mut blanked = view(0);
        blanked.pixels[997] = 250;
        let place = FoundBox {
            x: 90,
            y: 5,
            w: 10,
            h: 10,
            ..FoundBox::default()
        };
        assert!(!before.is_like(0, &[blanked.clone()], &[]));
        assert!(before.is_like(0, &[blanked], &[component(&place)]));
    }

    #[test]
    fn markers_that_were_kept_and_flat_places_are_no_text() {
        let view = Grey {
            width: 60,
            height: 20,
            pixels: (0..1200)
                .map(|at| {
                    if at % 60 < 20 {
                        (at % 5 * 50) as u8
                    } else {
                        90
                    }
                })
                .collect(),
        };
        let at = |x: u32| FoundBox {
            x,
            y: 4,
            w: 15,
            h: 10,
            ..FoundBox::default()
        };
        let seen = || vec![component(&at(2)), component(&at(40))];
        assert_eq!(unexplained(seen(), &view, 0, &[]).len(), 1);
        let kept = FoundBox {
            action: Action::Keep,
            ..at(1)
        };
        assert!(unexplained(seen(), &view, 0, &[kept]).is_empty());
        // Not this marker, another frame's marker, and a place that should be blank and is not.
        let other = [
            FoundBox { x: 40, ..kept },
            FoundBox { frame: 1, ..kept },
            at(2),
        ];
        assert_eq!(unexplained(seen(), &view, 0, &other).len(), 1);
    }
}
