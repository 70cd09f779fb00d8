//! Restarts, and what the disk shows.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::scu::{CANARY_ID, CANARY_NAME, Film, Scu};
use super::site::{Site, poll};

/// Files under `dir` that hold any of `words` in UTF-8 or UTF-16.
fn holding(dir: &Path, words: &[&str]) -> Vec<std::path::PathBuf> {
    let needles: Vec<Vec<u8>> = words
        .iter()
        .flat_map(|word| {
            [
                word.as_bytes().to_vec(),
                word.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            ]
        })
        .collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, words));
        } else if let Ok(bytes) = std::fs::read(&path) {
            // Sockets cannot be read and hold nothing.
            let has = |needle: &Vec<u8>| {
                bytes
                    .windows(needle.len())
                    .any(|window| window == needle.as_slice())
            };
            if needles.iter().any(has) {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn no_identifier_is_on_the_disk_in_clear() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    let film = Film::new(1, 1);
    assert_eq!(scu.store(&film).await, Some(0));
    // Cut off in the middle: what is left of it must not tell either.
    let mut broken = Scu::associate(room.dimse).await;
    let half = film.data_set();
    broken
        .values(3, true, &super::scu::store_command(1, "1.2.3"), 1000)
        .await;
    broken.values(3, false, &half, 300).await;
    room.settled(1).await;
    let words = [
        CANARY_NAME,
        CANARY_ID,
        "Zyxwvut",
        "ACC-55190",
        "Refferer",
        "19610203",
        &film.study,
        &film.instance,
    ];
    let planted = site.state().join("spool/planted");
    cloister_log::durable::write_atomic(&planted, format!("x{CANARY_ID}x").as_bytes(), 0o600)
        .unwrap();
    assert_eq!(
        holding(&site.state(), &words),
        std::slice::from_ref(&planted),
        "the scan has to find the planted one, and no other"
    );
    std::fs::remove_file(planted).unwrap();
    room.stop().await;
    assert!(holding(&site.state(), &words).is_empty());
}

#[tokio::test]
async fn a_restart_keeps_what_was_acknowledged_and_the_report_id() {
    let site = Site::new().await;
    site.listener.unavailable.store(u32::MAX, Ordering::SeqCst);
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    poll("an attempt", || {
        (site.listener.attempts.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
    let before = room.studies().await;
    // A second study that is not even quiet yet.
    assert_eq!(scu.store(&Film::new(2, 1)).await, Some(0));
    room.stop().await;

    // Leftovers of a kill: never acknowledged, so taken away.
    let orphan = site
        .state()
        .join("spool/objects/00112233445566778899aabbccddeeff");
    cloister_log::durable::write_atomic(&orphan, b"half", 0o600).unwrap();
    site.listener.unavailable.store(0, Ordering::SeqCst);
    let room = site.start().await;
    assert!(!orphan.exists());
    let rows = room.settled(2).await;
    assert!(rows.iter().any(|row| row.report == before[0].report));
    assert_eq!(site.listener.seen().len(), 2);
    // The sender, which never heard of the restart, tries again.
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    assert_eq!(
        room.studies()
            .await
            .iter()
            .map(|row| row.objects)
            .sum::<u32>(),
        2
    );
    room.stop().await;
    let verified = cloister_audit::verify_directory(
        &site.state().join("audit"),
        "test/dicom-scp/0",
        &site.audit_key,
    );
    verified.unwrap();
}

#[tokio::test]
async fn a_room_dropped_anywhere_still_makes_one_report_per_study() {
    let site = Site::new().await;
    let studies = 6;
    for study in 1..=studies {
        let room = site.start().await;
        let mut scu = Scu::associate(room.dimse).await;
        assert_eq!(scu.store(&Film::new(study, 1)).await, Some(0));
        assert_eq!(scu.store(&Film::new(study, 2)).await, Some(0));
        // Stopped at a different point of the path each time.
        let point = study % 3;
        poll("the point", || {
            let seen = site.listener.seen().len() as u32;
            (point == 0 || seen + 2 > point).then_some(())
        })
        .await;
        room.stop().await;
    }
    let room = site.start().await;
    room.settled(studies as usize).await;
    let mut seen: Vec<_> = site
        .listener
        .seen()
        .into_iter()
        .map(|seen| seen.report)
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), studies as usize);
    room.stop().await;
}
