//! Every metric of the room, by name. Labels are closed.

use std::time::Duration;

use cloister_redact::Findings;
use metrics::{counter, gauge, histogram};

use crate::quarantine::{DeadReason, Reason};

const ASSOCIATIONS: &str = "cloister_dicom_associations_total";
const ASSOCIATIONS_OPEN: &str = "cloister_dicom_associations_open";
const STOW_REQUESTS: &str = "cloister_dicom_stow_requests_total";
const OBJECTS: &str = "cloister_dicom_objects_total";
const OBJECT_BYTES: &str = "cloister_dicom_object_bytes";
const STORE_DURATION: &str = "cloister_dicom_store_duration_seconds";
const STEP_DURATION: &str = "cloister_dicom_step_duration_seconds";
const STUDIES: &str = "cloister_dicom_studies_total";
const STUDIES_PENDING: &str = "cloister_dicom_studies_pending";
const QUARANTINED: &str = "cloister_dicom_quarantined_objects_total";
const FORWARD_ATTEMPTS: &str = "cloister_dicom_forward_attempts_total";
const BOXES: &str = "cloister_dicom_redacted_boxes_total";
const FOUND: &str = "cloister_dicom_found_places_total";
const PRESENCE_NET: &str = "cloister_dicom_presence_net_loaded";
const OWN: &str = "cloister_dicom_own_identifier_boxes_total";

const SPOOL_USED: &str = "cloister_dicom_spool_used_bytes";
const SPOOL_FREE: &str = "cloister_dicom_spool_free_bytes";
const SPOOL_REFUSALS: &str = "cloister_dicom_spool_refusals_total";
const LOG_RECORDS: &str = "cloister_dicom_spool_log_records";
const COMPACTIONS: &str = "cloister_dicom_spool_compactions_total";
const DEAD_LETTERS: &str = "cloister_dicom_dead_letters_total";
const ERASED: &str = "cloister_dicom_erased_objects_total";
const OPERATIONS: &str = "cloister_dicom_operations_total";
const COMMITMENT_REQUESTS: &str = "cloister_dicom_commitment_requests_total";
const COMMITMENT_REPORTS: &str = "cloister_dicom_commitment_reports_total";
const ARCHIVED: &str = "cloister_dicom_archived_objects_total";
const ARCHIVE_WAITING: &str = "cloister_dicom_archive_waiting_objects";
const ARCHIVE_FAILURES: &str = "cloister_dicom_archive_failed_visits_total";
const TOKEN_CALLS: &str = "cloister_dicom_token_calls_total";

/// How a call to a key on a token ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenCall {
    /// Another failure of token or module.
    Failed,
    /// The key is gone, or is not the one it was.
    Key,
    /// Done, or the token has said that the data is not of this key.
    Ok,
    /// The PIN was refused, is locked, or must not be tried.
    Pin,
    TimedOut,
    /// The token is away.
    Token,
}

impl TokenCall {
    const ALL: [Self; 6] = [
        Self::Failed,
        Self::Key,
        Self::Ok,
        Self::Pin,
        Self::TimedOut,
        Self::Token,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Key => "key",
            Self::Ok => "ok",
            Self::Pin => "pin",
            Self::TimedOut => "timed_out",
            Self::Token => "token",
        }
    }
}

/// What became of an original on its way to the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Archived {
    Committed,
    GivenUp,
    Refused,
    Sent,
}

impl Archived {
    const ALL: [Self; 4] = [Self::Committed, Self::GivenUp, Self::Refused, Self::Sent];

    const fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::GivenUp => "given_up",
            Self::Refused => "refused",
            Self::Sent => "sent",
        }
    }
}

/// What became of a report to a modality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    DeadLettered,
    Failed,
    Reported,
}

impl Told {
    const ALL: [Self; 3] = [Self::DeadLettered, Self::Failed, Self::Reported];

    const fn label(self) -> &'static str {
        match self {
            Self::DeadLettered => "dead_lettered",
            Self::Failed => "failed",
            Self::Reported => "reported",
        }
    }
}

