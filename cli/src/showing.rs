//! An opened report as text, as JSON and as files. Everything here is for the clinician's eyes:
//! it names the patient.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cloister_log::durable;
use cloister_seal::join::Binding;
use serde_json::{Value, json};

use crate::opening::OpenedReport;
use crate::wording;

/// The report as a page of text.
pub(crate) fn text(opened: &OpenedReport) -> String {
    let report = &opened.joined.report;
    let mut page = String::new();
    // Writing to a String cannot fail.
    let mut line = |text: String| writeln!(page, "{text}").unwrap_or_default();
    line(format!("Report {}", opened.report_id()));
    line(format!(
        "  issued       {}",
        wording::time(opened.header.issued_at_unix_ms)
    ));
    if !opened.header.replaces.is_empty() {
        line(format!(
            "  replaces     {}",
            wording::report_id(&opened.header.replaces)
        ));
    }
    if !opened.current {
        line("  SUPERSEDED: a newer report replaces this one".to_owned());
    }
    match &opened.joined.identity {
        Some(identity) => {
            line(format!("  patient      {}", identity.patient_name));
            line(format!(
                "  patient id   {} {}",
                identity.patient_id, identity.issuer_of_patient_id
            ));
            line(format!(
                "  born         {}  sex {}",
                identity.birth_date, identity.sex
            ));
            line(format!("  accession    {}", identity.accession_number));
            line(format!(
                "  study        {} {}",
                identity.study_date, identity.study_time
            ));
        }
        None => line("  patient      (no identity attached)".to_owned()),
    }
    line(format!(
        "  outcome      {}",
        wording::outcome(opened.header.outcome)
    ));
    if let Some(category) = wording::acr(opened.header.acr_category) {
        line(format!("  ACR category {category}"));
    }
    if let Some(assessment) = &report.assessment {
        let reasons: Vec<_> = assessment
            .reasons
            .iter()
            .map(|r| wording::reason(*r))
            .collect();
        if !reasons.is_empty() {
            line(format!("  reasons      {}", reasons.join(", ")));
        }
        line(format!(
            "  confidence   {:.2}   risk {:.2}",
            assessment.confidence, assessment.risk
        ));
        if assessment.communicate_within_minutes > 0 {
            line(format!(
                "  tell within  {} minutes",
                assessment.communicate_within_minutes
            ));
        }
    }
    let objects = report.renditions.len();
    line(format!(
        "  films        {objects}, withheld {}",
        report.withheld_objects
    ));
    for rendition in &report.renditions {
        let original = original_of(opened, &rendition.sop_instance_uid);
        // Films without text need no word about it.
        line(match rendition.redacted_boxes {
            0 => format!("    {original}"),
            boxes => format!("    {original}  ({boxes} place(s) with text blanked)"),
        });
    }
    line(String::new());
    line("DRAFT - decision support, never a final read.".to_owned());
    line(format!("Findings:   {}", shown(&report.findings)));
    line(format!("Impression: {}", shown(&report.impression)));
    if let Some(model) = &report.model {
        line(String::new());
        line(format!(
            "Model {} {} on {}",
            model.name, model.version, model.execution_provider
        ));
    }
    page
}

fn shown(text: &str) -> &str {
    if text.is_empty() {
        "(no draft text)"
    } else {
        text
    }
}

/// The UID that the modality gave the film, which the capsule knows.
fn original_of(opened: &OpenedReport, pseudonymous: &str) -> String {
    opened
        .joined
        .identity
        .iter()
        .flat_map(|identity| &identity.objects)
        .find(|object| object.sop_instance_uid == pseudonymous)
        .map_or_else(
            || pseudonymous.to_owned(),
            |o| o.original_sop_instance_uid.clone(),
        )
}

/// The report as one JSON object.
pub(crate) fn json(opened: &OpenedReport) -> Value {
    let report = &opened.joined.report;
    let assessment = report.assessment.as_ref();
    json!({
        "report_id": opened.report_id().to_string(),
        "replaces": (!opened.header.replaces.is_empty())
            .then(|| wording::report_id(&opened.header.replaces)),
        "issued_at": wording::time(opened.header.issued_at_unix_ms),
        "current": opened.current,
        "outcome": wording::outcome(opened.header.outcome),
        "acr_category": wording::acr(opened.header.acr_category),
        "reasons": assessment
            .map(|a| a.reasons.iter().map(|r| wording::reason(*r)).collect::<Vec<_>>()),
        "confidence": assessment.map(|a| a.confidence),
        "risk": assessment.map(|a| a.risk),
        "patient": opened.joined.identity.as_ref().map(|identity| json!({
            "name": identity.patient_name,
            "id": identity.patient_id,
            "issuer": identity.issuer_of_patient_id,
            "birth_date": identity.birth_date,
            "sex": identity.sex,
            "accession_number": identity.accession_number,
            "study_instance_uid": identity.original_study_instance_uid,
            "study_date": identity.study_date,
        })),
        "films": report.renditions.iter().map(|rendition| json!({
            "sop_instance_uid": rendition.sop_instance_uid,
            "original_sop_instance_uid": original_of(opened, &rendition.sop_instance_uid),
            "boxes": rendition.redacted_boxes,
        })).collect::<Vec<_>>(),
        "withheld_objects": report.withheld_objects,
        "findings": report.findings,
        "impression": report.impression,
        "labels": report.labels.iter().map(|label| json!({
            "label": label.label,
            "probability": label.probability,
            "threshold": label.threshold,
            "acr_category": wording::acr(label.acr_category),
        })).collect::<Vec<_>>(),
        "model_input": report.model_input.as_ref().map(|input| json!({
            "query": input.query,
            "urgency": wording::urgency(input.urgency),
        })),
        "model": report.model.as_ref().map(|model| json!({
            "name": model.name,
            "version": model.version,
            "bundle_sha256": hex::encode(&model.bundle_sha256),
            "execution_provider": model.execution_provider,
        })),
        "binding": match opened.joined.binding {
            Binding::GatewayManifest => "gateway_manifest",
            Binding::NodeStatement => "node_statement",
            Binding::None => "none",
        },
        "audit": {
            "origin": opened.log_origin,
            "leaf_index": opened.leaf_index,
            "witnessed": false,
        },
    })
}

/// Writes text, JSON and one PNG per film to `dir`, readable by the owner alone.
pub(crate) fn save(opened: &OpenedReport, dir: &Path) -> Result<Vec<PathBuf>> {
    durable::create_dir_all(dir, 0o700).with_context(|| dir.display().to_string())?;
    let id = opened.report_id();
    let mut files = vec![
        (dir.join(format!("{id}.txt")), text(opened).into_bytes()),
        (
            dir.join(format!("{id}.json")),
            serde_json::to_vec_pretty(&json(opened))?,
        ),
    ];
    for (number, rendition) in opened.joined.report.renditions.iter().enumerate() {
        files.push((
            dir.join(format!("{id}-film-{}.png", number + 1)),
            rendition.png.clone(),
        ));
    }
    let mut paths = Vec::new();
    for (path, bytes) in files {
        durable::write_atomic(&path, &bytes, 0o600).with_context(|| path.display().to_string())?;
        paths.push(path);
    }
    Ok(paths)
}
