//! Why an object does not go on. Closed: no text from an object ever stands beside a reason.

use cloister_audit::{Event, Reason as AuditReason};
use cloister_deid::DeidError;
use cloister_phi::Pseudonym;
use serde::{Deserialize, Serialize};

use crate::spool::Id;

/// Names the object of an event by this room's own random name for it, which the quarantine lists
/// as well.
pub(crate) fn about(event: Event, object: Id) -> Event {
    match Pseudonym::parse(&object.to_string()) {
        Ok(name) => event.object(name),
        // 32 hexadecimal digits are one.
        Err(_) => event,
    }
}

/// The reason of a quarantine entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Reason {
    /// The tags could not be cleaned, by our own fault.
    DeidentifyFailed,
    /// The directory of a medium.
    DeniedClass,
    /// An attribute stands twice with two values.
    DuplicateAttribute,
    /// Nested too deeply, too many identifiers, or inflated beyond the limit.
    LimitExceeded,
    /// No SOP Instance UID.
    NoInstanceUid,
    /// No DICOM object at all.
    NotDicom,
    /// The pixel data does not follow its own attributes or syntax, or cannot be looked through.
    PixelsUnreadable,
    /// The data set cannot be read: cut short or damaged.
    Unreadable,
    /// The object's key or file cannot be opened.
    Damaged,
    /// Not a chest film by SOP class, modality or body part.
    NotChest,
    /// No routing rule matches.
    NoRoute,
    /// Another patient than the study's first film.
    PatientConflict,
    /// The gate found an identifier in the cleared object.
    ResidualIdentifier,
    /// The last look at the cleared object's pixels found text.
    TextLeft,
    /// The process died again and again while it was at work on the object.
    ProcessDied,
    /// Larger than a worker takes.
    TooLarge,
    /// The same SOP Instance UID came before with other bytes.
    UidConflict,
    /// The pixels cannot be decoded or encoded.
    Undecodable,
    /// No codec for the transfer syntax.
    UnknownTransferSyntax,
    /// The worker died on it.
    WorkerDied,
    /// The worker took too long.
    WorkerTimedOut,
}

impl Reason {
    /// What de-identification says; the codes are the same there.
    pub(crate) const fn of(error: DeidError) -> Self {
        match error {
            DeidError::DeniedClass => Self::DeniedClass,
            DeidError::Duplicate => Self::DuplicateAttribute,
            DeidError::NoInstanceUid => Self::NoInstanceUid,
            DeidError::NotDicom => Self::NotDicom,
            DeidError::Pixels => Self::PixelsUnreadable,
            DeidError::TooDeep | DeidError::TooLarge | DeidError::TooManyIdentifiers => {
                Self::LimitExceeded
            }
            DeidError::TransferSyntax => Self::UnknownTransferSyntax,
            DeidError::Unreadable => Self::Unreadable,
            _ => Self::DeidentifyFailed,
        }
    }

    /// Stable code: control socket and metric label.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::DeidentifyFailed => "DEIDENTIFY_FAILED",
            Self::DeniedClass => "DENIED_CLASS",
            Self::DuplicateAttribute => "DUPLICATE_ATTRIBUTE",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::NoInstanceUid => "NO_INSTANCE_UID",
            Self::NotDicom => "NOT_DICOM",
            Self::PixelsUnreadable => "PIXELS_UNREADABLE",
            Self::Unreadable => "UNREADABLE",
            Self::Damaged => "DAMAGED",
            Self::NotChest => "NOT_CHEST",
            Self::NoRoute => "NO_ROUTE",
            Self::PatientConflict => "PATIENT_CONFLICT",
            Self::ProcessDied => "PROCESS_DIED",
            Self::ResidualIdentifier => "RESIDUAL_IDENTIFIER",
            Self::TextLeft => "TEXT_LEFT",
            Self::TooLarge => "TOO_LARGE",
            Self::UidConflict => "UID_CONFLICT",
            Self::Undecodable => "UNDECODABLE",
            Self::UnknownTransferSyntax => "UNKNOWN_TRANSFER_SYNTAX",
            Self::WorkerDied => "WORKER_DIED",
            Self::WorkerTimedOut => "WORKER_TIMED_OUT",
        }
    }

    /// The audit trail's word for it.
    pub(crate) const fn audit(self) -> AuditReason {
        match self {
            Self::DeidentifyFailed
            | Self::DeniedClass
            | Self::DuplicateAttribute
            | Self::NoInstanceUid => AuditReason::DeidentifyFailed,
            Self::NotChest => AuditReason::NotChest,
            Self::NoRoute => AuditReason::NoRoute,
            Self::ProcessDied => AuditReason::ProcessDied,
            Self::ResidualIdentifier | Self::TextLeft => AuditReason::ResidualIdentifier,
            Self::TooLarge | Self::LimitExceeded => AuditReason::TooLarge,
            Self::PatientConflict | Self::UidConflict => AuditReason::UidConflict,
            Self::Damaged
            | Self::NotDicom
            | Self::PixelsUnreadable
            | Self::Undecodable
            | Self::Unreadable => AuditReason::Undecodable,
            Self::UnknownTransferSyntax => AuditReason::UnknownTransferSyntax,
            Self::WorkerDied => AuditReason::WorkerDied,
            Self::WorkerTimedOut => AuditReason::WorkerTimedOut,
        }
    }

    /// Whether the study counts as incomplete: a second object under a used UID does not.
    pub(crate) const fn withholds(self) -> bool {
        !matches!(self, Self::UidConflict)
    }
}

