//! Used by `find`: where do strokes stand so sharply against what is around them that no anatomy looks
//! like it? It costs two subtractions a pixel and depends on no net: what the text-presence net should miss
//! of clear writing, the other detector sees because of this.

use crate::components::Component;
use crate::render::Grey;

/// Side of a cell, in pixels.
const CELL: usize = 16;
/// Grey steps between neighbours that count as the edge of a stroke.
const STEP: i16 = 40;
/// Rows (or columns) of a cell that go up and down again: an edge of a collimator goes one way, and a
/// wire crosses a cell in one direction only.
const CROSSED: u32 = 4;

/// Boxes over neighbouring cells with strokes in both directions.
pub(crate) fn strokes(view: &Grey) -> Vec<Component> {
    let across = view.width.div_ceil(CELL);
    let mut is_on = Vec::with_capacity(across * view.height.div_ceil(CELL));
    for band in view.pixels.chunks(view.width.max(1) * CELL) {
        let mut rows = vec![0_u32; across];
        let (mut up, mut down) = (vec![false; view.width], vec![false; view.width]);
        let mut above: Option<&[u8]> = None;
        for row in band.chunks(view.width.max(1)) {
            for (count, part) in rows.iter_mut().zip(row.chunks(CELL)) {
                let steps = part.windows(2).map(|pair| match pair {
                    [one, next] => i16::from(*next) - i16::from(*one),
                    _ => 0,
                });
                let (mut rises, mut falls) = (false, false);
                for step in steps {
                    rises |= step >= STEP;
                    falls |= step <= -STEP;
                }
                *count += u32::from(rises && falls);
            }
            for (((pixel, before), up), down) in row
                .iter()
                .zip(above.unwrap_or(row))
                .zip(&mut up)
                .zip(&mut down)
            {
                let step = i16::from(*pixel) - i16::from(*before);
                *up |= step >= STEP;
                *down |= step <= -STEP;
            }
            above = Some(row);
        }
        let columns = up.chunks(CELL).zip(down.chunks(CELL)).map(|(up, down)| {
            let crossed = up.iter().zip(down).filter(|(up, down)| **up && **down);
            crossed.count() as u32
        });
        is_on.extend(
            rows.iter()
                .zip(columns)
                .map(|(rows, columns)| *rows >= CROSSED && columns >= CROSSED),
        );
    }
    boxes(is_on, across, view)
}

/// Hulls of neighbouring cells.
fn boxes(mut is_on: Vec<bool>, across: usize, view: &Grey) -> Vec<Component> {
    let mut found = Vec::new();
    let mut stack = Vec::new();
    for start in 0..is_on.len() {
        stack.push(start);
        let mut hull: Option<(usize, usize, usize, usize)> = None;
        while let Some(at) = stack.pop() {
            let Some(mark) = is_on.get_mut(at).filter(|mark| **mark) else {
                continue;
            };
            *mark = false;
            let (x, y) = (at % across, at / across);
            hull = Some(hull.map_or((x, y, x, y), |(l, t, r, b)| {
                (l.min(x), t.min(y), r.max(x), b.max(y))
            }));
            for near_y in y.saturating_sub(1)..=y + 1 {
                for near_x in x.saturating_sub(1)..(x + 2).min(across) {
                    stack.push(near_y * across + near_x);
                }
            }
        }
        if let Some((left, top, right, bottom)) = hull {
            found.push(Component {
                left: left * CELL,
                top: top * CELL,
                right: ((right + 1) * CELL).min(view.width),
                bottom: ((bottom + 1) * CELL).min(view.height),
                score: 0.0,
                thickness: CELL,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::strokes;
    use crate::render::Grey;

    fn film(draw: impl Fn(usize, usize) -> u8) -> Grey {
        Grey {
            width: 100,
            height: 60,
            pixels: (0..6000).map(|at| draw(at % 100, at / 100)).collect(),
        }
    }

    #[test]
    fn letters_are_strokes_and_edges_wires_and_slopes_are_none() {
        // An E, 12 pixels high.
        let letter = |x: usize, y: usize| {
            let inside = (40..48).contains(&x) && (20..33).contains(&y);
            if inside && (x < 42 || (y - 20) % 5 < 2) {
                200
            } else {
                60
            }
        };
        let found = strokes(&film(letter));
        assert_eq!(found.len(), 1);
        assert!(found[0].left <= 40 && found[0].right >= 48 && found[0].top <= 20);
        assert!(strokes(&film(|x, _| if x > 50 { 250 } else { 5 })).is_empty());
        assert!(strokes(&film(|x, _| if x == 50 { 250 } else { 5 })).is_empty());
        assert!(strokes(&film(|x, y| (x + y) as u8)).is_empty());
    }
}
