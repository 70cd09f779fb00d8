//! The envelope: header, stanzas, ciphertext, signature.
//!
//! One random content key per envelope. From it and the header's hash HKDF-SHA256 makes the
//! AES-256-GCM key, its nonce and a 32-byte commitment. The commitment is checked before anything
//! is decrypted: AES-GCM alone would let a sender craft one ciphertext that opens differently for
//! two recipients. The header is the associated data everywhere, as received.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use cloister_proto::v1::{Content, EnvelopeHeader, RecipientStanza, SealedReport};
use hkdf::Hkdf;
use prost::Message;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{OpenError, SealError};
use crate::key::{RecipientPrivateKey, RecipientPublicKey};
use crate::signature::{SigningKey, VerifyingKey, frame};
use crate::wrap::{self, ContentKey};
use crate::{padding, sha256};

/// Domain tag of the envelope's signature.
const DOMAIN: &str = "cloister-envelope-v1";
const VERSION: u32 = 1;
const COMMITMENT: usize = 32;
/// A group of recipients is a handful of people; a bound keeps hostile envelopes small.
const MOST_RECIPIENTS: usize = 256;

/// An opened envelope. Only [`open`] makes one.
#[non_exhaustive]
pub struct Opened {
    /// What the sealer said in clear, verified.
    pub header: EnvelopeHeader,
    /// The content.
    pub plaintext: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened(redacted)")
    }
}

/// Seals `plaintext` to every one of `recipients`. Version and recipient key ids of `header` are
/// set here; everything else in it is the caller's statement, signed by `signer`.
///
/// # Errors
/// [`SealError`]; nothing is half sealed.
pub fn seal(
    mut header: EnvelopeHeader,
    plaintext: &[u8],
    recipients: &[RecipientPublicKey],
    signer: &SigningKey,
) -> Result<SealedReport, SealError> {
    check_recipients(recipients)?;
    header.version = VERSION;
    header.recipient_key_ids = recipients
        .iter()
        .map(|key| key.key_id().as_bytes().to_vec())
        .collect();
    if !header_is_complete(&header) {
        return Err(SealError::IncompleteHeader);
    }
    let header = header.encode_to_vec();
    let mut content_key: ContentKey = Zeroizing::new([0; 32]);
    getrandom::fill(content_key.as_mut()).map_err(|_| SealError::Random)?;
    let stanzas: Option<Vec<_>> = recipients
        .iter()
        .map(|key| wrap::wrap(key, &header, &content_key))
        .collect();
    let stanzas = stanzas.ok_or(SealError::RecipientKey)?;

    let schedule = Schedule::new(&content_key, &header).ok_or(SealError::TooLong)?;
    let mut padded = padding::pad(plaintext);
    schedule
        .cipher()
        .and_then(|cipher| {
            cipher
                .encrypt_in_place(&schedule.nonce.into(), &header, &mut *padded)
                .ok()
        })
        .ok_or(SealError::TooLong)?;
    let mut ciphertext = Vec::with_capacity(COMMITMENT + padded.len());
    ciphertext.extend_from_slice(&schedule.commitment);
    ciphertext.extend_from_slice(&padded);

    let signature = signer.sign(DOMAIN, &[&header, &framed_stanzas(&stanzas), &ciphertext]);
    let signer_key_id = signer.verifying_key().key_id().to_vec();
    Ok(SealedReport {
        header,
        stanzas,
        ciphertext,
        signature,
        signer_key_id,
    })
}

/// Opens an envelope that one of `signers` sealed to `key`.
///
/// # Errors
/// [`OpenError`]; the signature is checked first, so nothing unsigned reaches a private key.
pub fn open(
    sealed: &SealedReport,
    key: &RecipientPrivateKey,
    signers: &[VerifyingKey],
) -> Result<Opened, OpenError> {
    let header = verify(sealed, signers)?;
    decrypt(sealed, key, header)
}

/// Checks signature, header and stanzas, without a key.
///
/// # Errors
/// [`OpenError`].
pub fn verify(
    sealed: &SealedReport,
    signers: &[VerifyingKey],
) -> Result<EnvelopeHeader, OpenError> {
    let signer = signers
        .iter()
        .find(|key| key.key_id()[..] == sealed.signer_key_id)
        .ok_or(OpenError::UnknownSigner)?;
    let parts: [&[u8]; 3] = [
        &sealed.header,
        &framed_stanzas(&sealed.stanzas),
        &sealed.ciphertext,
    ];
    signer
        .verify(DOMAIN, &parts, &sealed.signature)
        .map_err(|_| OpenError::Signature)?;
    read_header(sealed)
}

/// As [`open`] where the signer is not pinned: a capsule that a caller of `Generate` made. What
/// vouches for it is whoever put its hash into a signed header.
pub(crate) fn open_unpinned(
    sealed: &SealedReport,
    key: &RecipientPrivateKey,
) -> Result<Opened, OpenError> {
    let header = read_header(sealed)?;
    decrypt(sealed, key, header)
}

