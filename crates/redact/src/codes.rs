//! Used by `look`: QR codes and barcodes carry names and numbers that no text detector sees. A cheap
//! gate looks for cells of two greys that alternate: across only for bars, both ways for a matrix.
//! Bars need not be decoded, a band of stripes is enough; of a matrix `rqrr` says whether it has a QR
//! code's corners, because small print alternates both ways as well.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::redacted::{FoundBox, Source};
use crate::render::Grey;
use crate::rendition::scale_to;

/// Side of the squares of which cells are made.
const STEP: usize = 16;
/// Grey steps between the two greys of a code: printed ones are black and white.
const CONTRAST: u8 = 48;
/// Codes of large modules are found from so far away.
const FAR: usize = 4;
/// Candidates for a QR code that are looked into; on a film that has more, all are blanked.
const CANDIDATES_AT_MOST: usize = 24;
/// Changes of grey along a barcode; its shortest kinds have more.
const BARCODE_CHANGES: f32 = 18.0;

/// What a cell looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    /// Upright bars.
    Bars,
    /// Lying bars.
    Rungs,
    /// Alternating both ways.
    Matrix,
}

/// A rectangle in steps: left, top, right, bottom.
type Steps = (usize, usize, usize, usize);

/// Codes on one view of a frame.
pub(crate) fn codes(view: &Grey, frame: usize) -> Vec<FoundBox> {
    let mut found = Vec::new();
    look(view, 1, view, frame, &mut found);
    if view.width.max(view.height) >= FAR * STEP * 8 {
        let small = scale_to(view, view.width.max(view.height) / FAR);
        look(&small, FAR, view, frame, &mut found);
    }
    found
}

fn look(view: &Grey, scale: usize, original: &Grey, frame: usize, found: &mut Vec<FoundBox>) {
    let squares = Squares::of(view);
    let mut place = |left: usize, top: usize, right: usize, bottom: usize| {
        let (right, bottom) = (
            (right * scale).min(original.width),
            (bottom * scale).min(original.height),
        );
        let (left, top) = ((left * scale).min(right), (top * scale).min(bottom));
        found.push(FoundBox {
            frame: frame as u32,
            x: left as u32,
            y: top as u32,
            w: (right - left) as u32,
            h: (bottom - top) as u32,
            score: 1.0,
            source: Source::Code,
            ..FoundBox::default()
        });
    };
    for (pattern, across, down) in [(Pattern::Bars, 2, 1), (Pattern::Rungs, 1, 2)] {
        for (region, changes) in squares.regions(view, pattern, across, down) {
            let (left, top, right, bottom) = region;
            let length = if pattern == Pattern::Bars {
                right - left
            } else {
                bottom - top
            };
            // Neighbouring cells overlap by half.
            if length >= 4 && changes * length as f32 / 2.0 >= BARCODE_CHANGES {
                // A cell that a bar ends in is no cell of stripes: one more on every side.
                place(
                    left.saturating_sub(2) * STEP,
                    top.saturating_sub(2) * STEP,
                    (right + 2) * STEP,
                    (bottom + 2) * STEP,
                );
            }
        }
    }
    let candidates: Vec<Steps> = squares
        .regions(view, Pattern::Matrix, 2, 2)
        .into_iter()
        .map(|(region, _)| region)
        .filter(|(left, top, right, bottom)| right - left >= 3 && bottom - top >= 3)
        .collect();
    let many = candidates.len() > CANDIDATES_AT_MOST;
    for (left, top, right, bottom) in candidates {
        let (left, top) = (left.saturating_sub(2) * STEP, top.saturating_sub(2) * STEP);
        let (right, bottom) = (
            ((right + 2) * STEP).min(view.width),
            ((bottom + 2) * STEP).min(view.height),
        );
        // A decoder that gives up by panicking has seen something strange: blanked.
        let is_code = || {
            catch_unwind(AssertUnwindSafe(|| {
                has_qr(view, left, top, right - left, bottom - top)
            }))
            .unwrap_or(true)
        };
        if many || is_code() {
            place(left, top, right, bottom);
        }
    }
}

