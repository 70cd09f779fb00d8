//! Faults of a request and the one table that turns them into gRPC statuses. A refusal, an
//! abstention or an escalation is no fault: it is a report with an outcome.
//!
//! Two messages: the status says which closed fact failed, the log says no more than that either;
//! neither ever holds text or pixels of a request.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// `ErrorInfo.domain` of this server.
const DOMAIN: &str = "server.cloister";
/// When a busy server may be asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request was not answered with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the field {0} is missing or malformed")]
    BadField(&'static str),
    #[error("the field {0} is larger than allowed")]
    TooLarge(&'static str),
    #[error("the manifest's signature does not verify with a pinned gateway key")]
    ManifestUntrusted,
    #[error("an object or rendition differs from the manifest")]
    HashMismatch,
    #[error("an object of the manifest did not arrive")]
    ObjectMissing,
    #[error("chunks are out of order")]
    ChunkOrder,
    #[error("the report id does not agree with manifest or capsule")]
    ReportIdMismatch,
    #[error("the capsule differs from the manifest")]
    CapsuleMismatch,
    #[error("the stream broke off")]
    BrokenStream,
    #[error("too many requests are waiting")]
    Overloaded,
    #[error("the server is stopping")]
    Stopping,
    #[error("inspect mode is off")]
    InspectOff,
    #[error("the model failed")]
    Model,
    #[error("internal error")]
    Internal,
}

impl Fault {
    /// Reason in `ErrorInfo`, and the metric label.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::BadField(_) => "BAD_FIELD",
            Self::TooLarge(_) => "TOO_LARGE",
            Self::ManifestUntrusted => "MANIFEST_UNTRUSTED",
            Self::HashMismatch => "HASH_MISMATCH",
            Self::ObjectMissing => "OBJECT_MISSING",
            Self::ChunkOrder => "CHUNK_ORDER",
            Self::ReportIdMismatch => "REPORT_ID_MISMATCH",
            Self::CapsuleMismatch => "CAPSULE_MISMATCH",
            Self::BrokenStream => "BROKEN_STREAM",
            Self::Overloaded => "OVERLOADED",
            Self::Stopping => "STOPPING",
            Self::InspectOff => "INSPECT_OFF",
            Self::Model => "MODEL_FAILED",
            Self::Internal => "INTERNAL",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::BadField(_)
            | Self::TooLarge(_)
            | Self::HashMismatch
            | Self::ObjectMissing
            | Self::ChunkOrder
            | Self::ReportIdMismatch
            | Self::CapsuleMismatch
            | Self::BrokenStream => Code::InvalidArgument,
            Self::ManifestUntrusted => Code::PermissionDenied,
            Self::Overloaded => Code::ResourceExhausted,
            Self::Stopping => Code::Unavailable,
            Self::InspectOff => Code::Unimplemented,
            Self::Model | Self::Internal => Code::Internal,
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(fault.reason(), DOMAIN, std::collections::HashMap::new());
        match fault {
            Fault::BadField(field) => {
                details.add_bad_request_violation(field, "missing or malformed");
            }
            Fault::TooLarge(field) => {
                details.add_bad_request_violation(field, "larger than allowed");
            }
            Fault::Overloaded | Fault::Stopping => {
                details.set_retry_info(Some(RETRY_AFTER));
            }
            _ => {}
        }
        Status::with_error_details(fault.code(), fault.to_string(), details)
    }
}