impl Reason {
    /// Why an operator cannot send such an object through the path again; `None` if that makes
    /// sense. What is released passes every step again, the egress gate as well.
    pub(crate) const fn not_releasable(self) -> Option<&'static str> {
        match self {
            Self::Damaged => Some("our copy cannot be opened: have the sender send it again"),
            Self::NotChest => Some("only chest films are reported on: purge it"),
            Self::PatientConflict => Some(
                "it names another patient than its study: correct it at its source, then purge it",
            ),
            Self::UidConflict => Some(
                "another object has its SOP Instance UID: correct it at its source, then purge it",
            ),
            Self::DeidentifyFailed
            | Self::DeniedClass
            | Self::DuplicateAttribute
            | Self::LimitExceeded
            | Self::NoInstanceUid
            | Self::NotDicom
            | Self::PixelsUnreadable
            | Self::Unreadable
            | Self::NoRoute
            | Self::ProcessDied
            | Self::ResidualIdentifier
            | Self::TextLeft
            | Self::TooLarge
            | Self::Undecodable
            | Self::UnknownTransferSyntax
            | Self::WorkerDied
            | Self::WorkerTimedOut => None,
        }
    }
}

/// Why a study version is not tried again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum DeadReason {
    /// Tried for as long as the configuration says.
    GaveUp,
    /// The sidecar, or the server behind it, will never take it.
    Refused,
    /// More bytes of renditions than a report is made of.
    TooManyBytes,
    /// More cleared objects than a report is made of.
    TooManyObjects,
}

impl DeadReason {
    /// Every reason, for metrics.
    pub(crate) const ALL: [Self; 4] = [
        Self::GaveUp,
        Self::Refused,
        Self::TooManyBytes,
        Self::TooManyObjects,
    ];

    /// Stable code: control socket and metric label.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::GaveUp => "GAVE_UP",
            Self::Refused => "REFUSED",
            Self::TooManyBytes => "TOO_MANY_BYTES",
            Self::TooManyObjects => "TOO_MANY_OBJECTS",
        }
    }

    /// The audit trail's word for it.
    pub(crate) const fn audit(self) -> AuditReason {
        match self {
            Self::GaveUp => AuditReason::GaveUp,
            Self::Refused => AuditReason::UpstreamRefused,
            Self::TooManyBytes => AuditReason::TooLarge,
            Self::TooManyObjects => AuditReason::TooManyFilms,
        }
    }
}

#[cfg(test)]
mod tests {
    use cloister_deid::PseudonymError;

    use super::{DeidError, Reason};

    #[test]
    fn a_refused_object_has_the_code_that_the_command_line_prints() {
        for error in [
            DeidError::DeniedClass,
            DeidError::Duplicate,
            DeidError::NoInstanceUid,
            DeidError::NotDicom,
            DeidError::NotRedacted,
            DeidError::Pixels,
            DeidError::Pseudonym(PseudonymError::Invalid),
            DeidError::TooDeep,
            DeidError::TooLarge,
            DeidError::TooManyIdentifiers,
            DeidError::TransferSyntax,
            DeidError::Unreadable,
            DeidError::Unwritable,
        ] {
            assert_eq!(Reason::of(error).code(), error.code());
        }
    }
}
