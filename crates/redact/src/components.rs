//! Turns a probability map into boxes: threshold, join neighbours, box each component.

use crate::model::{Map, Thresholds};

/// A box in the pixels of a tile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Component {
    pub(crate) left: usize,
    pub(crate) top: usize,
    /// First column right of the component.
    pub(crate) right: usize,
    /// First row below the component.
    pub(crate) bottom: usize,
    /// Mean probability.
    pub(crate) score: f32,
    /// Mean thickness of the component that this box is a part of: about its line's height.
    pub(crate) thickness: usize,
}

/// Boxes over the components in the left `width` columns and upper `height` rows of the map (the rest
/// is padding). A slanted or bent component is covered by several boxes instead of one large one.
pub(crate) fn components(
    map: &Map,
    width: usize,
    height: usize,
    thresholds: Thresholds,
) -> Vec<Component> {
    let probability = |x: usize, y: usize| map.probability.get(y * map.width + x).copied();
    let on = |x: usize, y: usize| probability(x, y).is_some_and(|p| p > thresholds.pixel);
    let mut seen = vec![false; width * height];
    let mut found = Vec::new();
    let mut stack = Vec::new();
    for start_y in 0..height {
        for start_x in 0..width {
            let fresh = seen
                .get(start_y * width + start_x)
                .is_some_and(|done| !done);
            if !fresh || !on(start_x, start_y) {
                continue;
            }
            let mut points = Vec::new();
            stack.push((start_x, start_y));
            while let Some((x, y)) = stack.pop() {
                let Some(mark) = seen.get_mut(y * width + x) else {
                    continue;
                };
                if std::mem::replace(mark, true) {
                    continue;
                }
                points.push((x, y));
                // Reach of two pixels: letters that the net separates by a thin gap stay one line.
                for near_y in y.saturating_sub(2)..(y + 3).min(height) {
                    for near_x in x.saturating_sub(2)..(x + 3).min(width) {
                        let fresh = seen.get(near_y * width + near_x).is_some_and(|done| !done);
                        if fresh && on(near_x, near_y) {
                            stack.push((near_x, near_y));
                        }
                    }
                }
            }
            let sum: f32 = points.iter().filter_map(|&(x, y)| probability(x, y)).sum();
            let score = sum / points.len() as f32;
            if score >= thresholds.component {
                let all = bounds(&points);
                let thickness = points
                    .len()
                    .div_ceil((all.2 - all.0).max(all.3 - all.1).max(1));
                cover(points, score, thickness, &mut found);
            }
        }
    }
    found
}

/// Left, top, right, bottom.
fn bounds(points: &[(usize, usize)]) -> (usize, usize, usize, usize) {
    points
        .iter()
        .fold((usize::MAX, usize::MAX, 0, 0), |(l, t, r, b), &(x, y)| {
            (l.min(x), t.min(y), r.max(x + 1), b.max(y + 1))
        })
}

/// Covers points by boxes that are at least half full, halving along the longer side.
fn cover(points: Vec<(usize, usize)>, score: f32, thickness: usize, found: &mut Vec<Component>) {
    if points.is_empty() {
        return;
    }
    let (left, top, right, bottom) = bounds(&points);
    let (width, height) = (right - left, bottom - top);
    if points.len() * 2 >= width * height || width.max(height) <= 8 {
        found.push(Component {
            left,
            top,
            right,
            bottom,
            score,
            thickness,
        });
        return;
    }
    let (near, far): (Vec<_>, Vec<_>) = if width >= height {
        points.into_iter().partition(|&(x, _)| x < left + width / 2)
    } else {
        points.into_iter().partition(|&(_, y)| y < top + height / 2)
    };
    cover(near, score, thickness, found);
    cover(far, score, thickness, found);
}

#[cfg(test)]
mod tests {
    use super::components;
    use crate::model::{Map, Thresholds};

    const THRESHOLDS: Thresholds = Thresholds {
        pixel: 0.2,
        component: 0.5,
    };

    #[test]
    fn near_pixels_are_one_component_and_faint_ones_none() {
        let mut map = Map {
            width: 32,
            probability: vec![0.0; 32 * 32],
        };
        for (x, p) in [(3, 0.3), (4, 0.8), (5, 0.9), (20, 0.4), (31, 0.9)] {
            map.probability[4 * 32 + x] = p;
        }
        let found = components(&map, 30, 32, THRESHOLDS);
        assert_eq!(found.len(), 1, "20 is too faint, 31 is padding");
        assert_eq!(
            (found[0].left, found[0].right, found[0].top, found[0].bottom),
            (3, 6, 4, 5)
        );
    }

    proptest::proptest! {
        #[test]
        fn every_strong_pixel_is_in_a_box(points in proptest::collection::vec((0usize..40, 0usize..24), 0..40)) {
            let mut map = Map { width: 64, probability: vec![0.0; 64 * 32] };
            for &(x, y) in &points { map.probability[y * 64 + x] = 0.8; }
            let found = components(&map, 40, 24, THRESHOLDS);
            for (x, y) in points {
                assert!(found.iter().any(|c| (c.left..c.right).contains(&x) && (c.top..c.bottom).contains(&y)));
            }
        }
    }
}
