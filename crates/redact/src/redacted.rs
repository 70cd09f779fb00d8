//! What comes out. Only this crate can make these values.

use serde::{Deserialize, Serialize};

/// What happens to a found place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is blanked.
    #[default]
    Redact,
    /// It is a laterality marker or view label and stays.
    Keep,
}

impl Action {
    /// "redact" or "keep".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redact => "redact",
            Self::Keep => "keep",
        }
    }
}

/// Why a place was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The detector saw text.
    #[default]
    Text,
    /// A QR code, or the stripes of a barcode.
    Code,
    /// The device is known to write there.
    Mask,
}

impl Source {
    /// "text", "code" or "mask".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Code => "code",
            Self::Mask => "mask",
        }
    }
}

/// A place where something was found, in pixels of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct FoundBox {
    /// Frame, from 0.
    pub frame: u32,
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// Highest text probability inside; 1 for what is no text.
    pub score: f32,
    /// What happens to it.
    pub action: Action,
    /// Why it was found.
    pub source: Source,
}

impl FoundBox {
    /// Whether it is blanked.
    pub const fn is_redacted(&self) -> bool {
        matches!(self.action, Action::Redact)
    }
}

/// Microseconds that a worker spent on a film.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Parsing, decoding and encoding, that of the rendition too.
    pub codec: u64,
    /// Rendering, finding, reading and blanking.
    pub look: u64,
}

/// Everything that was found on a film.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// Every place, blanked or kept. In DCT frames whole blocks are blanked.
    pub boxes: Vec<FoundBox>,
    /// Boxes whose text holds the patient's own identifiers.
    pub own_identifiers: u32,
    /// Time.
    pub spent: Spent,
}

impl Findings {
    /// How many places were blanked.
    pub fn redacted(&self) -> usize {
        self.boxes
            .iter()
            .filter(|found| found.is_redacted())
            .count()
    }

    /// How many markers and labels stayed.
    pub fn kept(&self) -> usize {
        self.boxes.len() - self.redacted()
    }

    /// Every pair that occurs; metrics have one series each.
    pub const KINDS: [(Source, Action); 4] = [
        (Source::Text, Action::Redact),
        (Source::Text, Action::Keep),
        (Source::Code, Action::Redact),
        (Source::Mask, Action::Redact),
    ];

    /// How many places were found for this reason and had this done to them.
    pub fn count(&self, source: Source, action: Action) -> usize {
        self.boxes
            .iter()
            .filter(|found| found.source == source && found.action == action)
            .count()
    }
}

/// A DICOM object whose burned-in text is blanked, and its rendition.
#[derive(Debug)]
pub struct Redacted {
    pub(crate) object: Vec<u8>,
    pub(crate) rendition: Vec<u8>,
    pub(crate) findings: Findings,
}

impl Redacted {
    /// Encoded DICOM file with BurnedInAnnotation NO. Without boxes its pixels are as they came,
    /// if their codestream is known to hold nothing but them (run-length, sequential DCT, lossless
    /// JPEG, JPEG-LS). With boxes, uncompressed, run-length and DCT frames stay in their syntax and
    /// frames without boxes keep their bytes. What remains becomes Explicit VR Little Endian.
    pub fn object(&self) -> &[u8] {
        &self.object
    }
    /// 8-bit grey PNG of the first frame, long side at most 1000.
    pub fn rendition(&self) -> &[u8] {
        &self.rendition
    }
    /// What was found, in pixels of the original.
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }
    /// Every place, blanked or kept.
    pub fn boxes(&self) -> &[FoundBox] {
        &self.findings.boxes
    }
    /// Object, rendition and findings by value.
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>, Findings) {
        (self.object, self.rendition, self.findings)
    }
}

/// A PNG or JPEG picture whose burned-in text is blanked.
#[derive(Debug)]
pub struct RedactedPicture {
    pub(crate) rendition: Vec<u8>,
    pub(crate) findings: Findings,
}

impl RedactedPicture {
    /// 8-bit grey PNG, long side at most 1000.
    pub fn rendition(&self) -> &[u8] {
        &self.rendition
    }
    /// What was found, in pixels of the original.
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }
    /// Every place, blanked or kept.
    pub fn boxes(&self) -> &[FoundBox] {
        &self.findings.boxes
    }
}

/// The film before and after, for a person to look at. `before` holds identified pixels: it is for
/// the demo and for tests and never leaves the machine it was made on.
#[derive(Debug)]
pub struct Preview {
    pub(crate) size: (u32, u32),
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) findings: Findings,
}

impl Preview {
    /// Width and height of the original, in whose pixels the boxes are.
    pub const fn size(&self) -> (u32, u32) {
        self.size
    }
    /// 8-bit grey PNG of the first frame as it came.
    pub fn before(&self) -> &[u8] {
        &self.before
    }
    /// The same after blanking.
    pub fn after(&self) -> &[u8] {
        &self.after
    }
    /// What was found, in pixels of the original.
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }
    /// Every place, blanked or kept.
    pub fn boxes(&self) -> &[FoundBox] {
        &self.findings.boxes
    }
}
