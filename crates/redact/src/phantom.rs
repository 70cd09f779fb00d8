//! Draws chest phantoms: deterministic, seeded, nobody's anatomy. The demo and the tests use them.

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
    /// The line (ASCII; others are drawn as a box).
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
        Self { seed, width: side, height: side, bits: 12, text: Vec::new() }
    }
    /// The same film with lines of text in the upper left corner.
    pub fn with_text(mut self, lines: &[&str]) -> Self {
        let height = (self.height / 45).max(10);
        for (at, line) in lines.iter().enumerate() {
            let y = height + at as u32 * (height * 2);
            self.text.push(BurnedText { line: (*line).to_owned(), x: height, y, height, grey: 0.95 });
        }
        self
    }
}

impl Phantom {
    /// Draws.
    pub fn draw(_spec: &PhantomSpec) -> Self {
        todo!()
    }
    /// The film scaled to 8 bits.
    pub fn samples_8bit(&self) -> Vec<u8> {
        todo!()
    }
    /// Samples as little-endian bytes of the stored width (one byte for 8 bits, else two).
    pub fn bytes(&self) -> Vec<u8> {
        todo!()
    }
}