/// Why an object is not let into the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Distrusted,
    Quota,
    Watermark,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Distrusted, Self::Quota, Self::Watermark];

    const fn label(self) -> &'static str {
        match self {
            Self::Distrusted => "distrusted",
            Self::Quota => "quota",
            Self::Watermark => "watermark",
        }
    }
}

/// What was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Erased {
    Discard,
    Purge,
    Retention,
}

impl Erased {
    const fn label(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Purge => "purge",
            Self::Retention => "retention",
        }
    }
}

/// How an operator's request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operated {
    Done,
    Failed,
    Refused,
}

impl Operated {
    const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// How an association ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Aborted,
    Closed,
    Garbage,
    Handshake,
    Limited,
    Protocol,
    Rejected,
    Released,
    Shutdown,
    TimedOut,
}

impl Ended {
    const fn label(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Closed => "closed",
            Self::Garbage => "garbage",
            Self::Handshake => "handshake",
            Self::Limited => "limited",
            Self::Protocol => "protocol",
            Self::Rejected => "rejected",
            Self::Released => "released",
            Self::Shutdown => "shutdown",
            Self::TimedOut => "timed_out",
        }
    }
}

/// What became of a C-STORE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    Conflict,
    Duplicate,
    Mismatch,
    OutOfResources,
    Refused,
    Stored,
    Unparseable,
}

impl Answered {
    const fn label(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Duplicate => "duplicate",
            Self::Mismatch => "mismatch",
            Self::OutOfResources => "out_of_resources",
            Self::Refused => "refused",
            Self::Stored => "stored",
            Self::Unparseable => "unparseable",
        }
    }
}

/// What became of a STOW-RS request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stowed {
    /// Every object is stored.
    All,
    /// Some are.
    Some,
    /// None is.
    None,
    /// The request itself was refused.
    Refused,
}

impl Stowed {
    const fn label(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Some => "some",
            Self::None => "none",
            Self::Refused => "refused",
        }
    }
}

/// A step of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Clear,
    Deidentify,
    Forward,
    Redact,
}

impl Step {
    const fn label(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Deidentify => "deidentify",
            Self::Forward => "forward",
            Self::Redact => "redact",
        }
    }
}

/// What became of a study version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StudyState {
    Assembled,
    DeadLettered,
    Forwarded,
    Withheld,
}

impl StudyState {
    const fn label(self) -> &'static str {
        match self {
            Self::Assembled => "assembled",
            Self::DeadLettered => "dead_lettered",
            Self::Forwarded => "forwarded",
            Self::Withheld => "withheld",
        }
    }
}

/// What the sidecar said to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Accepted,
    Refused,
    Unavailable,
}

