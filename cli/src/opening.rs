//! Opens a fetched report and checks everything that can be checked before a word of it is shown.
//!
//! Order: node signature and decryption → manifest, capsule, renditions (`cloister_seal::join`) →
//! the release stands in the audit log, for this report and these very bytes. One failed check and
//! nothing is shown: a report that is almost right may be another patient's.

use cloister_audit::{Action, InclusionProof};
use cloister_proto::v1;
use cloister_seal::join::{Binding, JoinError, JoinedReport, join};
use cloister_seal::trust::TrustFile;
use cloister_seal::{OpenError, RecipientPrivateKey};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Why a report is not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningError {
    /// The answer holds no sealed report.
    #[error("the sidecar sent no sealed report")]
    Empty,
    /// Wrong key, forged or damaged envelope.
    #[error("the report does not open: {0}")]
    Open(#[from] OpenError),
    /// Manifest, capsule or a rendition does not belong to this report.
    #[error("the report's parts do not belong together: {0}")]
    Join(#[from] JoinError),
    /// No proof, or no receipt.
    #[error("the sidecar sent no audit proof")]
    NoProof,
    /// The audit log is none that the trust file pins.
    #[error("the audit log {origin:?} is not in the trust file")]
    UnknownLog {
        /// Its origin.
        origin: String,
    },
    /// The proof does not lead to a signed tree head.
    #[error("the audit proof fails: {0}")]
    Proof(#[from] cloister_audit::VerifyError),
    /// The proven record is about something else.
    #[error("the audit record is not the release of this report")]
    OtherRecord,
}

/// A report that passed every check.
#[derive(Debug)]
pub struct OpenedReport {
    /// What anybody may read.
    pub header: v1::EnvelopeHeader,
    /// The report with its patient.
    pub joined: JoinedReport,
    /// Origin of the log that holds the release.
    pub log_origin: String,
    /// Where in it.
    pub leaf_index: u64,
    /// Whether a released report replaces this one.
    pub current: bool,
}

impl OpenedReport {
    /// The report id.
    pub fn report_id(&self) -> Uuid {
        Uuid::from_slice(&self.header.report_id).unwrap_or_default()
    }

    /// The checks that were passed, as sentences.
    pub fn checks(&self) -> Vec<String> {
        let report = &self.joined.report;
        let mut checks = vec!["the node's signature is genuine, and this key opens it".to_owned()];
        match self.joined.binding {
            Binding::GatewayManifest => checks.push(format!(
                "the gateway signed the manifest; {} rendition(s) hash to it and the identity \
                 capsule is the one it names",
                report.renditions.len()
            )),
            Binding::NodeStatement => checks.push(
                "films came by Generate: their hashes are the node's statement alone, no gateway \
                 vouches for them"
                    .to_owned(),
            ),
            Binding::None => {
                checks.push("no identity is attached: the report names no patient".to_owned());
            }
        }
        checks.push(format!(
            "the release is record {} of audit log {}, under a signed tree head (not witnessed)",
            self.leaf_index, self.log_origin
        ));
        checks
    }
}

/// Opens and checks a fetched report.
///
/// # Errors
/// [`OpeningError`] names the first check that failed.
pub fn open_report(
    fetched: &v1::FetchReportResponse,
    key: &RecipientPrivateKey,
    trust: &TrustFile,
) -> Result<OpenedReport, OpeningError> {
    let sealed = fetched.sealed.as_ref().ok_or(OpeningError::Empty)?;
    let opened = cloister_seal::open(sealed, key, &trust.node_keys)?;
    let header = opened.header.clone();
    let joined = join(opened, key, trust)?;

    let (Some(proof), Some(receipt)) = (&fetched.proof, &fetched.receipt) else {
        return Err(OpeningError::NoProof);
    };
    let origin = receipt.log_origin.clone();
    let log_key = trust
        .audit_key(&origin)
        .ok_or_else(|| OpeningError::UnknownLog {
            origin: origin.clone(),
        })?;
    let event = cloister_audit::verify_inclusion(&inclusion(proof)?, &origin, log_key)?;
    let sealed_sha256: [u8; 32] = Sha256::digest(sealed.encode_to_vec()).into();
    let same_report =
        event.report_id().map(|id| id.as_bytes().to_vec()) == Some(header.report_id.clone());
    let same_bytes = event.sha256() == Some(&sealed_sha256);
    if event.action() != Action::ReportReleased || !same_report || !same_bytes {
        return Err(OpeningError::OtherRecord);
    }
    Ok(OpenedReport {
        header,
        joined,
        log_origin: origin,
        leaf_index: proof.leaf_index,
        current: fetched.current,
    })
}

fn inclusion(proof: &v1::InclusionProof) -> Result<InclusionProof, OpeningError> {
    let path = proof
        .path
        .iter()
        .map(|hash| <[u8; 32]>::try_from(hash.as_slice()))
        .collect::<Result<_, _>>()
        .map_err(|_| OpeningError::NoProof)?;
    Ok(InclusionProof {
        leaf_index: proof.leaf_index,
        leaf: proof.leaf.clone(),
        path,
        checkpoint: proof.checkpoint.clone(),
    })
}
