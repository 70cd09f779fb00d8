//! The demo's steps one by one. Each says what happened, and fails if a check does.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cloister_deid::{Deidentifier, Policy};
use cloister_dicom_scp::control::StudyRow;
use cloister_log::durable;
use cloister_proto::v1::Suite;
use cloister_redact::{RedactConfig, Redactor};
use cloister_scrub::{Kind, KnownIdentifiers};
use cloister_seal::RecipientPrivateKey;
use cloister_seal::trust::TrustFile;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::report::fetch_one;
use super::Narrator;
use super::films::Films;
use crate::client::Client;
use crate::installation::{CLINICIAN, Installation};
use crate::opening::{OpenedReport, OpeningError, open_report};
use crate::scu::Association;
use crate::state::Room;
use crate::{canary, control, picture, recipient, showing};

/// AE title that the demo calls itself.
const CALLING: &str = "DEMO_DX";

/// What was acknowledged.
pub(super) struct Sent {
    studies: usize,
}

/// Sends the films in one association.
pub(super) async fn send(
    installation: &Installation,
    films: &Films,
    narrator: &Narrator,
) -> Result<Sent> {
    let peer = installation.peer(CALLING)?;
    let mut association = Association::open(&peer, &films.to_send).await?;
    let bar = narrator.out.bar(films.to_send.len() as u64, "C-STORE");
    let (mut stored, mut refused) = (0usize, 0usize);
    for film in &films.to_send {
        let status = association.store(film).await?;
        bar.inc(1);
        if status.is_stored() {
            stored += 1;
        } else {
            refused += 1;
            narrator.detail(format!("a film was refused with status {status}"))?;
        }
    }
    bar.finish_and_clear();
    association.release().await?;
    narrator
        .out
        .emit(&json!({ "step": "send", "stored": stored, "refused": refused }))?;
    narrator.detail(format!(
        "{CALLING} → {} at {}: {stored} stored and acknowledged, {refused} refused",
        peer.called, peer.address
    ))?;
    if stored == 0 {
        bail!("no film was stored");
    }
    Ok(Sent {
        studies: films.studies,
    })
}

/// Waits until every study is forwarded or withheld.
pub(super) async fn wait(
    installation: &mut Installation,
    sent: Sent,
    patience: Duration,
    narrator: &Narrator,
) -> Result<Vec<StudyRow>> {
    let socket = installation.state().control_socket();
    let spinner = narrator.out.spinner("waiting");
    let deadline = Instant::now() + patience;
    let mut poll = tokio::time::interval(Duration::from_millis(200));
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rows = loop {
        tokio::select! {
            _ = poll.tick() => {}
            death = installation.rooms().first_death() => return Err(death.into()),
        }
        let rows = control::studies(&socket).await?;
        let states: Vec<_> = rows.iter().map(|row| row.state.as_str()).collect();
        spinner.set_message(states.join(", "));
        let settled = states
            .iter()
            .filter(|s| matches!(**s, "forwarded" | "withheld"))
            .count();
        // Films without a readable study may make more studies than were counted, never fewer.
        if settled == rows.len() && settled >= sent.studies.min(1) && !rows.is_empty() {
            break rows;
        }
        if Instant::now() > deadline {
            bail!(
                "no report after {} s; studies are {}",
                patience.as_secs(),
                states.join(", ")
            );
        }
    };
    spinner.finish_and_clear();
    for row in &rows {
        narrator.detail(format!(
            "study {}: {} ({} film(s) cleared, {} quarantined)",
            row.study.as_deref().unwrap_or("without pseudonym"),
            row.state,
            row.cleared,
            row.quarantined
        ))?;
    }
    Ok(rows)
}

/// Says what was held back.
pub(super) async fn tell_quarantine(
    installation: &Installation,
    narrator: &Narrator,
) -> Result<()> {
    for entry in control::quarantine(&installation.state().control_socket()).await? {
        narrator.detail(format!(
            "quarantined: {} ({} bytes)",
            entry.reason, entry.bytes
        ))?;
        narrator
            .out
            .emit(&json!({ "step": "quarantine", "reason": entry.reason }))?;
    }
    Ok(())
}

