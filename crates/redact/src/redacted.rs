//! What comes out. Only this crate can make these values.

use serde::{Deserialize, Serialize};

/// A place where text was found, in pixels of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
    /// Highest text probability inside.
    pub score: f32,
}

/// A DICOM object whose burned-in text is blanked, and its rendition.
#[derive(Debug)]
pub struct Redacted {
    pub(crate) object: Vec<u8>,
    pub(crate) rendition: Vec<u8>,
    pub(crate) boxes: Vec<FoundBox>,
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
    /// What was blanked; in DCT frames whole blocks are.
    pub fn boxes(&self) -> &[FoundBox] {
        &self.boxes
    }
    /// Object, rendition and boxes by value.
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>, Vec<FoundBox>) {
        (self.object, self.rendition, self.boxes)
    }
}

/// A PNG or JPEG picture whose burned-in text is blanked.
#[derive(Debug)]
pub struct RedactedPicture {
    pub(crate) rendition: Vec<u8>,
    pub(crate) boxes: Vec<FoundBox>,
}

impl RedactedPicture {
    /// 8-bit grey PNG, long side at most 1000.
    pub fn rendition(&self) -> &[u8] {
        &self.rendition
    }
    /// What was blanked, in pixels of the original picture.
    pub fn boxes(&self) -> &[FoundBox] {
        &self.boxes
    }
}

/// The film before and after, for a person to look at. `before` holds identified pixels: it is for
/// the demo and for tests and never leaves the machine it was made on.
#[derive(Debug)]
pub struct Preview {
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) boxes: Vec<FoundBox>,
}

impl Preview {
    /// 8-bit grey PNG of the first frame as it came.
    pub fn before(&self) -> &[u8] {
        &self.before
    }
    /// The same after blanking.
    pub fn after(&self) -> &[u8] {
        &self.after
    }
    /// What was blanked.
    pub fn boxes(&self) -> &[FoundBox] {
        &self.boxes
    }
}
