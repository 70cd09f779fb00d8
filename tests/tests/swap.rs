//! A server that gives one patient's capsule or film to another's report is found out by
//! `report open`.

use anyhow::{Context as _, Result};
use cloister::opening::{OpeningError, open_report};
use cloister::state::Room;
use cloister::study::{Patient, StudySpec, draw};
use cloister_seal::join::JoinError;
use cloister_tests::{FakeServer, Harness, Inbox, Swap};

/// Two studies of two patients through a lying server; how the second report opens.
async fn second_report(swap: Swap) -> Result<Result<String, OpeningError>> {
    let mut harness = Harness::prepare(|_| ())?;
    let _server = FakeServer::start(&harness.state().server_socket(), swap)?;
    for room in [Room::Sidecar, Room::DicomScp] {
        harness.installation.start_room(room).await?;
    }
    let mut second = None;
    for (number, name) in ["ALPHA^ANNA", "BRAVO^BERTA"].into_iter().enumerate() {
        let patient = Patient {
            name: name.into(),
            id: format!("PAT-{number}-77120"),
            ..Patient::made_up()
        };
        let study = draw(&StudySpec::chest(31 + number as u64, patient, 1, 256))?;
        harness.send_files(&study.files).await?;
        let rows = harness.settled(number + 1).await?;
        second = rows.into_iter().max_by_key(|row| row.received_at_unix_ms);
    }
    let report = second
        .and_then(|row| row.report)
        .context("no second report")?;
    let inbox: Inbox = harness.inbox()?;
    let fetched = inbox.fetch(report).await?;
    let opened = open_report(&fetched, inbox.key(), inbox.trust());
    let patient = opened.map(|opened| {
        opened
            .joined
            .identity
            .map(|identity| identity.patient_name)
            .unwrap_or_default()
    });
    harness.stop().await?;
    Ok(patient)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_fake_server_opens() -> Result<()> {
    assert_eq!(second_report(Swap::Nothing).await??, "BRAVO^BERTA");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_capsule_is_refused() -> Result<()> {
    let opened = second_report(Swap::Capsule).await?;
    assert!(
        matches!(opened, Err(OpeningError::Join(JoinError::Capsule))),
        "{opened:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_film_is_refused() -> Result<()> {
    let opened = second_report(Swap::Rendition).await?;
    assert!(
        matches!(opened, Err(OpeningError::Join(JoinError::Rendition))),
        "{opened:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_film_is_refused() -> Result<()> {
    let opened = second_report(Swap::DropRendition).await?;
    assert!(
        matches!(opened, Err(OpeningError::Join(JoinError::Rendition))),
        "{opened:?}"
    );
    Ok(())
}

/// For `Generate` nobody vouches for films, but a capsule is bound by its report id.
#[tokio::test(flavor = "multi_thread")]
async fn anothers_capsule_is_refused_for_generate() -> Result<()> {
    let mut harness = Harness::prepare(|_| ())?;
    let _server = FakeServer::start(&harness.state().server_socket(), Swap::Capsule)?;
    harness.installation.start_room(Room::Sidecar).await?;
    let inbox = harness.inbox()?;
    let first = cloister_tests::generate_with_capsule(harness.state(), "ALPHA^ANNA").await?;
    let second = cloister_tests::generate_with_capsule(harness.state(), "BRAVO^BERTA").await?;
    let opened = inbox.open(first).await?;
    let name = opened.joined.identity.map(|identity| identity.patient_name);
    assert_eq!(name.as_deref(), Some("ALPHA^ANNA"));
    let refused = open_report(&inbox.fetch(second).await?, inbox.key(), inbox.trust());
    assert!(
        matches!(refused, Err(OpeningError::Join(_))),
        "{:?}",
        refused.map(|_| ())
    );
    harness.stop().await
}
