//! Every metric of the server. Labels are closed enums; no text from a request is ever a label.

use std::time::Duration;

use cloister_proto::v1;
use cloister_redact::Findings;

/// Name of a metric. The one list that dashboards and the specification are checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    RequestsTotal,
    RequestDurationSeconds,
    OutcomesTotal,
    ReasonsTotal,
    StepDurationSeconds,
    GuardVerdictsTotal,
    PeersRefusedTotal,
    FilmsTotal,
    FoundPlacesTotal,
    OwnIdentifierBoxesTotal,
    QueueSize,
    BatchRows,
    TokensTotal,
    StepsTotal,
    FeedbackTotal,
    EvaluationsTotal,
    ExecutionProviderInfo,
    PresenceNetLoaded,
}

impl Metric {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RequestsTotal => "cloister_server_requests_total",
            Self::RequestDurationSeconds => "cloister_server_request_duration_seconds",
            Self::OutcomesTotal => "cloister_server_outcomes_total",
            Self::ReasonsTotal => "cloister_server_reasons_total",
            Self::StepDurationSeconds => "cloister_server_step_duration_seconds",
            Self::GuardVerdictsTotal => "cloister_server_guard_verdicts_total",
            Self::PeersRefusedTotal => "cloister_server_peers_refused_total",
            Self::FilmsTotal => "cloister_server_films_total",
            Self::FoundPlacesTotal => "cloister_server_found_places_total",
            Self::OwnIdentifierBoxesTotal => "cloister_server_own_identifier_boxes_total",
            Self::QueueSize => "cloister_server_queue_size",
            Self::BatchRows => "cloister_server_batch_rows",
            Self::TokensTotal => "cloister_server_tokens_total",
            Self::StepsTotal => "cloister_server_decode_steps_total",
            Self::FeedbackTotal => "cloister_server_feedback_total",
            Self::EvaluationsTotal => "cloister_server_evaluations_total",
            Self::ExecutionProviderInfo => "cloister_server_execution_provider_info",
            Self::PresenceNetLoaded => "cloister_server_presence_net_loaded",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::RequestsTotal => "Requests by method and result.",
            Self::RequestDurationSeconds => "Time from request to answer.",
            Self::OutcomesTotal => "Reports by outcome.",
            Self::ReasonsTotal => "Reason codes of reports.",
            Self::StepDurationSeconds => "Time spent in each step of the pipeline.",
            Self::GuardVerdictsTotal => "Verdicts by guard.",
            Self::PeersRefusedTotal => "Connections to the socket by another user.",
            Self::FilmsTotal => "Films by how they came and what became of them.",
            Self::FoundPlacesTotal => "Places found on films, by why and what became of them.",
            Self::OwnIdentifierBoxesTotal => {
                "Boxes whose text held the patient's own identifiers; they were blanked."
            }
            Self::QueueSize => "Requests waiting for the model.",
            Self::BatchRows => "Rows in the batch that is being decoded.",
            Self::TokensTotal => "Tokens written.",
            Self::StepsTotal => "Decode steps run.",
            Self::FeedbackTotal => "Feedback on drafts by kind.",
            Self::EvaluationsTotal => "Texts evaluated by label.",
            Self::ExecutionProviderInfo => "1 for the execution provider that runs.",
            Self::PresenceNetLoaded => "1 if the text-presence net looks at films.",
        }
    }
}

/// Gives every metric its help text. Call once, after the recorder is installed.
pub(crate) fn describe() {
    use Metric as M;
    for counter in [
        M::RequestsTotal,
        M::OutcomesTotal,
        M::ReasonsTotal,
        M::GuardVerdictsTotal,
        M::PeersRefusedTotal,
        M::FilmsTotal,
        M::FoundPlacesTotal,
        M::OwnIdentifierBoxesTotal,
        M::TokensTotal,
        M::StepsTotal,
        M::FeedbackTotal,
        M::EvaluationsTotal,
    ] {
        metrics::describe_counter!(counter.name(), counter.help());
    }
    for histogram in [
        M::RequestDurationSeconds,
        M::StepDurationSeconds,
        M::BatchRows,
    ] {
        metrics::describe_histogram!(histogram.name(), histogram.help());
    }
    for gauge in [M::QueueSize, M::ExecutionProviderInfo, M::PresenceNetLoaded] {
        metrics::describe_gauge!(gauge.name(), gauge.help());
    }
    findings(&Findings::default());
}

/// Counts what was found on one film.
pub(crate) fn findings(findings: &Findings) {
    metrics::counter!(Metric::OwnIdentifierBoxesTotal.name())
        .increment(findings.own_identifiers.into());
    for (source, action) in Findings::KINDS {
        let count = findings.count(source, action) as u64;
        metrics::counter!(
            Metric::FoundPlacesTotal.name(),
            "source" => source.name(),
            "action" => action.name()
        )
        .increment(count);
    }
}

/// Adds one to a counter with one label.
pub(crate) fn count(metric: Metric, key: &'static str, value: &'static str) {
    metrics::counter!(metric.name(), key => value).increment(1);
}

/// Counts a guard's verdict.
pub(crate) fn guard(name: &'static str, verdict: &'static str) {
    metrics::counter!(Metric::GuardVerdictsTotal.name(), "guard" => name, "verdict" => verdict)
        .increment(1);
}

/// Records the time of one step.
pub(crate) fn step(name: &'static str, time: Duration) {
    metrics::histogram!(Metric::StepDurationSeconds.name(), "step" => name).record(time);
}

/// Counts a finished request.
pub(crate) fn request(method: &'static str, result: &'static str, time: Duration) {
    metrics::counter!(Metric::RequestsTotal.name(), "method" => method, "result" => result)
        .increment(1);
    metrics::histogram!(Metric::RequestDurationSeconds.name(), "method" => method).record(time);
}

/// Counts a report's outcome and reasons.
pub(crate) fn assessed(assessment: &v1::Assessment) {
    count(
        Metric::OutcomesTotal,
        "outcome",
        assessment.outcome().as_str_name(),
    );
    for reason in assessment.reasons() {
        count(Metric::ReasonsTotal, "reason", reason.as_str_name());
    }
}
