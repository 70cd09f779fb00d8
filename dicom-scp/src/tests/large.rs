//! An object of any size streams to the disk: the memory of the process that receives it does not grow
//! with it, and what is behind leaves it alone. `CLOISTER_LARGE_MIB` (300) is its size.

use dicom_ul::pdu::Pdu;
use tokio::process::Child;

use super::kill;
use super::scu::{Film, Scu, request, store_command};
use super::site::{Room, Site};

/// What the process may take beyond what it took for a small film.
const MOST_KIB: u64 = 24 << 10;

/// The most memory that the process ever had resident (proc_pid_status(5)).
fn peak_kib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

#[tokio::test]
async fn memory_does_not_grow_with_the_size_of_an_object() {
    let mib = std::env::var("CLOISTER_LARGE_MIB").ok();
    let mib: u32 = mib.map_or(300, |text| text.parse().unwrap());
    let site = Site::new().await;
    drop(site.config("", "default_recipient = \"group:radiology\""));
    let mut child = kill::start(&site).await;
    let room = Room::elsewhere(&site);
    let small = Film {
        side: 512,
        ..Film::new(1, 1)
    };
    assert_eq!(Scu::try_store(room.dimse, &small).await, Some(0));
    room.settled(1).await;
    let before = peak_kib(&child);

    // The same, up to the length of its pixels; the rest is made while it is sent.
    let film = Film::new(2, 1);
    let mut head = film.data_set();
    let pixels = 16 * 16 + 4;
    head.truncate(head.len() - pixels);
    head.extend_from_slice(&(mib << 20).to_le_bytes());
    let mut scu = Scu::connect(room.dimse).await;
    let asked = Pdu::AssociationRQ(request("CLOISTER", "TESTER"));
    assert!(matches!(scu.ask(&asked).await, Some(Pdu::AssociationAC(_))));
    let message = scu.next_message();
    let command = store_command(message, &film.instance);
    scu.values(3, true, &command, usize::MAX).await;
    let part = vec![7; 16_000];
    let piece = |bytes: &[u8], last: bool| {
        let length = bytes.len() as u32;
        let control = if last { 2 } else { 0 };
        [
            &[4, 0][..],
            &(length + 6).to_be_bytes(),
            &(length + 2).to_be_bytes(),
            &[3, control],
            bytes,
        ]
        .concat()
    };
    scu.send(&piece(&head, false)).await;
    let mut left = (mib as usize) << 20;
    while left > 0 {
        let now = left.min(part.len());
        left -= now;
        scu.send(&piece(&part[..now], left == 0)).await;
    }
    assert_eq!(scu.status().await, Some(0));
    let received = peak_kib(&child);
    room.settled(2).await;
    let after = peak_kib(&child);
    println!("peak {before} KiB before, {received} KiB after {mib} MiB, {after} KiB at the end");
    assert!(received < before + MOST_KIB, "{before} KiB, {received} KiB");
    if mib > 256 {
        let held = room.quarantine().await;
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[0].reason, "TOO_LARGE");
        assert!(after < before + MOST_KIB, "{before} KiB, {after} KiB");
    }
    child.kill().await.unwrap();
}
