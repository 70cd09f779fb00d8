//! Turns a probability map into boxes: threshold, join neighbours, box each component.

use crate::model::Map;

/// What makes a component of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// Probability above which a place counts as text.
    pub(crate) pixel: f32,
    /// Score that a component must reach.
    pub(crate) component: f32,
    pub(crate) score: Score,
    /// Places that may lie between two of one component, and one more.
    pub(crate) reach: usize,
    /// Places that a component must have.
    pub(crate) smallest: usize,
}

/// What a component's score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Score {
    /// Mean of its probabilities.
    Mean,
    /// Highest of them.
    Highest,
}

/// A box in the pixels of a tile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Component {
    pub(crate) left: usize,
    pub(crate) top: usize,
    /// First column right of the component.
    pub(crate) right: usize,
    /// First row below the component.
    pub(crate) bottom: usize,
    /// Of the component that this box is a part of.
    pub(crate) score: f32,
    /// Mean thickness of the component that this box is a part of: about its line's height.
    pub(crate) thickness: usize,
}

/// Boxes over the components in the left `width` columns and upper `height` rows of the map (the rest
/// is padding). A slanted or bent component is covered by several boxes instead of one large one.
pub(crate) fn components(map: &Map, width: usize, height: usize, rule: Rule) -> Vec<Component> {
    let probability = |x: usize, y: usize| map.probability.get(y * map.width + x).copied();
    let on = |x: usize, y: usize| probability(x, y).is_some_and(|p| p > rule.pixel);
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
                for near_y in y.saturating_sub(rule.reach)..(y + rule.reach + 1).min(height) {
                    for near_x in x.saturating_sub(rule.reach)..(x + rule.reach + 1).min(width) {
                        let fresh = seen.get(near_y * width + near_x).is_some_and(|done| !done);
                        if fresh && on(near_x, near_y) {
                            stack.push((near_x, near_y));
                        }
                    }
                }
            }
            let likely = points.iter().filter_map(|&(x, y)| probability(x, y));
            let score = match rule.score {
                Score::Mean => likely.sum::<f32>() / points.len() as f32,
                Score::Highest => likely.fold(0.0, f32::max),
            };
            if score >= rule.component && points.len() >= rule.smallest {
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
    use super::{Rule, Score, components};
    use crate::model::Map;

    const RULE: Rule = Rule {
        pixel: 0.2,
        component: 0.5,
        score: Score::Mean,
        reach: 2,
        smallest: 10,
    };

    fn map(blocks: &[(usize, usize, f32)]) -> Map {
        let mut map = Map {
            width: 64,
            probability: vec![0.0; 64 * 32],
        };
        for &(x, y, p) in blocks {
            for row in y..y + 4 {
                map.probability[row * 64 + x..row * 64 + x + 4].fill(p);
            }
        }
        map
    }

    #[test]
    fn near_blocks_are_one_component_and_faint_or_tiny_ones_none() {
        let mut map = map(&[(3, 4, 0.9), (8, 4, 0.9), (20, 4, 0.4), (48, 4, 0.9)]);
        map.probability[20 * 64 + 20] = 1.0;
        let found = components(&map, 40, 32, RULE);
        assert_eq!(
            found.len(),
            1,
            "20 is faint, 48 is padding, the single pixel is nothing"
        );
        let one = found[0];
        assert_eq!(
            (one.left, one.right, one.top, one.bottom, one.thickness),
            (3, 12, 4, 8, 4)
        );
    }

    #[test]
    fn a_slanted_line_gets_several_boxes_instead_of_a_large_one() {
        let blocks: Vec<_> = (0..24).map(|at| (at, at, 0.9)).collect();
        let found = components(&map(&blocks), 40, 32, RULE);
        let area: usize = found
            .iter()
            .map(|c| (c.right - c.left) * (c.bottom - c.top))
            .sum();
        assert!(found.len() >= 3 && area < 27 * 27 / 2, "{found:?}");
    }

    proptest::proptest! {
        #[test]
        fn every_strong_pixel_is_in_a_box(blocks in proptest::collection::vec((0usize..36, 0usize..20), 0..40)) {
            let strong: Vec<_> = blocks.iter().map(|&(x, y)| (x, y, 0.8)).collect();
            let map = map(&strong);
            let found = components(&map, 40, 24, RULE);
            for (y, x) in (0..24).flat_map(|y| (0..40).map(move |x| (y, x))) {
                let covered = found.iter().any(|c| (c.left..c.right).contains(&x) && (c.top..c.bottom).contains(&y));
                assert!(covered || map.probability[y * 64 + x] == 0.0);
            }
        }
    }
}
