//! What a clinician sees, and what nobody else does.

use cloister_proto::v1;
use cloister_proto::v1::directory_service_client::DirectoryServiceClient;
use cloister_proto::v1::inbox_service_client::InboxServiceClient;
use cloister_tls::Role;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::harness::{Harness, Running, order, sealed, within};

async fn inbox(harness: &Harness, running: &Running, name: &str) -> InboxServiceClient<Channel> {
    InboxServiceClient::new(harness.channel(running, Role::Clinician, name).await)
}

async fn submit(harness: &Harness, running: &Running, recipient: &str) -> Uuid {
    let id = Uuid::new_v4();
    let key = if recipient == "group:surgery" || recipient.ends_with("/bob") {
        &harness.bob
    } else {
        &harness.alice
    };
    harness.name_in_manifest(&[key]);
    let parts = tokio_stream::iter(vec![v1::SubmitStudyRequest::default()]);
    let mut gateway = harness.reports(running, Role::Gateway).await;
    sealed(
        gateway
            .submit_study(order(parts, id, &[recipient]))
            .await
            .unwrap()
            .into_inner(),
    );
    id
}

async fn listed(
    inbox: &mut InboxServiceClient<Channel>,
    current_only: bool,
) -> Vec<(Vec<u8>, bool, bool)> {
    let request = v1::ListReportsRequest {
        current_only,
        limit: 1,
        ..v1::ListReportsRequest::default()
    };
    let mut entries = Vec::new();
    let mut after = 0;
    loop {
        let page = v1::ListReportsRequest { after, ..request };
        let page = inbox.list_reports(page).await.unwrap().into_inner().entries;
        let Some(last) = page.last() else {
            return entries;
        };
        after = last.position;
        entries.extend(
            page.into_iter()
                .map(|entry| (entry.report_id, entry.current, entry.acknowledged)),
        );
    }
}

#[tokio::test]
async fn only_a_recipient_lists_fetches_and_acknowledges() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let id = submit(&harness, &running, "group:radiology").await;
    let report_id = id.as_bytes().to_vec();
    let (mut alice, mut bob) = (
        inbox(&harness, &running, "alice").await,
        inbox(&harness, &running, "bob").await,
    );
    assert_eq!(
        listed(&mut alice, false).await,
        [(report_id.clone(), true, false)]
    );
    assert_eq!(listed(&mut bob, false).await, []);
    let fetch = v1::FetchReportRequest {
        report_id: report_id.clone(),
    };
    let theirs = bob.fetch_report(fetch.clone()).await.unwrap_err();
    let nobodys = v1::FetchReportRequest {
        report_id: Uuid::new_v4().as_bytes().to_vec(),
    };
    let nobodys = bob.fetch_report(nobodys).await.unwrap_err();
    assert_eq!(
        (theirs.code(), theirs.message()),
        (nobodys.code(), nobodys.message()),
        "no difference to see"
    );
    assert_eq!(theirs.code(), Code::NotFound);
    let seen = v1::AcknowledgeReportRequest {
        report_id: report_id.clone(),
    };
    assert_eq!(
        bob.acknowledge_report(seen.clone())
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );

    alice.fetch_report(fetch).await.unwrap();
    let first = alice
        .acknowledge_report(seen.clone())
        .await
        .unwrap()
        .into_inner()
        .receipt
        .unwrap();
    let again = alice
        .acknowledge_report(seen)
        .await
        .unwrap()
        .into_inner()
        .receipt
        .unwrap();
    assert_eq!(first, again, "acknowledged once");
    assert_eq!(listed(&mut alice, false).await, [(report_id, true, true)]);
    running.stop().await;
    let events: Vec<_> = harness
        .events()
        .iter()
        .map(|event| event.to_lowercase().replace('_', ""))
        .collect();
    let count = |word: &str| events.iter().filter(|event| event.contains(word)).count();
    assert_eq!(
        count("reportfetched"),
        3,
        "each access is on the trail, refused ones as well"
    );
    assert_eq!(count("reportacknowledged"), 2);
    assert_eq!(count("reportreleased"), 1);
}

