//! Used by `rendition`: what of a film shows no patient? Collimated and unexposed margins, direct exposure
//! beside the body, and what lies in them: label plates, edges of cassettes, clothes pegs. The model sees
//! none of it, so it can learn nothing from it and nothing in it can be read. Markers that were kept stay.
//! The object itself is not changed: there nothing but text is blanked.
//!
//! Only what is flat, at an end of the film's own range and connected with its border is outside, and
//! what that encloses if it is small. A lung at the border is neither flat nor small.

use crate::config::Outside;
use crate::render::Grey;

/// Cells along the long side.
const CELLS: usize = 128;
/// Standard deviation of a flat cell, in grey steps.
const FLAT: f32 = 3.0;
/// Grey steps between neighbours in one margin: it may be shaded, but has no edges.
const STEP: f32 = 4.0;
/// Share of the film's range from its ends in which a margin's grey lies.
const END: f32 = 0.08;
/// Share of the film that a margin has at least, and all of them together at most: more is no margin but a
/// film that shows little.
const LEAST: f32 = 0.004;
const MOST: f32 = 0.6;
/// Share of the film that something enclosed has at most.
const ENCLOSED: f32 = 0.02;

/// A rectangle in pixels of the rendition: left, top, right, bottom.
pub(crate) type Area = (usize, usize, usize, usize);

#[derive(Debug, Clone, Copy)]
struct Cell {
    mean: f32,
    is_flat: bool,
}

struct Grid {
    cells: Vec<Cell>,
    across: usize,
    down: usize,
    side: usize,
}

/// Blanks or cuts off what is outside. `kept` are places that stay.
pub(crate) fn without_outside(picture: Grey, kept: &[Area], policy: Outside) -> Grey {
    if policy == Outside::Keep {
        return picture;
    }
    let grid = grid(&picture);
    let Some(outside) = outside(&grid, kept) else {
        return picture;
    };
    match policy {
        Outside::Crop => cropped(picture, &grid, &outside),
        _ => blanked(picture, &grid, &outside),
    }
}

fn grid(picture: &Grey) -> Grid {
    let side = picture.width.max(picture.height).div_ceil(CELLS).max(1);
    let (across, down) = (picture.width.div_ceil(side), picture.height.div_ceil(side));
    let mut sums = vec![(0.0_f32, 0.0_f32, 0.0_f32); across * down];
    for (y, row) in picture.pixels.chunks(picture.width.max(1)).enumerate() {
        for (x, part) in row.chunks(side).enumerate() {
            if let Some((sum, squares, count)) = sums.get_mut(y / side * across + x) {
                for &pixel in part {
                    *sum += f32::from(pixel);
                    *squares += f32::from(pixel) * f32::from(pixel);
                    *count += 1.0;
                }
            }
        }
    }
    let cells = sums
        .into_iter()
        .map(|(sum, squares, count)| {
            let mean = sum / f32::max(count, 1.0);
            let variance = squares / f32::max(count, 1.0) - mean * mean;
            Cell {
                mean,
                is_flat: variance <= FLAT * FLAT,
            }
        })
        .collect();
    Grid {
        cells,
        across,
        down,
        side,
    }
}

impl Grid {
    fn is_border(&self, at: usize) -> bool {
        let (x, y) = (at % self.across, at / self.across);
        x == 0 || y == 0 || x + 1 == self.across || y + 1 == self.down
    }

    fn around(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        let (x, y, across, down) = (at % self.across, at / self.across, self.across, self.down);
        [
            (x > 0).then(|| at - 1),
            (x + 1 < across).then(|| at + 1),
            (y > 0).then(|| at - across),
            (y + 1 < down).then(|| at + across),
        ]
        .into_iter()
        .flatten()
    }

