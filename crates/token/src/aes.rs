//! An AES-256 key on the token that encrypts small secrets: other keys, and what holds keys.
//!
//! `C_Encrypt` with CKM_AES_GCM, and not `C_WrapKey` with CKM_AES_KEY_WRAP(_PAD), because
//! - GCM authenticates a purpose with the secret, so a wrapped key cannot be put in another's place;
//!   key wrap (RFC 3394, RFC 5649) has no associated data;
//! - `C_WrapKey` wraps objects: each key would have to be created on the token first, extractable, and
//!   destroyed again, three calls instead of one, and its unwrapping needs a writable session;
//! - every HSM that speaks PKCS#11 v2.40 has CKM_AES_GCM, SoftHSM 2 too; CKM_AES_KEY_WRAP_PAD is
//!   missing on several, or means different paddings (v2.40 erratum, v3.0 renamed it CKM_AES_KEY_WRAP_KWP).
//!
//! The nonce is random, 96 bits: one key must not seal more than 2³² times (SP 800-38D section 8.3).
//! HSMs in FIPS mode make their own and write it over ours, which `C_Encrypt` allows them to.

use std::fmt;
use std::time::Duration;

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use crate::error::may_be_the_data;
use crate::worker::{Connection, Find, Worker};
use crate::{Place, TokenError};

const NONCE_BYTES: usize = 12;
const TAG_BITS: u64 = 128;

/// A key that never leaves its token. Calls block, up to the deadline that it was opened with.
pub struct AesKey(Worker);

impl AesKey {
    /// Logs in and finds the key. One that can be read out of the token is refused unless
    /// `allow_extractable`: it protects no better than a file.
    ///
    /// # Errors
    /// [`TokenError`]: everything but [`TokenError::Opening`].
    pub fn open(
        place: Place,
        allow_extractable: bool,
        deadline: Duration,
    ) -> Result<Self, TokenError> {
        if !matches!(place.uri.kind.as_deref(), None | Some("secret-key")) {
            return Err(TokenError::Uri("its type is not secret-key"));
        }
        let mut probe = None;
        let find: Find = Box::new(move |place, session| {
            let key = place.find(session, ObjectClass::SECRET_KEY)?;
            check(session, key, allow_extractable)?;
            recognize(session, key, &mut probe)?;
            Ok(key)
        });
        // A module without the mechanism says so now and not at the first film.
        Worker::start(place, find, deadline).map(Self)
    }

    /// Nonce, ciphertext, tag. `purpose` has to be the same to open it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn seal(&self, purpose: &[u8], plain: &[u8]) -> Result<Vec<u8>, TokenError> {
        let purpose = purpose.to_vec();
        let plain = Zeroizing::new(plain.to_vec());
        self.0.call(move |connection| {
            let sealed =
                connection.with_key(|session, key| encrypt(session, key, &purpose, &plain))?;
            Ok(sealed?)
        })
    }

    /// What [`AesKey::seal`] was given.
    ///
    /// # Errors
    /// [`TokenError::Opening`] if it is of another key or purpose, or was changed; the others say that
    /// the token could not be asked.
    pub fn open_sealed(
        &self,
        purpose: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let (purpose, sealed) = (purpose.to_vec(), sealed.to_vec());
        self.0.call(move |connection| {
            let Some((nonce, body)) = sealed.split_first_chunk::<NONCE_BYTES>() else {
                return Err(TokenError::Opening);
            };
            let opened = connection
                .with_key(|session, key| decrypt(session, key, *nonce, &purpose, body))?;
            match opened {
                Ok(plain) => Ok(plain),
                // Data that is called damaged is given up for good, so the token has to prove that it
                // is not the one that is broken.
                Err(error) if may_be_the_data(&error) && works(connection) => {
                    Err(TokenError::Opening)
                }
                Err(error) => Err(error.into()),
            }
        })
    }
}

