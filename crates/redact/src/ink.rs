//! Used by `reading`: where is the ink in a found box? The line that is read is cut close around its
//! letters, and a marker may stay only where nothing else is written in its box.

use crate::render::Grey;

/// Contrast below which there is nothing to read, in grey steps.
const LEAST_CONTRAST: f32 = 10.0;

/// A rectangle of pixels: left and top inside, right and bottom outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rectangle {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) right: usize,
    pub(crate) bottom: usize,
}

impl Rectangle {
    const fn height(self) -> usize {
        self.bottom.saturating_sub(self.top)
    }

    fn hull(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Grown by `by` on every side, cut at the picture.
    fn grown(self, by: usize, width: usize, height: usize) -> Self {
        Self {
            left: self.left.saturating_sub(by),
            top: self.top.saturating_sub(by),
            right: (self.right + by).min(width),
            bottom: (self.bottom + by).min(height),
        }
    }

    const fn holds(self, other: Self) -> bool {
        self.left <= other.left
            && self.top <= other.top
            && self.right >= other.right
            && self.bottom >= other.bottom
    }
}

/// What is written in a box whose text runs from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ink {
    /// The lines from above, each with a little room around.
    pub(crate) lines: Vec<Rectangle>,
    /// Height of the letters of the first line.
    pub(crate) letter_height: usize,
    /// Pieces of ink in the first line: letters, as far as they do not touch or fall apart.
    pub(crate) pieces: usize,
    /// One line, wholly inside the box, and no fainter ink beside it.
    pub(crate) alone: bool,
}

/// Finds the ink, bright or dark. `None` where nothing stands out.
pub(crate) fn ink(picture: &Grey) -> Option<Ink> {
    let (width, height) = (picture.width, picture.height);
    if width < 8 || height < 8 {
        return None;
    }
    let stands_out = against_its_border(picture);
    let mut ring: Vec<f32> = border(width, height)
        .filter_map(|(x, y)| stands_out.get(y * width + x).copied())
        .collect();
    ring.sort_unstable_by(f32::total_cmp);
    let noise = ring.get(ring.len() / 2).copied()? * 1.5 + 1.0;
    let mut sorted = stands_out.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    let peak = sorted.get(sorted.len() - 1 - sorted.len() / 100).copied()?;
    if peak < LEAST_CONTRAST.max(noise * 3.0) {
        return None;
    }
    let strong = strokes(&stands_out, width, height, (peak * 0.45).max(noise * 2.5));
    let most = strong.iter().map(|(_, pixels)| *pixels).max()?;
    let letters: Vec<Rectangle> = strong
        .into_iter()
        .filter(|(_, pixels)| pixels * 50 >= most && *pixels >= 3)
        .map(|(place, _)| place)
        .collect();
    let lines = rows(&letters);
    let first = *lines.first()?;
    let room = (first.height() / 6).max(2);
    let whole = Rectangle {
        left: 0,
        top: 0,
        right: width,
        bottom: height,
    };
    // Ink at the edge goes on outside the box.
    let inside = first.left > 0 && first.top > 0 && first.right < width && first.bottom < height;
    let around = first.grown(first.height() * 2 / 5, width, height);
    let beside = strokes(&stands_out, width, height, (peak * 0.2).max(noise * 4.0))
        .into_iter()
        .any(|(place, pixels)| {
            pixels >= 6 && place.height() * 4 >= first.height() && !around.holds(place)
        });
    Some(Ink {
        letter_height: first.height(),
        pieces: letters
            .iter()
            .filter(|letter| letter.height() * 3 >= first.height())
            .count(),
        alone: lines.len() == 1 && inside && !beside && whole != first,
        lines: lines
            .into_iter()
            .map(|line| line.grown(room, width, height))
            .collect(),
    })
}

/// Places two pixels deep along the four sides.
fn border(width: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
    let across = (0..width).flat_map(move |x| [0, 1, height - 2, height - 1].map(|y| (x, y)));
    let down = (2..height - 2).flat_map(move |y| [0, 1, width - 2, width - 1].map(|x| (x, y)));
    across.chain(down)
}