/// Whether a part of the view has the corners of a QR code, dark on light or light on dark.
fn has_qr(view: &Grey, left: usize, top: usize, width: usize, height: usize) -> bool {
    [0, 255].into_iter().any(|flip| {
        let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            let at = (top + y) * view.width + left + x;
            view.pixels.get(at).copied().unwrap_or(0) ^ flip
        });
        !prepared.detect_grids().is_empty()
    })
}

/// Darkest and brightest grey of each square.
struct Squares {
    across: usize,
    down: usize,
    ranges: Vec<(u8, u8)>,
}

impl Squares {
    fn of(view: &Grey) -> Self {
        let (across, down) = (view.width / STEP, view.height / STEP);
        let mut ranges = Vec::with_capacity(across * down);
        for row in 0..down {
            let mut line = vec![(u8::MAX, u8::MIN); across];
            for y in row * STEP..(row + 1) * STEP {
                let from = y * view.width;
                let pixels = view.pixels.get(from..from + across * STEP);
                let squares = pixels.unwrap_or_default().as_chunks::<STEP>().0;
                for ((low, high), square) in line.iter_mut().zip(squares) {
                    for &grey in square {
                        *low = (*low).min(grey);
                        *high = (*high).max(grey);
                    }
                }
            }
            ranges.extend(line);
        }
        Self {
            across,
            down,
            ranges,
        }
    }

    /// Cells of a pattern that touch, as rectangles, with the mean number of changes in a cell.
    fn regions(
        &self,
        view: &Grey,
        pattern: Pattern,
        across: usize,
        down: usize,
    ) -> Vec<(Steps, f32)> {
        let mut cells = vec![None; self.across * self.down];
        for y in 0..(self.down + 1).saturating_sub(down) {
            for x in 0..(self.across + 1).saturating_sub(across) {
                let changes = self.cell(view, pattern, (x, y), (across, down));
                if let Some(cell) = cells.get_mut(y * self.across + x) {
                    *cell = changes;
                }
            }
        }
        let mut found = Vec::new();
        let mut stack = Vec::new();
        for start in 0..cells.len() {
            let (mut sum, mut count) = (0.0, 0_u32);
            let mut bounds: Option<Steps> = None;
            stack.push(start);
            while let Some(at) = stack.pop() {
                let Some(changes) = cells.get_mut(at).and_then(Option::take) else {
                    continue;
                };
                sum += changes;
                count += 1;
                let (x, y) = (at % self.across, at / self.across);
                let one = (x, y, x + across, y + down);
                bounds = Some(bounds.map_or(one, |(l, t, r, b)| {
                    (l.min(one.0), t.min(one.1), r.max(one.2), b.max(one.3))
                }));
                for near_y in y.saturating_sub(1)..(y + 2).min(self.down) {
                    for near_x in x.saturating_sub(2)..(x + 3).min(self.across) {
                        stack.push(near_y * self.across + near_x);
                    }
                }
            }
            found.extend(bounds.map(|bounds| (bounds, sum / count as f32)));
        }
        found
    }

