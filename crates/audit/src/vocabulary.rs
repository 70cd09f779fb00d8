//! The closed words of an event. Nothing free-form ever stands in the audit log.

use std::fmt;
use std::net::IpAddr;

use cloister_phi::AeTitle;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::EventError;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A room started.
    Started,
    /// A room stopped in order.
    Stopped,
    /// A DICOM association was refused or broken off.
    AssociationRefused,
    /// An object is durable; `0000H` follows.
    ObjectStored,
    /// An object was not accepted.
    ObjectRefused,
    /// An object is held back with a reason.
    ObjectQuarantined,
    /// A study's quiet time is over.
    StudyAssembled,
    /// A study's objects passed the egress gate.
    StudyCleared,
    /// A study was accepted by the sidecar.
    StudyForwarded,
    /// No object of a study can go on.
    StudyQuarantined,
    /// A connection failed before authentication.
    ConnectionRefused,
    /// An authenticated caller asked for what it may not have.
    RequestRefused,
    /// A sealed report became visible.
    ReportReleased,
    /// A draft was not sealed.
    ReportWithheld,
    /// A caller listed its reports.
    ReportListed,
    /// A caller fetched a sealed report.
    ReportFetched,
    /// A recipient acknowledged a report.
    ReportAcknowledged,
    /// A caller read the checkpoint.
    CheckpointRead,
    /// A caller asked for an inclusion proof.
    ProofRead,
    /// A caller listed audit events.
    EventsListed,
    /// The recipient directory was loaded and every entry verified.
    DirectoryLoaded,
    /// A caller listed the directory.
    DirectoryListed,
    /// The key of an identified object was erased.
    KeyForgotten,
    /// A request without a report was passed to the server.
    RequestForwarded,
    /// Feedback on a draft arrived.
    FeedbackReceived,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Done as asked.
    Allowed,
    /// Declined by policy.
    Refused,
    /// Attempted and failed.
    Failed,
}

macro_rules! reasons {
    ($($name:ident => $doc:literal),+ $(,)?) => {
        /// Why it was not done as asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $(#[doc = $doc] $name,)+
        }
    };
}

reasons! {
    NoCertificate => "The client sent no certificate.",
    BadCertificate => "The certificate does not verify.",
    ExpiredCertificate => "The certificate is outside its validity.",
    UnknownAuthority => "The certificate is from a foreign CA.",
    ProtocolVersion => "The client does not speak TLS 1.3.",
    NoIdentity => "The certificate carries no usable URI SAN.",
    NotTls => "The bytes are not TLS.",
    HandshakeTimeout => "The handshake took too long.",
    HandshakeFailed => "The handshake failed in another way.",
    RoleNotAllowed => "The caller's role may not do this.",
    MethodNotAllowed => "There is no such method.",
    RecipientUnknown => "A named recipient is not in the directory.",
    RecipientExpired => "A recipient's key is outside its validity.",
    BadMetadata => "A required metadata key is missing or malformed.",
    NotRecipient => "The caller is not a recipient of the report.",
    NotFound => "There is no such report.",
    IdempotencyConflict => "The report id belongs to another request.",
    NoAssessment => "The draft carries no assessment.",
    Malformed => "The message does not parse.",
    TooLarge => "A limit on size or number is exceeded.",
    RateLimited => "The caller asks too often.",
    DeadlineExceeded => "The deadline passed.",
    UpstreamFailed => "The server could not be reached or failed.",
    SealFailed => "Sealing failed.",
    StorageFailed => "A durable write failed.",
    StorageFull => "The disk or the quota is full.",
    CalledAeTitle => "The called AE title is not ours.",
    CallingAeTitle => "The calling AE title is not allowed.",
    NoPresentationContext => "No presentation context is acceptable.",
    BadPdu => "A PDU is malformed or out of place.",
    AssociationTimeout => "The association was silent or open too long.",
    AssociationAborted => "The peer aborted or vanished.",
    TooManyAssociations => "The peer, or all peers together, hold too many associations.",
    UidMismatch => "Command and data set name different objects.",
    UidConflict => "The same SOP Instance UID came with other bytes.",
    NotDicom => "The bytes are not a DICOM data set.",
    Truncated => "The object ends early.",
    UnknownTransferSyntax => "The transfer syntax cannot be decoded here.",
    UnsupportedSopClass => "The SOP class is not a storage class we take.",
    Undecodable => "The pixels cannot be decoded.",
    WorkerDied => "The bounded worker died.",
    WorkerTimedOut => "The bounded worker took too long.",
    ResidualIdentifier => "The egress gate found an identifier.",
    DeidentifyFailed => "De-identification failed.",
    NotChest => "The film is not a chest radiograph.",
    NoRoute => "No routing rule names a recipient.",
    EmptyStudy => "The study has no object left.",
    LateObject => "The object came after the study was closed.",
    Retention => "The retention rule applied.",
    Shutdown => "The room was stopping.",
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// An authenticated identity.
    Spiffe(String),
    /// A calling AE title.
    AeTitle(AeTitle),
    /// An unauthenticated peer.
    Ip(IpAddr),
}

impl Actor {
    /// An authenticated identity, `spiffe://<trust-domain>/<role>/<name>`.
    ///
    /// # Errors
    /// [`EventError::Actor`] for anything that is not a plain SPIFFE URI of at most 255 characters.
    pub fn spiffe(uri: &str) -> Result<Self, EventError> {
        let path = uri.strip_prefix("spiffe://").ok_or(EventError::Actor)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
        if path.is_empty() || uri.len() > 255 || !path.bytes().all(plain) {
            return Err(EventError::Actor);
        }
        Ok(Self::Spiffe(uri.into()))
    }

    /// A calling AE title.
    pub fn ae_title(title: &AeTitle) -> Self {
        Self::AeTitle(title.clone())
    }

    /// An unauthenticated peer.
    pub fn ip(address: IpAddr) -> Self {
        Self::Ip(address)
    }

    fn parse(text: &str) -> Result<Self, EventError> {
        if let Some(title) = text.strip_prefix("ae:") {
            let title = AeTitle::parse(title).map_err(|_| EventError::Actor)?;
            return Ok(Self::AeTitle(title));
        }
        if let Some(address) = text.strip_prefix("ip:") {
            return Ok(Self::Ip(address.parse().map_err(|_| EventError::Actor)?));
        }
        Self::spiffe(text)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(uri) => f.write_str(uri),
            Self::AeTitle(title) => write!(f, "ae:{title}"),
            Self::Ip(address) => write!(f, "ip:{address}"),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
