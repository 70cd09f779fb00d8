//! First step of the way out: the server's answer becomes an assessed report, or is withheld.
//!
//! The one named verifier of this process boundary: what the server says about itself is not
//! believed where it can be checked.

use cloister_proto::v1;
use prost::Message as _;
use uuid::Uuid;

use crate::authorize::Order;
use crate::route::Method;

/// A report that carries an assessment and is the one that was asked for. Plaintext: it lives in
/// memory only, and only [`crate::seal`] takes it.
pub(crate) struct Assessed {
    report: v1::Report,
    report_id: Uuid,
    outcome: v1::Outcome,
}

/// Why a report is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("the report has no assessment or no outcome")]
    NoAssessment,
    #[error("the report has another id than the request")]
    OtherReport,
    #[error("a study's report without its manifest, or a manifest where none belongs")]
    Manifest,
    #[error("the report replaces something that its manifest does not name")]
    Replaces,
    #[error("the gateway sealed the identity to other keys than this report would be sealed to")]
    Recipients,
    #[error("a hash has a length that no hash has")]
    Hash,
}

impl Assessed {
    /// Takes a report that is fit to be sealed for `order`.
    ///
    /// # Errors
    /// [`Unfit`]; the report is withheld.
    pub(crate) fn admit(report: v1::Report, order: &Order) -> Result<Self, Unfit> {
        let assessment = report.assessment.as_ref().ok_or(Unfit::NoAssessment)?;
        let outcome = assessment.outcome();
        if outcome == v1::Outcome::Unspecified {
            return Err(Unfit::NoAssessment);
        }
        if report.report_id != order.report_id().as_bytes() {
            return Err(Unfit::OtherReport);
        }
        match (&report.manifest, order.method()) {
            (Some(signed), Method::SubmitStudy) => {
                let manifest =
                    v1::StudyManifest::decode(&*signed.manifest).map_err(|_| Unfit::Manifest)?;
                if manifest.report_id != report.report_id {
                    return Err(Unfit::OtherReport);
                }
                if !same_keys(&manifest, order) {
                    return Err(Unfit::Recipients);
                }
                if manifest.replaces != report.replaces || !matches!(report.replaces.len(), 0 | 16)
                {
                    return Err(Unfit::Replaces);
                }
            }
            (None, Method::Generate | Method::GenerateStream) => {
                if !report.replaces.is_empty() {
                    return Err(Unfit::Replaces);
                }
            }
            _ => return Err(Unfit::Manifest),
        }
        let hashes = report
            .model
            .iter()
            .flat_map(|model| [&model.bundle_sha256, &model.policy_sha256]);
        if hashes.into_iter().any(|hash| !matches!(hash.len(), 0 | 32)) {
            return Err(Unfit::Hash);
        }
        Ok(Self {
            report_id: order.report_id(),
            outcome,
            report,
        })
    }

    /// The report.
    pub(crate) fn report(&self) -> &v1::Report {
        &self.report
    }

    /// Its id.
    pub(crate) fn report_id(&self) -> Uuid {
        self.report_id
    }

    /// Its outcome.
    pub(crate) fn outcome(&self) -> v1::Outcome {
        self.outcome
    }
}

/// Identity capsule and report have to open with the same keys. They differ while a directory change
/// has reached only one of the two rooms; the gateway tries again.
fn same_keys(manifest: &v1::StudyManifest, order: &Order) -> bool {
    let sorted = |mut ids: Vec<Vec<u8>>| {
        ids.sort_unstable();
        ids
    };
    let named = sorted(manifest.recipient_key_ids.clone());
    let ids = order
        .keys()
        .iter()
        .map(|key| key.key_id().as_bytes().to_vec());
    named == sorted(ids.collect())
}
