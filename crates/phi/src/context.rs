//! What a model may know about patient and film without knowing who it is.

/// Coarse age. 90 and over are one band (45 CFR 164.514(b)(2)(i)(C)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgeBand {
    /// Not stated.
    #[default]
    Unknown,
    /// Below 18 years.
    Under18,
    /// 18 to 39 years.
    From18To39,
    /// 40 to 64 years.
    From40To64,
    /// 65 to 89 years.
    From65To89,
    /// 90 years and over.
    From90,
}

impl AgeBand {
    /// The band of an age in whole years.
    pub const fn of_years(years: u32) -> Self {
        match years {
            0..=17 => Self::Under18,
            18..=39 => Self::From18To39,
            40..=64 => Self::From40To64,
            65..=89 => Self::From65To89,
            90.. => Self::From90,
        }
    }
}

/// Patient's sex as (0010,0040) states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sex {
    /// Not stated.
    #[default]
    Unknown,
    /// F.
    Female,
    /// M.
    Male,
    /// O.
    Other,
}

/// View of a chest film.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// Not stated.
    #[default]
    Unknown,
    /// Postero-anterior.
    Pa,
    /// Antero-posterior.
    Ap,
    /// Left or right lateral.
    Lateral,
}
