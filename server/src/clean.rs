//! Second step: films and query lose their identifiers. Before it: `admit`. After it: `screen`.
//!
//! Films of a gateway's study were cleaned there and are not cleaned twice: their hashes stand in
//! its signed manifest. Films that came by `Generate` go through the same crates as the gateway's.

mod film;

use std::sync::Arc;

use cloister_deid::{Deidentifier, HmacPseudonyms};
use cloister_proto::v1;
use cloister_redact::Redactor;
use cloister_scrub::{KnownIdentifiers, scrub};
use uuid::Uuid;

use crate::admit::{Films, MediaType, Submitted};
use crate::metric::{self, Metric};
use crate::pipeline::Refusal;

/// A film without identifiers, as the model and the clinician see it.
#[derive(Debug)]
pub(crate) struct CleanFilm {
    pub(crate) sop_instance_uid: String,
    /// 8-bit grey PNG.
    pub(crate) png: Vec<u8>,
    pub(crate) redacted_boxes: u32,
}

/// A request without identifiers. Only this step makes one.
#[derive(Debug)]
pub(crate) struct Cleaned {
    pub(super) films: Vec<CleanFilm>,
    pub(super) query: String,
    pub(super) patient: v1::PatientContext,
    pub(super) imaging: v1::ImagingContext,
    pub(super) urgency: v1::Urgency,
    pub(super) withheld_objects: u32,
    /// For the check of what the model wrote. Zeroized when dropped.
    pub(super) known: KnownIdentifiers,
}

impl Cleaned {
    pub(crate) fn model_input(&self) -> v1::ModelInput {
        v1::ModelInput {
            query: self.query.clone(),
            patient: Some(self.patient),
            imaging: Some(self.imaging),
            urgency: self.urgency.into(),
        }
    }
}

/// What a film says about its patient, coarsely.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    patient: v1::PatientContext,
    view: v1::View,
}

/// Cleans requests.
pub(crate) struct Cleaner {
    deidentifier: Arc<Deidentifier>,
    pseudonyms: Arc<HmacPseudonyms>,
    /// Without workers no film can be cleaned, and every film is refused.
    redactor: Option<Redactor>,
}

impl std::fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cleaner")
    }
}

impl Cleaner {
    pub(crate) fn new(
        deidentifier: Deidentifier,
        pseudonyms: HmacPseudonyms,
        redactor: Option<Redactor>,
    ) -> Self {
        Self {
            deidentifier: Arc::new(deidentifier),
            pseudonyms: Arc::new(pseudonyms),
            redactor,
        }
    }

    pub(crate) async fn clean(&self, submitted: Submitted) -> Result<Cleaned, Refusal> {
        let Submitted {
            films,
            query,
            mut patient,
            mut imaging,
            urgency,
            ..
        } = submitted;
        let mut known = KnownIdentifiers::new();
        let (films, withheld_objects) = match films {
            Films::Cleared {
                manifest,
                renditions,
                ..
            } => {
                let films = renditions
                    .into_iter()
                    .map(|rendition| CleanFilm {
                        redacted_boxes: boxes_of(&manifest, &rendition.sop_instance_uid),
                        sop_instance_uid: rendition.sop_instance_uid,
                        png: rendition.png,
                    })
                    .collect();
                (films, manifest.withheld_objects)
            }
            Films::Raw(raw) => {
                let mut films = Vec::with_capacity(raw.len());
                for (media, data) in raw {
                    let cleaned = match media {
                        MediaType::Dicom => self.clean_dicom(data, &mut known).await,
                        MediaType::Picture => self.clean_picture(data, &known).await,
                    };
                    let (film, facts) = cleaned.map_err(|reason| {
                        metric::count(Metric::FilmsTotal, "result", reason.as_str_name());
                        refused(reason)
                    })?;
                    metric::count(Metric::FilmsTotal, "result", "cleaned");
                    if let Some(facts) = facts {
                        complete(&mut patient, &mut imaging, facts);
                    }
                    films.push(film);
                }
                (films, 0)
            }
        };
        // The query may name the patient in any of the ways that the film's tags do.
        let query = tokio::task::spawn_blocking(move || {
            let scrubbed = scrub(&query, &known);
            (scrubbed.text, known)
        });
        let (query, known) = query
            .await
            .map_err(|_| refused(v1::ReasonCode::GuardFailed))?;
        Ok(Cleaned {
            films,
            query,
            patient,
            imaging,
            urgency,
            withheld_objects,
            known,
        })
    }
}

/// The caller's statement stands; what it left open comes from the first film that says it.
fn complete(patient: &mut v1::PatientContext, imaging: &mut v1::ImagingContext, facts: Facts) {
    if patient.age_band() == v1::AgeBand::Unspecified {
        patient.age_band = facts.patient.age_band;
    }
    if patient.sex() == v1::Sex::Unspecified {
        patient.sex = facts.patient.sex;
    }
    if imaging.view() == v1::View::Unspecified {
        imaging.set_view(facts.view);
    }
}

fn refused(reason: v1::ReasonCode) -> Refusal {
    let verdict = v1::StepVerdict {
        step: "clean".to_owned(),
        verdict: v1::step_verdict::Verdict::Block.into(),
        reason: reason.into(),
        duration_us: 0,
    };
    Refusal {
        reason,
        verdicts: vec![verdict],
        input: None,
        renditions: Vec::new(),
    }
}

/// A name for a picture, which has no SOP Instance UID: the UUID form of PS3.5 B.2.
fn picture_uid() -> String {
    format!("2.25.{}", Uuid::new_v4().as_u128())
}

/// What the gateway's signed statement says was blanked on a film.
fn boxes_of(manifest: &v1::StudyManifest, sop_instance_uid: &str) -> u32 {
    let mut objects = manifest.objects.iter();
    objects
        .find(|object| object.sop_instance_uid == sop_instance_uid)
        .map_or(0, |object| object.redacted_boxes)
}
