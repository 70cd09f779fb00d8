//! The file of a recipient key: `cloister-key-v1`, with or without a passphrase.
//!
//! ```text
//! "cloister-key-v1\0" suite:u8 protection:u8 key_id[16]
//!   protection 0: secret
//!   protection 1: m_cost_kib:u32 t_cost:u32 p_cost:u32 salt[16], then AES-256-GCM(secret)
//! ```
//! Integers are big endian. The AES key and nonce are Argon2id(passphrase, salt), fresh per file;
//! everything before the ciphertext is associated data.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::key::{RecipientPrivateKey, suite_of};

const BEGIN: &str = "-----BEGIN CLOISTER PRIVATE KEY-----";
const END: &str = "-----END CLOISTER PRIVATE KEY-----";
const MAGIC: &[u8; 16] = b"cloister-key-v1\0";
const PLAIN: u8 = 0;
const ARGON2ID: u8 = 1;
/// 64 MiB, 3 passes, 1 lane: RFC 9106 section 4, second recommended option, with one lane.
const COSTS: [u32; 3] = [64 << 10, 3, 1];
/// What a file may ask for: 1 GiB, 16 passes, 4 lanes.
const LARGEST_COSTS: [u32; 3] = [1 << 20, 16, 4];
const FIXED: usize = 16 + 1 + 1 + 16;
const PROTECTED: usize = FIXED + 12 + 16;

impl RecipientPrivateKey {
    /// Writes the key, encrypted under `passphrase` if there is one.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn to_pem(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, KeyError> {
        let mut body = Zeroizing::new(MAGIC.to_vec());
        body.push(self.public_ref().suite() as u8);
        body.push(if passphrase.is_some() {
            ARGON2ID
        } else {
            PLAIN
        });
        body.extend_from_slice(self.public_ref().key_id().as_bytes());
        if let Some(passphrase) = passphrase {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).map_err(|_| KeyError::Random)?;
            for cost in COSTS {
                body.extend_from_slice(&cost.to_be_bytes());
            }
            body.extend_from_slice(&salt);
            let (cipher, nonce) = stretch(passphrase, &salt, COSTS)?;
            let payload = Payload {
                msg: self.secret(),
                aad: &body,
            };
            let sealed = cipher
                .encrypt(&nonce.into(), payload)
                .map_err(|_| KeyError::Malformed)?;
            body.extend_from_slice(&sealed);
        } else {
            body.extend_from_slice(self.secret());
        }
        let text = Zeroizing::new(BASE64_STANDARD.encode(&*body));
        let mut pem = Zeroizing::new(format!("{BEGIN}\n"));
        for (at, letter) in text.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.push('\n');
        pem.push_str(END);
        pem.push('\n');
        Ok(pem)
    }

    /// Reads a key. A passphrase given for an unencrypted key is ignored.
    ///
    /// # Errors
    /// [`KeyError`]: malformed, another key inside than the file says, passphrase missing or wrong.
    pub fn from_pem(pem: &str, passphrase: Option<&str>) -> Result<Self, KeyError> {
        let text = pem
            .trim()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END));
        let text = text.ok_or(KeyError::Malformed)?;
        let text: Zeroizing<String> = Zeroizing::new(
            text.chars()
                .filter(|letter| !letter.is_ascii_whitespace())
                .collect(),
        );
        let body = BASE64_STANDARD
            .decode(text.as_bytes())
            .map_err(|_| KeyError::Malformed)?;
        let body = Zeroizing::new(body);
        let fixed = body.get(..FIXED).ok_or(KeyError::Malformed)?;
        let (magic, rest) = fixed.split_at(MAGIC.len());
        let ([suite, protection], key_id) = rest.split_first_chunk().ok_or(KeyError::Malformed)?;
        if magic != MAGIC {
            return Err(KeyError::Malformed);
        }
        let secret = match *protection {
            PLAIN => Zeroizing::new(body.get(FIXED..).unwrap_or_default().to_vec()),
            ARGON2ID => decrypt(&body, passphrase.ok_or(KeyError::PassphraseNeeded)?)?,
            _ => return Err(KeyError::Malformed),
        };
        let key = Self::from_secret(suite_of(i32::from(*suite))?, secret)?;
        if key.public_ref().key_id().as_bytes() != key_id {
            return Err(KeyError::Malformed);
        }
        Ok(key)
    }

    /// True if the file needs a passphrase; false also for what is no key file.
    pub fn is_encrypted(pem: &str) -> bool {
        matches!(Self::from_pem(pem, None), Err(KeyError::PassphraseNeeded))
    }
}