    /// Cells that can be reached from `start` over neighbours that `goes` allows.
    fn reached(&self, start: usize, goes: impl Fn(usize, usize) -> bool) -> Vec<usize> {
        let mut seen = vec![false; self.cells.len()];
        let (mut stack, mut found) = (vec![start], Vec::new());
        while let Some(at) = stack.pop() {
            let Some(mark) = seen.get_mut(at).filter(|mark| !**mark) else {
                continue;
            };
            *mark = true;
            found.push(at);
            stack.extend(self.around(at).filter(|&next| goes(at, next)));
        }
        found
    }
}

/// Of each cell whether it is outside; `None` if nothing is.
fn outside(grid: &Grid, kept: &[Area]) -> Option<Vec<bool>> {
    let mut greys: Vec<f32> = grid.cells.iter().map(|cell| cell.mean).collect();
    greys.sort_unstable_by(f32::total_cmp);
    let (low, high) = (*greys.first()?, *greys.last()?);
    let end = (high - low) * END;
    let all = grid.cells.len() as f32;
    let cell = |at: usize| grid.cells.get(at).copied();
    let is_end = |at: usize| {
        cell(at).is_some_and(|one| one.is_flat && (one.mean <= low + end || one.mean >= high - end))
    };
    let mut outside = vec![false; grid.cells.len()];
    for start in 0..grid.cells.len() {
        if outside.get(start) != Some(&false) || !grid.is_border(start) || !is_end(start) {
            continue;
        }
        let margin = grid.reached(start, |from, to| {
            let step = cell(from)
                .zip(cell(to))
                .map(|(one, next)| one.mean - next.mean);
            is_end(to) && step.is_some_and(|step| step.abs() <= STEP)
        });
        if margin.len() as f32 >= LEAST * all {
            for at in margin {
                if let Some(mark) = outside.get_mut(at) {
                    *mark = true;
                }
            }
        }
    }
    if !outside.contains(&true) {
        return None;
    }
    enclose(grid, &mut outside, kept);
    let share = outside.iter().filter(|mark| **mark).count() as f32 / all;
    (share <= MOST).then_some(outside)
}

/// Small things with nothing but margin and border around them are outside too, if they are not kept.
fn enclose(grid: &Grid, outside: &mut [bool], kept: &[Area]) {
    let mut seen = outside.to_vec();
    for start in 0..outside.len() {
        if seen.get(start) != Some(&false) {
            continue;
        }
        let thing = grid.reached(start, |_, to| outside.get(to) == Some(&false));
        let is_kept = thing.iter().any(|&at| {
            let (x, y) = (at % grid.across * grid.side, at / grid.across * grid.side);
            kept.iter().any(|&(left, top, right, bottom)| {
                left < x + grid.side && right > x && top < y + grid.side && bottom > y
            })
        });
        let is_small = thing.len() as f32 <= ENCLOSED * outside.len() as f32;
        for at in thing {
            if let Some(mark) = seen.get_mut(at) {
                *mark = true;
            }
            if let Some(mark) = outside.get_mut(at).filter(|_| is_small && !is_kept) {
                *mark = true;
            }
        }
    }
}

/// Every outside cell gets the grey of the nearest margin to its left, above, right or below.
fn blanked(mut picture: Grey, grid: &Grid, outside: &[bool]) -> Grey {
    let flat: Vec<f32> = outside
        .iter()
        .zip(&grid.cells)
        .filter(|(outside, cell)| **outside && cell.is_flat)
        .map(|(_, cell)| cell.mean)
        .collect();
    let usual = flat.iter().sum::<f32>() / f32::max(flat.len() as f32, 1.0);
    for (y, row) in picture.pixels.chunks_mut(picture.width.max(1)).enumerate() {
        for (x, part) in row.chunks_mut(grid.side).enumerate() {
            let at = y / grid.side * grid.across + x;
            if outside.get(at) == Some(&true) {
                let own = grid.cells.get(at).filter(|cell| cell.is_flat);
                part.fill(own.map_or(usual, |cell| cell.mean).round() as u8);
            }
        }
    }
    picture
}