    /// Changes of grey along one line of a cell, if it has the pattern.
    fn cell(
        &self,
        view: &Grey,
        pattern: Pattern,
        (x, y): (usize, usize),
        (across, down): (usize, usize),
    ) -> Option<f32> {
        let (mut low, mut high) = (u8::MAX, u8::MIN);
        for row in y..y + down {
            let from = row * self.across + x;
            for (l, h) in self.ranges.get(from..from + across)? {
                low = low.min(*l);
                high = high.max(*h);
            }
        }
        let contrast = high.saturating_sub(low);
        if contrast < CONTRAST {
            return None;
        }
        let (width, height) = (across * STEP, down * STEP);
        let middle = low + contrast / 2;
        if !alternates(view, pattern, (x * STEP, y * STEP), (width, height), middle) {
            return None;
        }
        let rows: Vec<&[u8]> = (y * STEP..y * STEP + height)
            .filter_map(|row| {
                let from = row * view.width + x * STEP;
                view.pixels.get(from..from + width)
            })
            .collect();
        // Two greys and little between them; anatomy has everything between.
        let quarter = contrast / 4;
        let between = rows.iter().flat_map(|row| row.iter());
        let between = between
            .filter(|&&grey| grey > low + quarter && grey < high - quarter)
            .count();
        if between * 10 > width * height * 4 {
            return None;
        }
        let along: usize = rows
            .iter()
            .map(|row| {
                row.windows(2)
                    .filter(|pair| matches!(pair, [a, b] if (*a > middle) != (*b > middle)))
                    .count()
            })
            .sum();
        let steep: usize = rows
            .windows(2)
            .map(|pair| match pair {
                [a, b] => a
                    .iter()
                    .zip(b.iter())
                    .filter(|(a, b)| (**a > middle) != (**b > middle))
                    .count(),
                _ => 0,
            })
            .sum();
        let along = along as f32 / height as f32;
        let steep = steep as f32 / width as f32;
        match pattern {
            Pattern::Bars => (along >= 2.0 && steep * 6.0 <= along).then_some(along),
            Pattern::Rungs => (steep >= 2.0 && along * 6.0 <= steep).then_some(steep),
            Pattern::Matrix => {
                (along >= 2.0 && steep >= 2.0).then_some(f32::midpoint(along, steep))
            }
        }
    }
}

