//! API stub, being filled in.
use std::{net::IpAddr, path::{Path, PathBuf}};
use cloister_phi::{AeTitle, Pseudonym};
use uuid::Uuid;
pub use cloister_seal::{KeyId, SigningKey, VerifyingKey};
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Action { Started, Stopped, AssociationRefused, ObjectStored, ObjectRefused, ObjectQuarantined, StudyAssembled, StudyCleared, StudyForwarded, StudyQuarantined, ConnectionRefused, RequestRefused, ReportReleased, ReportWithheld, ReportListed, ReportFetched, ReportAcknowledged, CheckpointRead, ProofRead, EventsListed, DirectoryLoaded, DirectoryListed, KeyForgotten, RequestForwarded, FeedbackReceived }
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Decision { Allowed, Refused, Failed }
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Reason { NoCertificate, BadCertificate, ExpiredCertificate, UnknownAuthority, ProtocolVersion, NoIdentity, NotTls, HandshakeTimeout, HandshakeFailed, RoleNotAllowed, MethodNotAllowed, RecipientUnknown, RecipientExpired, BadMetadata, NotRecipient, NotFound, IdempotencyConflict, NoAssessment, Malformed, TooLarge, RateLimited, DeadlineExceeded, UpstreamFailed, SealFailed, StorageFailed, StorageFull, CalledAeTitle, CallingAeTitle, NoPresentationContext, BadPdu, AssociationTimeout, AssociationAborted, TooManyAssociations, UidMismatch, UidConflict, NotDicom, Truncated, UnknownTransferSyntax, UnsupportedSopClass, Undecodable, WorkerDied, WorkerTimedOut, ResidualIdentifier, DeidentifyFailed, NotChest, NoRoute, EmptyStudy, LateObject, Retention, Shutdown }
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor { Spiffe(String), AeTitle(AeTitle), Ip(IpAddr) }
impl Actor { pub fn spiffe(_uri: &str) -> Result<Self, EventError> { todo!() } pub fn ae_title(_t: &AeTitle) -> Self { todo!() } pub fn ip(_ip: IpAddr) -> Self { todo!() } }
#[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum EventError { #[error("x")] X }
#[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum AuditError { #[error("x")] X }
#[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum VerifyError { #[error("x")] X }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event;
impl Event {
    /// Allowed, now, count 1.
    pub fn new(_action: Action) -> Self { todo!() }
    pub fn refused(_action: Action, _reason: Reason) -> Self { todo!() }
    pub fn failed(_action: Action, _reason: Reason) -> Self { todo!() }
    pub fn actor(self, _a: Actor) -> Self { todo!() }
    pub fn report(self, _id: Uuid) -> Self { todo!() }
    pub fn study(self, _p: Pseudonym) -> Self { todo!() }
    pub fn object_sha256(self, _h: [u8; 32]) -> Self { todo!() }
    pub fn recipients(self, _k: impl IntoIterator<Item = KeyId>) -> Self { todo!() }
    pub fn reason(self, _r: Reason) -> Self { todo!() }
    pub fn count(self, _n: u32) -> Self { todo!() }
    pub fn at_unix_ms(self, _t: i64) -> Self { todo!() }
    pub fn to_bytes(&self) -> Result<Vec<u8>, EventError> { todo!() }
    pub fn from_bytes(_b: &[u8]) -> Result<Self, EventError> { todo!() }
    pub fn report_id(&self) -> Option<Uuid> { todo!() }
    pub fn action(&self) -> Action { todo!() }
}
#[derive(Debug, Clone)]
pub struct AuditConfig { pub dir: PathBuf, pub origin: String, pub key: SigningKey }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded { pub leaf_index: u64, pub leaf_hash: [u8; 32] }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof { pub leaf_index: u64, pub leaf: Vec<u8>, pub path: Vec<[u8; 32]>, pub checkpoint: String }
#[derive(Debug, Clone)]
pub struct AuditLog;
impl AuditLog {
    pub fn open(_config: AuditConfig) -> Result<Self, AuditError> { todo!() }
    pub async fn record(&self, _event: Event) -> Result<Recorded, AuditError> { todo!() }
    pub fn record_blocking(&self, _event: Event) -> Result<Recorded, AuditError> { todo!() }
    pub fn origin(&self) -> &str { todo!() }
    pub fn verifying_key(&self) -> VerifyingKey { todo!() }
    pub fn checkpoint(&self) -> Result<String, AuditError> { todo!() }
    pub fn prove_inclusion(&self, _leaf: u64) -> Result<InclusionProof, AuditError> { todo!() }
    pub fn events(&self, _from: u64, _limit: usize) -> Result<Vec<(u64, Vec<u8>)>, AuditError> { todo!() }
    pub fn find_by_report(&self, _report: Uuid) -> Option<u64> { todo!() }
    /// Leaf of the first event with this action and report.
    pub fn find(&self, _action: Action, _report: Uuid) -> Option<u64> { todo!() }
    pub fn len(&self) -> u64 { todo!() }
    pub fn is_empty(&self) -> bool { self.len() == 0 }
}
pub fn verify_inclusion(_proof: &InclusionProof, _origin: &str, _key: &VerifyingKey) -> Result<Event, VerifyError> { todo!() }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified { pub records: u64, pub root: [u8; 32], pub checkpoint_size: u64, pub uncovered_tail: u64 }
pub fn verify_directory(_dir: &Path, _origin: &str, _key: &VerifyingKey) -> Result<Verified, VerifyError> { todo!() }
pub mod merge {
    use super::*;
    #[derive(Debug, Clone)]
    pub struct Merger;
    impl Merger {
        pub fn new(_log: AuditLog) -> Self { todo!() }
        pub fn note(&self, _source: IpAddr, _action: Action, _reason: Reason) { todo!() }
        /// Writes what is due until `shutdown` resolves, then everything that is left.
        pub async fn run(self, _shutdown: impl Future<Output = ()> + Send) -> Result<(), AuditError> { todo!() }
    }
}
