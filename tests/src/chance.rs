//! Random numbers whose seed is printed, so that a failing run can be repeated.

/// SplitMix64: small, and good enough to choose sizes and moments.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Starts from a seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts from the environment variable `name`, else from the clock, and prints the seed.
    pub fn from_env(name: &str) -> Self {
        let clock = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
        let seed = std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(clock);
        crate::tools::note(&format!("seed: {name}={seed}"));
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` up to and without `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high - low).max(1)
    }
}
