//! What encrypts keys: AES-256-GCM here, with a key from a file, or on a PKCS#11 token, with one that
//! nobody can read. Both make the same bytes: nonce 12, ciphertext, tag 16, the purpose authenticated.

use std::sync::Arc;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use cloister_token::{AesKey, Pin, Place, TokenError};
use zeroize::Zeroizing;

use super::{KeyError, NONCE_BYTES, cipher, read};
use crate::config::WrappingSource;
use crate::metric::{self, TokenCall};

/// Encrypts keys, and what holds keys.
pub(crate) trait Wrapping: Send + Sync {
    /// Encrypts a small value.
    fn seal(&self, purpose: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Decrypts what [`Wrapping::seal`] made for the same purpose.
    ///
    /// # Errors
    /// [`KeyError::Opening`] if another key made it or it was changed, and in no other case.
    fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError>;
}

impl Wrapping for Aes256Gcm {
    fn seal(&self, purpose: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| KeyError::Randomness)?;
        let payload = Payload {
            msg: plain,
            aad: purpose,
        };
        let sealed = self.encrypt(&Nonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| KeyError::Sealing)?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (nonce, body) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(KeyError::Opening)?;
        let payload = Payload {
            msg: body,
            aad: purpose,
        };
        let plain = self.decrypt(&Nonce::from(*nonce), payload);
        plain.map(Zeroizing::new).map_err(|_| KeyError::Opening)
    }
}

impl Wrapping for AesKey {
    fn seal(&self, purpose: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(counted(AesKey::seal(self, purpose, plain))?)
    }

    fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        Ok(counted(self.open_sealed(purpose, sealed))?)
    }
}

fn counted<T>(called: Result<T, TokenError>) -> Result<T, TokenError> {
    metric::token_call(ending(called.as_ref().err()));
    called
}

fn ending(error: Option<&TokenError>) -> TokenCall {
    use TokenError as E;
    match error {
        None | Some(E::Opening) => TokenCall::Ok,
        Some(E::KeyAmbiguous | E::KeyExtractable | E::KeyMissing | E::KeyUnfit(_)) => {
            TokenCall::Key
        }
        Some(E::PinDoubtful | E::PinIncorrect | E::PinLocked) => TokenCall::Pin,
        Some(E::Timeout) => TokenCall::TimedOut,
        Some(E::TokenAmbiguous | E::TokenMissing) => TokenCall::Token,
        Some(_) => TokenCall::Failed,
    }
}

/// Reads the file, or logs in to the token and finds the key.
pub(super) fn load(source: &WrappingSource) -> Result<Box<dyn Wrapping>, KeyError> {
    let token = match source {
        WrappingSource::File(file) => return Ok(Box::new(cipher(&*read(file)?))),
        WrappingSource::Token(token) => token,
    };
    let pin = cloister_seal::files::read_secret(token.pin.path());
    let pin = pin.map_err(|_| KeyError::PinUnreadable)?;
    let place = Place {
        module: token.module.clone(),
        uri: token.uri.clone(),
        pin: Arc::new(Pin::from_file(&pin)?),
    };
    let key = AesKey::open(place, token.allow_extractable, token.timeout)?;
    Ok(Box::new(key))
}