fn decrypt(body: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let head = body.get(..PROTECTED).ok_or(KeyError::Malformed)?;
    let (costs, salt) = head.split_at(FIXED).1.split_at(12);
    let (chunks, _) = costs.as_chunks::<4>();
    let mut read = [0; 3];
    for ((cost, chunk), largest) in read.iter_mut().zip(chunks).zip(LARGEST_COSTS) {
        *cost = u32::from_be_bytes(*chunk);
        // A file must not make us allocate or compute without bound.
        if *cost > largest {
            return Err(KeyError::Malformed);
        }
    }
    let (cipher, nonce) = stretch(passphrase, salt, read)?;
    let sealed = body.get(PROTECTED..).unwrap_or_default();
    let secret = cipher.decrypt(
        &nonce.into(),
        Payload {
            msg: sealed,
            aad: head,
        },
    );
    secret
        .map(Zeroizing::new)
        .map_err(|_| KeyError::WrongPassphrase)
}

fn stretch(
    passphrase: &str,
    salt: &[u8],
    [memory, passes, lanes]: [u32; 3],
) -> Result<(Aes256Gcm, [u8; 12]), KeyError> {
    let params = Params::new(memory, passes, lanes, Some(44)).map_err(|_| KeyError::Malformed)?;
    let mut out = Zeroizing::new([0; 44]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, out.as_mut())
        .map_err(|_| KeyError::Malformed)?;
    let (key, nonce_bytes) = out.split_at(32);
    let mut nonce = [0; 12];
    nonce.copy_from_slice(nonce_bytes);
    Ok((
        Aes256Gcm::new_from_slice(key).map_err(|_| KeyError::Malformed)?,
        nonce,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SUITES;

    #[test]
    fn every_suite_survives_its_pem_without_a_passphrase() {
        for suite in SUITES {
            let key = RecipientPrivateKey::generate(suite).unwrap();
            let pem = key.to_pem(None).unwrap();
            assert!(!RecipientPrivateKey::is_encrypted(&pem));
            let again = RecipientPrivateKey::from_pem(&pem, None).unwrap();
            assert_eq!(again.public(), key.public());
            assert_eq!(again.secret(), key.secret());
        }
    }

    #[test]
    fn a_passphrase_is_needed_and_only_the_right_one_opens() {
        let key = RecipientPrivateKey::generate(crate::Suite::HpkeXwing).unwrap();
        let pem = key.to_pem(Some("correct horse")).unwrap();
        assert!(RecipientPrivateKey::is_encrypted(&pem));
        let open =
            |passphrase| RecipientPrivateKey::from_pem(&pem, passphrase).map(|key| key.public());
        assert_eq!(open(Some("correct horse")), Ok(key.public()));
        assert_eq!(open(Some("correct horsf")), Err(KeyError::WrongPassphrase));
        assert_eq!(open(None), Err(KeyError::PassphraseNeeded));
        let plain = BASE64_STANDARD.encode(key.secret());
        assert!(
            !pem.contains(plain.get(..20).unwrap()),
            "the secret is not in clear"
        );
    }

    #[test]
    fn an_altered_or_greedy_key_file_is_refused() {
        let key = RecipientPrivateKey::generate(crate::Suite::HpkeX25519).unwrap();
        let pem = key.to_pem(None).unwrap();
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let body = BASE64_STANDARD.decode(text).unwrap();
        let rebuild = |body: &[u8]| {
            let text = format!("{BEGIN}\n{}\n{END}\n", BASE64_STANDARD.encode(body));
            RecipientPrivateKey::from_pem(&text, Some("x")).map(|key| key.public())
        };
        assert_eq!(rebuild(&body), Ok(key.public()));
        for at in 0..FIXED {
            let mut altered = body.clone();
            altered[at] ^= 1;
            assert!(rebuild(&altered).is_err(), "byte {at}");
        }
        assert!(rebuild(&body[..body.len() - 1]).is_err());
        let mut greedy = body[..FIXED].to_vec();
        greedy[17] = ARGON2ID;
        greedy.extend_from_slice(&[0xff; 12 + 16 + 48]);
        assert_eq!(rebuild(&greedy), Err(KeyError::Malformed));
        for bad in [
            "",
            BEGIN,
            "-----BEGIN CLOISTER PRIVATE KEY-----\n*\n-----END CLOISTER PRIVATE KEY-----",
        ] {
            assert_eq!(
                RecipientPrivateKey::from_pem(bad, None).err(),
                Some(KeyError::Malformed)
            );
        }
    }
}