const PROBE: &[u8] = b"does this key work?";

fn works(connection: &mut Connection) -> bool {
    let probed = connection.with_key(|session, key| {
        let sealed = encrypt(session, key, b"", PROBE)?;
        is_probe(session, key, &sealed)
    });
    matches!(probed, Ok(Ok(true)))
}

/// A label is no proof: whoever renews a key may give the new one the old one's. A key that is found
/// again has to open what it sealed when it was found first; with another one everything in the spool
/// would look damaged.
fn recognize(
    session: &Session,
    key: ObjectHandle,
    probe: &mut Option<Vec<u8>>,
) -> Result<(), TokenError> {
    let fresh = encrypt(session, key, b"", PROBE)?;
    if !is_probe(session, key, &fresh)? {
        return Err(TokenError::KeyUnfit("it does not open what it sealed"));
    }
    let Some(known) = probe else {
        *probe = Some(fresh);
        return Ok(());
    };
    match is_probe(session, key, known) {
        Ok(true) => Ok(()),
        Err(error) if !may_be_the_data(&error) => Err(error.into()),
        // It opens its own, and not this.
        Ok(false) | Err(_) => Err(TokenError::KeyUnfit(
            "another key bears its name now: it does not open what was sealed before",
        )),
    }
}

fn is_probe(session: &Session, key: ObjectHandle, sealed: &[u8]) -> Result<bool, Error> {
    match sealed.split_first_chunk::<NONCE_BYTES>() {
        Some((nonce, body)) => Ok(*decrypt(session, key, *nonce, b"", body)? == PROBE),
        None => Ok(false),
    }
}

fn encrypt(
    session: &Session,
    key: ObjectHandle,
    purpose: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| Error::InvalidValue)?;
    let sealed = {
        let params = GcmParams::new(&mut nonce, purpose, TAG_BITS.into())?;
        session.encrypt(&Mechanism::AesGcm(params), key, plain)?
    };
    // As it stands now: the token may have put its own there.
    Ok([&nonce[..], &sealed].concat())
}

fn decrypt(
    session: &Session,
    key: ObjectHandle,
    mut nonce: [u8; NONCE_BYTES],
    purpose: &[u8],
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let params = GcmParams::new(&mut nonce, purpose, TAG_BITS.into())?;
    let plain = session.decrypt(&Mechanism::AesGcm(params), key, body)?;
    Ok(Zeroizing::new(plain))
}

/// What a token does not say of a key counts against it.
fn check(session: &Session, key: ObjectHandle, allow_extractable: bool) -> Result<(), TokenError> {
    let (mut kept, mut hidden, mut aes, mut long, mut encrypts, mut decrypts) =
        (false, false, false, false, false, false);
    let wanted = [
        AttributeType::Extractable,
        AttributeType::Sensitive,
        AttributeType::KeyType,
        AttributeType::ValueLen,
        AttributeType::Encrypt,
        AttributeType::Decrypt,
    ];
    for attribute in session.get_attributes(key, &wanted)? {
        match attribute {
            Attribute::Extractable(value) => kept = !value,
            Attribute::Sensitive(value) => hidden = value,
            Attribute::KeyType(kind) => aes = kind == KeyType::AES,
            Attribute::ValueLen(bytes) => long = u64::from(bytes) == 32,
            Attribute::Encrypt(value) => encrypts = value,
            Attribute::Decrypt(value) => decrypts = value,
            _ => {}
        }
    }
    if !aes || !long {
        return Err(TokenError::KeyUnfit("it is not an AES key of 32 bytes"));
    }
    if !encrypts || !decrypts {
        return Err(TokenError::KeyUnfit(
            "CKA_ENCRYPT and CKA_DECRYPT are not set",
        ));
    }
    if allow_extractable || (kept && hidden) {
        Ok(())
    } else {
        Err(TokenError::KeyExtractable)
    }
}

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesKey")
    }
}
