//! Everything that can go wrong, as closed codes. No variant carries a word from the file: these
//! errors become quarantine reasons, log lines and metric labels.

/// Why pixels could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Not a DICOM file, or broken structure.
    #[error("malformed")]
    Malformed,
    /// The object has no pixel data.
    #[error("no_pixels")]
    NoPixels,
    /// Pixel attributes are missing or contradict each other or the data.
    #[error("bad_attributes")]
    BadAttributes,
    /// A layout this version does not handle (32-bit, float, more than 3 samples, …).
    #[error("unsupported_layout")]
    UnsupportedLayout,
    /// The codec refused the data.
    #[error("codec")]
    Codec,
    /// Codec and header disagree about the size.
    #[error("size_mismatch")]
    SizeMismatch,
    /// Neither PNG nor JPEG (only for pictures).
    #[error("not_a_picture")]
    NotAPicture,
}

/// Why an object was not redacted; it is then quarantined or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedactError {
    /// The result could not be encoded.
    #[error("encode_failed")]
    EncodeFailed,
    /// The encoded result still shows text.
    #[error("text_left")]
    TextLeft,
    /// The text detector failed.
    #[error("detector_failed")]
    DetectorFailed,
    /// The worker spoke nonsense; it was killed.
    #[error("protocol")]
    Protocol,
    /// The workers could not be started (bundle, library or executable).
    #[error("start_failed")]
    StartFailed,
    /// The pool was shut down.
    #[error("stopped")]
    Stopped,
    /// The worker was killed because the object took too long.
    #[error("timed_out")]
    TimedOut,
    /// Object or picture is larger than allowed.
    #[error("too_large")]
    TooLarge,
    /// The pixels could not be decoded.
    #[error("undecodable:{0}")]
    Undecodable(Undecodable),
    /// No codec for the transfer syntax.
    #[error("unknown_transfer_syntax")]
    UnknownTransferSyntax,
    /// The worker died while it had the object.
    #[error("worker_died")]
    WorkerDied,
}

impl RedactError {
    /// The stable code: a metric label and quarantine detail.
    pub fn code(self) -> &'static str {
        match self {
            Self::EncodeFailed => "encode_failed",
            Self::TextLeft => "text_left",
            Self::DetectorFailed => "detector_failed",
            Self::Protocol => "protocol",
            Self::StartFailed => "start_failed",
            Self::Stopped => "stopped",
            Self::TimedOut => "timed_out",
            Self::TooLarge => "too_large",
            Self::Undecodable(why) => match why {
                Undecodable::Malformed => "undecodable_malformed",
                Undecodable::NoPixels => "undecodable_no_pixels",
                Undecodable::BadAttributes => "undecodable_bad_attributes",
                Undecodable::UnsupportedLayout => "undecodable_unsupported_layout",
                Undecodable::Codec => "undecodable_codec",
                Undecodable::SizeMismatch => "undecodable_size_mismatch",
                Undecodable::NotAPicture => "undecodable_not_a_picture",
            },
            Self::UnknownTransferSyntax => "unknown_transfer_syntax",
            Self::WorkerDied => "worker_died",
        }
    }
}
