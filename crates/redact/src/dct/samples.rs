//! Coefficients become samples: the inverse DCT (A.3.3) in floating point, and colour differences
//! brought to full size the way the IJG's decoder does it, by a triangle filter.

use super::ZIGZAG;
use super::header::{Component, Jpeg};

impl Jpeg<'_> {
    /// Samples of all components, interleaved by pixel; two bytes each (little endian) above 8 bits.
    pub(crate) fn samples(&self) -> Vec<u8> {
        let planes: Vec<Vec<u16>> = self
            .components
            .iter()
            .map(|component| {
                let plane = plane(component, self.precision);
                self.full_size(component, plane)
            })
            .collect();
        let wide = self.precision > 8;
        let count = self.width * self.height;
        let mut out = Vec::with_capacity(count * planes.len() * (1 + usize::from(wide)));
        for at in 0..count {
            for plane in &planes {
                let [low, high] = plane.get(at).copied().unwrap_or(0).to_le_bytes();
                out.push(low);
                if wide {
                    out.push(high);
                }
            }
        }
        out
    }

    fn full_size(&self, component: &Component, plane: Vec<u16>) -> Vec<u16> {
        let (across, down) = (self.across / component.across, self.down / component.down);
        let (width, height) = (component.width, component.height);
        let smooth = width > 2;
        let (wide, new_width, new_height) = match (across, down) {
            (1, 1) => return plane,
            (2, 1) if smooth => (
                plane.chunks(width).flat_map(twice_across).collect(),
                width * 2,
                height,
            ),
            (2, 2) if smooth => (twice(&plane, width, height), width * 2, height * 2),
            _ => {
                let row = |row: &[u16]| -> Vec<u16> {
                    row.iter()
                        .flat_map(|&value| std::iter::repeat_n(value, across))
                        .collect()
                };
                let repeated = plane
                    .chunks(width)
                    .flat_map(|line| std::iter::repeat_n(row(line), down).flatten())
                    .collect();
                (repeated, width * across, height * down)
            }
        };
        cut(&wide, new_width, new_height, self.width, self.height)
    }
}

fn cut(plane: &[u16], from: usize, rows: usize, width: usize, height: usize) -> Vec<u16> {
    plane
        .chunks(from)
        .take(height.min(rows))
        .flat_map(|row| row.get(..width).unwrap_or(row).iter().copied())
        .collect()
}

/// Twice as wide: each new sample is three parts of the nearer and one of the farther neighbour.
fn twice_across(row: &[u16]) -> Vec<u16> {
    let mut out = Vec::with_capacity(row.len() * 2);
    for (at, &value) in row.iter().enumerate() {
        let neighbour =
            |at: Option<usize>| at.and_then(|at| row.get(at)).map(|&value| u32::from(value));
        let value = u32::from(value);
        let (left, right) = (neighbour(at.checked_sub(1)), neighbour(Some(at + 1)));
        out.push(left.map_or(value, |left| (3 * value + left + 1) >> 2) as u16);
        out.push(right.map_or(value, |right| (3 * value + right + 2) >> 2) as u16);
    }
    out
}

/// Twice as wide and as high.
fn twice(plane: &[u16], width: usize, height: usize) -> Vec<u16> {
    let line = |row: usize| {
        plane
            .get(row * width..(row + 1) * width)
            .unwrap_or_default()
    };
    let mut out = Vec::with_capacity(plane.len() * 4);
    for row in 0..height {
        let near = line(row);
        for far in [row.saturating_sub(1), (row + 1).min(height - 1)] {
            let sums: Vec<u32> = near
                .iter()
                .zip(line(far))
                .map(|(&near, &far)| 3 * u32::from(near) + u32::from(far))
                .collect();
            for (at, &sum) in sums.iter().enumerate() {
                let neighbour = |at: Option<usize>| at.and_then(|at| sums.get(at).copied());
                let (left, right) = (neighbour(at.checked_sub(1)), neighbour(Some(at + 1)));
                out.push(left.map_or((sum * 4 + 8) >> 4, |left| (3 * sum + left + 8) >> 4) as u16);
                out.push(right.map_or((sum * 4 + 7) >> 4, |r| (3 * sum + r + 7) >> 4) as u16);
            }
        }
    }
    out
}

/// cos((2x+1)uπ/16) · C(u)/2, by u and x.
fn basis() -> [[f32; 8]; 8] {
    let mut basis = [[0.0; 8]; 8];
    for (u, row) in basis.iter_mut().enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            let angle = (2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0;
            let scale = if u == 0 { 0.5_f64.sqrt() } else { 1.0 };
            *value = (angle.cos() * scale / 2.0) as f32;
        }
    }
    basis
}

/// The component's own samples, without what fills up its last blocks.
fn plane(component: &Component, precision: u16) -> Vec<u16> {
    let basis = basis();
    let stride = component.blocks_across * 8;
    let middle = f32::from(1_u16 << (precision - 1));
    let most = f32::from((1_u16 << precision) - 1);
    let mut out = vec![0; component.width * component.height];
    let mut band = vec![0_u16; stride * 8];
    for (row, blocks) in component.blocks.chunks(component.blocks_across).enumerate() {
        for (column, block) in blocks.iter().enumerate() {
            let mut values = [[0.0_f32; 8]; 8];
            for ((&value, &quantizer), &place) in
                block.iter().zip(&component.quantizer).zip(&ZIGZAG)
            {
                if value != 0
                    && let Some(to) = values
                        .get_mut(place / 8)
                        .and_then(|row| row.get_mut(place % 8))
                {
                    *to = f32::from(value) * f32::from(quantizer);
                }
            }
            for (y, line) in inverse(&values, &basis).iter().enumerate() {
                let from = y * stride + column * 8;
                for (to, value) in band.iter_mut().skip(from).zip(line) {
                    *to = (value + middle + 0.5).clamp(0.0, most) as u16;
                }
            }
        }
        for (y, line) in band.chunks(stride).enumerate() {
            let to = (row * 8 + y) * component.width;
            if let Some(to) = out.get_mut(to..to + component.width) {
                to.copy_from_slice(line.get(..component.width).unwrap_or_default());
            }
        }
    }
    out
}

fn inverse(values: &[[f32; 8]; 8], basis: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    // Rows of coefficients first: many are empty.
    let mut half = [[0.0_f32; 8]; 8];
    for (line, to) in values.iter().zip(&mut half) {
        for (&value, wave) in line.iter().zip(basis) {
            if value != 0.0 {
                for (to, &wave) in to.iter_mut().zip(wave) {
                    *to += value * wave;
                }
            }
        }
    }
    let mut out = [[0.0_f32; 8]; 8];
    for (line, wave) in half.iter().zip(basis) {
        for (to, &wave) in out.iter_mut().zip(wave) {
            for (to, &value) in to.iter_mut().zip(line) {
                *to += wave * value;
            }
        }
    }
    out
}
