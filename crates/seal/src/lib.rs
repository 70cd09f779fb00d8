//! API stub, being filled in.
use cloister_proto::v1;
use zeroize::Zeroizing;
pub use cloister_proto::v1::Suite;
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(crate) [u8; 16]);
impl KeyId { pub fn from_bytes(_b: &[u8]) -> Result<Self, KeyError> { todo!() } pub fn parse_hex(_s: &str) -> Result<Self, KeyError> { todo!() } pub fn as_bytes(&self) -> &[u8; 16] { &self.0 } }
impl std::fmt::Display for KeyId { fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { todo!() } }
#[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum KeyError { #[error("x")] Malformed }
#[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum SealError { #[error("x")] X }
#[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum OpenError { #[error("x")] X }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientPublicKey;
impl RecipientPublicKey { pub fn suite(&self) -> Suite { todo!() } pub fn key_id(&self) -> KeyId { todo!() } pub fn to_bytes(&self) -> Vec<u8> { todo!() } pub fn from_parts(_suite: Suite, _bytes: &[u8]) -> Result<Self, KeyError> { todo!() } }
#[derive(Debug, Clone)]
pub struct RecipientPrivateKey;
impl RecipientPrivateKey { pub fn generate(_suite: Suite) -> Result<Self, KeyError> { todo!() } pub fn public(&self) -> RecipientPublicKey { todo!() } pub fn to_pem(&self, _passphrase: Option<&str>) -> Result<Zeroizing<String>, KeyError> { todo!() } pub fn from_pem(_pem: &str, _passphrase: Option<&str>) -> Result<Self, KeyError> { todo!() } }
#[derive(Debug, Clone)]
pub struct SigningKey;
impl SigningKey { pub fn generate() -> Result<Self, KeyError> { todo!() } pub fn from_pkcs8_pem(_pem: &str) -> Result<Self, KeyError> { todo!() } pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> { todo!() } pub fn verifying_key(&self) -> VerifyingKey { todo!() } pub fn sign(&self, _domain: &str, _parts: &[&[u8]]) -> Vec<u8> { todo!() } }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey;
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)] #[error("signature does not verify")] pub struct SignatureError(());
impl VerifyingKey { pub fn from_pem(_pem: &str) -> Result<Self, KeyError> { todo!() } pub fn to_pem(&self) -> Result<String, KeyError> { todo!() } pub fn key_id(&self) -> [u8; 32] { todo!() } pub fn verify(&self, _domain: &str, _parts: &[&[u8]], _signature: &[u8]) -> Result<(), SignatureError> { todo!() } }
pub struct Opened { pub header: v1::EnvelopeHeader, pub plaintext: Zeroizing<Vec<u8>> }
impl std::fmt::Debug for Opened { fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { todo!() } }
pub fn seal(_header: v1::EnvelopeHeader, _plaintext: &[u8], _recipients: &[RecipientPublicKey], _signer: &SigningKey) -> Result<v1::SealedReport, SealError> { todo!() }
pub fn open(_sealed: &v1::SealedReport, _key: &RecipientPrivateKey, _signers: &[VerifyingKey]) -> Result<Opened, OpenError> { todo!() }
pub fn verify(_sealed: &v1::SealedReport, _signers: &[VerifyingKey]) -> Result<v1::EnvelopeHeader, OpenError> { todo!() }
pub mod manifest { use super::*;
 #[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum ManifestError { #[error("x")] X }
 #[derive(Debug, Clone)] pub struct VerifiedManifest(v1::StudyManifest);
 impl std::ops::Deref for VerifiedManifest { type Target = v1::StudyManifest; fn deref(&self) -> &v1::StudyManifest { &self.0 } }
 pub fn sign(_m: &v1::StudyManifest, _key: &SigningKey) -> v1::SignedManifest { todo!() }
 pub fn verify(_s: &v1::SignedManifest, _keys: &[VerifyingKey]) -> Result<VerifiedManifest, ManifestError> { todo!() }
 pub fn hash(_s: &v1::SignedManifest) -> [u8; 32] { todo!() } }
