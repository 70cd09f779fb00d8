//! API stub, being filled in.
use std::process::ExitCode;

use crate::{FoundBox, Preview, RedactConfig, RedactError, Redacted, RedactedPicture};

/// First line of every `main`: if the hidden argument `__worker` is there, this process is a worker.
pub fn dispatch_worker() -> Option<ExitCode> {
    todo!()
}

/// Handle to the worker pool; clones share it.
#[derive(Debug, Clone)]
pub struct Redactor {}

impl Redactor {
    /// Starts the workers and waits until each has loaded its model.
    pub fn start(_config: RedactConfig) -> Result<Self, RedactError> {
        todo!()
    }
    /// Decodes, finds, blanks, and encodes one DICOM object.
    pub async fn redact(&self, _object: Vec<u8>) -> Result<Redacted, RedactError> {
        todo!()
    }
    /// The same for a PNG or JPEG picture.
    pub async fn redact_picture(&self, _picture: Vec<u8>) -> Result<RedactedPicture, RedactError> {
        todo!()
    }
    /// Only looks: DICOM, PNG or JPEG.
    pub async fn detect(&self, _bytes: Vec<u8>) -> Result<Vec<FoundBox>, RedactError> {
        todo!()
    }
    /// Renditions before and after: DICOM, PNG or JPEG.
    pub async fn preview(&self, _bytes: Vec<u8>) -> Result<Preview, RedactError> {
        todo!()
    }
}
