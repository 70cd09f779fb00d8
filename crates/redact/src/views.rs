//! What a further view of a frame shows that the first does not, cell by cell: only there the detector
//! has to look once more. A view is dark everywhere else, and dark tiles cost nothing (`find`).

/// Side of a cell, in pixels: about the height of a line of small text.
const CELL: usize = 16;
/// Cells around one that counts which are shown with it: letters are larger than cells.
const AROUND: usize = 6;
/// Share of a range that a difference must have to be seen: ten greys of 255.
const SEEN: f64 = 0.04;
/// The same in a view made for the purpose: twenty greys.
const SHOWN: f64 = 0.08;
/// Further views of what is too bright, and of what is too dark.
const MAX_CLIPPED: usize = 3;

/// Cells of a frame, row by row.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    width: usize,
    across: usize,
    chosen: Vec<bool>,
}

/// Lowest and highest of the values in each cell, for those that `of` gives.
fn ranges<T: Copy>(
    pixels: &[T],
    width: usize,
    of: impl Fn(T) -> Option<f64>,
) -> Vec<(f64, f64, usize)> {
    let across = width.div_ceil(CELL);
    let down = (pixels.len() / width.max(1)).div_ceil(CELL);
    let mut out = vec![(f64::MAX, f64::MIN, 0); across * down];
    for (y, row) in pixels.chunks(width.max(1)).enumerate() {
        for (x, part) in row.chunks(CELL).enumerate() {
            if let Some((low, high, count)) = out.get_mut(y / CELL * across + x) {
                for value in part.iter().filter_map(|&pixel| of(pixel)) {
                    *low = low.min(value);
                    *high = high.max(value);
                    *count += 1;
                }
            }
        }
    }
    out
}

impl Cells {
    fn of(width: usize, chosen: Vec<bool>) -> Option<Self> {
        chosen.contains(&true).then(|| Self {
            width,
            across: width.div_ceil(CELL).max(1),
            chosen,
        })
    }

    /// The view with nothing but the chosen cells and those around them.
    fn only(&self, view: &mut [u8]) {
        let down = self.chosen.len() / self.across;
        let mut wide = vec![false; self.chosen.len()];
        for (at, _) in self
            .chosen
            .iter()
            .enumerate()
            .filter(|(_, chosen)| **chosen)
        {
            let (x, y) = (at % self.across, at / self.across);
            let columns = x.saturating_sub(AROUND)..(x + AROUND + 1).min(self.across);
            for row in y.saturating_sub(AROUND)..(y + AROUND + 1).min(down) {
                let from = row * self.across;
                if let Some(cells) = wide.get_mut(from + columns.start..from + columns.end) {
                    cells.fill(true);
                }
            }
        }
        for (y, row) in view.chunks_mut(self.width.max(1)).enumerate() {
            for (x, part) in row.chunks_mut(CELL).enumerate() {
                if wide.get(y / CELL * self.across + x) != Some(&true) {
                    part.fill(0);
                }
            }
        }
    }
}

/// What a view adds to those that there are. `beside` says whether it shows something of its own, as
/// colour differences do: then any contrast in it counts. Otherwise a cell counts only where it has more
/// than twice the contrast of every view so far.
pub(crate) fn added(
    views: &[Vec<u8>],
    mut extra: Vec<u8>,
    width: usize,
    least: u8,
    beside: bool,
) -> Option<Vec<u8>> {
    let grey = |pixel: u8| Some(f64::from(pixel));
    let known: Vec<_> = if beside {
        Vec::new()
    } else {
        views.iter().map(|view| ranges(view, width, grey)).collect()
    };
    let chosen = ranges(&extra, width, grey)
        .into_iter()
        .enumerate()
        .map(|(at, (low, high, _))| {
            let range = high - low;
            range >= f64::from(least)
                && known.iter().all(|view| {
                    let other = view.get(at).map_or(0.0, |(low, high, _)| high - low);
                    range > 2.0 * other
                })
        });
    let cells = Cells::of(width, chosen.collect())?;
    cells.only(&mut extra);
    Some(extra)
}