/// The smallest rectangle that holds everything inside.
fn cropped(picture: Grey, grid: &Grid, outside: &[bool]) -> Grey {
    let inside = outside
        .iter()
        .enumerate()
        .filter(|(_, outside)| !**outside)
        .map(|(at, _)| (at % grid.across, at / grid.across));
    let hull = inside.fold(None, |hull: Option<Area>, (x, y)| {
        Some(hull.map_or((x, y, x + 1, y + 1), |(l, t, r, b)| {
            (l.min(x), t.min(y), r.max(x + 1), b.max(y + 1))
        }))
    });
    let Some((left, top, right, bottom)) = hull else {
        return picture;
    };
    let (left, top) = (left * grid.side, top * grid.side);
    let right = (right * grid.side).min(picture.width);
    let bottom = (bottom * grid.side).min(picture.height);
    let rows = (top..bottom).flat_map(|row| {
        picture
            .pixels
            .get(row * picture.width + left..row * picture.width + right)
            .unwrap_or_default()
    });
    Grey {
        pixels: rows.copied().collect(),
        width: right - left,
        height: bottom - top,
    }
}

#[cfg(test)]
mod tests {
    use super::{Outside, without_outside};
    use crate::render::Grey;

    /// A chest in a frame of collimator leaves, a label plate in the left one, a marker in the right.
    fn film() -> Grey {
        let pixels = (0..256 * 256)
            .map(|at| {
                let (x, y) = (at % 256, at / 256);
                let plate = (8..24).contains(&x) && (20..40).contains(&y);
                let marker = (228..240).contains(&x) && (20..34).contains(&y);
                match (x, y) {
                    _ if plate || marker => 200 + (x * 37 + y * 11) as u8 % 50,
                    (40..216, 24..232) => 60 + ((x * 7 + y * 13) % 120) as u8,
                    _ => 2 + (at % 2) as u8,
                }
            })
            .collect();
        Grey {
            width: 256,
            height: 256,
            pixels,
        }
    }

    fn at(picture: &Grey, x: usize, y: usize) -> u8 {
        picture.pixels[y * picture.width + x]
    }

    #[test]
    fn margins_and_what_lies_in_them_go_and_chest_and_kept_markers_stay() {
        let before = film();
        let kept = [(226, 18, 242, 36)];
        let after = without_outside(before.clone(), &kept, Outside::Blank);
        assert!(at(&after, 12, 30) < 8, "the plate is gone");
        assert_eq!(
            at(&after, 232, 26),
            at(&before, 232, 26),
            "the marker stays"
        );
        for y in 26..230 {
            for x in 42..214 {
                assert_eq!(at(&after, x, y), at(&before, x, y));
            }
        }
        let without = without_outside(before.clone(), &[], Outside::Blank);
        assert!(at(&without, 232, 26) < 8);
        assert_eq!(
            without_outside(before.clone(), &[], Outside::Keep).pixels,
            before.pixels
        );
    }

    #[test]
    fn cropping_keeps_the_chest() {
        let after = without_outside(film(), &[], Outside::Crop);
        assert_eq!((after.width, after.height), (176, 208));
    }

    #[test]
    fn a_film_without_margins_or_with_little_on_it_stays_whole() {
        let textured = Grey {
            width: 200,
            height: 150,
            pixels: (0..30_000).map(|at| (at * 31 % 251) as u8).collect(),
        };
        assert_eq!(
            without_outside(textured.clone(), &[], Outside::Blank).pixels,
            textured.pixels
        );
        let mut dark = Grey {
            width: 200,
            height: 200,
            pixels: vec![3; 40_000],
        };
        for at in 0..2000 {
            dark.pixels[20_000 + at] = (at % 200) as u8;
        }
        assert_eq!(
            without_outside(dark.clone(), &[], Outside::Crop).pixels,
            dark.pixels
        );
    }
}