impl Attempt {
    const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Names every family once, so that a scrape shows zeros before the first event.
pub(crate) fn describe() {
    metrics::describe_counter!(ASSOCIATIONS, "Associations by how they ended.");
    metrics::describe_gauge!(
        ASSOCIATIONS_OPEN,
        "Open connections on the receiving ports."
    );
    metrics::describe_gauge!(PRESENCE_NET, "1 if the text-presence net looks at films.");
    metrics::describe_counter!(
        OBJECTS,
        "Objects received, by C-STORE or STOW-RS, by answer."
    );
    metrics::describe_counter!(
        STOW_REQUESTS,
        "STOW-RS requests by what was stored of them."
    );
    metrics::describe_histogram!(OBJECT_BYTES, "Size of stored data sets.");
    metrics::describe_histogram!(
        STORE_DURATION,
        "From the last byte of an object to its answer."
    );
    metrics::describe_histogram!(
        STEP_DURATION,
        "Time of a step per object; of forward per attempt."
    );
    metrics::describe_counter!(STUDIES, "Study versions by state reached.");
    metrics::describe_gauge!(STUDIES_PENDING, "Study versions that wait to be forwarded.");
    metrics::describe_counter!(QUARANTINED, "Objects put in quarantine by reason.");
    metrics::describe_counter!(
        FORWARD_ATTEMPTS,
        "Attempts to hand a study to the sidecar by answer."
    );
    metrics::describe_counter!(BOXES, "Places where burned-in text was blanked.");
    metrics::describe_counter!(
        FOUND,
        "Places found on films, by why and what became of them."
    );
    metrics::describe_counter!(
        OWN,
        "Boxes whose text held the patient's own identifiers; they were blanked."
    );
    findings(&Findings::default());
    metrics::describe_gauge!(SPOOL_USED, "Length of the spool's files.");
    metrics::describe_gauge!(SPOOL_FREE, "Free space of the spool's disk.");
    metrics::describe_counter!(
        SPOOL_REFUSALS,
        "Objects that the spool refused, by reason (A700)."
    );
    metrics::describe_gauge!(LOG_RECORDS, "Records in the spool's log.");
    metrics::describe_counter!(COMPACTIONS, "Times the spool's log was written anew.");
    metrics::describe_counter!(DEAD_LETTERS, "Studies given up, by reason.");
    metrics::describe_counter!(ERASED, "Objects erased, by cause.");
    metrics::describe_counter!(OPERATIONS, "What operators asked for, and how it ended.");
    for state in [
        StudyState::Assembled,
        StudyState::DeadLettered,
        StudyState::Forwarded,
        StudyState::Withheld,
    ] {
        counter!(STUDIES, "state" => state.label()).increment(0);
    }
    counter!(OBJECTS, "answer" => Answered::Stored.label()).increment(0);
    counter!(ASSOCIATIONS, "ended" => Ended::Released.label()).increment(0);
    gauge!(ASSOCIATIONS_OPEN).set(0.0);
    gauge!(STUDIES_PENDING).set(0.0);
    for refusal in Refusal::ALL {
        counter!(SPOOL_REFUSALS, "reason" => refusal.label()).increment(0);
    }
    for reason in DeadReason::ALL {
        counter!(DEAD_LETTERS, "reason" => reason.code()).increment(0);
    }
    for erased in [Erased::Discard, Erased::Purge, Erased::Retention] {
        counter!(ERASED, "cause" => erased.label()).increment(0);
    }
    counter!(COMPACTIONS).increment(0);
    metrics::describe_counter!(
        COMMITMENT_REQUESTS,
        "Storage Commitment requests of modalities, by answer."
    );
    metrics::describe_counter!(
        COMMITMENT_REPORTS,
        "Reports on commitment to modalities, by how they ended."
    );
    metrics::describe_counter!(ARCHIVED, "Originals by what the archive did about them.");
    metrics::describe_gauge!(ARCHIVE_WAITING, "Originals that wait for the archive.");
    metrics::describe_counter!(
        ARCHIVE_FAILURES,
        "Associations with the archive that failed."
    );
    for answer in ["accepted", "refused"] {
        counter!(COMMITMENT_REQUESTS, "answer" => answer).increment(0);
    }
    for told in Told::ALL {
        counter!(COMMITMENT_REPORTS, "ended" => told.label()).increment(0);
    }
    for archived in Archived::ALL {
        counter!(ARCHIVED, "outcome" => archived.label()).increment(0);
    }
    gauge!(ARCHIVE_WAITING).set(0.0);
    counter!(ARCHIVE_FAILURES).increment(0);
    metrics::describe_counter!(
        TOKEN_CALLS,
        "Calls to wrapping keys on a PKCS#11 token, by how they ended; all but ok make objects wait."
    );
    for ended in TokenCall::ALL {
        counter!(TOKEN_CALLS, "ended" => ended.label()).increment(0);
    }
}

pub(crate) fn token_call(ended: TokenCall) {
    counter!(TOKEN_CALLS, "ended" => ended.label()).increment(1);
}

pub(crate) fn commitment_asked(accepted: bool) {
    let answer = if accepted { "accepted" } else { "refused" };
    counter!(COMMITMENT_REQUESTS, "answer" => answer).increment(1);
}

pub(crate) fn told(told: Told) {
    counter!(COMMITMENT_REPORTS, "ended" => told.label()).increment(1);
}

pub(crate) fn archived(archived: Archived, objects: u32) {
    counter!(ARCHIVED, "outcome" => archived.label()).increment(objects.into());
}

pub(crate) fn archive_waiting(objects: usize) {
    gauge!(ARCHIVE_WAITING).set(objects as f64);
}

pub(crate) fn visit_failed() {
    counter!(ARCHIVE_FAILURES).increment(1);
}

pub(crate) fn spool_used(bytes: u64) {
    gauge!(SPOOL_USED).set(bytes as f64);
}

pub(crate) fn spool_free(bytes: u64) {
    gauge!(SPOOL_FREE).set(bytes as f64);
}

pub(crate) fn refusal(refusal: Refusal) {
    counter!(SPOOL_REFUSALS, "reason" => refusal.label()).increment(1);
}

pub(crate) fn log_records(records: u64) {
    gauge!(LOG_RECORDS).set(records as f64);
}

pub(crate) fn compacted() {
    counter!(COMPACTIONS).increment(1);
}

pub(crate) fn dead_lettered(reason: DeadReason) {
    counter!(DEAD_LETTERS, "reason" => reason.code()).increment(1);
}

pub(crate) fn erased(cause: Erased, objects: u32) {
    counter!(ERASED, "cause" => cause.label()).increment(objects.into());
}

/// `operation` is a name of [`crate::control`], never text from outside.
pub(crate) fn operated(operation: &'static str, ended: Operated) {
    counter!(OPERATIONS, "operation" => operation, "ended" => ended.label()).increment(1);
}

pub(crate) fn association(ended: Ended) {
    counter!(ASSOCIATIONS, "ended" => ended.label()).increment(1);
}

pub(crate) fn stow(stowed: Stowed) {
    counter!(STOW_REQUESTS, "stored" => stowed.label()).increment(1);
}

/// Counts an open connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Open(());

impl Open {
    pub(crate) fn new() -> Self {
        gauge!(ASSOCIATIONS_OPEN).increment(1.0);
        Self(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(ASSOCIATIONS_OPEN).decrement(1.0);
    }
}

pub(crate) fn object(answered: Answered, took: Duration) {
    counter!(OBJECTS, "answer" => answered.label()).increment(1);
    histogram!(STORE_DURATION).record(took.as_secs_f64());
}

pub(crate) fn object_bytes(bytes: u64) {
    histogram!(OBJECT_BYTES).record(bytes as f64);
}

pub(crate) fn step(step: Step, took: Duration) {
    histogram!(STEP_DURATION, "step" => step.label()).record(took.as_secs_f64());
}

pub(crate) fn study(state: StudyState) {
    counter!(STUDIES, "state" => state.label()).increment(1);
}

pub(crate) fn pending(studies: usize) {
    gauge!(STUDIES_PENDING).set(studies as f64);
}

pub(crate) fn quarantined(reason: Reason) {
    counter!(QUARANTINED, "reason" => reason.code()).increment(1);
}

pub(crate) fn attempt(attempt: Attempt) {
    counter!(FORWARD_ATTEMPTS, "answer" => attempt.label()).increment(1);
}

/// Whether the text-presence net looks at films.
pub(crate) fn presence_net(is_loaded: bool) {
    gauge!(PRESENCE_NET).set(f64::from(u8::from(is_loaded)));
}

/// What was found on one film.
pub(crate) fn findings(findings: &Findings) {
    counter!(BOXES).increment(findings.redacted() as u64);
    counter!(OWN).increment(findings.own_identifiers.into());
    for (source, action) in Findings::KINDS {
        let count = findings.count(source, action) as u64;
        counter!(FOUND, "source" => source.name(), "action" => action.name()).increment(count);
    }
}