/// Opens every report of the studies, with the clinician's key, over the inbox's mTLS.
pub(super) async fn open_all(
    installation: &Installation,
    studies: &[StudyRow],
    narrator: &Narrator,
) -> Result<Vec<OpenedReport>> {
    let state = installation.state();
    let client = Client::of_state(state, CLINICIAN)?;
    let key = recipient::read_private(&state.pki().recipient_key(CLINICIAN), None)?;
    let trust = TrustFile::load(&state.pki().trust())?;
    let mut reports = Vec::new();
    for row in studies.iter().filter(|row| row.state == "forwarded") {
        let id = row.report.context("a forwarded study names no report")?;
        let opened = open_report(&fetch_one(&client, id.as_bytes()).await?, &key, &trust)?;
        for line in showing::text(&opened).lines() {
            narrator.detail(line)?;
        }
        narrator.detail("Checked:")?;
        for check in opened.checks() {
            narrator.detail(format!("- {check}"))?;
        }
        if opened.joined.identity.is_none() {
            bail!("the report of a study names no patient");
        }
        if opened.joined.report.renditions.len() != row.cleared as usize {
            bail!("the report does not name every cleared film");
        }
        for path in showing::save(&opened, &results(installation))? {
            narrator.detail(format!("saved {}", path.display()))?;
        }
        narrator.out.emit(&showing::json(&opened))?;
        reports.push(opened);
    }
    if reports.is_empty() {
        bail!("no study came out as a report");
    }
    Ok(reports)
}

/// Any other key must not open a report.
pub(super) async fn refuse_another_key(
    installation: &Installation,
    reports: &[OpenedReport],
    narrator: &Narrator,
) -> Result<()> {
    let state = installation.state();
    let client = Client::of_state(state, CLINICIAN)?;
    let trust = TrustFile::load(&state.pki().trust())?;
    let stranger = RecipientPrivateKey::generate(Suite::HpkeXwing)?;
    for report in reports {
        let fetched = fetch_one(&client, report.report_id().as_bytes()).await?;
        match open_report(&fetched, &stranger, &trust) {
            Err(OpeningError::Open(error)) => {
                narrator.detail(format!("another key is refused: {error}"))?;
            }
            Err(error) => return Err(error.into()),
            Ok(_) => bail!("another key opened the report"),
        }
    }
    Ok(())
}

/// Where reports and pictures go.
fn results(installation: &Installation) -> PathBuf {
    installation.state().root().join("results")
}

/// Writes the first film before and after redaction, side by side.
pub(super) async fn pictures(
    installation: &Installation,
    films: &Films,
    narrator: &Narrator,
) -> Result<()> {
    let settings = installation.settings();
    let library = crate::detector::library(settings.runtime_library.as_deref())?;
    let config = RedactConfig::at(
        std::env::current_exe()?,
        settings.detector_bundle.clone(),
        library,
    );
    let redactor = tokio::task::spawn_blocking(move || Redactor::start(config)).await??;
    let Some(file) = films.files.first() else {
        return Ok(());
    };
    let known = Deidentifier::new(Policy::basic())
        .identifiers(file)
        .unwrap_or_default();
    let preview = match redactor.preview(file.clone(), &known).await {
        Ok(preview) => preview,
        Err(error) => return narrator.detail(format!("no picture of this film: {}", error.code())),
    };
    let both = picture::side_by_side(preview.before(), preview.after())?;
    let path = results(installation).join("before-after.png");
    durable::create_dir_all(&results(installation), 0o700)?;
    durable::write_atomic(&path, &both, 0o600).with_context(|| path.display().to_string())?;
    narrator.out.emit(&json!({
        "step": "pictures",
        "file": path,
        "boxes": preview.findings().redacted(),
        "kept": preview.findings().kept(),
    }))?;
    narrator.detail(format!(
        "{} place(s) with text were blanked",
        preview.findings().redacted()
    ))?;
    narrator.detail(format!(
        "saved {} (left: as sent, right: as anybody else saw it)",
        path.display()
    ))
}