/// Views of what lies beyond one end of a range: text in one clipped value over another. `edge` is that
/// end, `span` the width of the range; `sign` is 1 for what is too bright and -1 for what is too dark.
/// Each view is normalised to the values that it is for, so that one stray value flattens none of them.
pub(crate) fn clipped(
    values: &[f32],
    width: usize,
    edge: f64,
    span: f64,
    sign: f64,
) -> Vec<Vec<u8>> {
    let beyond = |value: f32| {
        let distance = (f64::from(value) - edge) * sign;
        (value > f32::MIN && distance >= 0.0).then_some(distance)
    };
    let cells = ranges(values, width, beyond);
    let enough = CELL * CELL.min(values.len() / width.max(1)) / 4;
    let mut left: Vec<bool> = cells
        .iter()
        .map(|(low, high, count)| *count >= enough.max(1) && high - low > span * SEEN)
        .collect();
    let mut views = Vec::new();
    while views.len() < MAX_CLIPPED {
        let counting = || cells.iter().zip(&left).filter(|(_, left)| **left);
        let mut ends: Vec<f64> = counting().map(|((_, high, _), _)| *high).collect();
        let mut starts: Vec<f64> = counting().map(|((low, ..), _)| *low).collect();
        if ends.is_empty() {
            break;
        }
        ends.sort_unstable_by(f64::total_cmp);
        starts.sort_unstable_by(f64::total_cmp);
        // The middle of what is left: neither a stray cell nor a second plate decides. At least
        // this one cell is shown.
        let high = ends.get(ends.len() / 2).copied().unwrap_or(0.0);
        let low = starts.get(starts.len() / 2).copied().unwrap_or(0.0);
        let (mut low, mut high) = (low.min(high), high);
        if high - low <= span * SEEN {
            (low, high) = counting()
                .map(|((low, high, _), _)| (*low, *high))
                .next()
                .unwrap_or_default();
        }
        let size = (high - low).max(f64::MIN_POSITIVE);
        let shown: Vec<bool> = cells
            .iter()
            .zip(&left)
            .map(|((from, to, _), left)| {
                let inside = to.min(high) - from.max(low);
                *left && inside > size * SHOWN
            })
            .collect();
        for (left, shown) in left.iter_mut().zip(&shown) {
            *left &= !shown;
        }
        let Some(cells) = Cells::of(width, shown) else {
            break;
        };
        let mut view: Vec<u8> = values
            .iter()
            .map(|&value| {
                let distance = (f64::from(value) - edge) * sign;
                ((distance - low) / size * 255.0 + 0.5) as u8
            })
            .collect();
        cells.only(&mut view);
        views.push(view);
    }
    views
}

#[cfg(test)]
mod tests {
    use super::{added, clipped};

    const SIDE: usize = 64;

    fn plate(levels: &[(f32, f32)], stray: Option<f32>) -> Vec<f32> {
        let mut values = vec![100.0; SIDE * SIDE];
        for (at, value) in values.iter_mut().enumerate() {
            let (x, y) = (at % SIDE, at / SIDE);
            if let Some(&(ground, ink)) = levels.get(y / 32) {
                *value = if x % 5 == 0 { ink } else { ground };
            }
        }
        if let Some(stray) = stray {
            values[70] = stray;
        }
        values
    }

    fn contrast(views: &[Vec<u8>], row: usize) -> u8 {
        let spans = views
            .iter()
            .map(|view| view[row * SIDE + 20].abs_diff(view[row * SIDE + 21]));
        spans.max().unwrap_or(0)
    }

    #[test]
    fn writing_on_a_plate_is_shown_although_something_else_is_far_brighter() {
        for stray in [None, Some(65_535.0), Some(f32::MAX)] {
            let values = plate(&[(2400.0, 4000.0)], stray);
            let views = clipped(&values, SIDE, 1300.0, 1200.0, 1.0);
            assert!(contrast(&views, 12) > 60, "{stray:?}");
        }
        let values = plate(&[(2400.0, 4000.0), (60_000.0, 61_600.0)], None);
        let views = clipped(&values, SIDE, 1300.0, 1200.0, 1.0);
        assert!(contrast(&views, 12) > 40 && contrast(&views, 44) > 40);
        let dark: Vec<f32> = values.iter().map(|value| -value).collect();
        let views = clipped(&dark, SIDE, -1300.0, 1200.0, -1.0);
        assert!(contrast(&views, 12) > 40 && contrast(&views, 44) > 40);
    }

    #[test]
    fn noise_and_slopes_beyond_a_range_need_no_view() {
        let values: Vec<f32> = (0..SIDE * SIDE)
            .map(|at| 1400.0 + (at % SIDE) as f32 + (at * 7 % 13) as f32)
            .collect();
        assert!(clipped(&values, SIDE, 1300.0, 1200.0, 1.0).is_empty());
    }

    #[test]
    fn a_view_that_shows_what_others_show_adds_nothing() {
        let one: Vec<u8> = (0..SIDE * SIDE).map(|at| (at % 7 * 30) as u8).collect();
        let flat = vec![9; SIDE * SIDE];
        assert!(added(std::slice::from_ref(&one), one.clone(), SIDE, 12, false).is_none());
        assert!(added(std::slice::from_ref(&flat), one.clone(), SIDE, 12, false).is_some());
        assert!(added(std::slice::from_ref(&one), one.clone(), SIDE, 12, true).is_some());
    }
}
