//! The audit trail: closed events on a durable log, a Merkle tree over them, signed checkpoints.
//!
//! `dicom-scp` and `sidecar` each own one log with its own origin line and key. An event is durable
//! before what it stands for becomes visible; if it cannot be written, the room refuses.

mod checkpoint;
mod error;
mod event;
mod log;
pub mod merge;
mod tree;
mod verify;
mod vocabulary;

pub use cloister_seal::{KeyId, SigningKey, VerifyingKey};
pub use error::{AuditError, EventError, VerifyError};
pub use event::Event;
pub use log::{AuditConfig, AuditLog, Recorded};
pub use verify::{InclusionProof, Verified, verify_directory, verify_inclusion};
pub use vocabulary::{Action, Actor, Decision, Reason};
