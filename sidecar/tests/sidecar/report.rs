//! From the server's report to the sealed one, and never anything else.

use std::sync::Arc;

use cloister_audit::{Event, InclusionProof, verify_inclusion};
use cloister_proto::v1;
use cloister_proto::v1::inbox_service_client::InboxServiceClient;
use cloister_seal::{VerifyingKey, open};
use cloister_tls::Role;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio_stream::StreamExt as _;
use tonic::Code;
use uuid::Uuid;

use crate::fake::{CANARY, Mood};
use crate::harness::{Harness, ORIGIN, eventually, order, sealed};

fn generate(report: Uuid) -> tonic::Request<v1::GenerateRequest> {
    order(v1::GenerateRequest::default(), report, &["group:radiology"])
}

fn proof(proof: v1::InclusionProof) -> InclusionProof {
    InclusionProof {
        leaf_index: proof.leaf_index,
        leaf: proof.leaf,
        path: proof
            .path
            .into_iter()
            .map(|hash| hash.try_into().unwrap())
            .collect(),
        checkpoint: proof.checkpoint,
    }
}

#[tokio::test]
async fn a_report_leaves_sealed_recorded_and_provable() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let id = Uuid::new_v4();
    let answer = harness
        .reports(&running, Role::Ehr)
        .await
        .generate(generate(id))
        .await
        .unwrap()
        .into_inner();
    assert!(
        !answer
            .encode_to_vec()
            .windows(9)
            .any(|window| window == b"QZXCANARY")
    );
    let (envelope, receipt) = sealed(answer);

    let node: &[VerifyingKey] = &[harness.node.verifying_key()];
    let opened = open(&envelope, &harness.alice, node).unwrap();
    let report = v1::Report::decode(&**opened.plaintext).unwrap();
    assert_eq!(report.findings, CANARY);
    let header = &opened.header;
    assert_eq!(header.report_id, id.as_bytes());
    assert_eq!(header.outcome(), v1::Outcome::Escalated);
    assert_eq!(header.acr_category(), v1::AcrCategory::AcrCategory1);
    assert_eq!(
        header.deadline_unix_ms - header.issued_at_unix_ms,
        3_600_000
    );
    assert_eq!(header.model_hash, [7; 32]);
    assert_eq!(
        header.binding_hash,
        cloister_seal::capsule::hash(b"capsule")
    );
    assert!(open(&envelope, &harness.bob, node).is_err(), "not for bob");
    assert!(
        open(&envelope, &harness.alice, &[harness.audit.verifying_key()]).is_err(),
        "not by this node"
    );
    let hash: [u8; 32] = Sha256::digest(envelope.encode_to_vec()).into();
    assert_eq!(receipt.sealed_sha256, hash);

    let mut alice =
        InboxServiceClient::new(harness.channel(&running, Role::Clinician, "alice").await);
    let fetch = v1::FetchReportRequest {
        report_id: id.as_bytes().to_vec(),
    };
    let fetched = alice.fetch_report(fetch).await.unwrap().into_inner();
    assert_eq!(fetched.sealed.unwrap(), envelope);
    assert!(fetched.current);
    let proof = proof(fetched.proof.unwrap());
    assert_eq!(proof.leaf_index, receipt.leaf_index);
    let event: Event = verify_inclusion(&proof, ORIGIN, &harness.audit.verifying_key()).unwrap();
    assert_eq!(event.report_id(), Some(id));
    assert!(
        String::from_utf8(proof.leaf)
            .unwrap()
            .contains(&hex::encode(hash)),
        "the record names the bytes"
    );

    let seen = harness.fake.seen.lock().unwrap().clone();
    assert!(
        seen.iter().any(|key| key == "cloister-report-id"),
        "{seen:?}"
    );
    assert!(
        !seen.iter().any(|key| key == "cloister-recipient"),
        "the server never sees a recipient"
    );
    running.stop().await;
    assert_no_canary(harness.dir.path());
}

