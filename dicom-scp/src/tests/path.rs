//! From C-STORE to the sidecar.

use std::sync::atomic::Ordering;

use cloister_proto::v1;
use sha2::{Digest as _, Sha256};

use super::scu::{CANARY_ID, CANARY_NAME, Film, Scu};
use super::site::{Seen, Site, poll};

fn manifest(site: &Site, seen: &Seen) -> v1::StudyManifest {
    let signed = seen.head.manifest.clone().unwrap();
    let keys = [site.gateway_key.clone()];
    (*cloister_seal::manifest::verify(&signed, &keys).unwrap()).clone()
}

fn identity(site: &Site, seen: &Seen) -> v1::IdentityCapsule {
    let keys = [site.gateway_key.clone()];
    cloister_seal::capsule::open_capsule(&seen.head.capsule, &site.recipient, &keys)
        .unwrap()
        .1
}

#[tokio::test]
async fn a_study_arrives_signed_sealed_and_without_its_identity() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    // The second one takes more than one chunk on the wire.
    for film in [
        Film::new(1, 1),
        Film {
            side: 1500,
            ..Film::new(1, 2)
        },
    ] {
        assert_eq!(scu.store(&film).await, Some(0));
    }
    scu.release().await;
    let rows = room.settled(1).await;
    assert_eq!(
        (rows[0].cleared, rows[0].version, rows[0].quarantined),
        (2, 1, 0)
    );
    let seen = site.listener.seen();
    assert_eq!(seen.len(), 1);
    let (seen, manifest) = (&seen[0], manifest(&site, &seen[0]));
    assert_eq!(seen.recipient, "group:radiology");
    assert_eq!(
        manifest.report_id,
        uuid::Uuid::parse_str(&seen.report).unwrap().as_bytes()
    );
    assert_eq!(
        manifest.capsule_sha256,
        cloister_seal::capsule::hash(&seen.head.capsule)
    );
    assert_eq!(
        (
            manifest.objects.len(),
            manifest.withheld_objects,
            manifest.study_version
        ),
        (2, 0, 1)
    );
    for (listed, (object, rendition)) in manifest.objects.iter().zip(&seen.objects) {
        assert_eq!(listed.cleared_sha256, Sha256::digest(object).to_vec());
        assert_eq!(listed.rendition_sha256, Sha256::digest(rendition).to_vec());
        assert!(listed.sop_instance_uid.starts_with("2.25."));
        for canary in [CANARY_NAME, CANARY_ID, "Zyxwvut", "ACC-55190"] {
            assert!(
                !object
                    .windows(canary.len())
                    .any(|window| window == canary.as_bytes()),
                "{canary}"
            );
        }
    }
    let identity = identity(&site, seen);
    assert_eq!(
        (identity.patient_name.as_str(), identity.patient_id.as_str()),
        (CANARY_NAME, CANARY_ID)
    );
    assert_eq!(identity.objects.len(), 2);
    assert_eq!(identity.original_study_instance_uid, Film::new(1, 1).study);
    let patient = seen.head.patient.unwrap();
    assert_eq!(
        (patient.age_band(), patient.sex()),
        (v1::AgeBand::AgeBand4064, v1::Sex::Female)
    );
    room.stop().await;
    let verified = cloister_audit::verify_directory(
        &site.state().join("audit"),
        "test/dicom-scp/0",
        &site.audit_key,
    );
    assert!(verified.unwrap().records >= 7);
}

#[tokio::test]
async fn an_unavailable_sidecar_is_tried_again_with_the_same_report_id() {
    let site = Site::new().await;
    site.listener.unavailable.store(3, Ordering::SeqCst);
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    let rows = room.settled(1).await;
    assert_eq!(site.listener.attempts.load(Ordering::SeqCst), 4);
    let seen = site.listener.seen();
    assert_eq!(
        (seen.len(), rows[0].report.unwrap().to_string()),
        (1, seen[0].report.clone())
    );
    room.stop().await;
}

#[tokio::test]
async fn a_late_film_makes_a_version_with_all_films_that_replaces_the_first() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    room.settled(1).await;
    assert_eq!(scu.store(&Film::new(1, 2)).await, Some(0));
    poll("the second version", || {
        (site.listener.seen().len() == 2).then_some(())
    })
    .await;
    let seen = site.listener.seen();
    let (one, two) = (manifest(&site, &seen[0]), manifest(&site, &seen[1]));
    assert_eq!((two.study_version, two.objects.len()), (2, 2));
    assert_eq!(two.replaces, one.report_id);
    assert_ne!(two.report_id, one.report_id);
    assert_eq!(two.objects[0], one.objects[0]);
    assert_eq!(two.study_pseudonym, one.study_pseudonym);
    room.stop().await;
}

#[tokio::test]
async fn the_same_bytes_again_are_acknowledged_once_and_other_bytes_are_a_conflict() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    let film = Film::new(1, 1);
    for _ in 0..3 {
        assert_eq!(scu.store(&film).await, Some(0));
    }
    let other = Film {
        seed: 77,
        ..film.clone()
    };
    for _ in 0..2 {
        assert_eq!(scu.store(&other).await, Some(0));
    }
    room.settled(1).await;
    let quarantine = room.quarantine().await;
    assert_eq!(
        (quarantine.len(), quarantine[0].reason.as_str()),
        (1, "UID_CONFLICT")
    );
    let seen = site.listener.seen();
    let manifest = manifest(&site, &seen[0]);
    assert_eq!(
        (
            seen.len(),
            manifest.objects.len(),
            manifest.withheld_objects
        ),
        (1, 1, 0)
    );
    assert!(room.bad_request().await);
    room.stop().await;
}

#[tokio::test]
async fn what_cannot_be_cleared_is_withheld_and_counted_and_the_rest_goes_on() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(
        scu.store(&Film {
            modality: "US",
            ..Film::new(1, 1)
        })
        .await,
        Some(0)
    );
    assert_eq!(scu.store(&Film::new(1, 2)).await, Some(0));
    assert_eq!(
        scu.store(&Film {
            modality: "US",
            ..Film::new(2, 1)
        })
        .await,
        Some(0)
    );
    let rows = room.settled(2).await;
    let mut states: Vec<_> = rows.iter().map(|row| row.state.as_str()).collect();
    states.sort_unstable();
    assert_eq!(states, ["forwarded", "withheld"]);
    let reasons: Vec<_> = room
        .quarantine()
        .await
        .into_iter()
        .map(|row| row.reason)
        .collect();
    assert_eq!(reasons, ["NOT_CHEST", "NOT_CHEST"]);
    let seen = site.listener.seen();
    let manifest = manifest(&site, &seen[0]);
    assert_eq!(
        (
            seen.len(),
            manifest.objects.len(),
            manifest.withheld_objects
        ),
        (1, 1, 1)
    );
    room.stop().await;
}

#[tokio::test]
async fn without_a_route_everything_stays_in_quarantine() {
    let site = Site::new().await;
    let room = site.start_with("", "").await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    assert_eq!(room.settled(1).await[0].state, "withheld");
    assert_eq!(room.quarantine().await[0].reason, "NO_ROUTE");
    assert_eq!(site.listener.attempts.load(Ordering::SeqCst), 0);
    room.stop().await;
}
