//! The closed lists of an event: what happened, how it was decided, why.

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// The room began to serve.
    Started,
    /// The room stopped in good order.
    Stopped,
    /// A DICOM association was refused or broken off.
    AssociationRefused,
    /// An object is durable and was answered `0000H`.
    ObjectStored,
    /// An object was answered with a failure.
    ObjectRefused,
    /// An object went to quarantine.
    ObjectQuarantined,
    /// A study is complete by quiet time.
    StudyAssembled,
    /// All objects of a study passed the egress gate, or are quarantined.
    StudyCleared,
    /// A study was accepted by the sidecar.
    StudyForwarded,
    /// A whole study went to quarantine.
    StudyQuarantined,
    /// A connection was refused in the handshake.
    ConnectionRefused,
    /// A request was refused before it reached its service.
    RequestRefused,
    /// A request was let through to the server.
    RequestForwarded,
    /// A sealed report was released.
    ReportReleased,
    /// A report was withheld.
    ReportWithheld,
    /// A recipient listed reports.
    ReportListed,
    /// A recipient fetched a report.
    ReportFetched,
    /// A recipient acknowledged a report.
    ReportAcknowledged,
    /// An auditor read the checkpoint.
    CheckpointRead,
    /// An auditor asked for an inclusion proof.
    ProofRead,
    /// An auditor listed events.
    EventsListed,
    /// The recipient directory was loaded and verified.
    DirectoryLoaded,
    /// Somebody listed the directory.
    DirectoryListed,
    /// A study's key was destroyed.
    KeyForgotten,
    /// A study will not be tried again by itself.
    StudyDeadLettered,
    /// An operator had a study tried again.
    StudyRetried,
    /// An operator sent an object of the quarantine through the path again.
    QuarantineReleased,
    /// An operator had an object of the quarantine erased.
    QuarantinePurged,
    /// An operator asked who is behind a pseudonym.
    VaultLookedUp,
    /// An operator changed the vault's keys.
    VaultRotated,
    /// An operator took a copy of the vault.
    VaultBackedUp,
    /// A clinician sent feedback.
    FeedbackReceived,
    /// A modality asked for the commitment of objects.
    CommitmentRequested,
    /// Originals went to the archive, or were given up.
    OriginalsArchived,
    /// The archive said what it commits to.
    CommitmentHeard,
    /// A modality was told, or will not be.
    CommitmentReported,
    /// An operator had the relay to the archive, or a report on it, tried again.
    RelayRetried,
}

/// How it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was done.
    Allowed,
    /// A rule said no.
    Refused,
    /// A fault said no.
    Failed,
}

/// Why a decision was not `allowed`, or what set an allowed one off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The peer sent no certificate.
    NoCertificate,
    /// The peer's certificate is malformed or misused.
    BadCertificate,
    /// The peer's certificate is not valid now.
    ExpiredCertificate,
    /// The peer's certificate is revoked, or whether it is cannot be told.
    RevokedCertificate,
    /// The peer's certificate comes from a foreign authority.
    UnknownAuthority,
    /// The peer speaks no allowed TLS version.
    ProtocolVersion,
    /// The certificate names no identity of ours.
    NoIdentity,
    /// The bytes are no TLS.
    NotTls,
    /// The handshake took too long.
    HandshakeTimeout,
    /// Any other failed handshake.
    HandshakeFailed,
    /// The role may not call this method.
    RoleNotAllowed,
    /// There is no such method, or not here.
    MethodNotAllowed,
    /// A recipient is not in the directory.
    RecipientUnknown,
    /// A recipient has no key that is valid now.
    RecipientExpired,
    /// Report id, recipient or session metadata is missing or malformed.
    BadMetadata,
    /// The caller is not a recipient of this report.
    NotRecipient,
    /// There is no such report.
    NotFound,
    /// The report id was used for another request.
    IdempotencyConflict,
    /// The report carries no assessment.
    NoAssessment,
    /// The message is malformed.
    Malformed,
    /// The message or object is too large.
    TooLarge,
    /// Too many requests.
    RateLimited,
    /// The deadline passed.
    DeadlineExceeded,
    /// The room behind failed or is not there.
    UpstreamFailed,
    /// Sealing failed.
    SealFailed,
    /// The disk failed.
    StorageFailed,
    /// The disk is full.
    StorageFull,
    /// The called AE title is not ours.
    CalledAeTitle,
    /// The calling AE title is not known.
    CallingAeTitle,
    /// The certificate does not stand for the calling AE title.
    CallingAeCertificate,
    /// No presentation context is acceptable.
    NoPresentationContext,
    /// The DICOM upper layer was violated.
    BadPdu,
    /// The association was idle or took too long.
    AssociationTimeout,
    /// The peer aborted the association.
    AssociationAborted,
    /// Too many associations at once.
    TooManyAssociations,
    /// Command and data set name different instances.
    UidMismatch,
    /// The same SOP Instance UID with other bytes.
    UidConflict,
    /// Objects of one study name different patients.
    PatientConflict,
    /// The bytes are no DICOM object.
    NotDicom,
    /// The object ends early.
    Truncated,
    /// A stored object is damaged.
    Damaged,
    /// The transfer syntax is not supported.
    UnknownTransferSyntax,
    /// The SOP class is not supported.
    UnsupportedSopClass,
    /// The pixels cannot be decoded.
    Undecodable,
    /// The worker process died.
    WorkerDied,
    /// The process itself died on the object, more than once.
    ProcessDied,
    /// The worker process took too long.
    WorkerTimedOut,
    /// The egress gate found an identifier, or text in the pixels.
    ResidualIdentifier,
    /// De-identification failed.
    DeidentifyFailed,
    /// The film is no chest radiograph.
    NotChest,
    /// No routing rule names a recipient.
    NoRoute,
    /// The study has no cleared object.
    EmptyStudy,
    /// The object came after its study was forwarded.
    LateObject,
    /// The retention time is over.
    Retention,
    /// The operator may not do this.
    OperatorNotAllowed,
    /// It makes no sense for this entry.
    NotReleasable,
    /// Tried for as long as the configuration says.
    GaveUp,
    /// The next room says that it will never take this.
    UpstreamRefused,
    /// More films than a report is made of.
    TooManyFilms,
    /// The room is stopping.
    Shutdown,
}
