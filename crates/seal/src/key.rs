//! Recipients' encryption keys.

use std::fmt;

use ecies::{PublicKey as EciesPublic, SecretKey as EciesSecret};
use hpke::kem::{DhP256HkdfSha256, X25519HkdfSha256, XWing};
use hpke::{Deserializable, Kem, Serializable};
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::{Suite, sha256};

/// First 16 bytes of SHA-256("cloister-key-id-v1" || suite || public key).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 16]);

impl KeyId {
    fn of(suite: Suite, public: &[u8]) -> Self {
        let mut input = b"cloister-key-id-v1".to_vec();
        input.push(suite as u8);
        input.extend_from_slice(public);
        let mut id = [0; 16];
        id.copy_from_slice(sha256(&input).split_at(16).0);
        Self(id)
    }

    /// An id as it stands in headers.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] unless there are 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        bytes.try_into().map(Self).map_err(|_| KeyError::Malformed)
    }

    /// Reads what `Display` writes.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse_hex(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&hex::decode(text).map_err(|_| KeyError::Malformed)?)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// To whom something is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientPublicKey {
    suite: Suite,
    bytes: Vec<u8>,
}

impl RecipientPublicKey {
    /// Checks a public key. secp256k1 keys may come compressed or not and are kept compressed.
    ///
    /// # Errors
    /// [`KeyError`] if the suite is unknown or the bytes are no point or key of it.
    pub fn from_parts(suite: Suite, bytes: &[u8]) -> Result<Self, KeyError> {
        fn check<K: Kem>(bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
            let key = K::PublicKey::from_bytes(bytes).map_err(|_| KeyError::Malformed)?;
            Ok(key.to_bytes().to_vec())
        }
        let bytes = match suite {
            Suite::HpkeXwing => check::<XWing>(bytes)?,
            Suite::HpkeP256 => check::<DhP256HkdfSha256>(bytes)?,
            Suite::HpkeX25519 => check::<X25519HkdfSha256>(bytes)?,
            Suite::EciesSecp256k1 => EciesPublic::parse_slice(bytes, None)
                .map_err(|_| KeyError::Malformed)?
                .serialize_compressed()
                .to_vec(),
            Suite::Unspecified => return Err(KeyError::UnknownSuite),
        };
        Ok(Self { suite, bytes })
    }

    /// The suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// How headers, stanzas and the directory name this key.
    pub fn key_id(&self) -> KeyId {
        KeyId::of(self.suite, &self.bytes)
    }

    /// The key as its suite serializes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What opens; zeroized on drop, its `Debug` shows the key id only.
#[derive(Clone)]
pub struct RecipientPrivateKey {
    secret: Zeroizing<Vec<u8>>,
    public: RecipientPublicKey,
}

impl RecipientPrivateKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`KeyError::UnknownSuite`], [`KeyError::Random`].
    pub fn generate(suite: Suite) -> Result<Self, KeyError> {
        fn fresh<K: Kem>(seed: &[u8]) -> Vec<u8> {
            K::derive_keypair(seed).0.to_bytes().to_vec()
        }
        // RFC 9180 section 7.1.3: DeriveKeyPair of as many random bytes as the key has.
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|_| KeyError::Random)?;
        let secret = match suite {
            Suite::HpkeXwing => fresh::<XWing>(seed.as_ref()),
            Suite::HpkeP256 => fresh::<DhP256HkdfSha256>(seed.as_ref()),
            Suite::HpkeX25519 => fresh::<X25519HkdfSha256>(seed.as_ref()),
            Suite::EciesSecp256k1 => EciesSecret::generate().serialize().to_vec(),
            Suite::Unspecified => return Err(KeyError::UnknownSuite),
        };
        Self::from_secret(suite, Zeroizing::new(secret))
    }

    /// Rebuilds a key from its secret half.
    pub(crate) fn from_secret(suite: Suite, secret: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        fn public<K: Kem>(secret: &[u8]) -> Result<Vec<u8>, KeyError> {
            let key = K::PrivateKey::from_bytes(secret).map_err(|_| KeyError::Malformed)?;
            Ok(K::sk_to_pk(&key).to_bytes().to_vec())
        }
        let bytes = match suite {
            Suite::HpkeXwing => public::<XWing>(&secret)?,
            Suite::HpkeP256 => public::<DhP256HkdfSha256>(&secret)?,
            Suite::HpkeX25519 => public::<X25519HkdfSha256>(&secret)?,
            Suite::EciesSecp256k1 => {
                let key = EciesSecret::parse_slice(&secret).map_err(|_| KeyError::Malformed)?;
                EciesPublic::from_secret_key(&key)
                    .serialize_compressed()
                    .to_vec()
            }
            Suite::Unspecified => return Err(KeyError::UnknownSuite),
        };
        Ok(Self {
            secret,
            public: RecipientPublicKey { suite, bytes },
        })
    }

    /// The public half.
    pub fn public(&self) -> RecipientPublicKey {
        self.public.clone()
    }

    pub(crate) fn public_ref(&self) -> &RecipientPublicKey {
        &self.public
    }

    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for RecipientPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecipientPrivateKey({})", self.public.key_id())
    }
}

pub(crate) const SUITES: [Suite; 4] = [
    Suite::HpkeXwing,
    Suite::HpkeP256,
    Suite::HpkeX25519,
    Suite::EciesSecp256k1,
];

/// The suite with this number.
pub(crate) fn suite_of(number: i32) -> Result<Suite, KeyError> {
    SUITES
        .into_iter()
        .find(|suite| *suite as i32 == number)
        .ok_or(KeyError::UnknownSuite)
}
