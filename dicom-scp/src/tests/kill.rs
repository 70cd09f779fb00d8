//! SIGKILL while films come: the room runs in a process of its own, which is this test binary again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloister_log::disk::Disk;
use cloister_runtime::Shutdown;
use tokio::process::{Child, Command};

use super::scu::{Film, Scu};
use super::site::{Room, Site, poll};
use crate::Config;
use crate::redact::Engine;

const CONFIG: &str = "CLOISTER_TEST_CONFIG";
/// Of the default run; `CLOISTER_KILLS` asks for more.
const KILLS: u32 = 12;

#[tokio::test]
#[ignore = "the process that the other test kills"]
async fn a_room_to_be_killed() {
    let Ok(path) = std::env::var(CONFIG) else {
        return;
    };
    let config = Config::load(Path::new(&path)).unwrap();
    crate::room::run_with(
        config,
        Engine::PassThrough,
        Disk::default(),
        Shutdown::new(),
    )
    .await
    .unwrap();
}

pub(super) async fn start(site: &Site) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "tests::kill::a_room_to_be_killed"])
        .env(CONFIG, site.dir.path().join("dicom-scp.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = site.state().join("ready.json");
    poll("the child is ready", || {
        let ready: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()?;
        (ready["pid"].as_u64() == child.id().map(u64::from)).then_some(())
    })
    .await;
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigkill_every_acknowledged_film_is_in_exactly_one_current_report() {
    let site = Arc::new(Site::new().await);
    drop(site.config("", "default_recipient = \"group:radiology\""));
    let mut child = start(&site).await;
    let over = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn({
        let (site, over) = (Arc::clone(&site), Arc::clone(&over));
        async move {
            let mut acknowledged = BTreeSet::new();
            for study in 1.. {
                for instance in 1..=3 {
                    let film = Film {
                        side: 300,
                        ..Film::new(study, instance)
                    };
                    // As a modality does: again until it is acknowledged.
                    loop {
                        let stored = match site.dimse() {
                            Some(addr) => Scu::try_store(addr, &film).await,
                            None => None,
                        };
                        if stored == Some(0) {
                            break;
                        }
                        tokio::task::yield_now().await;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    acknowledged.insert(film.instance);
                }
                if over.load(Ordering::SeqCst) {
                    break;
                }
            }
            acknowledged
        }
    });
    let seed = std::process::id();
    let kills = std::env::var("CLOISTER_KILLS").ok();
    let kills = kills.and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    for kill in 0..kills {
        // Any moment will do; the seed is in the message below.
        let wait = u64::from((seed.wrapping_mul(2_654_435_761).wrapping_add(kill * 97)) % 400);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        child.kill().await.unwrap();
        child = start(&site).await;
    }
    over.store(true, Ordering::SeqCst);
    let acknowledged = sending.await.unwrap();

    let studies = acknowledged.len() / 3;
    let room = Room::elsewhere(&site);
    room.settled(studies).await;
    // Killed three times over one film: that looks like the film's fault. An operator knows better.
    loop {
        let entries = room.quarantine().await;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            assert_eq!(entry.reason, "PROCESS_DIED", "seed {seed}");
            let request = format!("{{\"quarantine\":{{\"release\":\"{}\"}}}}", entry.object);
            let answer = room.request(&request).await;
            assert!(
                matches!(answer, crate::control::Answer::Done(_)),
                "{answer:?}"
            );
        }
        room.settled(studies).await;
    }
    // The first submission under a report id is the one that a sidecar keeps.
    let mut reports = BTreeMap::new();
    for seen in site.listener.seen() {
        let keys = [site.gateway_key.clone()];
        let manifest =
            cloister_seal::manifest::verify(seen.head.manifest.as_ref().unwrap(), &keys).unwrap();
        let capsule =
            cloister_seal::capsule::open_capsule(&seen.head.capsule, &site.recipient, &keys)
                .unwrap()
                .1;
        let films: Vec<_> = capsule
            .objects
            .into_iter()
            .map(|object| object.original_sop_instance_uid)
            .collect();
        let entry = (manifest.replaces.clone(), films);
        let first = reports
            .entry(manifest.report_id.clone())
            .or_insert_with(|| entry.clone());
        assert_eq!(*first, entry, "a repeated attempt names the same films");
    }
    let replaced: BTreeSet<_> = reports
        .values()
        .map(|(replaces, _)| replaces.clone())
        .collect();
    let current = reports.iter().filter(|(id, _)| !replaced.contains(*id));
    let mut named: Vec<_> = current.flat_map(|(_, (_, films))| films.clone()).collect();
    named.sort();
    let expected: Vec<_> = acknowledged.into_iter().collect();
    assert_eq!(named, expected, "seed {seed}");
    child.kill().await.unwrap();
    let audit = site.state().join("audit");
    cloister_audit::verify_directory(&audit, "test/dicom-scp/0", &site.audit_key).unwrap();
    println!(
        "{kills} kills, {studies} studies, {} films, {} reports",
        expected.len(),
        reports.len()
    );
}