/// No plaintext of the report on the disk.
fn assert_no_canary(dir: &std::path::Path) {
    let mut folders = vec![dir.to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                files += 1;
                let bytes = std::fs::read(entry.path()).unwrap();
                assert!(
                    !bytes.windows(9).any(|window| window == b"QZXCANARY"),
                    "{}",
                    entry.path().display()
                );
            }
        }
    }
    assert!(files > 5, "the scan saw the state");
}

#[tokio::test]
async fn what_is_not_assessed_or_not_the_report_asked_for_is_withheld() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let mut ehr = harness.reports(&running, Role::Ehr).await;
    for (mood, code) in [
        (Mood::NoAssessment, Code::Internal),
        (Mood::OtherReport, Code::Internal),
        (Mood::Envelope, Code::Unavailable),
        (Mood::Fails, Code::Internal),
    ] {
        harness.fake.set(mood);
        let id = Uuid::new_v4();
        let withheld = ehr.generate(generate(id)).await.unwrap_err();
        assert_eq!(withheld.code(), code, "{mood:?}");
        assert!(!format!("{withheld:?}").contains("QZXCANARY"));
        let mut events = ehr
            .generate_stream(generate(id))
            .await
            .unwrap()
            .into_inner();
        let mut last = None;
        while let Some(event) = events.next().await {
            assert!(
                !matches!(&event, Ok(event) if !matches!(event.event, Some(v1::generate_event::Event::Progress(_)))),
                "{mood:?}: nothing but progress"
            );
            last = Some(event);
        }
        assert_eq!(last.unwrap().unwrap_err().code(), code, "{mood:?}");
        // The id is not burnt: once the server answers properly, the same id yields its report.
        harness.fake.set(Mood::Good);
        ehr.generate(generate(id)).await.unwrap();
    }
    running.stop().await;
    let withheld = harness.events();
    let withheld = withheld.iter().filter(|event| {
        event
            .to_lowercase()
            .replace('_', "")
            .contains("reportwithheld")
    });
    assert_eq!(withheld.count(), 8, "each left one record");
}

#[tokio::test]
async fn a_stream_shows_progress_and_ends_with_the_sealed_report() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let id = Uuid::new_v4();
    let mut ehr = harness.reports(&running, Role::Ehr).await;
    let events: Vec<_> = ehr
        .generate_stream(generate(id))
        .await
        .unwrap()
        .into_inner()
        .collect()
        .await;
    assert!(matches!(
        &events[0].as_ref().unwrap().event,
        Some(v1::generate_event::Event::Progress(_))
    ));
    let Some(v1::generate_event::Event::Sealed(envelope)) =
        events[1].as_ref().unwrap().event.clone()
    else {
        panic!("sealed")
    };
    assert!(open(&envelope, &harness.alice, &[harness.node.verifying_key()]).is_ok());
    let (again, _) = sealed(ehr.generate(generate(id)).await.unwrap().into_inner());
    assert_eq!(again, envelope);
    running.stop().await;
}

#[tokio::test]
async fn the_same_id_gets_the_same_bytes_and_the_server_is_asked_once() {
    let harness = Harness::new().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    *harness.fake.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let running = harness.start().await;
    let id = Uuid::new_v4();
    let client = harness.reports(&running, Role::Ehr).await;
    let ask =
        |mut client: v1::report_service_client::ReportServiceClient<tonic::transport::Channel>| {
            tokio::spawn(async move {
                sealed(client.generate(generate(id)).await.unwrap().into_inner())
            })
        };
    // Two at the same time, one after that, one after a restart.
    let (first, second) = (ask(client.clone()), ask(client.clone()));
    eventually("the call", || (harness.fake.calls() == 1).then_some(())).await;
    gate.notify_one();
    let first = first.await.unwrap();
    assert_eq!(second.await.unwrap(), first);
    assert_eq!(ask(client).await.unwrap(), first);
    running.stop().await;
    let running = harness.start().await;
    assert_eq!(
        ask(harness.reports(&running, Role::Ehr).await)
            .await
            .unwrap(),
        first
    );
    assert_eq!(harness.fake.calls(), 1);

    // The id belongs to who used it first, and to its recipients.
    let alice = order(
        v1::GenerateRequest::default(),
        id,
        &["spiffe://test.example/clinician/alice"],
    );
    let other = harness
        .reports(&running, Role::Ehr)
        .await
        .generate(alice)
        .await
        .unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    let mut gateway = harness.reports(&running, Role::Gateway).await;
    let parts = tokio_stream::iter(Vec::<v1::SubmitStudyRequest>::new());
    let other = gateway
        .submit_study(order(parts, id, &["group:radiology"]))
        .await
        .unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    running.stop().await;
}