/// Whether one of three lines through a cell changes its grey twice: nearly all cells with an edge in
/// them end here.
fn alternates(
    view: &Grey,
    pattern: Pattern,
    (left, top): (usize, usize),
    (width, height): (usize, usize),
    middle: u8,
) -> bool {
    let is_bright = |x: usize, y: usize| {
        let pixel = view.pixels.get((top + y) * view.width + left + x);
        pixel.is_some_and(|&grey| grey > middle)
    };
    (1..4).any(|quarter| {
        let (length, beside) = if pattern == Pattern::Rungs {
            (height, width * quarter / 4)
        } else {
            (width, height * quarter / 4)
        };
        let at = |along: usize| {
            if pattern == Pattern::Rungs {
                is_bright(beside, along)
            } else {
                is_bright(along, beside)
            }
        };
        (1..length)
            .filter(|&along| at(along) != at(along - 1))
            .nth(1)
            .is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::codes;
    use crate::phantom::{BurnedText, Phantom, PhantomSpec};
    use crate::redacted::FoundBox;
    use crate::render::Grey;

    /// CODE39-like: wide and narrow elements that come from bits.
    const BITS: [u8; 14] = [
        0x94, 0xb2, 0x6d, 0x54, 0xa9, 0x36, 0x5a, 0x95, 0xd2, 0x4b, 0x2a, 0x69, 0x52, 0xad,
    ];

    fn film(seed: u64) -> Grey {
        let mut spec = PhantomSpec::square(seed, 1024);
        spec.text = vec![BurnedText {
            line: "DOE^JANE 12.03.1961".to_owned(),
            x: 40,
            y: 40,
            height: 21,
            grey: 1.0,
        }];
        let phantom = Phantom::draw(&spec);
        Grey {
            width: 1024,
            height: 1024,
            pixels: phantom.samples_8bit(),
        }
    }

    fn stripes(film: &mut Grey, at: (usize, usize), module: usize, height: usize, lying: bool) {
        let mut place = 0;
        for (bit, wide) in BITS
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1))
            .enumerate()
        {
            let width = module * if wide == 1 { 2 } else { 1 };
            for along in place..place + width {
                for beside in 0..height {
                    let (x, y) = if lying {
                        (beside, along)
                    } else {
                        (along, beside)
                    };
                    let pixel = &mut film.pixels[(at.1 + y) * 1024 + at.0 + x];
                    *pixel = if bit % 2 == 0 { 20 } else { 240 };
                }
            }
            place += width;
        }
    }

    /// A QR code's three corners (ISO/IEC 18004 section 6.3.3) and bits between them, 25 modules.
    fn matrix(film: &mut Grey, at: (usize, usize), module: usize, dark: u8) {
        let corner = |x: usize, y: usize| {
            let ring = |d: usize| d == 0 || d == 6;
            (x < 7 && y < 7)
                .then(|| ring(x) || ring(y) || ((2..5).contains(&x) && (2..5).contains(&y)))
        };
        for y in 0..29 * module {
            for x in 0..29 * module {
                let (u, v) = (x / module, y / module);
                let quiet = u < 2 || v < 2 || u >= 27 || v >= 27;
                let (u, v) = (u.wrapping_sub(2), v.wrapping_sub(2));
                let timing = (u == 6 || v == 6).then_some((u ^ v) % 2 == 0);
                let light_border = |x: usize, y: usize| (x < 8 && y < 8).then_some(false);
                let bit = corner(u, v)
                    .or_else(|| corner(24usize.wrapping_sub(u), v))
                    .or_else(|| corner(u, 24usize.wrapping_sub(v)))
                    .or_else(|| light_border(u, v))
                    .or_else(|| light_border(24usize.wrapping_sub(u), v))
                    .or_else(|| light_border(u, 24usize.wrapping_sub(v)))
                    .or(timing)
                    .unwrap_or(
                        BITS[(u.wrapping_mul(7) ^ v.wrapping_mul(3)) % 14] >> ((u ^ v) % 8) & 1
                            == 1,
                    );
                let pixel = &mut film.pixels[(at.1 + y) * 1024 + at.0 + x];
                *pixel = if bit && !quiet { dark } else { 255 - dark };
            }
        }
    }

    fn covers(found: &[FoundBox], left: usize, top: usize, width: usize, height: usize) -> bool {
        (top..top + height).all(|y| {
            (left..left + width).all(|x| {
                found.iter().any(|b| {
                    (b.x..b.x + b.w).contains(&(x as u32)) && (b.y..b.y + b.h).contains(&(y as u32))
                })
            })
        })
    }

    #[test]
    fn anatomy_and_text_are_no_codes() {
        for seed in 0..4 {
            assert_eq!(codes(&film(seed), 0), Vec::new(), "{seed}");
        }
    }

    #[test]
    fn bars_are_found_standing_and_lying_fine_and_coarse() {
        for (module, height, lying) in [
            (1, 40, false),
            (2, 60, false),
            (2, 60, true),
            (4, 120, false),
            (4, 90, true),
        ] {
            let mut film = film(5);
            stripes(&mut film, (203, 301), module, height, lying);
            let wide = BITS
                .iter()
                .map(|byte| 8 + byte.count_ones() as usize)
                .sum::<usize>()
                * module;
            let (w, h) = if lying {
                (height, wide)
            } else {
                (wide, height)
            };
            let found = codes(&film, 0);
            assert!(
                covers(&found, 203, 301, w, h),
                "{module} {lying}: {found:?}"
            );
            let area: u32 = found.iter().map(|b| b.w * b.h).sum();
            assert!(
                area as usize <= (w + 180) * (h + 180) * 3,
                "{module} {lying}: {found:?}"
            );
        }
    }

    #[test]
    fn matrices_are_found_dark_on_light_and_light_on_dark() {
        for (module, dark) in [(3, 15), (5, 15), (5, 240), (16, 15)] {
            let mut film = film(6);
            matrix(&mut film, (401, 251), module, dark);
            let found = codes(&film, 0);
            let inner = (401 + 2 * module, 251 + 2 * module, 25 * module, 25 * module);
            assert!(
                covers(&found, inner.0, inner.1, inner.2, inner.3),
                "{module} {dark}: {found:?}"
            );
        }
    }
}
