//! Draws chest phantoms: deterministic, seeded, nobody's anatomy. The demo and the tests use them.
//! Brightness follows a crude sum of what a ray passes (soft tissue, air, bone), so that a film looks
//! like a film: dark lungs with vessels, ribs in front and behind, spine, heart, diaphragm, shoulders.

mod anatomy;

mod font;

use anatomy::Anatomy;

/// What to draw.
#[derive(Debug, Clone)]
pub struct PhantomSpec {
    /// Seed: the same seed gives the same film.
    pub seed: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bits stored, 8 to 16.
    pub bits: u32,
    /// Text burned in.
    pub text: Vec<BurnedText>,
}

/// A line of text burned into the film.
#[derive(Debug, Clone)]
pub struct BurnedText {
    /// The line (upper case, digits and some punctuation; other letters are drawn as a box).
    pub line: String,
    /// Left edge of the ink.
    pub x: u32,
    /// Upper edge of the ink.
    pub y: u32,
    /// Height of a capital letter in pixels.
    pub height: u32,
    /// Grey of the ink, 0 black to 1 white, of the full range.
    pub grey: f32,
}

/// A drawn film, MONOCHROME2.
#[derive(Debug, Clone)]
pub struct Phantom {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bits stored.
    pub bits: u32,
    /// Samples, row by row.
    pub samples: Vec<u16>,
    /// Bounding box of each burned-in line: x, y, w, h.
    pub ink: Vec<(u32, u32, u32, u32)>,
}

impl PhantomSpec {
    /// A square 12-bit film without text.
    pub fn square(seed: u64, side: u32) -> Self {
        Self {
            seed,
            width: side,
            height: side,
            bits: 12,
            text: Vec::new(),
        }
    }

    /// The same film with lines of text in the upper left corner.
    pub fn with_text(mut self, lines: &[&str]) -> Self {
        let height = (self.height / 45).max(12);
        for (at, line) in lines.iter().enumerate() {
            let y = height + at as u32 * (height * 2);
            self.text.push(BurnedText {
                line: (*line).to_owned(),
                x: height,
                y,
                height,
                grey: 0.95,
            });
        }
        self
    }
}

impl Phantom {
    /// Draws.
    pub fn draw(spec: &PhantomSpec) -> Self {
        let bits = spec.bits.clamp(8, 16);
        let full = f32::from(((1_u32 << bits) - 1) as u16);
        let anatomy = Anatomy::new(spec.seed);
        let side = spec.width.max(spec.height).max(1) as f32;
        let mut samples = Vec::with_capacity((spec.width * spec.height) as usize);
        for y in 0..spec.height {
            for x in 0..spec.width {
                // The film's middle is (0, 0), its long side runs from -1 to 1.
                let u = (2.0 * x as f32 - spec.width as f32) / side;
                let v = (2.0 * y as f32 - spec.height as f32) / side;
                let grey = anatomy.grey(u, v) + anatomy.noise(x, y) * 0.012;
                samples.push((grey.clamp(0.0, 1.0) * full * 0.9) as u16);
            }
        }
        let mut film = Self {
            width: spec.width,
            height: spec.height,
            bits,
            samples,
            ink: Vec::new(),
        };
        for text in &spec.text {
            film.burn(text, full);
        }
        film
    }

    fn burn(&mut self, text: &BurnedText, full: f32) {
        let letters: Vec<[u8; 7]> = text.line.chars().map(font::rows).collect();
        let scale = text.height.max(7) as f32 / 7.0;
        let width = ((letters.len() * 6) as f32 * scale - scale).max(0.0) as u32;
        let right = (text.x + width + 1).min(self.width);
        let bottom = (text.y + text.height.max(7) + 1).min(self.height);
        for y in text.y..bottom {
            for x in text.x..right {
                let (u, v) = ((x - text.x) as f32 + 0.5, (y - text.y) as f32 + 0.5);
                let ink = font::coverage(&letters, u / scale, v / scale);
                let at = (y * self.width + x) as usize;
                if let Some(sample) = self.samples.get_mut(at).filter(|_| ink > 0.0) {
                    *sample = (f32::from(*sample) * (1.0 - ink)
                        + text.grey.clamp(0.0, 1.0) * full * ink)
                        as u16;
                }
            }
        }
        let (w, h) = (right.saturating_sub(text.x), bottom.saturating_sub(text.y));
        self.ink.push((text.x, text.y, w, h));
    }

    /// The film scaled to 8 bits.
    pub fn samples_8bit(&self) -> Vec<u8> {
        self.samples
            .iter()
            .map(|sample| (sample >> (self.bits - 8)) as u8)
            .collect()
    }

    /// Samples as little-endian bytes of the stored width (one byte for 8 bits, else two).
    pub fn bytes(&self) -> Vec<u8> {
        if self.bits == 8 {
            self.samples_8bit()
        } else {
            self.samples
                .iter()
                .flat_map(|sample| sample.to_le_bytes())
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Phantom, PhantomSpec};

    #[test]
    fn the_same_seed_gives_the_same_film_and_another_seed_another() {
        let film = |seed| Phantom::draw(&PhantomSpec::square(seed, 96)).samples;
        assert_eq!(film(7), film(7));
        assert_ne!(film(7), film(8));
    }

    #[test]
    fn text_changes_only_its_own_box() {
        let plain = Phantom::draw(&PhantomSpec::square(7, 256));
        let marked = Phantom::draw(&PhantomSpec::square(7, 256).with_text(&["DOE^JANE"]));
        let (x, y, w, h) = marked.ink[0];
        let mut changed = 0;
        for (at, (a, b)) in plain.samples.iter().zip(&marked.samples).enumerate() {
            let (px, py) = (at as u32 % 256, at as u32 / 256);
            let inside = (x..x + w).contains(&px) && (y..y + h).contains(&py);
            assert!(inside || a == b);
            changed += u32::from(a != b);
        }
        assert!(changed > 100);
    }
}
