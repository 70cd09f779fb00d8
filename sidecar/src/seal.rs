//! After admit, before hold: the report becomes an envelope that only its recipients can open.

use cloister_proto::v1;
use cloister_seal::{KeyId, SigningKey, capsule, manifest};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::admit::Assessed;
use crate::authorize::Order;
use crate::error::Refusal;

/// An envelope. Only [`seal`] makes one, out of an assessed report.
pub(crate) struct Sealed {
    report_id: Uuid,
    envelope: v1::SealedReport,
    bytes: Vec<u8>,
    sha256: [u8; 32],
    replaces: Vec<u8>,
    key_ids: Vec<KeyId>,
}

impl Sealed {
    /// The report's id.
    pub(crate) fn report_id(&self) -> Uuid {
        self.report_id
    }

    /// The envelope's header, as issued.
    pub(crate) fn header(&self) -> &[u8] {
        &self.envelope.header
    }

    /// The serialized envelope: these bytes are stored, hashed and handed out.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the envelope up.
    pub(crate) fn into_envelope(self) -> v1::SealedReport {
        self.envelope
    }

    /// SHA-256 of [`Sealed::bytes`].
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The report it replaces, or empty.
    pub(crate) fn replaces(&self) -> &[u8] {
        &self.replaces
    }

    /// The keys it is sealed to.
    pub(crate) fn key_ids(&self) -> &[KeyId] {
        &self.key_ids
    }
}

/// Seals to the keys of `order` and signs as this node. CPU work: call on a blocking thread.
///
/// # Errors
/// [`Refusal::SealFailed`].
pub(crate) fn seal(
    assessed: Assessed,
    order: &Order,
    node: &SigningKey,
    now_ms: i64,
) -> Result<Sealed, Refusal> {
    let header = header(&assessed, now_ms);
    let replaces = header.replaces.clone();
    let plaintext = Zeroizing::new(assessed.report().encode_to_vec());
    let envelope =
        cloister_seal::seal(header, &plaintext, order.keys(), node).map_err(|error| {
            tracing::error!(%error, "A report could not be sealed.");
            Refusal::SealFailed
        })?;
    let bytes = envelope.encode_to_vec();
    let sha256 = Sha256::digest(&bytes).into();
    let key_ids = order
        .keys()
        .iter()
        .map(cloister_seal::RecipientPublicKey::key_id)
        .collect();
    Ok(Sealed {
        report_id: assessed.report_id(),
        envelope,
        bytes,
        sha256,
        replaces,
        key_ids,
    })
}

/// The clear fields that SECURITY.md names, and no others. `seal` adds version and key ids.
fn header(assessed: &Assessed, now_ms: i64) -> v1::EnvelopeHeader {
    let report = assessed.report();
    let assessment = report.assessment.as_ref();
    let minutes = assessment.map_or(0, |assessment| assessment.communicate_within_minutes);
    let deadline = if minutes == 0 {
        0
    } else {
        now_ms.saturating_add(i64::from(minutes) * 60_000)
    };
    let binding = match &report.manifest {
        Some(signed) => manifest::hash(signed).to_vec(),
        None if report.capsule.is_empty() => Vec::new(),
        None => capsule::hash(&report.capsule).to_vec(),
    };
    let model = report.model.as_ref();
    v1::EnvelopeHeader {
        content: v1::Content::Report.into(),
        report_id: report.report_id.clone(),
        replaces: report.replaces.clone(),
        issued_at_unix_ms: now_ms,
        urgency: report
            .model_input
            .as_ref()
            .map_or(0, |input| input.urgency().into()),
        outcome: assessed.outcome().into(),
        acr_category: assessment.map_or(0, |assessment| assessment.acr_category().into()),
        deadline_unix_ms: deadline,
        model_hash: model
            .map(|model| model.bundle_sha256.clone())
            .unwrap_or_default(),
        policy_hash: model
            .map(|model| model.policy_sha256.clone())
            .unwrap_or_default(),
        binding_hash: binding,
        ..v1::EnvelopeHeader::default()
    }
}
