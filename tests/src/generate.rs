//! An EHR that attaches a sealed identity to its own request.

use anyhow::{Context as _, Result};
use cloister::client::Client;
use cloister::installation::CLINICIAN;
use cloister::recipient::read_private;
use cloister::state::State;
use cloister::study::{Patient, StudySpec, draw};
use cloister_proto::{METADATA_RECIPIENT, METADATA_REPORT_ID, v1};
use cloister_seal::{SigningKey, capsule};
use prost::Message as _;
use uuid::Uuid;

/// Asks for a report with a capsule that names `patient`; the report's id.
///
/// # Errors
/// When the sidecar refuses.
pub async fn generate_with_capsule(state: &State, patient: &str) -> Result<Uuid> {
    let id = Uuid::new_v4();
    let key = read_private(&state.pki().recipient_key(CLINICIAN), None)?;
    let identity = v1::IdentityCapsule {
        format: 1,
        report_id: id.as_bytes().to_vec(),
        patient_name: patient.to_owned(),
        ..Default::default()
    };
    let signer = SigningKey::generate()?;
    let sealed = capsule::seal_capsule(&identity, id, &[key.public()], &signer)?;
    let study = draw(&StudySpec::chest(91, Patient::made_up(), 1, 128))?;
    let film = study.files.into_iter().next().context("no film")?;
    let mut request = tonic::Request::new(v1::GenerateRequest {
        films: vec![v1::Film {
            data: film.into(),
            media_type: "application/dicom".into(),
        }],
        query: "Pneumonia?".into(),
        urgency: v1::Urgency::Routine.into(),
        capsule: sealed.encode_to_vec(),
        ..Default::default()
    });
    request
        .metadata_mut()
        .insert(METADATA_REPORT_ID, id.to_string().parse()?);
    request
        .metadata_mut()
        .insert(METADATA_RECIPIENT, "group:radiology".parse()?);
    Client::of_state(state, "ehr")?
        .reports()
        .await?
        .generate(request)
        .await?;
    Ok(id)
}
