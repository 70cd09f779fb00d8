//! The audit trail that nobody can quietly edit.
//!
//! Before it stands any step that decided something, after it whatever may only happen once the
//! decision is on record (release, the answer `0000H`). Records are [`Event`]s: closed lists and
//! numbers, no free text. They stand in a segment log; over it grows an RFC 6962 tree, whose head
//! is signed as a C2SP checkpoint at least every second and every 256 records.

pub mod merge;

mod checkpoint;
mod error;
mod event;
mod log;
mod reason;
mod tree;
mod verify;

pub use cloister_seal::{KeyId, SigningKey, VerifyingKey};

pub use checkpoint::Checkpoint;
pub use error::{AuditError, EventError, VerifyError};
pub use event::{Actor, Event};
pub use log::{AuditConfig, AuditLog, InclusionProof, Recorded};
pub use reason::{Action, Decision, Reason};
pub use verify::{Verified, verify_directory, verify_inclusion};