#[tokio::test]
async fn a_released_successor_makes_its_predecessor_not_current() {
    let harness = Harness::new().await;
    let spawned = harness.spawn().await;
    let old = submit(&harness, &spawned.running, "group:radiology").await;
    *harness.fake.replaces.lock().unwrap() = old.as_bytes().to_vec();
    let new = submit(&harness, &spawned.running, "group:radiology").await;
    let (old, new) = (old.as_bytes().to_vec(), new.as_bytes().to_vec());
    // Killed and started again: the mailbox is the same.
    spawned.kill();
    let running = harness.start().await;
    let mut alice = inbox(&harness, &running, "alice").await;
    assert_eq!(
        listed(&mut alice, false).await,
        [(old, false, false), (new.clone(), true, false)]
    );
    assert_eq!(listed(&mut alice, true).await, [(new, true, false)]);
    running.stop().await;
}

#[tokio::test]
async fn a_watcher_sees_what_was_and_what_comes_and_the_drain_ends_it() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let first = submit(&harness, &running, "group:radiology").await;
    let mut alice = inbox(&harness, &running, "alice").await;
    let mut watched = alice
        .watch_reports(v1::WatchReportsRequest { after: 0 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        within(watched.next()).await.unwrap().unwrap().report_id,
        first.as_bytes()
    );
    submit(&harness, &running, "group:surgery").await;
    let second = submit(&harness, &running, "group:radiology").await;
    assert_eq!(
        within(watched.next()).await.unwrap().unwrap().report_id,
        second.as_bytes(),
        "bob's is not shown"
    );
    running.stop().await;
    assert!(within(watched.next()).await.is_none_or(|end| end.is_err()));
}

#[tokio::test]
async fn an_auditor_reads_the_directory_as_it_was_signed() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let mut auditor =
        DirectoryServiceClient::new(harness.channel(&running, Role::Auditor, "x").await);
    let entries = auditor
        .list_entries(v1::ListEntriesRequest {})
        .await
        .unwrap()
        .into_inner()
        .entries;
    assert_eq!(entries.len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_directory_with_an_altered_entry_stops_the_start() {
    let harness = Harness::new().await;
    let path = harness.path("directory.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    // The last characters of a line's base64 are its signature.
    let altered = text.replacen("\"signature\":\"", "\"signature\":\"AAAA", 1);
    assert_ne!(altered, text);
    std::fs::write(&path, altered).unwrap();
    let ended = within(cloister_sidecar::run(
        harness.config(""),
        cloister_runtime::Shutdown::new(),
    ))
    .await;
    assert!(ended.is_err());
}

#[tokio::test]
async fn what_was_answered_survives_a_kill_at_any_moment() {
    let harness = Harness::new().await;
    let mut answered = Vec::new();
    for round in 0..3 {
        let spawned = harness.spawn().await;
        for _ in 0..=round {
            answered.push(submit(&harness, &spawned.running, "group:radiology").await);
        }
        // One more that is on its way when the process dies: it may be there, whole, or not.
        let gateway = harness.reports(&spawned.running, Role::Gateway).await;
        let parts = tokio_stream::iter(vec![v1::SubmitStudyRequest::default()]);
        let mut sending = gateway.clone();
        let request = order(parts, Uuid::new_v4(), &["group:radiology"]);
        let sent = tokio::spawn(async move { sending.submit_study(request).await });
        spawned.kill();
        sent.await.unwrap().ok();
    }
    let running = harness.start().await;
    let mut alice = inbox(&harness, &running, "alice").await;
    let listed: Vec<_> = listed(&mut alice, false)
        .await
        .into_iter()
        .map(|(id, ..)| id)
        .collect();
    for id in &answered {
        assert_eq!(
            listed
                .iter()
                .filter(|listed| *listed == id.as_bytes())
                .count(),
            1,
            "{id}"
        );
    }
    for id in listed {
        let fetched = alice
            .fetch_report(v1::FetchReportRequest { report_id: id })
            .await
            .unwrap()
            .into_inner();
        assert!(fetched.proof.is_some());
    }
    running.stop().await;
    cloister_audit::verify_directory(
        &harness.path("state/audit"),
        crate::harness::ORIGIN,
        &harness.audit.verifying_key(),
    )
    .unwrap();
}
