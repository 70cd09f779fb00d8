//! A disk without room: A700 on the same association, nothing cut, and business as usual once there
//! is room again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cloister_audit::{Action, Reason};
use cloister_log::disk::{Disk, Watch};

use super::disk::Switched;
use super::scu::{Film, Scu};
use super::site::{Site, poll};

const OUT_OF_RESOURCES: u16 = 0xA700;
const ROUTE: &str = "default_recipient = \"group:radiology\"";

fn objects(site: &Site) -> usize {
    std::fs::read_dir(site.state().join("spool/objects"))
        .unwrap()
        .count()
}

/// Why objects were refused, and how often.
fn refusals(site: &Site) -> BTreeMap<Option<Reason>, u32> {
    let mut refusals = BTreeMap::new();
    for event in site.events() {
        if event.action() == Action::ObjectRefused {
            *refusals.entry(event.why()).or_default() += event.occurrences();
        }
    }
    refusals
}

#[tokio::test]
async fn a_full_disk_is_answered_a700_and_the_association_lives_on() {
    let site = Site::new().await;
    let disk = Arc::new(Switched::default());
    let config = site.config("", ROUTE);
    let room = site
        .start_on(config, Disk::watched(Arc::clone(&disk) as Arc<dyn Watch>))
        .await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    room.settled(1).await;
    for round in 2..5 {
        disk.full.store(true, Ordering::SeqCst);
        for side in [16, 300] {
            let film = Film {
                side,
                ..Film::new(round, 1)
            };
            assert_eq!(scu.store(&film).await, Some(OUT_OF_RESOURCES));
        }
        assert_eq!(objects(&site), round as usize - 1, "nothing of them stays");
        disk.full.store(false, Ordering::SeqCst);
        assert_eq!(scu.store(&Film::new(round, 1)).await, Some(0));
    }
    scu.release().await;
    room.settled(4).await;
    assert_eq!(site.listener.seen().len(), 4);
    room.stop().await;
    assert_eq!(
        refusals(&site),
        BTreeMap::from([(Some(Reason::StorageFull), 6)])
    );
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_taken_until_a_restart_and_then_everything_is_there() {
    let site = Site::new().await;
    let disk = Arc::new(Switched::default());
    let config = site.config("", ROUTE);
    let room = site
        .start_on(config, Disk::watched(Arc::clone(&disk) as Arc<dyn Watch>))
        .await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    room.settled(1).await;
    disk.broken_syncs.store(true, Ordering::SeqCst);
    assert_eq!(scu.store(&Film::new(2, 1)).await, Some(OUT_OF_RESOURCES));
    // The film's, and that of the record about its refusal.
    poll("the audit log's sync", || {
        (disk.failed_syncs.load(Ordering::SeqCst) >= 2).then_some(())
    })
    .await;
    // The disk says that all is well again, which proves nothing: the audit log is closed.
    disk.broken_syncs.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(scu.store(&Film::new(2, 1)).await, Some(OUT_OF_RESOURCES));
    }
    drop(scu);
    room.stop_badly().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(2, 1)).await, Some(0));
    let rows = room.settled(2).await;
    assert_eq!(rows.iter().map(|row| row.objects).sum::<u32>(), 2);
    room.stop().await;
}

#[tokio::test]
async fn the_quota_refuses_in_the_middle_of_an_object_and_smaller_ones_still_come_in() {
    let site = Site::new().await;
    *site.tables.lock().unwrap() = "[spool]\nmin_free_bytes = 0\nmax_bytes = 1500000".to_owned();
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    let large = Film {
        side: 1600,
        ..Film::new(1, 1)
    };
    assert_eq!(scu.store(&large).await, Some(OUT_OF_RESOURCES));
    assert_eq!(objects(&site), 0);
    let mut stored = 0;
    for instance in 2..30 {
        let film = Film {
            side: 400,
            ..Film::new(1, instance)
        };
        match scu.store(&film).await {
            Some(0) => stored += 1,
            other => {
                assert_eq!(other, Some(OUT_OF_RESOURCES));
                break;
            }
        }
    }
    // At least some, and not for ever; what is cleared meanwhile counts as well.
    assert!((3..=10).contains(&stored), "{stored}");
    assert_eq!(scu.store(&Film::new(1, 40)).await, Some(OUT_OF_RESOURCES));
    room.stop().await;
    let full = BTreeMap::from([(Some(Reason::StorageFull), 3)]);
    assert_eq!(refusals(&site), full);
}

#[tokio::test]
async fn the_watermark_refuses_while_the_disk_still_has_room() {
    let site = Site::new().await;
    *site.tables.lock().unwrap() = format!("[spool]\nmin_free_bytes = {}", i64::MAX);
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    for _ in 0..2 {
        assert_eq!(scu.store(&Film::new(1, 1)).await, Some(OUT_OF_RESOURCES));
    }
    assert_eq!(scu.echo().await, Some(0));
    room.stop().await;
    let full = BTreeMap::from([(Some(Reason::StorageFull), 2)]);
    assert_eq!(refusals(&site), full);
}

#[tokio::test]
async fn an_object_beyond_the_limit_is_no_full_disk() {
    let site = Site::new().await;
    let room = site.start_with("max_object_bytes = 20000", ROUTE).await;
    let mut scu = Scu::associate(room.dimse).await;
    let large = Film {
        side: 400,
        ..Film::new(1, 1)
    };
    assert_eq!(scu.store(&large).await, Some(OUT_OF_RESOURCES));
    assert_eq!(scu.store(&Film::new(1, 2)).await, Some(0));
    room.stop().await;
    let large = BTreeMap::from([(Some(Reason::TooLarge), 1)]);
    assert_eq!(refusals(&site), large);
}

/// A file system of its own, while this is held.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes}");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let output = mount.output().ok()?;
        output.status.success().then_some(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        drop(unmount.arg("-l").arg(self.0).output());
    }
}

#[tokio::test]
async fn a_disk_that_is_really_full_is_answered_a700_with_and_without_watermark() {
    for min_free in [0_u64, 2 << 20] {
        let site = Site::new().await;
        let state = site.state();
        let Some(small) = Small::mount(&state, 6 << 20) else {
            println!("SKIPPED: a small file system needs root");
            return;
        };
        *site.tables.lock().unwrap() = format!("[spool]\nmin_free_bytes = {min_free}");
        // Nobody takes the studies, so nothing is freed.
        let room = site.start_with("", "").await;
        let mut scu = Scu::associate(room.dimse).await;
        let (mut stored, mut refused) = (0, 0);
        for study in 1..100 {
            let film = Film {
                side: 700,
                ..Film::new(study, 1)
            };
            match scu.store(&film).await {
                Some(0) => stored += 1,
                Some(OUT_OF_RESOURCES) => refused += 1,
                other => panic!("{other:?} after {stored} films"),
            }
            if refused == 5 {
                break;
            }
        }
        assert!(
            stored >= 4 && refused == 5,
            "{stored} stored, {refused} refused"
        );
        let stat = rustix::fs::statvfs(&state).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        println!("watermark {min_free}: {stored} stored, {free} bytes free at the end");
        // A look is taken once a mebibyte.
        assert!(free + (1 << 20) >= min_free);
        assert_eq!(objects(&site), stored, "no part of a refused film stays");
        drop(scu);
        room.stop_badly().await;
        drop(small);
    }
}
