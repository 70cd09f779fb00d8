//! Fourth step: chest films only, and without identifiers in the tags. Before it stands
//! `assemble`, after it `redact`.

use std::time::Instant;

use cloister_deid::{DeidError, Policy, Unredacted, chest};
use cloister_proto::v1;
use cloister_scrub::KnownIdentifiers;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::assemble::Assembled;
use crate::error::{Later, StepError};
use crate::metric::{self, Step};
use crate::pipeline::Gateway;
use crate::quarantine::Reason;
use crate::spool::Id;

/// What is known about an object besides its pixels: for the capsule (identified) and for the model
/// (not). Kept sealed under the study's key.
#[derive(Clone, Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    pub(crate) patient_name: String,
    pub(crate) patient_id: String,
    pub(crate) issuer: String,
    pub(crate) birth_date: String,
    pub(crate) patient_sex: String,
    pub(crate) accession: String,
    pub(crate) study_uid: String,
    pub(crate) series_uid: String,
    pub(crate) sop_uid: String,
    pub(crate) sop_class: String,
    pub(crate) study_date: String,
    pub(crate) study_time: String,
    pub(crate) referring: String,
    pub(crate) pseudonymous_uid: String,
    pub(crate) study_pseudonym: String,
    pub(crate) age_band: i32,
    pub(crate) sex: i32,
    pub(crate) view: i32,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Facts")
    }
}

/// An object without identifiers in its tags.
pub(crate) struct Deidentified {
    id: Id,
    study: Id,
    encoded: Vec<u8>,
    facts: Facts,
    known: KnownIdentifiers,
    policy: Policy,
    unredacted: Unredacted,
}

impl Deidentified {
    /// Encoded object, and the rest for the step after.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Context) {
        let Self {
            id,
            study,
            encoded,
            facts,
            known,
            policy,
            unredacted,
        } = self;
        (
            encoded,
            Context {
                id,
                study,
                facts,
                known,
                policy,
                unredacted,
            },
        )
    }
}

/// What goes beside an object from here to `clear`.
pub(crate) struct Context {
    pub(crate) id: Id,
    pub(crate) study: Id,
    pub(crate) facts: Facts,
    pub(crate) known: KnownIdentifiers,
    /// What was applied, so that the gate knows what may have stayed.
    pub(crate) policy: Policy,
    /// What the object will say once its pixels are looked through.
    pub(crate) unredacted: Unredacted,
}

/// Removes the identifiers. Every pseudonym is recorded before this returns.
pub(crate) async fn deidentify(gateway: &Gateway, object: Id) -> Result<Deidentified, StepError> {
    let started = Instant::now();
    let (spool, vault) = (gateway.spool.clone(), gateway.vault.clone());
    let (deidentifier, receive) = (gateway.deidentifier.clone(), gateway.receive.clone());
    // Reads and parses: not on the threads that answer modalities. A panic costs this object.
    let task = tokio::task::spawn_blocking(move || {
        let assembled = Assembled::open(&spool, object)?;
        let session = vault.session();
        let issuer = receive.issuer_of(assembled.calling());
        let deidentified = one(&deidentifier, assembled, issuer, &session)?;
        session.commit().map_err(|error| {
            tracing::error!(%error, "The vault cannot record pseudonyms.");
            Later::Vault
        })?;
        Ok(deidentified)
    });
    let deidentified = task.await.map_err(|error| {
        if error.is_panic() {
            StepError::Quarantine(Reason::DeidentifyFailed)
        } else {
            Later::Stopping.into()
        }
    })?;
    metric::step(Step::Deidentify, started.elapsed());
    deidentified
}

fn one(
    deidentifier: &cloister_deid::Deidentifier,
    assembled: Assembled,
    issuer: &str,
    session: &crate::vault::Session,
) -> Result<Deidentified, StepError> {
    let (id, study) = (assembled.id(), assembled.study());
    let object = assembled.read().map_err(failed)?;
    chest::is_chest(&object).map_err(|_| StepError::Quarantine(Reason::NotChest))?;
    let (clean, known) = deidentifier
        .deidentify_object(&object, issuer, session)
        .map_err(failed)?;
    drop(object);
    let encoded = clean.to_bytes().map_err(failed)?;
    Ok(Deidentified {
        id,
        study,
        encoded,
        facts: facts(&clean),
        known,
        policy: deidentifier.policy(),
        unredacted: clean.unredacted(),
    })
}

fn failed(error: DeidError) -> StepError {
    match error {
        DeidError::Pseudonym(_) => Later::Vault.into(),
        error => StepError::Quarantine(Reason::of(error)),
    }
}

fn facts(clean: &cloister_deid::Deidentified) -> Facts {
    let identity = Zeroizing::new(clean.identity().expose().clone());
    Facts {
        patient_name: identity.patient_name.clone(),
        patient_id: identity.patient_id.clone(),
        issuer: identity.issuer.clone(),
        birth_date: identity.birth_date.clone(),
        patient_sex: identity.sex.clone(),
        accession: identity.accession.clone(),
        study_uid: identity.study_uid.clone(),
        series_uid: identity.series_uid.clone(),
        sop_uid: identity.sop_uid.clone(),
        sop_class: identity.sop_class.clone(),
        study_date: identity.study_date.clone(),
        study_time: identity.study_time.clone(),
        referring: identity.referring.clone(),
        pseudonymous_uid: clean.sop_instance_uid().as_str().to_owned(),
        study_pseudonym: clean.study_pseudonym().as_str().to_owned(),
        age_band: age_band(clean.age_band()).into(),
        sex: sex(clean.sex()).into(),
        view: view(clean.view()).into(),
    }
}

fn age_band(band: cloister_phi::AgeBand) -> v1::AgeBand {
    use cloister_phi::AgeBand as Band;
    match band {
        Band::Unknown => v1::AgeBand::Unspecified,
        Band::Under18 => v1::AgeBand::Under18,
        Band::From18To39 => v1::AgeBand::AgeBand1839,
        Band::From40To64 => v1::AgeBand::AgeBand4064,
        Band::From65To89 => v1::AgeBand::AgeBand6589,
        Band::From90 => v1::AgeBand::AgeBand90AndOver,
    }
}

fn sex(sex: cloister_phi::Sex) -> v1::Sex {
    use cloister_phi::Sex as Of;
    match sex {
        Of::Unknown => v1::Sex::Unspecified,
        Of::Female => v1::Sex::Female,
        Of::Male => v1::Sex::Male,
        Of::Other => v1::Sex::Other,
    }
}

fn view(view: cloister_phi::View) -> v1::View {
    use cloister_phi::View as Of;
    match view {
        Of::Unknown => v1::View::Unspecified,
        Of::Pa => v1::View::Pa,
        Of::Ap => v1::View::Ap,
        Of::Lateral => v1::View::Lateral,
    }
}
