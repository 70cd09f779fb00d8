//! A patient's name goes through the whole path twice, by C-STORE and by `Generate`, and is then
//! looked for everywhere it must not be. The scan first proves that it finds a planted one.

use anyhow::Result;
use cloister::canary::{identifiers_of, scan};
use cloister::state::Room;
use cloister::study::{Patient, StudySpec, draw};
use cloister_tests::{Harness, cloister, get};

/// How identifiers may hide: encoding and file name.
fn plants(patient: &Patient) -> Vec<(&'static str, Vec<u8>)> {
    let wide = |text: &str, little: bool| -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| {
                if little {
                    unit.to_le_bytes()
                } else {
                    unit.to_be_bytes()
                }
            })
            .collect()
    };
    let spoken = patient.spoken_name();
    vec![
        ("ascii", patient.name.clone().into_bytes()),
        ("lower case", spoken.to_lowercase().into_bytes()),
        ("spoken", spoken.clone().into_bytes()),
        ("utf-16le", wide(&spoken, true)),
        ("utf-16be", wide(&spoken, false)),
        ("id", patient.id.clone().into_bytes()),
        ("accession", patient.accession.clone().into_bytes()),
    ]
}

#[test]
fn the_scan_finds_a_planted_name_in_every_encoding() -> Result<()> {
    let patient = Patient::made_up();
    let known = identifiers_of(&patient);
    for (encoding, planted) in plants(&patient) {
        let dir = tempfile::tempdir()?;
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep)?;
        let mut bytes = vec![0xA5; 1000];
        bytes.extend_from_slice(&planted);
        bytes.extend_from_slice(&[0; 1000]);
        cloister_tests::write(&deep.join("segment"), &bytes)?;
        let found = scan(&[dir.path().to_owned()], &known)?;
        assert_eq!(found.hits.len(), 1, "{encoding}");
    }
    let clean = tempfile::tempdir()?;
    cloister_tests::write(&clean.path().join("segment"), &[0xA5; 4096])?;
    assert!(scan(&[clean.path().to_owned()], &known)?.hits.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_metric_audit_record_or_disk_holds_the_patient() -> Result<()> {
    let harness = Harness::start().await?;
    let patient = Patient::made_up();
    let known = identifiers_of(&patient);
    let mut spec = StudySpec::chest(21, patient.clone(), 2, 512);
    spec.burned_in = 1;
    let study = draw(&spec)?;
    harness.send_files(&study.files).await?;
    // A quarantined film and a refused one leave traces too.
    let mut knee = StudySpec::chest(22, patient.clone(), 1, 256);
    knee.body_part = "KNEE".into();
    harness.send_files(&draw(&knee)?.files).await?;
    harness.settled(2).await?;

    // The same film by Generate, with the name in the query.
    let film = harness.scratch()?.join("film.dcm");
    cloister_tests::write(&film, &study.files[0])?;
    let state = harness.state().root().display().to_string();
    let query = format!(
        "Pneumonia? Patient {} ({}).",
        patient.spoken_name(),
        patient.id
    );
    let film = film.display().to_string();
    let asked = cloister(&[
        "submit",
        &film,
        "--query",
        &query,
        "--to",
        "group:radiology",
        "--json",
        "--state",
        &state,
    ])
    .await?;
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{said}");
    assert!(
        !known.find_in_bytes(&asked.stdout) && !known.is_hit(&said),
        "submit echoes nothing"
    );
    let answer: serde_json::Value = serde_json::from_slice(&asked.stdout)?;
    let id = answer["report_id"].as_str().unwrap_or_default().parse()?;
    let opened = harness.inbox()?.open(id).await?;
    let input = opened.joined.report.model_input.clone().unwrap_or_default();
    assert!(
        input.query.contains("Pneumonia"),
        "the question itself is kept"
    );
    assert!(
        !known.is_hit(&input.query),
        "no identifier reaches the model"
    );

    for room in Room::ALL {
        let metrics = get(harness.admin(room)?, "/metrics").await?;
        assert!(!known.is_hit(&metrics), "{room} metrics");
    }
    let places = [
        harness.state().room(Room::Server),
        harness.state().room(Room::Sidecar),
        harness.state().audit(Room::DicomScp),
        harness.state().root().join("logs"),
    ];
    let found = scan(&places, &known)?;
    assert!(
        found.files > 5 && found.bytes > 1000,
        "something was looked at: {found:?}"
    );
    assert!(found.hits.is_empty(), "{found:?}");
    // The gateway's own disk is encrypted: not even there.
    let gateway = scan(&[harness.state().room(Room::DicomScp)], &known)?;
    assert!(gateway.hits.is_empty(), "{gateway:?}");
    harness.stop().await
}
