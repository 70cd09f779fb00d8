//! What the log says of commitment, record by record, and what of it is known: no step of it is taken
//! here.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::spool::Id;
use crate::spool::record::{StoredRecord, hex_bytes};

/// Why an object is not committed: Failure Reason (0008,1197), PS3.3 section C.14.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    /// 0110H, and every reason that is not listed there.
    Processing,
    NoSuchInstance,
    ResourceLimitation,
    SopClassNotSupported,
    ClassInstanceConflict,
    DuplicateTransaction,
}

impl Failure {
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Processing => 0x0110,
            Self::NoSuchInstance => 0x0112,
            Self::ResourceLimitation => 0x0213,
            Self::SopClassNotSupported => 0x0122,
            Self::ClassInstanceConflict => 0x0119,
            Self::DuplicateTransaction => 0x0131,
        }
    }

    pub(crate) const fn of(code: u16) -> Self {
        match code {
            0x0112 => Self::NoSuchInstance,
            0x0213 => Self::ResourceLimitation,
            0x0122 => Self::SopClassNotSupported,
            0x0119 => Self::ClassInstanceConflict,
            0x0131 => Self::DuplicateTransaction,
            _ => Self::Processing,
        }
    }

    /// Stable code for the control socket.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Processing => "PROCESSING_FAILURE",
            Self::NoSuchInstance => "NO_SUCH_INSTANCE",
            Self::ResourceLimitation => "RESOURCE_LIMITATION",
            Self::SopClassNotSupported => "SOP_CLASS_NOT_SUPPORTED",
            Self::ClassInstanceConflict => "CLASS_INSTANCE_CONFLICT",
            Self::DuplicateTransaction => "DUPLICATE_TRANSACTION",
        }
    }
}

/// How far an original is on its way to the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archiving {
    pub(crate) step: ArchiveStep,
    /// When somebody last asked for another try; 0 = since it came.
    pub(super) since_unix_ms: i64,
}

impl Archiving {
    /// Since when it is tried.
    pub(in crate::spool::worklist) const fn since(self, stored: &StoredRecord) -> i64 {
        match self.since_unix_ms {
            0 => stored.at_unix_ms,
            since => since,
        }
    }
}

/// A step of that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ArchiveStep {
    #[default]
    Not,
    /// Its C-STORE was answered with success.
    Sent,
    /// A transaction names it.
    Asked,
    /// The archive's own report lists it as committed.
    Committed,
    /// Given up, until somebody asks again.
    Failed(Failure),
}

/// One change. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Relayed {
    /// The archive has answered the C-STORE of these with success.
    Sent { objects: Vec<Id> },
    /// The archive is going to be asked; written before it is, so that its report is recognised.
    Asked {
        transaction: Uuid,
        objects: Vec<Id>,
        at_unix_ms: i64,
    },
    /// A question as it stood when the log was compacted.
    Open {
        transaction: Uuid,
        objects: Vec<Id>,
        at_unix_ms: i64,
        #[serde(default)]
        state: Question,
    },
    /// The archive has not reported in time, or refuses to be asked: it is asked again. Its report is
    /// still believed when it comes.
    Unheard { transaction: Uuid },
    /// Too long ago: a report on this question is not believed any more.
    Closed { transaction: Uuid },
    /// The archive's N-EVENT-REPORT. The only record that makes anything committed.
    Heard {
        transaction: Uuid,
        committed: Vec<Id>,
        failed: Vec<(Id, Failure)>,
        /// It does not have these after all: they are sent again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lacking: Vec<Id>,
        at_unix_ms: i64,
    },
    /// Not tried any more.
    GivenUp {
        objects: Vec<Id>,
        failure: Failure,
        at_unix_ms: i64,
    },
    /// Somebody asks for these again.
    Again { objects: Vec<Id>, at_unix_ms: i64 },
    /// A modality's N-ACTION, durable before its response.
    Requested(Requested),
    /// A modality is told now: what is undecided has failed.
    Overdue { request: Id, at_unix_ms: i64 },
    /// The modality has answered the report with success.
    Reported { request: Id, at_unix_ms: i64 },
    /// The report is a dead letter.
    Undeliverable { request: Id, at_unix_ms: i64 },
    /// The report is to be delivered once more.
    Deliver { request: Id, at_unix_ms: i64 },
    /// Nobody is going to ask about this one any more.
    Forgot { request: Id },
    /// A request as it stood when the log was compacted.
    Request(Request),
    /// What was known of erased objects when the log was compacted.
    Remembered(Vec<Remembered>),
}

/// A modality's N-ACTION.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requested {
    /// Keyed hash of calling AE title and Transaction UID.
    pub(crate) request: Id,
    pub(crate) calling_ae: String,
    /// Transaction UID and references, sealed.
    #[serde(with = "hex_bytes")]
    pub(crate) sealed: Vec<u8>,
    /// Keyed hash of the references: another list under the same Transaction UID is another request.
    pub(crate) content: Id,
    /// In the order of the references.
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) at_unix_ms: i64,
}

/// What is known of a reference when it is asked about. There is no way to say "committed" here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    Object(Id),
    /// Erased here; whether the archive has committed to it is looked up when the record is applied.
    Erased(Id),
    Failed(Failure),
}

/// An object that the archive has committed to and that was erased here since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remembered {
    /// Keyed hash of the SOP Instance UID.
    pub(crate) instance: Id,
    pub(crate) calling_ae: String,
    pub(crate) sop_class: Option<String>,
    pub(super) at_unix_ms: i64,
    /// Keyed hash of its bytes; absent in the records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Id>,
    /// Other bytes came under the name since, or nobody can say whether they were others: which of
    /// them a sender means is unknown, so nobody is told that they are committed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) doubtful: bool,
}

impl Remembered {
    pub(super) fn doubt_unless(&mut self, content: &[u8; 32]) {
        self.doubtful |= self.content != Some(Id::of_hash(content));
    }
}

/// A request and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) requested: Requested,
    pub(super) outcomes: Vec<Option<Outcome>>,
    pub(crate) state: RequestState,
    /// Outcomes that are missing.
    #[serde(skip)]
    pub(super) undecided: usize,
}

/// Of one reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The archive has said so.
    Committed,
    Failed(Failure),
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestState {
    Open,
    /// Everything is decided, since then.
    Decided(i64),
    /// The modality knows, since then.
    Reported(i64),
    /// A dead letter, since then.
    Undeliverable(i64),
}

impl Request {
    /// Of every reference, in order; `None` until all are known.
    pub(crate) fn outcomes(&self) -> Option<Vec<Outcome>> {
        self.outcomes.iter().copied().collect()
    }

    /// Decided, committed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let committed = |outcome: &&Option<Outcome>| **outcome == Some(Outcome::Committed);
        (
            self.outcomes.iter().flatten().count(),
            self.outcomes.iter().filter(committed).count(),
        )
    }
}

/// A question to the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// What it names; nothing once it is answered.
    pub(crate) objects: Vec<Id>,
    pub(crate) at_unix_ms: i64,
    pub(crate) state: Question,
}

/// What has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    #[default]
    Open,
    /// Not answered in time, and asked again under another name.
    Late,
    /// Answered. The archive may say it twice.
    Answered,
}
