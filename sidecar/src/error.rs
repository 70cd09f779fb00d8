//! Every way in which a request ends without its result, and the one table that turns each into a
//! gRPC status, an HTTP status and an audit reason.
//!
//! The message outside is one of this closed list: no peer input, no file name, no PHI.

use std::time::Duration;

use bytes::Bytes;
use cloister_audit::Reason;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// `ErrorInfo.domain`.
const DOMAIN: &str = "cloister";
/// What a caller should wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request is refused, or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the audit trail cannot be written; nothing is released")]
    AuditDown,
    #[error("cloister-report-id (one UUID) and cloister-recipient (1 to 16) are required")]
    BadMetadata,
    #[error("too many reports in flight")]
    Busy,
    #[error("the deadline has passed")]
    DeadlineExceeded,
    #[error("this report id was used by another caller or for other recipients")]
    IdConflict,
    #[error("the request is malformed")]
    Malformed,
    #[error("no such report for this caller")]
    NotFound,
    #[error("this caller may not name this recipient")]
    RecipientNotAllowed,
    #[error("a recipient is not in the directory or has no valid key")]
    RecipientUnknown,
    #[error("this caller may not use this method")]
    RoleNotAllowed,
    #[error("the report could not be sealed and is withheld")]
    SealFailed,
    #[error("the mailbox cannot be written; nothing is released")]
    StoreFailed,
    #[error("the mailbox is full; nothing is released")]
    StoreFull,
    #[error("the request is larger than allowed")]
    TooLarge,
    #[error("this caller's trust domain is not served")]
    TrustDomain,
    #[error("no such method")]
    UnknownMethod,
    #[error("the server broke the protocol; nothing is released")]
    UpstreamBroken,
    #[error("the server is not available")]
    UpstreamDown,
    #[error("the report is not fit for release and is withheld")]
    Withheld,
}

impl Refusal {
    /// gRPC code, machine-readable reason, HTTP status, audit reason.
    const fn row(self) -> (Code, &'static str, StatusCode, Reason) {
        match self {
            Self::AuditDown => (
                Code::Unavailable,
                "AUDIT_DOWN",
                StatusCode::SERVICE_UNAVAILABLE,
                Reason::StorageFailed,
            ),
            Self::BadMetadata => (
                Code::InvalidArgument,
                "BAD_METADATA",
                StatusCode::BAD_REQUEST,
                Reason::BadMetadata,
            ),
            Self::Busy => (
                Code::ResourceExhausted,
                "BUSY",
                StatusCode::TOO_MANY_REQUESTS,
                Reason::RateLimited,
            ),
            Self::DeadlineExceeded => (
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                StatusCode::GATEWAY_TIMEOUT,
                Reason::DeadlineExceeded,
            ),
            Self::IdConflict => (
                Code::AlreadyExists,
                "REPORT_ID_CONFLICT",
                StatusCode::CONFLICT,
                Reason::IdempotencyConflict,
            ),
            Self::Malformed => (
                Code::InvalidArgument,
                "MALFORMED",
                StatusCode::BAD_REQUEST,
                Reason::Malformed,
            ),
            Self::NotFound => (
                Code::NotFound,
                "NOT_FOUND",
                StatusCode::NOT_FOUND,
                Reason::NotFound,
            ),
            Self::RecipientNotAllowed => (
                Code::PermissionDenied,
                "RECIPIENT_NOT_ALLOWED",
                StatusCode::FORBIDDEN,
                Reason::RecipientUnknown,
            ),
            Self::RecipientUnknown => (
                Code::FailedPrecondition,
                "RECIPIENT_UNKNOWN",
                StatusCode::CONFLICT,
                Reason::RecipientUnknown,
            ),
            Self::RoleNotAllowed => (
                Code::PermissionDenied,
                "ROLE_NOT_ALLOWED",
                StatusCode::FORBIDDEN,
                Reason::RoleNotAllowed,
            ),
            Self::SealFailed => (
                Code::Internal,
                "SEAL_FAILED",
                StatusCode::INTERNAL_SERVER_ERROR,
                Reason::SealFailed,
            ),
            Self::StoreFailed => (
                Code::Unavailable,
                "MAILBOX_DOWN",
                StatusCode::SERVICE_UNAVAILABLE,
                Reason::StorageFailed,
            ),
            Self::StoreFull => (
                Code::Unavailable,
                "MAILBOX_FULL",
                StatusCode::SERVICE_UNAVAILABLE,
                Reason::StorageFull,
            ),
            Self::TooLarge => (
                Code::ResourceExhausted,
                "TOO_LARGE",
                StatusCode::PAYLOAD_TOO_LARGE,
                Reason::TooLarge,
            ),
            Self::TrustDomain => (
                Code::PermissionDenied,
                "TRUST_DOMAIN",
                StatusCode::FORBIDDEN,
                Reason::UnknownAuthority,
            ),
            Self::UnknownMethod => (
                Code::Unimplemented,
                "UNKNOWN_METHOD",
                StatusCode::NOT_FOUND,
                Reason::MethodNotAllowed,
            ),
            Self::UpstreamBroken => (
                Code::Unavailable,
                "SERVER_BROKE_OFF",
                StatusCode::BAD_GATEWAY,
                Reason::UpstreamFailed,
            ),
            Self::UpstreamDown => (
                Code::Unavailable,
                "SERVER_DOWN",
                StatusCode::BAD_GATEWAY,
                Reason::UpstreamFailed,
            ),
            Self::Withheld => (
                Code::Internal,
                "WITHHELD",
                StatusCode::INTERNAL_SERVER_ERROR,
                Reason::NoAssessment,
            ),
        }
    }

    /// The gRPC code.
    pub(crate) const fn code(self) -> Code {
        self.row().0
    }

    /// What the audit trail says.
    pub(crate) const fn reason(self) -> Reason {
        self.row().3
    }

    /// The gRPC answer: `ErrorInfo`, and `RetryInfo` where trying again can help.
    pub(crate) fn status(self) -> Status {
        let (code, reason, _, _) = self.row();
        let mut details =
            ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::new());
        if code == Code::Unavailable || self == Self::Busy {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Status::with_error_details(code, self.to_string(), details)
    }

    /// The answer on the wire.
    pub(crate) fn into_response(self, grpc: bool) -> Response<Body> {
        if grpc {
            return self.status().into_http();
        }
        let (_, reason, status, _) = self.row();
        // Both are constants without characters that JSON escapes.
        let text = format!("{{\"error\":{{\"reason\":\"{reason}\",\"message\":\"{self}\"}}}}\n");
        let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
        *response.status_mut() = status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_passes_says_when_to_try_again_and_a_refusal_does_not() {
        let down = Refusal::UpstreamDown.status();
        assert_eq!(down.code(), Code::Unavailable);
        assert_eq!(
            down.get_details_retry_info().unwrap().retry_delay,
            Some(RETRY_AFTER)
        );
        assert_eq!(down.get_details_error_info().unwrap().reason, "SERVER_DOWN");
        let refused = Refusal::RoleNotAllowed.status();
        assert!(refused.get_details_retry_info().is_none());
    }
}
