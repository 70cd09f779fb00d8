//! From a path to the one thing behind it. Closed: what is not listed here does not exist.

/// Everything a caller can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    AcknowledgeReport,
    Evaluate,
    FetchReport,
    Generate,
    GenerateStream,
    GetCheckpoint,
    HealthCheck,
    HealthWatch,
    HttpHealth,
    HttpV1,
    Inspect,
    ListEntries,
    ListEvents,
    ListReports,
    ProveInclusion,
    SendFeedback,
    SubmitStudy,
    Validate,
    WatchReports,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The server, and what it answers is sealed: Generate, GenerateStream, SubmitStudy.
    Report,
    /// The server's gRPC socket, passed through.
    Grpc,
    /// The server's HTTP socket, passed through.
    Http,
    /// This sidecar.
    Inbox,
    /// This sidecar.
    Audit,
    /// This sidecar.
    Directory,
}

impl Method {
    /// The method behind a request path.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "/cloister.v1.ReportService/Generate" => Self::Generate,
            "/cloister.v1.ReportService/GenerateStream" => Self::GenerateStream,
            "/cloister.v1.ReportService/SubmitStudy" => Self::SubmitStudy,
            "/cloister.v1.ReportService/Validate" => Self::Validate,
            "/cloister.v1.ReportService/SendFeedback" => Self::SendFeedback,
            "/cloister.v1.SafeguardService/Evaluate" => Self::Evaluate,
            "/cloister.v1.SafeguardService/Inspect" => Self::Inspect,
            "/cloister.v1.InboxService/ListReports" => Self::ListReports,
            "/cloister.v1.InboxService/FetchReport" => Self::FetchReport,
            "/cloister.v1.InboxService/WatchReports" => Self::WatchReports,
            "/cloister.v1.InboxService/AcknowledgeReport" => Self::AcknowledgeReport,
            "/cloister.v1.AuditService/GetCheckpoint" => Self::GetCheckpoint,
            "/cloister.v1.AuditService/ProveInclusion" => Self::ProveInclusion,
            "/cloister.v1.AuditService/ListEvents" => Self::ListEvents,
            "/cloister.v1.DirectoryService/ListEntries" => Self::ListEntries,
            "/grpc.health.v1.Health/Check" => Self::HealthCheck,
            "/grpc.health.v1.Health/Watch" => Self::HealthWatch,
            "/health" => Self::HttpHealth,
            _ if path.starts_with("/v1/") => Self::HttpV1,
            _ => return None,
        })
    }

    /// Who answers it.
    pub(crate) const fn target(self) -> Target {
        match self {
            Self::Generate | Self::GenerateStream | Self::SubmitStudy => Target::Report,
            Self::Validate
            | Self::SendFeedback
            | Self::Evaluate
            | Self::Inspect
            | Self::HealthCheck
            | Self::HealthWatch => Target::Grpc,
            Self::HttpHealth | Self::HttpV1 => Target::Http,
            Self::ListReports
            | Self::FetchReport
            | Self::WatchReports
            | Self::AcknowledgeReport => Target::Inbox,
            Self::GetCheckpoint | Self::ProveInclusion | Self::ListEvents => Target::Audit,
            Self::ListEntries => Target::Directory,
        }
    }

    /// Whether it only says that something is alive: open to every role and not audited.
    pub(crate) const fn is_health(self) -> bool {
        matches!(
            self,
            Self::HealthCheck | Self::HealthWatch | Self::HttpHealth
        )
    }

    /// Label in metrics and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AcknowledgeReport => "acknowledge_report",
            Self::Evaluate => "evaluate",
            Self::FetchReport => "fetch_report",
            Self::Generate => "generate",
            Self::GenerateStream => "generate_stream",
            Self::GetCheckpoint => "get_checkpoint",
            Self::HealthCheck => "health_check",
            Self::HealthWatch => "health_watch",
            Self::HttpHealth => "http_health",
            Self::HttpV1 => "http_v1",
            Self::Inspect => "inspect",
            Self::ListEntries => "list_entries",
            Self::ListEvents => "list_events",
            Self::ListReports => "list_reports",
            Self::ProveInclusion => "prove_inclusion",
            Self::SendFeedback => "send_feedback",
            Self::SubmitStudy => "submit_study",
            Self::Validate => "validate",
            Self::WatchReports => "watch_reports",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_does_not_exist() {
        for path in [
            "",
            "/",
            "/cloister.v1.ReportService/generate",
            "/cloister.v1.ReportService/Generate/",
            "/cloister.v1.ReportService//Generate",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/v1",
            "/health/",
            "/metrics",
        ] {
            assert_eq!(Method::of_path(path), None, "{path}");
        }
        assert_eq!(Method::of_path("/v1/evaluate"), Some(Method::HttpV1));
    }
}
