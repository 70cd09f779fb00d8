//! One film that came by `Generate`: chest? → de-identify → redact → check → gate. Any "no", any error and
//! any panic on the way ends the request.

use std::sync::Arc;

use bytes::Bytes;
use cloister_deid::{chest, gate};
use cloister_phi::{AgeBand, Sex, View};
use cloister_proto::v1;
use cloister_proto::v1::ReasonCode;
use cloister_scrub::KnownIdentifiers;

use super::{CleanFilm, Cleaner, Facts, picture_uid};
use crate::metric;

/// Issuer under which identifiers of films by `Generate` get their pseudonyms when the film names
/// none.
const ISSUER: &str = "generate";

impl Cleaner {
    pub(super) async fn clean_dicom(
        &self,
        encoded: Bytes,
        known: &mut KnownIdentifiers,
    ) -> Result<(CleanFilm, Option<Facts>), ReasonCode> {
        let redactor = self.redactor.as_ref().ok_or(ReasonCode::GuardFailed)?;
        let (deidentifier, pseudonyms) =
            (Arc::clone(&self.deidentifier), Arc::clone(&self.pseudonyms));
        // On a thread of its own: it takes long, and a panic in a parser ends only this request.
        let deidentified = tokio::task::spawn_blocking(move || {
            let object = cloister_deid::read(&encoded).map_err(|_| ReasonCode::FilmUnreadable)?;
            chest::is_chest(&object).map_err(|_| ReasonCode::NotChest)?;
            let (deidentified, own) = deidentifier
                .deidentify_object(&object, ISSUER, &*pseudonyms)
                .map_err(|_| ReasonCode::FilmUnreadable)?;
            let facts = Facts {
                patient: v1::PatientContext {
                    age_band: age_band(deidentified.age_band()).into(),
                    sex: sex(deidentified.sex()).into(),
                },
                view: view(deidentified.view()),
            };
            let uid = deidentified.sop_instance_uid().to_string();
            let bytes = deidentified
                .to_bytes()
                .map_err(|_| ReasonCode::FilmUnreadable)?;
            Ok((bytes, uid, facts, own))
        });
        let (bytes, sop_instance_uid, facts, own) =
            deidentified.await.map_err(|_| ReasonCode::GuardFailed)??;

        let redacted = redactor.redact(bytes, &own).await.map_err(redact_reason)?;
        let (object, png, findings) = redacted.into_parts();
        let object = Bytes::from(object);
        metric::findings(&findings);
        let looked = redactor.check(object.clone(), &findings).await;
        looked.map_err(redact_reason)?;

        // The gate reads the encoded bytes again: it trusts neither step before it, but it has to know
        // what the policy keeps.
        let policy = self.deidentifier.policy();
        let looked = tokio::task::spawn_blocking(move || (gate::look(&object, &own, policy), own));
        let (verdict, own) = looked.await.map_err(|_| ReasonCode::GuardFailed)?;
        known.merge(&own);
        verdict.map_err(|error| match error {
            gate::GateError::Unreadable => ReasonCode::FilmUnreadable,
            _ => ReasonCode::ResidualIdentifier,
        })?;
        Ok((
            CleanFilm {
                sop_instance_uid,
                png,
                redacted_boxes: count(findings.redacted()),
            },
            Some(facts),
        ))
    }

    pub(super) async fn clean_picture(
        &self,
        picture: Bytes,
        known: &KnownIdentifiers,
    ) -> Result<(CleanFilm, Option<Facts>), ReasonCode> {
        let redactor = self.redactor.as_ref().ok_or(ReasonCode::GuardFailed)?;
        let redacted = redactor
            // A picture has no header: the films of the same request are all that is known.
            .redact_picture(picture.into(), known)
            .await
            .map_err(redact_reason)?;
        metric::findings(redacted.findings());
        let film = CleanFilm {
            sop_instance_uid: picture_uid(),
            png: redacted.rendition().to_vec(),
            redacted_boxes: count(redacted.findings().redacted()),
        };
        Ok((film, None))
    }
}

fn count(boxes: usize) -> u32 {
    u32::try_from(boxes).unwrap_or(u32::MAX)
}

/// What the file is to blame for, and what our own machinery is.
fn redact_reason(error: cloister_redact::RedactError) -> ReasonCode {
    use cloister_redact::RedactError as E;
    match error {
        E::Undecodable(_) | E::UnknownTransferSyntax | E::TooLarge => ReasonCode::FilmUnreadable,
        E::TextLeft => ReasonCode::ResidualIdentifier,
        _ => ReasonCode::GuardFailed,
    }
}

const fn age_band(band: AgeBand) -> v1::AgeBand {
    match band {
        AgeBand::Unknown => v1::AgeBand::Unspecified,
        AgeBand::Under18 => v1::AgeBand::Under18,
        AgeBand::From18To39 => v1::AgeBand::AgeBand1839,
        AgeBand::From40To64 => v1::AgeBand::AgeBand4064,
        AgeBand::From65To89 => v1::AgeBand::AgeBand6589,
        AgeBand::From90 => v1::AgeBand::AgeBand90AndOver,
    }
}

const fn sex(sex: Sex) -> v1::Sex {
    match sex {
        Sex::Unknown => v1::Sex::Unspecified,
        Sex::Female => v1::Sex::Female,
        Sex::Male => v1::Sex::Male,
        Sex::Other => v1::Sex::Other,
    }
}

const fn view(view: View) -> v1::View {
    match view {
        View::Unknown => v1::View::Unspecified,
        View::Pa => v1::View::Pa,
        View::Ap => v1::View::Ap,
        View::Lateral => v1::View::Lateral,
    }
}