pub mod capsule { use super::*;
 pub fn seal_capsule(_c: &v1::IdentityCapsule, _report_id: uuid::Uuid, _recipients: &[RecipientPublicKey], _signer: &SigningKey) -> Result<v1::SealedReport, SealError> { todo!() }
 pub fn open_capsule(_bytes: &[u8], _key: &RecipientPrivateKey, _signers: &[VerifyingKey]) -> Result<(v1::EnvelopeHeader, v1::IdentityCapsule), OpenError> { todo!() }
 pub fn hash(_serialized: &[u8]) -> [u8; 32] { todo!() } }
pub mod directory { use super::*; use std::path::Path;
 #[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum DirectoryError { #[error("x")] X }
 #[derive(Debug, Clone)] pub struct Entry; // private fields
 impl Entry { pub fn identity(&self) -> &str { todo!() } pub fn key(&self) -> &RecipientPublicKey { todo!() } pub fn groups(&self) -> &[String] { todo!() } pub fn is_valid_at(&self, _now_ms: i64) -> bool { todo!() } pub fn signed(&self) -> &v1::SignedDirectoryEntry { todo!() } }
 #[derive(Debug, Clone)] pub struct Directory;
 pub fn sign_entry(_e: &v1::DirectoryEntry, _key: &SigningKey) -> v1::SignedDirectoryEntry { todo!() }
 pub fn append_file(_path: &Path, _e: &v1::SignedDirectoryEntry) -> Result<(), DirectoryError> { todo!() }
 impl Directory { pub fn load(_path: &Path, _enrol: &VerifyingKey, _now_ms: i64) -> Result<Self, DirectoryError> { todo!() }
  pub fn entries(&self) -> &[Entry] { todo!() } pub fn by_identity(&self, _identity: &str) -> Vec<&Entry> { todo!() } pub fn by_group(&self, _group: &str) -> Vec<&Entry> { todo!() } pub fn by_key_id(&self, _id: KeyId) -> Option<&Entry> { todo!() }
  /// `recipient` is `spiffe://…` or `group:NAME`; keys outside their validity are refused or left out.
  pub fn resolve(&self, _recipient: &str) -> Result<Vec<RecipientPublicKey>, DirectoryError> { todo!() } } }
pub mod trust { use super::*; use std::path::Path;
 #[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum TrustError { #[error("x")] X }
 #[derive(Debug, Clone)] pub struct AuditKey { pub origin: String, pub key: VerifyingKey }
 #[derive(Debug, Clone)] pub struct TrustFile { pub node_keys: Vec<VerifyingKey>, pub gateway_keys: Vec<VerifyingKey>, pub audit_keys: Vec<AuditKey>, pub enrolment_key: VerifyingKey }
 impl TrustFile { pub fn load(_path: &Path) -> Result<Self, TrustError> { todo!() } pub fn save(&self, _path: &Path) -> Result<(), TrustError> { todo!() } pub fn audit_key(&self, _origin: &str) -> Option<&VerifyingKey> { todo!() } } }
pub mod files { use super::*; use std::path::Path;
 #[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum FileError { #[error("x")] X }
 pub fn read_secret(_path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> { todo!() }
 pub fn write_secret(_path: &Path, _bytes: &[u8]) -> Result<(), FileError> { todo!() } }
pub mod join { use super::*; use super::trust::TrustFile;
 #[derive(Debug, thiserror::Error)] #[non_exhaustive] pub enum JoinError { #[error("x")] X }
 #[derive(Debug, Clone, Copy, PartialEq, Eq)] pub enum Binding { GatewayManifest, NodeStatement, None }
 #[derive(Debug, Clone)] pub struct JoinedReport { pub report: v1::Report, pub identity: Option<v1::IdentityCapsule>, pub binding: Binding }
 pub fn join(_opened: Opened, _key: &RecipientPrivateKey, _trust: &TrustFile) -> Result<JoinedReport, JoinError> { todo!() } }