/// Looks for the patients' names and numbers where they must not be.
pub(super) fn canary(
    installation: &Installation,
    reports: &[OpenedReport],
    narrator: &Narrator,
) -> Result<()> {
    let state = installation.state();
    let mut known = KnownIdentifiers::default();
    for identity in reports
        .iter()
        .filter_map(|report| report.joined.identity.as_ref())
    {
        known.add(Kind::Name, &identity.patient_name);
        known.add(Kind::Id, &identity.patient_id);
        known.add(Kind::Id, &identity.accession_number);
    }
    let places = [
        state.room(Room::Server),
        state.room(Room::Sidecar),
        state.audit(Room::DicomScp),
        state.root().join("logs"),
    ];
    let scan = canary::scan(&places, &known)?;
    narrator.out.emit(&json!({
        "step": "canary",
        "files": scan.files,
        "bytes": scan.bytes,
        "hits": scan.hits,
    }))?;
    if !scan.hits.is_empty() {
        bail!(
            "an identifier was found in {} file(s) of server, sidecar, audit or logs",
            scan.hits.len()
        );
    }
    narrator.detail(format!(
        "{} files ({} bytes) of server, sidecar, audit logs and process logs: not found",
        scan.files, scan.bytes
    ))
}

/// Verifies both audit logs while the rooms run.
pub(super) fn verify_audit(installation: &Installation, narrator: &Narrator) -> Result<()> {
    let state = installation.state();
    let trust = TrustFile::load(&state.pki().trust())?;
    let logs = [Room::DicomScp, Room::Sidecar].map(|room| state.audit(room));
    super::super::audit::verify(&logs, &trust, narrator.out)
}

/// What to type next, with `--serve`.
pub(super) fn how_to_go_on(installation: &Installation, narrator: &Narrator) -> Result<()> {
    let state = installation.state().root().display().to_string();
    let peer = installation.peer(CALLING)?;
    let (ip, port) = (peer.address.ip(), peer.address.port());
    let exe = std::env::current_exe()?.display().to_string();
    let out = narrator.out;
    out.emit(&json!({
        "step": "serve",
        "state": installation.state().root(),
        "dimse": peer.address,
        "ae_title": peer.called,
        "sidecar": installation.address(Room::Sidecar, "mtls")?,
        "recipient": format!("group:{}", installation.settings().recipient_group),
    }))?;
    out.say("\nAll checks passed. Everything stays up until Ctrl-C. In another terminal:")?;
    for (what, command) in [
        ("ping", format!("echoscu -aec {} {ip} {port}", peer.called)),
        (
            "send",
            format!(
                "storescu -aec {} {ip} {port} FILE.dcm   (compressed films: -xy JPEG, -xs JPEG lossless, -xv or -xw JPEG 2000, -xt or -xu JPEG-LS, -xr RLE)",
                peer.called
            ),
        ),
        ("studies", format!("{exe} studies --state {state}")),
        (
            "quarantine",
            format!("{exe} quarantine list --state {state}"),
        ),
        ("list", format!("{exe} report list --state {state}")),
        (
            "open",
            format!("{exe} report open --state {state} --save out [REPORT-ID]"),
        ),
        (
            "ask",
            format!(
                "{exe} submit FILE.dcm --query \"Pneumonia?\" --to group:{} --state {state}",
                installation.settings().recipient_group
            ),
        ),
        ("audit", format!("{exe} audit verify --state {state}")),
    ] {
        out.say(format!("  {what:<11}{command}"))?;
    }
    for room in Room::ALL {
        let admin = installation.address(room, "admin")?;
        out.say(format!(
            "  {:<11}curl http://{admin}/metrics   ({room})",
            "metrics"
        ))?;
    }
    Ok(())
}
