//! The whole path as a clinician sees it: films in by C-STORE, one report out, for one key only.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use cloister::opening::{OpeningError, open_report};
use cloister::state::Room;
use cloister::study::{Patient, StudySpec, draw};
use cloister_proto::v1::Suite;
use cloister_seal::RecipientPrivateKey;
use cloister_seal::join::Binding;
use cloister_tests::{Harness, cloister, original_instances, until, workspace_root, write};
use uuid::Uuid;

/// With the reference model: the one test that runs the graphs inside the server process.
#[tokio::test(flavor = "multi_thread")]
async fn two_films_become_one_report_that_names_both_and_the_patient() -> Result<()> {
    let reference = workspace_root().join("models/cxr-report-ref");
    let harness = Harness::start_with(|settings| settings.report_bundle = reference).await?;
    let mut spec = StudySpec::chest(11, Patient::made_up(), 2, 1024);
    spec.burned_in = 1;
    let study = draw(&spec)?;
    for status in harness.send_files(&study.files).await? {
        assert!(status.is_stored(), "{status}");
    }
    let rows = harness.settled(1).await?;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].state.as_str(), rows[0].cleared, rows[0].quarantined),
        ("forwarded", 2, 0)
    );

    let inbox = harness.inbox()?;
    let reports = inbox.open_current().await?;
    assert_eq!(reports.len(), 1, "one report per study");
    let opened = &reports[0];
    assert_eq!(Some(opened.report_id()), rows[0].report);
    assert_eq!(opened.joined.binding, Binding::GatewayManifest);
    assert!(
        opened
            .checks()
            .iter()
            .any(|check| check.contains("not witnessed"))
    );
    let identity = opened.joined.identity.as_ref().expect("a capsule");
    assert_eq!(identity.patient_name, spec.patient.name);
    assert_eq!(identity.patient_id, spec.patient.id);
    assert_eq!(identity.original_study_instance_uid, study.study_uid);
    let sent: BTreeSet<_> = study.instance_uids.iter().cloned().collect();
    assert_eq!(original_instances(opened), sent, "every object is named");
    // No text is left in what the report shows.
    for (number, film) in opened.joined.report.renditions.iter().enumerate() {
        let file = harness.scratch()?.join(format!("film-{number}.png"));
        write(&file, &film.png)?;
        let input = harness.scratch()?.join("detect.jsonl");
        write(
            &input,
            serde_json::json!({ "id": number, "image": file })
                .to_string()
                .as_bytes(),
        )?;
        let found = cloister(&["detect-text", &input.display().to_string()]).await?;
        let found: serde_json::Value = serde_json::from_slice(&found.stdout)?;
        let boxes = found["boxes"].as_array().context("boxes")?;
        assert!(boxes.iter().all(|one| one["action"] == "keep"), "{found}");
    }

    // Any other key is refused, even by the program that holds the sealed bytes.
    let stranger = RecipientPrivateKey::generate(Suite::HpkeXwing)?;
    let fetched = inbox.fetch(opened.report_id()).await?;
    let refused = open_report(&fetched, &stranger, inbox.trust());
    assert!(matches!(refused, Err(OpeningError::Open(_))));
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_opens_with_the_right_key_and_refuses_another() -> Result<()> {
    let harness = Harness::start().await?;
    let study = draw(&StudySpec::chest(12, Patient::made_up(), 1, 256))?;
    harness.send_files(&study.files).await?;
    harness.settled(1).await?;
    let state = harness.state().root().display().to_string();
    let save = harness.scratch()?.join("out").display().to_string();

    let listed = cloister(&["report", "list", "--json", "--state", &state]).await?;
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let entry: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let id = entry["report_id"].as_str().unwrap_or_default().to_owned();

    let opened = cloister(&[
        "report", "open", &id, "--json", "--state", &state, "--save", &save,
    ])
    .await?;
    assert!(
        opened.status.success(),
        "{}",
        String::from_utf8_lossy(&opened.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&opened.stdout)?;
    assert_eq!(report["patient"]["name"], Patient::made_up().name.as_str());
    assert_eq!(report["binding"], "gateway_manifest");
    assert!(
        std::path::Path::new(&save)
            .join(format!("{id}-film-1.png"))
            .is_file()
    );

    let other = harness.scratch()?.join("other.key").display().to_string();
    assert!(
        cloister(&["keys", "generate", "--out", &other])
            .await?
            .status
            .success()
    );
    let refused = cloister(&["report", "open", &id, "--state", &state, "--key", &other]).await?;
    assert!(!refused.status.success());
    assert!(refused.stdout.is_empty(), "nothing is shown");
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr).lines().count(),
        1,
        "one clear line"
    );

    let verified = cloister(&["audit", "verify", "--state", &state]).await?;
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_film_makes_a_new_version_that_replaces_the_first() -> Result<()> {
    let harness = Harness::start().await?;
    let study = draw(&StudySpec::chest(13, Patient::made_up(), 2, 256))?;
    harness.send_files(&study.files[..1]).await?;
    let first = harness.settled(1).await?[0].report;
    harness.send_files(&study.files[1..]).await?;
    let second = until("the second version", 60, || async {
        let rows = harness.studies().await?;
        let row = rows
            .first()
            .filter(|row| row.version == 2 && row.state == "forwarded");
        Ok(row.map(|row| row.report))
    })
    .await?;
    let inbox = harness.inbox()?;
    let current = inbox.open_current().await?;
    assert_eq!(current.len(), 1);
    assert_eq!(Some(current[0].report_id()), second);
    assert_eq!(Uuid::from_slice(&current[0].header.replaces).ok(), first);
    assert_eq!(original_instances(&current[0]).len(), 2);
    assert_eq!(
        inbox.list(false).await?.len(),
        2,
        "the replaced report stays readable"
    );
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_everything_loses_nothing() -> Result<()> {
    let mut harness = Harness::start().await?;
    let study = draw(&StudySpec::chest(14, Patient::made_up(), 1, 256))?;
    harness.send_files(&study.files).await?;
    let report = harness.settled(1).await?[0].report;
    for room in [Room::DicomScp, Room::Sidecar, Room::Server] {
        harness.installation.stop_room(room).await?;
    }
    harness.installation.start().await?;
    // The same film again: acknowledged, and no second report.
    let statuses = harness.send_files(&study.files).await?;
    assert!(statuses[0].is_stored());
    let rows = harness.settled(1).await?;
    assert_eq!(
        (rows.len(), rows[0].report, rows[0].version),
        (1, report, 1)
    );
    assert_eq!(harness.inbox()?.open_current().await?.len(), 1);
    harness.stop().await
}
