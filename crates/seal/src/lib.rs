//! The seal: what leaves the pod opens only with a clinician's key and says who sealed it.
//!
//! Before it stands the sidecar's `admit`, after it `hold`. The gateway uses the same crate for the
//! study manifest and the identity capsule, the clinician's program for [`open`] and [`join`].
//! No network and no runtime.

pub mod capsule;
pub mod directory;
pub mod files;
pub mod join;
pub mod manifest;
pub mod trust;

mod envelope;
mod error;
mod key;
mod padding;
mod pem;
mod signature;
mod wrap;

pub use cloister_proto::v1::Suite;
pub use envelope::{Opened, open, seal, verify};
pub use error::{KeyError, OpenError, SealError, SignatureError};
pub use key::{KeyId, RecipientPrivateKey, RecipientPublicKey};
pub use signature::{SigningKey, VerifyingKey};

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}
