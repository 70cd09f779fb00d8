//! Wrapping keys on a PKCS#11 token: SoftHSM 2, where there is one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cloister_log::disk::Disk;
use cloister_runtime::Shutdown;
use cloister_seal::files;

use super::scu::{Film, Scu};
use super::site::{Room, Site};
use crate::Config;
use crate::control::{Answer, Done};
use crate::redact::Engine;

#[path = "../../../crates/token/tests/softhsm/mod.rs"]
mod softhsm;

use softhsm::{PIN, destroy_key, inside, make_key, make_token, module, run, writing};

const ROUTE: &str = "default_recipient = \"group:radiology\"";

/// A site whose wrapping keys are `newest` and `older`, on the token "site".
async fn site(newest: &str) -> Site {
    let mut site = Site::new().await;
    // Nothing falls back on it.
    std::fs::remove_file(site.at("wrapping.key")).unwrap();
    files::write_secret(&site.at("pin"), PIN.as_bytes()).unwrap();
    site.add(&format!(
        "[pkcs11]\nmodule = \"{}\"\npin = \"pin\"\n",
        module().unwrap().display()
    ));
    site.wrapping = keys(newest, &[]);
    site
}

fn keys(newest: &str, older: &[&str]) -> String {
    let uri = |key: &&str| format!("\"pkcs11:token=site;object={key}\"");
    let older: Vec<String> = older.iter().map(uri).collect();
    format!(
        "wrapping = {}\nwrapping_previous = [{}]",
        uri(&newest),
        older.join(", ")
    )
}

fn patient(site: &Site) -> Config {
    let mut config = site.config("", ROUTE);
    config.study.quiet = Duration::from_hours(1);
    config
}

async fn start(site: &Site, config: Config) -> Room {
    site.start_on(config, Disk::default()).await
}

/// Why the room does not start.
async fn failure(site: &Site) -> String {
    let config = site.config("", ROUTE);
    let ended = crate::room::run_with(
        config,
        Engine::PassThrough,
        Disk::default(),
        Shutdown::new(),
    );
    format!("{:#}", ended.await.unwrap_err())
}

#[test]
fn a_film_is_received_read_again_and_its_key_changed_with_keys_on_a_token() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "tests::token::inside_room");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn inside_room() {
    if !inside() {
        return;
    }
    make_token("site");
    make_key("site", "one", 32, false);
    make_key("site", "two", 32, false);
    let mut site = site("one").await;

    // Received, and read by the next process.
    let room = start(&site, patient(&site)).await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    drop(scu);
    room.stop().await;
    let room = start(&site, site.config("", ROUTE)).await;
    assert_eq!(room.settled(1).await[0].state, "forwarded");
    room.stop().await;

    // Another key: everything is wrapped under it, and the first is not needed any more.
    site.wrapping = keys("two", &["one"]);
    let room = start(&site, patient(&site)).await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(2, 1)).await, Some(0));
    drop(scu);
    let rotated = room.request("{\"vault\":\"rotate\"}").await;
    assert!(
        matches!(
            rotated,
            Answer::Done(Done::Rotated {
                generation: 1,
                keys: 2
            })
        ),
        "{rotated:?}"
    );
    room.stop().await;
    destroy_key("site", "one");
    site.wrapping = keys("two", &[]);
    let room = start(&site, site.config("", ROUTE)).await;
    let rows = room.settled(2).await;
    assert!(rows.iter().all(|row| row.state == "forwarded"), "{rows:?}");

    // The key is taken away while the room runs: no film is accepted, none is called damaged.
    site.listener.unavailable.store(u32::MAX, Ordering::SeqCst);
    destroy_key("site", "two");
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(3, 1)).await, Some(0xA700));
    assert_eq!(scu.store(&Film::new(1, 2)).await, Some(0xA700));
    assert!(room.quarantine().await.is_empty());
    drop(scu);
    room.stop().await;
    let why = failure(&site).await;
    assert!(why.contains("does not hold the key"), "{why}");
}

#[test]
fn a_room_enters_a_wrong_pin_once_and_says_why_it_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "tests::token::inside_pin");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn inside_pin() {
    if !inside() {
        return;
    }
    make_token("site");
    make_key("site", "one", 32, false);
    make_key("site", "loose", 32, true);
    let mut site = site("one").await;
    std::fs::remove_file(site.at("pin")).unwrap();
    let why = failure(&site).await;
    assert!(why.contains("PIN cannot be read"), "{why}");
    files::write_secret(&site.at("pin"), b"31415926").unwrap();
    let why = failure(&site).await;
    assert!(
        why.contains("refuses the PIN") && !why.contains("31415926"),
        "{why}"
    );
    std::fs::remove_file(site.at("pin")).unwrap();
    files::write_secret(&site.at("pin"), PIN.as_bytes()).unwrap();
    let why = failure(&site).await;
    assert!(why.contains("log in once by hand"), "{why}");
    drop(writing("site"));
    site.wrapping = keys("loose", &[]);
    let why = failure(&site).await;
    assert!(why.contains("CKA_EXTRACTABLE"), "{why}");
    site.wrapping = keys("one", &[]);
    let room = start(&site, site.config("", ROUTE)).await;
    room.stop().await;
}
