//! The checks of `report open`: report, films and identity belong together, or nothing is shown.

use std::collections::BTreeMap;

use cloister_proto::v1::{Content, IdentityCapsule, Report};
use prost::Message;

use crate::capsule;
use crate::envelope::Opened;
use crate::error::OpenError;
use crate::key::RecipientPrivateKey;
use crate::manifest::{self, ManifestError, VerifiedManifest};
use crate::sha256;
use crate::trust::TrustFile;

/// Why the parts were not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The envelope holds no report.
    #[error("the envelope holds no report")]
    NotAReport,
    /// Header, report and manifest do not name the same report.
    #[error("report ids do not agree")]
    ReportId,
    /// The manifest is not the gateway's.
    #[error("study manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The header binds another manifest or capsule.
    #[error("the envelope is bound to another manifest or capsule")]
    Binding,
    /// Sealed to a key that the gateway did not name.
    #[error("sealed to a recipient whom the gateway did not name")]
    Recipient,
    /// The report withholds another number of objects than the manifest.
    #[error("the number of withheld objects does not agree")]
    Withheld,
    /// A film is missing, foreign, doubled or another picture than the gateway cleared.
    #[error("a film is not the one that the gateway cleared")]
    Rendition,
    /// The capsule is missing or another one than the manifest names.
    #[error("the identity capsule is not the one that belongs to this study")]
    Capsule,
    /// The capsule does not open.
    #[error("identity capsule: {0}")]
    CapsuleSeal(#[source] OpenError),
}

/// Who vouches that films and identity belong to the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// The gateway's signed manifest: films and identity.
    GatewayManifest,
    /// The node alone: a capsule that the caller of `Generate` attached. Nobody vouches for films.
    NodeStatement,
    /// Nobody: no identity came with the report.
    None,
}

/// A report whose parts agree. Only [`join`] makes one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JoinedReport {
    /// The report, its renditions checked against the manifest.
    pub report: Report,
    /// The patient, if a capsule came with the report.
    pub identity: Option<IdentityCapsule>,
    /// Who vouches for that.
    pub binding: Binding,
}

/// Joins an opened envelope with what is inside it.
///
/// # Errors
/// [`JoinError`]; nothing of the report is returned then.
pub fn join(
    opened: Opened,
    key: &RecipientPrivateKey,
    trust: &TrustFile,
) -> Result<JoinedReport, JoinError> {
    if opened.header.content() != Content::Report {
        return Err(JoinError::NotAReport);
    }
    let report = Report::decode(&opened.plaintext[..]).map_err(|_| JoinError::NotAReport)?;
    let header = &opened.header;
    if report.report_id != header.report_id || report.replaces != header.replaces {
        return Err(JoinError::ReportId);
    }
    let (identity, binding) = match &report.manifest {
        Some(signed) => {
            let manifest = manifest::verify(signed, &trust.gateway_keys)?;
            if manifest.report_id != report.report_id || manifest.replaces != report.replaces {
                return Err(JoinError::ReportId);
            }
            if header.binding_hash != manifest::hash(signed) {
                return Err(JoinError::Binding);
            }
            if !header
                .recipient_key_ids
                .iter()
                .all(|id| manifest.recipient_key_ids.contains(id))
            {
                return Err(JoinError::Recipient);
            }
            if manifest.withheld_objects != report.withheld_objects {
                return Err(JoinError::Withheld);
            }
            check_renditions(&report, &manifest)?;
            (
                open_gateway_capsule(&report, &manifest, key, trust)?,
                Binding::GatewayManifest,
            )
        }
        None if report.capsule.is_empty() => {
            if !header.binding_hash.is_empty() {
                return Err(JoinError::Binding);
            }
            (None, Binding::None)
        }
        None => {
            if header.binding_hash != capsule::hash(&report.capsule) {
                return Err(JoinError::Binding);
            }
            // The caller sealed it with a key of its own; the node's signature covers its hash.
            let (capsule_header, identity) =
                capsule::open_unpinned(&report.capsule, key).map_err(JoinError::CapsuleSeal)?;
            if capsule_header.report_id != report.report_id {
                return Err(JoinError::Capsule);
            }
            (Some(identity), Binding::NodeStatement)
        }
    };
    Ok(JoinedReport {
        report,
        identity,
        binding,
    })
}

/// Every object of the manifest has exactly one rendition, and every rendition is of the manifest.
fn check_renditions(report: &Report, manifest: &VerifiedManifest) -> Result<(), JoinError> {
    let mut expected: BTreeMap<_, _> = manifest
        .objects
        .iter()
        .map(|object| (object.sop_instance_uid.as_str(), &object.rendition_sha256))
        .collect();
    for rendition in &report.renditions {
        let hash = expected.remove(rendition.sop_instance_uid.as_str());
        if hash.is_none_or(|hash| sha256(&rendition.png)[..] != **hash) {
            return Err(JoinError::Rendition);
        }
    }
    if expected.is_empty() {
        Ok(())
    } else {
        Err(JoinError::Rendition)
    }
}

fn open_gateway_capsule(
    report: &Report,
    manifest: &VerifiedManifest,
    key: &RecipientPrivateKey,
    trust: &TrustFile,
) -> Result<Option<IdentityCapsule>, JoinError> {
    if manifest.capsule_sha256.is_empty() && report.capsule.is_empty() {
        return Ok(None);
    }
    if manifest.capsule_sha256 != capsule::hash(&report.capsule) {
        return Err(JoinError::Capsule);
    }
    let (header, identity) = capsule::open_capsule(&report.capsule, key, &trust.gateway_keys)
        .map_err(JoinError::CapsuleSeal)?;
    let knows = |uid: &str| {
        identity
            .objects
            .iter()
            .any(|object| object.sop_instance_uid == uid)
    };
    let agrees = header.report_id == report.report_id
        && identity.study_pseudonym == manifest.study_pseudonym
        && manifest
            .objects
            .iter()
            .all(|object| knows(&object.sop_instance_uid));
    if agrees {
        Ok(Some(identity))
    } else {
        Err(JoinError::Capsule)
    }
}

#[cfg(test)]
mod tests;
