//! The names and labels of every metric of this room. Labels are closed lists.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::route::Method;

/// Metric names.
#[derive(Debug, Clone, Copy)]
enum Name {
    AuditFailures,
    ConnectionsActive,
    Connections,
    HandshakeDuration,
    ReportBytes,
    Reports,
    RequestDuration,
    Requests,
    RequestsActive,
    StepDuration,
}

impl Name {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AuditFailures => "cloister_sidecar_audit_failures_total",
            Self::ConnectionsActive => "cloister_sidecar_connections_active",
            Self::Connections => "cloister_sidecar_connections_total",
            Self::HandshakeDuration => "cloister_sidecar_handshake_duration_seconds",
            Self::ReportBytes => "cloister_sidecar_sealed_report_bytes",
            Self::Reports => "cloister_sidecar_reports_total",
            Self::RequestDuration => "cloister_sidecar_request_duration_seconds",
            Self::Requests => "cloister_sidecar_requests_total",
            Self::RequestsActive => "cloister_sidecar_requests_active",
            Self::StepDuration => "cloister_sidecar_step_duration_seconds",
        }
    }
}

/// How a connection began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connected {
    Accepted,
    Refused,
    Full,
}

/// A step of the way out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Upstream,
    Seal,
    Hold,
    Record,
    Release,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportFate {
    Released,
    Replayed,
    Resumed,
    Withheld,
}

/// Texts for `/metrics`.
pub(crate) fn describe() {
    describe_counter!(
        Name::AuditFailures.as_str(),
        "Audit records that could not be written."
    );
    describe_gauge!(Name::ConnectionsActive.as_str(), "Open mTLS connections.");
    describe_counter!(Name::Connections.as_str(), "Connections by how they began.");
    describe_histogram!(
        Name::HandshakeDuration.as_str(),
        Unit::Seconds,
        "TLS handshakes that succeeded."
    );
    describe_histogram!(
        Name::ReportBytes.as_str(),
        Unit::Bytes,
        "Sealed reports as stored."
    );
    describe_counter!(Name::Reports.as_str(), "Reports by what became of them.");
    describe_histogram!(
        Name::RequestDuration.as_str(),
        Unit::Seconds,
        "Requests up to their response head."
    );
    describe_counter!(
        Name::Requests.as_str(),
        "Requests by method and how they ended."
    );
    describe_gauge!(
        Name::RequestsActive.as_str(),
        "Requests that have no response head yet."
    );
    describe_histogram!(
        Name::StepDuration.as_str(),
        Unit::Seconds,
        "Steps of a report's way out."
    );
    // Present from the start, so that a rate over them is never empty.
    for connected in [Connected::Accepted, Connected::Refused, Connected::Full] {
        counter!(Name::Connections.as_str(), "result" => connected.as_str()).increment(0);
    }
    for fate in [
        ReportFate::Released,
        ReportFate::Replayed,
        ReportFate::Resumed,
        ReportFate::Withheld,
    ] {
        counter!(Name::Reports.as_str(), "fate" => fate.as_str()).increment(0);
    }
    counter!(Name::AuditFailures.as_str()).increment(0);
}

impl Connected {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Full => "full",
        }
    }
}

impl Step {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Seal => "seal",
            Self::Hold => "hold",
            Self::Record => "record",
            Self::Release => "release",
        }
    }
}

impl ReportFate {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Replayed => "replayed",
            Self::Resumed => "resumed",
            Self::Withheld => "withheld",
        }
    }
}

pub(crate) fn audit_failed() {
    counter!(Name::AuditFailures.as_str()).increment(1);
}

pub(crate) fn connection(connected: Connected) {
    counter!(Name::Connections.as_str(), "result" => connected.as_str()).increment(1);
}

pub(crate) fn handshake(took: Duration) {
    histogram!(Name::HandshakeDuration.as_str()).record(took);
}

pub(crate) fn report(fate: ReportFate) {
    counter!(Name::Reports.as_str(), "fate" => fate.as_str()).increment(1);
}

pub(crate) fn sealed_bytes(bytes: usize) {
    histogram!(Name::ReportBytes.as_str()).record(bytes as f64);
}

pub(crate) fn step(step: Step, took: Duration) {
    histogram!(Name::StepDuration.as_str(), "step" => step.as_str()).record(took);
}

/// Counts an open connection until it is dropped, whatever ends it.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(());

impl ConnectionGuard {
    pub(crate) fn new() -> Self {
        gauge!(Name::ConnectionsActive.as_str()).increment(1.0);
        Self(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        gauge!(Name::ConnectionsActive.as_str()).decrement(1.0);
    }
}

/// Counts a request once, also when its client goes away before the answer.
#[derive(Debug)]
pub(crate) struct RequestGuard {
    method: Option<Method>,
    started: tokio::time::Instant,
    result: &'static str,
}

impl RequestGuard {
    pub(crate) fn new(method: Option<Method>) -> Self {
        gauge!(Name::RequestsActive.as_str()).increment(1.0);
        Self {
            method,
            started: tokio::time::Instant::now(),
            result: "abandoned",
        }
    }

    pub(crate) fn finish(mut self, code: tonic::Code) {
        self.result = code_label(code);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let method = self.method.map_or("unknown", Method::as_str);
        gauge!(Name::RequestsActive.as_str()).decrement(1.0);
        counter!(Name::Requests.as_str(), "method" => method, "result" => self.result).increment(1);
        histogram!(Name::RequestDuration.as_str(), "method" => method)
            .record(self.started.elapsed());
    }
}

const fn code_label(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "ok",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        _ => "other",
    }
}