fn read_header(sealed: &SealedReport) -> Result<EnvelopeHeader, OpenError> {
    let header = EnvelopeHeader::decode(&sealed.header[..]).map_err(|_| OpenError::Malformed)?;
    if header.version != VERSION {
        return Err(OpenError::Version);
    }
    let ids = sealed.stanzas.iter().map(|stanza| &stanza.key_id);
    let consistent = header_is_complete(&header)
        && (1..=MOST_RECIPIENTS).contains(&sealed.stanzas.len())
        && ids.eq(&header.recipient_key_ids);
    if consistent {
        Ok(header)
    } else {
        Err(OpenError::Inconsistent)
    }
}

fn decrypt(
    sealed: &SealedReport,
    key: &RecipientPrivateKey,
    header: EnvelopeHeader,
) -> Result<Opened, OpenError> {
    let public = key.public_ref();
    let key_id = public.key_id();
    let stanza = sealed
        .stanzas
        .iter()
        .find(|stanza| stanza.key_id == key_id.as_bytes() && stanza.suite == public.suite() as i32)
        .ok_or(OpenError::NotRecipient)?;
    let content_key = wrap::unwrap(key, &sealed.header, stanza).ok_or(OpenError::Stanza)?;
    let schedule = Schedule::new(&content_key, &sealed.header).ok_or(OpenError::Stanza)?;
    let (commitment, ciphertext) = sealed
        .ciphertext
        .split_at_checked(COMMITMENT)
        .ok_or(OpenError::Malformed)?;
    if !bool::from(commitment.ct_eq(&schedule.commitment)) {
        return Err(OpenError::Commitment);
    }
    let mut padded = Zeroizing::new(ciphertext.to_vec());
    schedule
        .cipher()
        .and_then(|cipher| {
            cipher
                .decrypt_in_place(&schedule.nonce.into(), &sealed.header, &mut *padded)
                .ok()
        })
        .ok_or(OpenError::Content)?;
    let plaintext = padding::unpad(&padded).ok_or(OpenError::Content)?;
    Ok(Opened {
        header,
        plaintext: Zeroizing::new(plaintext.to_vec()),
    })
}

fn check_recipients(recipients: &[RecipientPublicKey]) -> Result<(), SealError> {
    if recipients.is_empty() {
        return Err(SealError::NoRecipient);
    }
    if recipients.len() > MOST_RECIPIENTS {
        return Err(SealError::TooManyRecipients);
    }
    let mut ids: Vec<_> = recipients.iter().map(RecipientPublicKey::key_id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() == recipients.len() {
        Ok(())
    } else {
        Err(SealError::DuplicateRecipient)
    }
}

/// Reports and capsules carry a report id; a file does not need one.
fn header_is_complete(header: &EnvelopeHeader) -> bool {
    let id = header.report_id.len();
    let replaces = matches!(header.replaces.len(), 0 | 16);
    replaces
        && match header.content() {
            Content::Report | Content::Capsule => id == 16,
            Content::File => id == 0 || id == 16,
            Content::Unspecified => false,
        }
}

fn framed_stanzas(stanzas: &[RecipientStanza]) -> Vec<u8> {
    let mut out = Vec::new();
    for stanza in stanzas {
        let suite = stanza.suite.to_be_bytes();
        frame(
            &[
                &suite,
                &stanza.key_id,
                &stanza.encapsulated_key,
                &stanza.wrapped_key,
            ],
            &mut out,
        );
    }
    out
}

/// What the content key and the header give.
struct Schedule {
    key: Zeroizing<[u8; 32]>,
    nonce: [u8; 12],
    commitment: [u8; COMMITMENT],
}

impl Schedule {
    /// `None` is never seen: HKDF refuses outputs over 8160 bytes only.
    fn new(content_key: &ContentKey, header: &[u8]) -> Option<Self> {
        let hkdf = Hkdf::<Sha256>::new(Some(b"cloister-content-v1"), &content_key[..]);
        let header_hash = sha256(header);
        let expand =
            |label: &[u8], out: &mut [u8]| hkdf.expand_multi_info(&[label, &header_hash], out).ok();
        let mut key = Zeroizing::new([0; 32]);
        let (mut nonce, mut commitment) = ([0; 12], [0; COMMITMENT]);
        expand(b"key", key.as_mut())?;
        expand(b"nonce", &mut nonce)?;
        expand(b"commitment", &mut commitment)?;
        Some(Self {
            key,
            nonce,
            commitment,
        })
    }

    fn cipher(&self) -> Option<Aes256Gcm> {
        Aes256Gcm::new_from_slice(&self.key[..]).ok()
    }
}

#[cfg(test)]
mod tests;