/// How far each pixel is from the plane through the border's pixels: films are never flat, but a
/// box is small.
fn against_its_border(picture: &Grey) -> Vec<f32> {
    let (width, height) = (picture.width, picture.height);
    let grey =
        |x: usize, y: usize| f32::from(picture.pixels.get(y * width + x).copied().unwrap_or(0));
    let (middle_x, middle_y) = (width as f32 / 2.0 - 0.5, height as f32 / 2.0 - 0.5);
    let (mut sum, mut count) = (0.0, 0.0);
    let (mut along_x, mut along_y, mut xx, mut yy) = (0.0, 0.0, 0.0, 0.0);
    for (x, y) in border(width, height) {
        let (u, v, g) = (x as f32 - middle_x, y as f32 - middle_y, grey(x, y));
        sum += g;
        count += 1.0;
        along_x += u * g;
        along_y += v * g;
        xx += u * u;
        yy += v * v;
    }
    // The border is symmetric, so the three unknowns do not mix.
    let (level, slope_x, slope_y) = (sum / count, along_x / xx, along_y / yy);
    let mut out = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let plane = level + slope_x * (x as f32 - middle_x) + slope_y * (y as f32 - middle_y);
            out.push((grey(x, y) - plane).abs());
        }
    }
    out
}

/// Connected places above a threshold, with their number of pixels.
fn strokes(values: &[f32], width: usize, height: usize, above: f32) -> Vec<(Rectangle, usize)> {
    let mut seen = vec![false; width * height];
    let mut found = Vec::new();
    let mut stack = Vec::new();
    for start in 0..width * height {
        stack.push(start);
        let mut place: Option<Rectangle> = None;
        let mut pixels = 0;
        while let Some(at) = stack.pop() {
            let is_ink = values.get(at).is_some_and(|&value| value >= above);
            let Some(mark) = seen.get_mut(at).filter(|mark| is_ink && !**mark) else {
                continue;
            };
            *mark = true;
            pixels += 1;
            let (x, y) = (at % width, at / width);
            let one = Rectangle {
                left: x,
                top: y,
                right: x + 1,
                bottom: y + 1,
            };
            place = Some(place.map_or(one, |place| place.hull(one)));
            for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                    stack.push(near_y * width + near_x);
                }
            }
        }
        found.extend(place.map(|place| (place, pixels)));
    }
    found
}

/// Letters side by side become lines, from above.
fn rows(letters: &[Rectangle]) -> Vec<Rectangle> {
    let mut sorted = letters.to_vec();
    sorted.sort_unstable_by_key(|letter| letter.top);
    let mut lines: Vec<Rectangle> = Vec::new();
    for letter in sorted {
        match lines.last_mut() {
            // Dots, accents and commas hang near their line.
            Some(line) if letter.top <= line.bottom + line.height() / 8 => {
                *line = line.hull(letter);
            }
            _ => lines.push(letter),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Rectangle, ink};
    use crate::render::Grey;

    fn picture(width: usize, height: usize, ground: impl Fn(usize, usize) -> u8) -> Grey {
        Grey {
            width,
            height,
            pixels: (0..width * height)
                .map(|at| ground(at % width, at / width))
                .collect(),
        }
    }

    fn draw(picture: &mut Grey, at: (usize, usize), size: (usize, usize), grey: u8) {
        for y in at.1..at.1 + size.1 {
            for x in at.0..at.0 + size.0 {
                picture.pixels[y * picture.width + x] = grey;
            }
        }
    }

    #[test]
    fn letters_on_a_slope_are_cut_out_closely() {
        let mut film = picture(60, 40, |x, y| (40 + x + y) as u8);
        draw(&mut film, (20, 12), (4, 14), 240);
        draw(&mut film, (28, 12), (4, 14), 240);
        let found = ink(&film).unwrap();
        let line = Rectangle {
            left: 18,
            top: 10,
            right: 34,
            bottom: 28,
        };
        assert_eq!((found.lines, found.letter_height), (vec![line], 14));
        assert!(found.alone);
    }

    #[test]
    fn dark_letters_count_and_flat_or_tiny_boxes_hold_none() {
        let mut plate = picture(60, 40, |_, _| 230);
        draw(&mut plate, (20, 12), (4, 14), 20);
        assert!(ink(&plate).unwrap().alone);
        assert_eq!(ink(&picture(60, 40, |x, _| 100 + (x % 2) as u8)), None);
        assert_eq!(ink(&picture(7, 40, |_, _| 0)), None);
    }

    #[test]
    fn a_second_line_fainter_ink_or_ink_at_the_edge_is_not_alone() {
        let marker = || {
            let mut film = picture(80, 60, |_, _| 20);
            draw(&mut film, (20, 12), (6, 14), 250);
            film
        };
        assert!(ink(&marker()).unwrap().alone);
        for (at, size, grey) in [
            ((20, 36), (6, 14), 250),
            ((50, 12), (4, 12), 90),
            ((74, 12), (6, 14), 250),
        ] {
            let mut film = marker();
            draw(&mut film, at, size, grey);
            assert!(!ink(&film).unwrap().alone, "{at:?}");
        }
    }
}
