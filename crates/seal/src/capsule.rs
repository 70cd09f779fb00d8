//! The identity capsule: who the patient is, sealed by the gateway to the recipients.

use cloister_proto::v1::{Content, EnvelopeHeader, IdentityCapsule, SealedReport};
use prost::Message;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::envelope::{self, Opened};
use crate::error::{OpenError, SealError};
use crate::key::{RecipientPrivateKey, RecipientPublicKey};
use crate::sha256;
use crate::signature::{SigningKey, VerifyingKey};

/// Format number written into capsules.
pub const FORMAT: u32 = 1;

/// Seals `capsule` for the report `report_id`; format and report id inside are set here.
///
/// # Errors
/// [`SealError`].
pub fn seal_capsule(
    capsule: &IdentityCapsule,
    report_id: Uuid,
    recipients: &[RecipientPublicKey],
    signer: &SigningKey,
) -> Result<SealedReport, SealError> {
    let report_id = report_id.as_bytes().to_vec();
    let capsule = IdentityCapsule {
        format: FORMAT,
        report_id: report_id.clone(),
        ..capsule.clone()
    };
    let header = EnvelopeHeader {
        content: Content::Capsule.into(),
        report_id,
        issued_at_unix_ms: now_unix_ms(),
        ..EnvelopeHeader::default()
    };
    envelope::seal(
        header,
        &Zeroizing::new(capsule.encode_to_vec()),
        recipients,
        signer,
    )
}

/// Opens a serialized capsule that one of `signers` sealed.
///
/// # Errors
/// [`OpenError`], also if header and capsule name different reports.
pub fn open_capsule(
    bytes: &[u8],
    key: &RecipientPrivateKey,
    signers: &[VerifyingKey],
) -> Result<(EnvelopeHeader, IdentityCapsule), OpenError> {
    let sealed = SealedReport::decode(bytes).map_err(|_| OpenError::Malformed)?;
    read(envelope::open(&sealed, key, signers)?)
}

/// As [`open_capsule`], the signer unknown: see [`crate::join`].
pub(crate) fn open_unpinned(
    bytes: &[u8],
    key: &RecipientPrivateKey,
) -> Result<(EnvelopeHeader, IdentityCapsule), OpenError> {
    let sealed = SealedReport::decode(bytes).map_err(|_| OpenError::Malformed)?;
    read(envelope::open_unpinned(&sealed, key)?)
}

fn read(opened: Opened) -> Result<(EnvelopeHeader, IdentityCapsule), OpenError> {
    if opened.header.content() != Content::Capsule {
        return Err(OpenError::WrongContent);
    }
    let capsule =
        IdentityCapsule::decode(&opened.plaintext[..]).map_err(|_| OpenError::Malformed)?;
    if capsule.format != FORMAT || capsule.report_id != opened.header.report_id {
        return Err(OpenError::Inconsistent);
    }
    Ok((opened.header, capsule))
}

/// SHA-256 of a serialized capsule: what manifest and header name. It covers a ciphertext.
pub fn hash(serialized: &[u8]) -> [u8; 32] {
    sha256(serialized)
}

fn now_unix_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
