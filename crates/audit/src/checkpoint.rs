//! Signed tree heads: C2SP tlog-checkpoint inside a C2SP signed-note.
//!
//! ```text
//! <origin>
//! <size>
//! <base64 root>
//!
//! — <origin> <base64 of 4 bytes key hash and 64 bytes Ed25519 signature>
//! ```

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cloister_seal::{SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::error::VerifyError;
use crate::tree::Hash;

/// Signature type of Ed25519 in a signed note.
const ED25519: u8 = 1;
/// A note is some hundred bytes, a kilobyte per witness.
const LARGEST_BYTES: usize = 64 << 10;

/// A verified tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Records covered.
    pub size: u64,
    /// RFC 6962 tree hash of them.
    pub root: Hash,
}

impl Checkpoint {
    /// Verifies a note by the log `origin`. Signatures of others, witnesses for example, are
    /// neither needed nor in the way.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify(note: &str, origin: &str, key: &VerifyingKey) -> Result<Self, VerifyError> {
        if note.len() > LARGEST_BYTES {
            return Err(VerifyError::Malformed);
        }
        // The text ends with a line break, the signatures follow the last empty line.
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(VerifyError::Malformed)?;
        let text = format!("{text}\n");
        if text
            .chars()
            .any(|letter| letter.is_control() && letter != '\n')
        {
            return Err(VerifyError::Malformed);
        }
        let checkpoint = Self::parse(&text, origin)?;
        let signed = signatures
            .lines()
            .any(|line| is_signed(&text, line, origin, key));
        if signed {
            Ok(checkpoint)
        } else {
            Err(VerifyError::Signature)
        }
    }

    fn parse(text: &str, origin: &str) -> Result<Self, VerifyError> {
        let mut lines = text.lines();
        if lines.next() != Some(origin) {
            return Err(VerifyError::Origin);
        }
        let number = lines.next().ok_or(VerifyError::Malformed)?;
        let size: u64 = number.parse().map_err(|_| VerifyError::Malformed)?;
        let root = lines
            .next()
            .and_then(|root| BASE64_STANDARD.decode(root).ok());
        let root = root
            .and_then(|root| root.try_into().ok())
            .ok_or(VerifyError::Malformed)?;
        // No plus sign, no leading zeros: one number has one spelling.
        if size.to_string() == number {
            Ok(Self { size, root })
        } else {
            Err(VerifyError::Malformed)
        }
    }
}

/// True if `origin` may name a log: C2SP key names hold no white space and no plus sign.
pub(crate) fn is_origin(origin: &str) -> bool {
    let bad = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '+';
    (1..=256).contains(&origin.len()) && !origin.contains(bad)
}

pub(crate) fn sign(origin: &str, size: u64, root: &Hash, key: &SigningKey) -> String {
    let text = format!("{origin}\n{size}\n{}\n", BASE64_STANDARD.encode(root));
    let mut signature = key_hash(origin, &key.verifying_key()).to_vec();
    signature.extend_from_slice(&key.sign_note(&text));
    format!(
        "{text}\n\u{2014} {origin} {}\n",
        BASE64_STANDARD.encode(signature)
    )
}

/// First 4 bytes of SHA-256(name || 0x0A || type || public key).
fn key_hash(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let hash: Hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(key.to_bytes())
        .finalize()
        .into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

fn is_signed(text: &str, line: &str, name: &str, key: &VerifyingKey) -> bool {
    let Some((signer, signature)) = line
        .strip_prefix("\u{2014} ")
        .and_then(|rest| rest.split_once(' '))
    else {
        return false;
    };
    let Ok(signature) = BASE64_STANDARD.decode(signature) else {
        return false;
    };
    let Some((hash, signature)) = signature.split_first_chunk::<4>() else {
        return false;
    };
    signer == name && *hash == key_hash(name, key) && key.verify_note(text, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "hospital.example/sidecar/0";

    #[test]
    fn a_signed_note_verifies_and_no_flipped_bit_does() {
        let key = SigningKey::generate().unwrap();
        let public = key.verifying_key();
        let note = sign(ORIGIN, 12, &[7; 32], &key);
        let lines: Vec<_> = note.lines().collect();
        assert_eq!(lines[..2], [ORIGIN, "12"]);
        assert_eq!(lines[3], "");
        assert!(lines[4].starts_with("\u{2014} hospital.example/sidecar/0 "));
        let checkpoint = Checkpoint::verify(&note, ORIGIN, &public).unwrap();
        assert_eq!(
            checkpoint,
            Checkpoint {
                size: 12,
                root: [7; 32]
            }
        );
        let last = note.len() - 1;
        for bit in 0..last * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(altered) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(
                Checkpoint::verify(&altered, ORIGIN, &public).is_err(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn another_origin_key_or_spelling_is_refused_and_a_witness_is_not() {
        let key = SigningKey::generate().unwrap();
        let public = key.verifying_key();
        let note = sign(ORIGIN, 12, &[7; 32], &key);
        let other = SigningKey::generate().unwrap();
        assert!(matches!(
            Checkpoint::verify(&note, "hospital.example/sidecar/1", &public),
            Err(VerifyError::Origin)
        ));
        assert!(matches!(
            Checkpoint::verify(&note, ORIGIN, &other.verifying_key()),
            Err(VerifyError::Signature)
        ));
        let witnessed = format!("{note}\u{2014} witness.example AAAA\n");
        assert!(Checkpoint::verify(&witnessed, ORIGIN, &public).is_ok());
        for text in ["012", "+12", " 12", "-1", "18446744073709551616"] {
            let text = format!("{ORIGIN}\n{text}\n{}\n", BASE64_STANDARD.encode([7; 32]));
            let mut signature = key_hash(ORIGIN, &public).to_vec();
            signature.extend_from_slice(&key.sign_note(&text));
            let note = format!(
                "{text}\n\u{2014} {ORIGIN} {}\n",
                BASE64_STANDARD.encode(signature)
            );
            let verified = Checkpoint::verify(&note, ORIGIN, &public);
            assert!(matches!(verified, Err(VerifyError::Malformed)), "{note}");
        }
    }

    #[test]
    fn the_key_hash_is_the_one_of_the_c2sp_specification() {
        // golang.org/x/mod/sumdb/note, example verifier key PeterNeumann+c74f20a3+ARpc…
        let key = BASE64_STANDARD
            .decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
            .unwrap();
        let (algorithm, key) = key.split_first().unwrap();
        assert_eq!(*algorithm, ED25519);
        let key = VerifyingKey::from_bytes(key.try_into().unwrap()).unwrap();
        assert_eq!(hex::encode(key_hash("PeterNeumann", &key)), "c74f20a3");
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let line = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        assert!(is_signed(text, line, "PeterNeumann", &key));
    }
}