#[tokio::test]
async fn a_study_whose_identity_is_sealed_to_other_keys_is_withheld_until_they_agree() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let id = Uuid::new_v4();
    let mut gateway = harness.reports(&running, Role::Gateway).await;
    for (keys, released) in [
        (vec![&harness.bob], false),
        (vec![&harness.alice, &harness.bob], false),
        (vec![], false),
        (vec![&harness.alice], true),
    ] {
        harness.name_in_manifest(&keys);
        let parts = tokio_stream::iter(vec![v1::SubmitStudyRequest::default()]);
        let answer = gateway
            .submit_study(order(parts, id, &["group:radiology"]))
            .await;
        assert_eq!(answer.is_ok(), released, "{} keys", keys.len());
    }
    running.stop().await;
}

#[tokio::test]
async fn a_study_is_streamed_through_unread() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let chunk = v1::ObjectChunk {
        data: vec![9; 1 << 20].into(),
        ..v1::ObjectChunk::default()
    };
    let part = v1::SubmitStudyRequest {
        part: Some(v1::submit_study_request::Part::Chunk(chunk)),
    };
    let parts = tokio_stream::iter(vec![part; 24]);
    let mut gateway = harness.reports(&running, Role::Gateway).await;
    let request = order(
        parts,
        Uuid::new_v4(),
        &["group:surgery", "spiffe://test.example/clinician/alice"],
    );
    harness.name_in_manifest(&[&harness.bob, &harness.alice]);
    let (envelope, _) = sealed(gateway.submit_study(request).await.unwrap().into_inner());
    assert_eq!(
        harness.fake.bytes.load(std::sync::atomic::Ordering::SeqCst),
        24 << 20
    );
    for key in [&harness.alice, &harness.bob] {
        let opened = open(&envelope, key, &[harness.node.verifying_key()]).unwrap();
        let report = v1::Report::decode(&**opened.plaintext).unwrap();
        assert_eq!(
            opened.header.binding_hash,
            cloister_seal::manifest::hash(&report.manifest.unwrap())
        );
    }
    running.stop().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_id_usable() {
    let harness = Harness::new().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    *harness.fake.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let running = harness.start().await;
    let id = Uuid::new_v4();
    let mut ehr = harness.reports(&running, Role::Ehr).await;
    let asking = tokio::spawn(async move { ehr.generate(generate(id)).await });
    eventually("the call", || (harness.fake.calls() == 1).then_some(())).await;
    asking.abort();
    asking.await.unwrap_err();
    // Gone before the answer: the server is asked anew, and the id works.
    *harness.fake.gate.lock().unwrap() = None;
    gate.notify_one();
    sealed(
        harness
            .reports(&running, Role::Ehr)
            .await
            .generate(generate(id))
            .await
            .unwrap()
            .into_inner(),
    );
    running.stop().await;
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_as_one() {
    let harness = Harness::new().await;
    *harness.fake.gate.lock().unwrap() = Some(Arc::new(tokio::sync::Notify::new()));
    let running = harness
        .start_with("[limits]\nrequest_timeout_ms = 200")
        .await;
    let late = harness
        .reports(&running, Role::Ehr)
        .await
        .generate(generate(Uuid::new_v4()))
        .await
        .unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    running.stop().await;
}
