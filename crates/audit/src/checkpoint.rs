//! Checkpoints: C2SP `tlog-checkpoint` texts in C2SP `signed-note` form, signed with Ed25519.
//!
//! ```text
//! <origin>
//! <tree size, decimal>
//! <root hash, base64>
//!
//! — <key name> <base64(key id || signature)>
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloister_seal::{SigningKey, VerifyingKey};
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{Signature, Signer as _};
use sha2::{Digest, Sha256};

use crate::error::{AuditError, VerifyError};
use crate::tree::Hash;

/// Signature type byte of Ed25519 in `signed-note`.
const ED25519: u8 = 1;

/// What a verified checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// Signs checkpoints of one origin.
pub(crate) struct Signer {
    origin: String,
    key: ed25519_dalek::SigningKey,
}

impl Signer {
    pub(crate) fn new(origin: &str, key: &SigningKey) -> Result<Self, AuditError> {
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if origin.is_empty() || origin.len() > 255 || origin.contains(forbidden) {
            return Err(AuditError::Origin);
        }
        // A signed note is signed as it stands, without the project's domain separation, so that
        // any C2SP tool can verify it.
        let pem = key.to_pkcs8_pem().map_err(|_| AuditError::Key)?;
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem).map_err(|_| AuditError::Key)?;
        Ok(Self {
            origin: origin.into(),
            key,
        })
    }

    pub(crate) fn sign(&self, checkpoint: Checkpoint) -> String {
        let Checkpoint { size, root } = checkpoint;
        let text = format!("{}\n{size}\n{}\n", self.origin, BASE64.encode(root));
        let public = self.key.verifying_key().to_bytes();
        let mut signature = key_id(&self.origin, &public).to_vec();
        signature.extend(self.key.sign(text.as_bytes()).to_bytes());
        format!(
            "{text}\n\u{2014} {} {}\n",
            self.origin,
            BASE64.encode(signature)
        )
    }
}

/// First four bytes of `SHA-256(name || "\n" || type || public key)`.
fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let hash: Hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(public)
        .finalize()
        .into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

/// Reads a checkpoint of `origin` that carries a signature by `key`. Signatures by others, such as
/// witnesses, are passed over.
pub(crate) fn verify(
    note: &str,
    origin: &str,
    key: &VerifyingKey,
) -> Result<Checkpoint, VerifyError> {
    let (text, signatures) = note.split_once("\n\n").ok_or(VerifyError::Malformed)?;
    let text = format!("{text}\n");
    let mut lines = text.lines();
    if lines.next() != Some(origin) {
        return Err(VerifyError::Origin);
    }
    let size = lines.next().ok_or(VerifyError::Malformed)?;
    let size: u64 = size.parse().map_err(|_| VerifyError::Malformed)?;
    let root = lines.next().ok_or(VerifyError::Malformed)?;
    let root = BASE64.decode(root).map_err(|_| VerifyError::Malformed)?;
    let root: Hash = root.try_into().map_err(|_| VerifyError::Malformed)?;

    let pem = key.to_pem().map_err(|_| VerifyError::Key)?;
    let key =
        ed25519_dalek::VerifyingKey::from_public_key_pem(&pem).map_err(|_| VerifyError::Key)?;
    let id = key_id(origin, key.as_bytes());
    let signed = signatures.lines().any(|line| {
        signature_of(line, origin, id)
            .is_some_and(|signature| key.verify_strict(text.as_bytes(), &signature).is_ok())
    });
    signed
        .then_some(Checkpoint { size, root })
        .ok_or(VerifyError::Signature)
}

fn signature_of(line: &str, name: &str, id: [u8; 4]) -> Option<Signature> {
    let rest = line.strip_prefix("\u{2014} ")?.strip_prefix(name)?;
    let bytes = BASE64.decode(rest.strip_prefix(' ')?).ok()?;
    let signature = bytes.strip_prefix(&id)?;
    Signature::from_slice(signature).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "hospital.test/sidecar/0";

    #[test]
    fn a_checkpoint_verifies_only_as_signed_by_the_pinned_key_for_its_origin() {
        let key = SigningKey::generate().unwrap();
        let checkpoint = Checkpoint {
            size: 7,
            root: [3; 32],
        };
        let note = Signer::new(ORIGIN, &key).unwrap().sign(checkpoint);
        let public = key.verifying_key();
        assert_eq!(verify(&note, ORIGIN, &public).unwrap(), checkpoint);
        // A witness's line is passed over.
        let cosigned = format!("{note}\u{2014} witness.example AAAA\n");
        assert_eq!(verify(&cosigned, ORIGIN, &public).unwrap(), checkpoint);

        let other = SigningKey::generate().unwrap().verifying_key();
        assert!(matches!(
            verify(&note, ORIGIN, &other),
            Err(VerifyError::Signature)
        ));
        let grown = note.replacen("\n7\n", "\n8\n", 1);
        assert!(matches!(
            verify(&grown, ORIGIN, &public),
            Err(VerifyError::Signature)
        ));
        assert!(matches!(
            verify(&note, "else", &public),
            Err(VerifyError::Origin)
        ));
        assert!(matches!(
            verify("", ORIGIN, &public),
            Err(VerifyError::Malformed)
        ));
    }

    #[test]
    fn an_origin_that_would_break_the_note_is_refused() {
        let key = SigningKey::generate().unwrap();
        for origin in ["", "a b", "a\nb", "a+b"] {
            assert!(
                matches!(Signer::new(origin, &key), Err(AuditError::Origin)),
                "{origin:?}"
            );
        }
    }
}
