//! What an operator can do, and what time does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cloister_audit::{Action, Event};

use super::scu::{CANARY_ID, CANARY_NAME, Film, Scu};
use super::site::{Room, Site, poll};
use crate::control::{Answer, Done, StudyRow};

use cloister_log::disk::Disk;

const ROUTE: &str = "default_recipient = \"group:radiology\"";

fn refused(answer: Answer) -> String {
    match answer {
        Answer::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

fn done(answer: Answer) -> Done {
    match answer {
        Answer::Done(done) => done,
        other => panic!("{other:?}"),
    }
}

async fn dead(room: &Room) -> StudyRow {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let row = room.studies().await.remove(0);
        if row.state == "dead" {
            return row;
        }
        assert!(tokio::time::Instant::now() < deadline, "{row:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Actions on the audit trail that an operator of our user id did.
fn operated(site: &Site) -> Vec<String> {
    let uid = rustix::process::geteuid().as_raw();
    let mut actions = Vec::new();
    let log = site.state().join("audit/log");
    cloister_log::read_directory(&log, |_, record| {
        let event: serde_json::Value = serde_json::from_slice(record).unwrap();
        if event["actor"]["operator_uid"].as_u64() == Some(uid.into()) {
            let text = |key: &str| event[key].as_str().unwrap().to_owned();
            actions.push(format!("{} {}", text("action"), text("decision")));
        }
    })
    .unwrap();
    actions
}

/// What the trail says of an object, by its own name.
fn about(site: &Site, object: &str) -> Vec<Action> {
    let events = site.events();
    let these = events.iter().filter(|event| {
        let name = event.object_pseudonym();
        name.is_some_and(|name| name.as_str() == object)
    });
    these.map(Event::action).collect()
}

#[tokio::test]
async fn a_film_without_route_is_released_after_a_rule_was_added_and_passes_every_step() {
    let site = Site::new().await;
    let room = site.start_with("", "").await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    assert_eq!(room.settled(1).await[0].state, "withheld");
    let entry = room.quarantine().await.remove(0);
    assert!(entry.releasable);
    room.stop().await;

    let rule = "[[route.rule]]\nmodality = \"c*\"\nreferring_physician = \"REFFERER^*\"\nrecipient = \"group:radiology\"";
    let room = site.start_with("", rule).await;
    let release = format!("{{\"quarantine\":{{\"release\":\"{}\"}}}}", entry.object);
    assert_eq!(done(room.request(&release).await), Done::Released);
    refused(room.request(&release).await);
    poll("the report", || {
        (site.listener.seen().len() == 1).then_some(())
    })
    .await;
    let rows = room.settled(1).await;
    assert_eq!((rows[0].cleared, rows[0].quarantined), (1, 0));
    assert_eq!(
        operated(&site),
        ["quarantine_released allowed", "quarantine_released refused"]
    );
    room.stop().await;
    assert_eq!(
        about(&site, &entry.object),
        [Action::ObjectQuarantined, Action::QuarantineReleased]
    );
}

#[tokio::test]
async fn what_cannot_be_mended_is_not_released_but_purged_and_still_counted() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    let film = Film {
        modality: "US",
        ..Film::new(1, 1)
    };
    assert_eq!(scu.store(&film).await, Some(0));
    assert_eq!(scu.store(&Film::new(1, 2)).await, Some(0));
    room.settled(1).await;
    let entry = room.quarantine().await.remove(0);
    let ask = |what: &str| format!("{{\"quarantine\":{{\"{what}\":\"{}\"}}}}", entry.object);
    assert!(refused(room.request(&ask("release")).await).contains("chest"));
    let Answer::Shown(shown) = room.request(&ask("show")).await else {
        panic!("not shown");
    };
    assert_eq!(
        (shown.reason.as_str(), shown.releasable),
        ("NOT_CHEST", false)
    );
    let path = site.state().join("spool/objects").join(&entry.object);
    assert!(path.exists());
    assert_eq!(done(room.request(&ask("purge")).await), Done::Purged);
    assert!(!path.exists());
    refused(room.request(&ask("purge")).await);
    refused(
        room.request("{\"quarantine\":{\"purge\":\"../../etc\"}}")
            .await,
    );
    assert!(room.quarantine().await.is_empty());
    // The next version still says that a film is missing.
    assert_eq!(scu.store(&Film::new(1, 3)).await, Some(0));
    poll("the second version", || {
        (site.listener.seen().len() == 2).then_some(())
    })
    .await;
    room.settled(1).await;
    let head = &site.listener.seen()[1].head;
    let keys = [site.gateway_key.clone()];
    let manifest = cloister_seal::manifest::verify(head.manifest.as_ref().unwrap(), &keys).unwrap();
    assert_eq!((manifest.withheld_objects, manifest.objects.len()), (1, 2));
    room.stop().await;
    assert_eq!(
        about(&site, &entry.object),
        [Action::ObjectQuarantined, Action::QuarantinePurged]
    );
    let events = site.events();
    let purged = events
        .iter()
        .find(|event| event.action() == Action::QuarantinePurged);
    // The study's other film was cleared, so it has a pseudonym.
    assert!(purged.unwrap().study_pseudonym().is_some());
    // Nor does a restart bring it back.
    let room = site.start().await;
    assert!(room.quarantine().await.is_empty());
    assert_eq!(room.studies().await[0].objects, 2);
    room.stop().await;
}

#[tokio::test]
async fn a_study_that_is_refused_for_good_is_a_dead_letter_until_somebody_retries_it() {
    let site = Site::new().await;
    site.listener.refusing.store(1, Ordering::SeqCst);
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    let row = dead(&room).await;
    assert_eq!(row.dead.as_deref(), Some("REFUSED"));
    room.stop().await;
    let room = site.start().await;
    assert_eq!(dead(&room).await.report, row.report);
    assert_eq!(site.listener.attempts.load(Ordering::SeqCst), 1);
    let retry = format!("{{\"studies\":{{\"retry\":\"{}\"}}}}", row.key);
    assert_eq!(done(room.request(&retry).await), Done::Retried);
    let rows = room.settled(1).await;
    assert_eq!(rows[0].state, "forwarded");
    assert_eq!(
        site.listener.seen()[0].report,
        row.report.unwrap().to_string()
    );
    refused(room.request(&retry).await);
    room.stop().await;
}

#[tokio::test]
async fn a_sidecar_that_never_answers_is_given_up_and_too_large_a_study_is_not_even_tried() {
    let site = Site::new().await;
    site.listener.unavailable.store(u32::MAX, Ordering::SeqCst);
    let mut config = site.config("", ROUTE);
    config.sidecar.give_up_after = Duration::from_millis(1);
    config.study.max_objects = 2;
    let room = site.start_on(config, Disk::default()).await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    assert_eq!(dead(&room).await.dead.as_deref(), Some("GAVE_UP"));
    let attempts = site.listener.attempts.load(Ordering::SeqCst);
    assert!(attempts > 0);
    // A late film makes a version of two, and then one of three.
    for instance in 2..=3 {
        assert_eq!(scu.store(&Film::new(1, instance)).await, Some(0));
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while dead(&room).await.dead.as_deref() != Some("TOO_MANY_OBJECTS") {
        assert!(tokio::time::Instant::now() < deadline);
    }
    room.stop().await;
}

#[tokio::test]
async fn after_its_time_a_study_cannot_be_opened_any_more_and_a_late_film_replaces_its_report() {
    let site = Site::new().await;
    let tables = "[spool]\nmin_free_bytes = 0\n[retention]\nforwarded_hours = 0";
    *site.tables.lock().unwrap() = tables.to_owned();
    site.listener.unavailable.store(2, Ordering::SeqCst);
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    let spool = site.state().join("spool");
    let files = |folder: &str| std::fs::read_dir(spool.join(folder)).unwrap().count();
    // Not before its report is released.
    poll("an attempt", || {
        (site.listener.attempts.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    assert_eq!((files("objects"), files("keys")), (1, 1));
    poll("the end", || {
        let left = files("objects") + files("cleared") + files("keys");
        (site.listener.seen().len() == 1 && left == 0).then_some(())
    })
    .await;
    room.stop().await;
    let room = site.start().await;
    assert!(room.studies().await.is_empty());
    // The same film is no duplicate: there is no copy of it.
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    poll("the second report", || {
        (site.listener.seen().len() == 2).then_some(())
    })
    .await;
    let seen = site.listener.seen();
    let keys = [site.gateway_key.clone()];
    let manifest =
        cloister_seal::manifest::verify(seen[1].head.manifest.as_ref().unwrap(), &keys).unwrap();
    let first = uuid::Uuid::parse_str(&seen[0].report).unwrap();
    assert_eq!(manifest.replaces, first.as_bytes());
    assert_eq!(manifest.study_version, 2);
    room.stop().await;
}

#[tokio::test]
async fn the_vault_tells_an_operator_who_it_was_and_the_audit_trail_that_it_did() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    room.settled(1).await;
    let lookup = |asked: &str| format!("{{\"vault\":{{\"lookup\":\"{asked}\"}}}}");
    let Answer::Identities(found) = room.request(&lookup(CANARY_ID)).await else {
        panic!("not found");
    };
    let pseudonym = found[0].pseudonym.clone();
    let Answer::Identities(found) = room.request(&lookup(&pseudonym)).await else {
        panic!("not found");
    };
    assert_eq!(found[0].original, CANARY_ID);
    refused(room.request(&lookup("nobody")).await);
    let file = site.dir.path().join("vault.backup");
    let backup = |what: &str| format!("{{\"vault\":{{\"{what}\":\"{}\"}}}}", file.display());
    let made = done(room.request(&backup("backup")).await);
    assert!(
        matches!(made, Done::Backup { entries: 1.., .. }),
        "{made:?}"
    );
    assert_eq!(done(room.request(&backup("verify")).await), made);
    refused(room.request(&backup("backup")).await);
    let Done::Rotated {
        generation: 1,
        keys,
    } = done(room.request("{\"vault\":\"rotate\"}").await)
    else {
        panic!("not rotated");
    };
    assert_eq!(keys, 1, "the study's key");
    // What was made before is still the same, and a late film of the study is still its film.
    assert_eq!(scu.store(&Film::new(1, 2)).await, Some(0));
    poll("the second version", || {
        (site.listener.seen().len() == 2).then_some(())
    })
    .await;
    room.settled(1).await;
    assert_eq!(room.studies().await.len(), 1);
    room.stop().await;
    assert_eq!(
        operated(&site),
        [
            "vault_looked_up allowed",
            "vault_looked_up allowed",
            "vault_looked_up refused",
            "vault_backed_up allowed",
            "vault_backed_up allowed",
            "vault_backed_up refused",
            "vault_rotated allowed",
        ]
    );
    let mut trail = Vec::new();
    cloister_log::read_directory(&site.state().join("audit/log"), |_, record| {
        trail.extend_from_slice(record);
    })
    .unwrap();
    for canary in [CANARY_ID, CANARY_NAME] {
        let has = trail
            .windows(canary.len())
            .any(|part| part == canary.as_bytes());
        assert!(!has, "an identifier is on the audit trail");
    }
}

#[tokio::test]
async fn somebody_who_is_no_operator_may_look_and_nothing_else() {
    let site = Site::new().await;
    let mut config = site.config("", "");
    config.operators = vec![4_294_967_294];
    let room = site.start_on(config, Disk::default()).await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    room.settled(1).await;
    let entry = room.quarantine().await.remove(0);
    for request in [
        format!("{{\"quarantine\":{{\"release\":\"{}\"}}}}", entry.object),
        format!("{{\"quarantine\":{{\"purge\":\"{}\"}}}}", entry.object),
        format!("{{\"vault\":{{\"lookup\":\"{CANARY_ID}\"}}}}"),
        "{\"vault\":\"rotate\"}".to_owned(),
    ] {
        let why = refused(room.request(&request).await);
        assert!(why.contains("control.operators"), "{why}");
    }
    assert_eq!(room.quarantine().await.len(), 1);
    room.stop().await;
    assert_eq!(operated(&site).len(), 4);
}

#[tokio::test]
async fn a_dead_letter_is_discarded_whole_and_nothing_else_is() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    let forwarded = room.settled(1).await.remove(0);
    let discard = |key: &str| format!("{{\"studies\":{{\"discard\":\"{key}\"}}}}");
    refused(room.request(&discard(&forwarded.key)).await);
    site.listener.refusing.store(1, Ordering::SeqCst);
    assert_eq!(scu.store(&Film::new(1, 2)).await, Some(0));
    let row = dead(&room).await;
    assert_eq!(row.key, forwarded.key);
    assert_eq!(
        done(room.request(&discard(&row.key)).await),
        Done::Discarded
    );
    assert!(room.studies().await.is_empty());
    let spool = site.state().join("spool");
    for folder in ["objects", "cleared", "keys"] {
        assert_eq!(std::fs::read_dir(spool.join(folder)).unwrap().count(), 0);
    }
    refused(room.request(&discard(&row.key)).await);
    room.stop().await;
    assert_eq!(
        operated(&site),
        [
            "key_forgotten refused",
            "key_forgotten allowed",
            "key_forgotten refused"
        ]
    );
}

#[tokio::test]
async fn a_film_whose_file_is_gone_is_in_quarantine_and_its_second_copy_no_duplicate() {
    let site = Site::new().await;
    site.listener.unavailable.store(u32::MAX, Ordering::SeqCst);
    let mut config = site.config("", ROUTE);
    config.study.quiet = Duration::from_hours(1);
    let room = site.start_on(config.clone(), Disk::default()).await;
    let mut scu = Scu::associate(room.dimse).await;
    for instance in 1..=2 {
        assert_eq!(scu.store(&Film::new(1, instance)).await, Some(0));
    }
    drop(scu);
    room.stop().await;
    let objects = site.state().join("spool/objects");
    let files = || {
        std::fs::read_dir(&objects)
            .unwrap()
            .map(|file| file.unwrap().path())
    };
    let lost = files().next().unwrap();
    std::fs::remove_file(&lost).unwrap();
    let room = site.start_on(config.clone(), Disk::default()).await;
    let entry = room.quarantine().await.remove(0);
    assert_eq!(
        (entry.reason.as_str(), entry.releasable),
        ("DAMAGED", false)
    );
    assert!(lost.ends_with(&entry.object));
    let mut scu = Scu::associate(room.dimse).await;
    for instance in 1..=2 {
        assert_eq!(scu.store(&Film::new(1, instance)).await, Some(0));
    }
    assert_eq!(files().count(), 2, "the lost one is here again");
    drop(scu);
    room.stop().await;
    // It is not missed a second time.
    let room = site.start_on(config, Disk::default()).await;
    assert_eq!(room.quarantine().await.len(), 1);
    room.stop().await;
    let events = site.events().into_iter();
    let quarantined = events.filter(|event| event.action() == Action::ObjectQuarantined);
    assert_eq!(quarantined.count(), 1);
}
