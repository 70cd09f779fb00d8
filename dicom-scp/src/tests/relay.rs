//! Storage Commitment through the room, with pynetdicom as modality and as archive: the modality hears
//! what the archive said, and nothing else; what the archive has not committed stays. Long, because
//! both peers are programs that stand here whole.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloister_audit::{Action, Decision};
use dicom_ul::pdu::Pdu;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::kill;
use super::scu::{Film, Scu};
use super::site::{Room, Site};
use crate::control::{Answer, CommitmentRow, Done};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/peer.py");
const PATIENCE: Duration = Duration::from_mins(2);
const ROUTE: &str = "default_recipient = \"group:radiology\"";
const RELAY: &str = "commitment = \"relay\"";

/// Whether there is a Python with pynetdicom; says so if not.
fn pynetdicom() -> bool {
    let there = Path::new(PYTHON).exists();
    if !there {
        println!("skipped: no .venv with pynetdicom; `make setup-test` makes it");
    }
    there
}

/// A script that tells what happens to it.
struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Said, and not asked about yet.
    said: Vec<serde_json::Value>,
    /// Its end ends the archive.
    #[expect(dead_code, reason = "held open")]
    input: ChildStdin,
}

impl Peer {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(PYTHON)
            .arg(SCRIPT)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let input = child.stdin.take().unwrap();
        Self {
            child,
            lines,
            said: Vec::new(),
            input,
        }
    }

    /// The next line that says something of `key`. A report may be told before the answer to the
    /// question is: the peer has two threads.
    async fn next(&mut self, key: &str) -> serde_json::Value {
        let found = async {
            loop {
                let at = self.said.iter().position(|said| said.get(key).is_some());
                if let Some(at) = at {
                    return self.said.remove(at);
                }
                let line = self.lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("the peer ended before it said {key}"));
                self.said.push(serde_json::from_str(&line).unwrap());
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("the peer never said {key}"))
    }

    async fn archive(mode: &str, report_to: &str, port: u16) -> (Self, u16) {
        let mut archive = Self::start(&["archive", mode, report_to, &port.to_string()]);
        let port = archive.next("port").await["port"].as_u64().unwrap();
        (archive, u16::try_from(port).unwrap())
    }

    fn modality(room: SocketAddr, listen: &str, transaction: &str, films: &[&str]) -> Self {
        let room = room.to_string();
        Self::start(&[&["modality", &room, listen, transaction], films].concat())
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn table(archive: u16, more: &str) -> String {
    format!(
        "[commitment]\narchive = \"127.0.0.1:{archive}\"\narchive_ae_title = \"PACS\"\n\
         wait_ms = 1500\nretry_initial_ms = 100\nretry_max_ms = 1000\n{more}\n"
    )
}

async fn store(room: &Room, films: &[&Film]) {
    for film in films {
        assert_eq!(Scu::try_store(room.dimse, film).await, Some(0));
    }
}

async fn commitments(room: &Room) -> Vec<CommitmentRow> {
    match room.request("{\"list\":\"commitments\"}").await {
        Answer::Commitments(rows) => rows,
        other => panic!("{other:?}"),
    }
}

/// Waits until a row is as it should be.
async fn until(room: &Room, is: impl Fn(&CommitmentRow) -> bool) -> CommitmentRow {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let rows = commitments(room).await;
        if let Some(row) = rows.iter().find(|row| is(row)) {
            return row.clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the study is erased.
async fn erased(room: &Room) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !room.studies().await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "not erased");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_archive_commits_is_what_the_modality_hears_and_what_may_go() {
    if !pynetdicom() {
        return;
    }
    let site = Site::new().await;
    // Nothing is kept for longer than it must be.
    site.add("[retention]\nforwarded_hours = 0\nquarantined_days = 0\n");
    let (mut archive, port) = Peer::archive("some", "same", 0).await;
    let listen = free_port();
    let told = format!(
        "[[commitment.modality]]\ncalling_ae = \"TESTER\"\naddress = \"127.0.0.1:{listen}\""
    );
    site.add(&table(port, &told));
    let room = site.start_with(RELAY, ROUTE).await;

    let (one, two) = (Film::new(1, 1), Film::new(2, 2));
    // Never reported on, but kept as well.
    let three = Film {
        modality: "ECG",
        ..Film::new(3, 3)
    };
    store(&room, &[&one, &two, &three]).await;
    let mut stored = BTreeMap::new();
    while stored.len() < 3 {
        let said = archive.next("stored").await;
        let uid = said["stored"].as_str().unwrap().to_owned();
        stored.insert(uid, said["sha256"].as_str().unwrap().to_owned());
    }
    for film in [&one, &two, &three] {
        let expected = hex::encode(Sha256::digest(film.data_set()));
        assert_eq!(stored[&film.instance], expected, "as it was received");
    }
    let never = "1.2.826.0.1.99.4.4";
    let uids = [&*one.instance, &two.instance, &three.instance, never];
    let mut modality = Peer::modality(room.dimse, &listen.to_string(), "1.2.3.1", &uids);
    assert_eq!(modality.next("status").await["status"], 0);
    let event = modality.next("event").await;
    assert_eq!(
        (&event["event"], &event["transaction"]),
        (&2.into(), &"1.2.3.1".into())
    );
    let kept = serde_json::json!([one.instance, three.instance]);
    assert_eq!(event["committed"], kept, "{event}");
    let failed = serde_json::json!([[two.instance, 0x0213], [never, 0x0112]]);
    assert_eq!(event["failed"], failed);
    let row = until(&room, |row| {
        row.what == "request" && row.state == "reported"
    })
    .await;
    assert_eq!((row.objects, row.decided, row.committed), (4, 4, 2));

    // The two committed ones are erased, and the third is not, whatever the retention time says.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let rows = room.studies().await;
        if rows.len() == 1 && rows[0].objects == 1 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lost = until(&room, |row| row.what == "object").await;
    assert_eq!(
        (&*lost.state, lost.reason.as_deref()),
        ("failed", Some("RESOURCE_LIMITATION"))
    );
    room.stop().await;
    let heard = site
        .events()
        .into_iter()
        .filter(|event| event.action() == Action::CommitmentHeard);
    let heard: u32 = heard.map(|event| event.occurrences()).sum();
    assert!(heard >= 3, "{heard}");
    for action in [
        Action::CommitmentRequested,
        Action::OriginalsArchived,
        Action::CommitmentReported,
    ] {
        assert!(
            site.events().iter().any(|event| event.action() == action),
            "{action:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_on_the_archives_own_association_reaches_a_modality_on_its_own() {
    if !pynetdicom() {
        return;
    }
    let mut site = Site::new().await;
    let door = free_port();
    site.listen = format!("dimse = \"127.0.0.1:{door}\"");
    // Named and not committed, and committed but never asked about: neither counts.
    let (mut archive, port) = Peer::archive("liar", &format!("127.0.0.1:{door}"), 0).await;
    site.add(&table(port, ""));
    let room = site.start_with(RELAY, ROUTE).await;
    let films = [Film::new(1, 1), Film::new(1, 2)];
    store(&room, &[&films[0], &films[1]]).await;
    assert_eq!(archive.next("reported").await["reported"], 0);
    let uids = [&*films[0].instance, &films[1].instance];
    let mut modality = Peer::modality(room.dimse, "same", "1.2.3.2", &uids);
    assert_eq!(modality.next("status").await["status"], 0);
    let event = modality.next("event").await;
    // The modality's question has the second one tried again, and the archive leaves it out again.
    assert_eq!(event["event"], 2);
    assert_eq!(event["committed"], serde_json::json!([films[0].instance]));
    assert_eq!(
        event["failed"],
        serde_json::json!([[films[1].instance, 0x0110]])
    );
    until(&room, |row| {
        row.what == "request" && row.state == "reported"
    })
    .await;

    // The same transaction once more is one, and is told once more.
    let mut again = Peer::modality(room.dimse, "same", "1.2.3.2", &uids);
    assert_eq!(again.next("status").await["status"], 0);
    assert_eq!(again.next("event").await["committed"], event["committed"]);
    let requests = commitments(&room).await;
    assert_eq!(
        requests.iter().filter(|row| row.what == "request").count(),
        1
    );
    // Another list under its name is nobody's.
    let mut other = Peer::modality(room.dimse, "same", "1.2.3.2", &uids[..1]);
    assert_eq!(other.next("status").await["status"], 0x0115);
    room.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_word_of_the_archive_the_request_fails_in_time_and_nothing_is_erased() {
    if !pynetdicom() {
        return;
    }
    let site = Site::new().await;
    site.add("[retention]\nforwarded_hours = 0\nquarantined_days = 0\n");
    let (mut archive, port) = Peer::archive("never", "same", 0).await;
    site.add(&table(port, "request_timeout_ms = 3000"));
    let room = site.start_with(RELAY, ROUTE).await;
    let film = Film::new(1, 1);
    store(&room, &[&film]).await;
    archive.next("asked").await;
    let mut modality = Peer::modality(room.dimse, "same", "1.2.3.3", &[&film.instance]);
    assert_eq!(modality.next("status").await["status"], 0);
    let event = modality.next("event").await;
    assert_eq!(event["committed"], serde_json::json!([]));
    assert_eq!(
        event["failed"],
        serde_json::json!([[film.instance, 0x0110]])
    );
    assert_eq!(room.settled(1).await[0].objects, 1, "still here");
    room.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_dies_and_a_room_that_is_killed_at_every_step_lose_nothing() {
    if !pynetdicom() {
        return;
    }
    let mut site = Site::new().await;
    let door = free_port();
    site.listen = format!("dimse = \"127.0.0.1:{door}\"");
    site.add("[retention]\nforwarded_hours = 0\nquarantined_days = 0\n");
    let listen = free_port();
    let (mut archive, port) = Peer::archive("die", "same", 0).await;
    let told = format!(
        "event_timeout_ms = 2000\n[[commitment.modality]]\ncalling_ae = \"TESTER\"\n\
         address = \"127.0.0.1:{listen}\""
    );
    site.add(&table(port, &told));
    drop(site.config(RELAY, ROUTE));
    let film = Film::new(1, 1);

    // Stored, and killed.
    let mut child = kill::start(&site).await;
    assert_eq!(
        Scu::try_store(Room::elsewhere(&site).dimse, &film).await,
        Some(0)
    );
    child.kill().await.unwrap();
    // Asked by the modality, and killed; sent, and the archive dies of the question.
    let mut child = kill::start(&site).await;
    let uids = [&*film.instance];
    let room = Room::elsewhere(&site);
    let mut modality = Peer::modality(room.dimse, &listen.to_string(), "1.2.3.4", &uids);
    assert_eq!(modality.next("status").await["status"], 0);
    archive.next("asked").await;
    archive.child.wait().await.unwrap();
    child.kill().await.unwrap();
    assert_eq!(Room::elsewhere(&site).dimse, room.dimse);
    // The archive is back and keeps silent; asked, and killed.
    let (mut archive, port) = Peer::archive("never", "same", port).await;
    let mut child = kill::start(&site).await;
    archive.next("asked").await;
    child.kill().await.unwrap();
    drop(archive);
    // It comes to its senses, and the modality, which has waited all the time, hears of it.
    let mut child = kill::start(&site).await;
    let (mut archive, _) = Peer::archive("all", "same", port).await;
    assert_eq!(archive.next("reported").await["reported"], 0);
    let event = modality.next("event").await;
    assert_eq!(
        (&event["event"], &event["committed"]),
        (&1.into(), &serde_json::json!(uids))
    );
    let room = Room::elsewhere(&site);
    until(&room, |row| row.state == "reported").await;
    erased(&room).await;
    child.kill().await.unwrap();
}

#[tokio::test]
async fn only_the_archive_is_heard_and_only_what_is_whole_is_taken_down() {
    let site = Site::new().await;
    // Nobody is there.
    site.add(&table(free_port(), ""));
    let room = site.start_with(RELAY, ROUTE).await;
    let film = Film::new(1, 1);
    store(&room, &[&film]).await;
    let list = |films: &[&str]| list("1.2.9", films);
    let many = vec![&*film.instance; 10_001];
    for (calling, message, data, expected) in [
        ("TESTER", Message::Action(1), list(&[&film.instance]), 0),
        ("TESTER", Message::Action(1), list(&[&film.instance]), 0),
        (
            "TESTER",
            Message::Action(2),
            list(&[&film.instance]),
            0x0123,
        ),
        ("TESTER", Message::Action(1), list(&[]), 0x0115),
        ("TESTER", Message::Action(1), vec![7; 30], 0x0115),
        ("TESTER", Message::Action(1), list(&many), 0x0213),
        ("TESTER", Message::Event(1), list(&[&film.instance]), 0x0124),
        // The title alone, without the role of the archive.
        ("PACS", Message::Event(1), list(&[&film.instance]), 0x0124),
    ] {
        let status = say(room.dimse, calling, message, &data).await;
        assert_eq!(status, Some(expected), "{calling} {message:?}");
    }
    let rows = commitments(&room).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&*rows[0].state, rows[0].committed), ("open", 0));
    room.stop().await;
}

/// A data set in implicit VR that names films.
pub(super) fn list(transaction: &str, films: &[&str]) -> Vec<u8> {
    use cloister_dimse::references::{Reference, References};
    use cloister_phi::{Phi, Uid};
    let uid = |text: &str| Uid::parse(text).unwrap();
    let reference = |instance: &&str| Reference {
        class: uid(dicom_dictionary_std::uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE),
        instance: Phi::new(uid(instance)),
    };
    let references = References {
        transaction: Phi::new(uid(transaction)),
        referenced: films.iter().map(reference).collect(),
        failed: Vec::new(),
    };
    references.encode(true).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_archive_is_heard_late_and_twice_and_nobody_else_with_its_title_is() {
    if !pynetdicom() {
        return;
    }
    let site = Site::new().await;
    site.add("[retention]\nforwarded_hours = 0\nquarantined_days = 0\n");
    let (mut archive, port) = Peer::archive("never", "same", 0).await;
    site.add(&table(port, "event_timeout_ms = 1600"));
    let room = site.start_with(RELAY, ROUTE).await;
    let film = Film::new(1, 1);
    store(&room, &[&film]).await;
    archive.next("stored").await;
    let first = archive.next("asked").await["asked"].clone();
    // Asked again, and not sent again.
    let second = archive.next("asked").await["asked"].clone();
    assert_ne!(first, second);
    assert!(archive.said.iter().all(|said| said.get("stored").is_none()));
    let report = list(first.as_str().unwrap(), &[&film.instance]);
    let scp = true;
    let say = |last: u8, calling, scp| {
        let from = Ipv4Addr::new(127, 0, 0, last);
        say_as(room.dimse, from, calling, scp, Message::Event(1), &report)
    };
    assert_eq!(say(2, "PACS", scp).await, Some(0x0124), "from elsewhere");
    assert_eq!(say(1, "TESTER", scp).await, Some(0x0124), "another title");
    assert_eq!(say(1, "PACS", !scp).await, Some(0x0124), "without the role");
    assert_eq!(room.settled(1).await[0].objects, 1, "nobody was believed");
    assert_eq!(
        say(1, "PACS", scp).await,
        Some(0),
        "late, and the archive's"
    );
    erased(&room).await;
    assert_eq!(say(1, "PACS", scp).await, Some(0), "said before");
    // Sent to the archive, and gone: it is remembered.
    let asked = list("1.2.10", &[&film.instance]);
    let status = say_as(
        room.dimse,
        Ipv4Addr::LOCALHOST,
        "TESTER",
        false,
        Message::Action(1),
        &asked,
    );
    assert_eq!(status.await, Some(0));
    let row = until(&room, |row| row.what == "request").await;
    assert_eq!((row.decided, row.committed), (1, 1));
    // Nobody takes the report; an operator does not wait for it.
    let forget = format!("{{\"commitments\":{{\"forget\":\"{}\"}}}}", row.key);
    let answer = room.request(&forget).await;
    assert!(
        matches!(answer, Answer::Done(Done::CommitmentForgotten)),
        "{answer:?}"
    );
    assert!(commitments(&room).await.is_empty());
    let answer = room.request(&forget).await;
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    room.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modality_that_does_not_answer_keeps_no_other_from_its_report() {
    if !pynetdicom() {
        return;
    }
    let site = Site::new().await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = free_port();
    let addresses = format!(
        "timeout_ms = 600000\n\
         [[commitment.modality]]\ncalling_ae = \"DEAD\"\naddress = \"{}\"\n\
         [[commitment.modality]]\ncalling_ae = \"TESTER\"\naddress = \"127.0.0.1:{listen}\"",
        dead.local_addr().unwrap()
    );
    site.add(&table(free_port(), &addresses));
    let room = site.start_with(RELAY, ROUTE).await;
    for transaction in ["1.2.20", "1.2.21"] {
        let asked = list(transaction, &["1.2.826.0.1.99.9.9"]);
        let status = say(room.dimse, "DEAD", Message::Action(1), &asked).await;
        assert_eq!(status, Some(0));
    }
    // Called, and silent for as long as this test runs.
    let held = dead.accept().await.unwrap();
    let uids = ["1.2.826.0.1.99.9.8"];
    let mut modality = Peer::modality(room.dimse, &listen.to_string(), "1.2.22", &uids);
    assert_eq!(modality.next("status").await["status"], 0);
    let event = modality.next("event").await;
    assert_eq!(event["failed"], serde_json::json!([[uids[0], 0x0112]]));
    drop(held);
    room.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_that_cannot_be_read_keeps_no_other_from_the_archive() {
    if !pynetdicom() {
        return;
    }
    let site = Site::new().await;
    let port = free_port();
    site.add(&table(port, ""));
    let room = site.start_with(RELAY, ROUTE).await;
    let (one, two) = (Film::new(1, 1), Film::new(2, 2));
    store(&room, &[&one]).await;
    let objects = site.state().join("spool/objects");
    let file = std::fs::read_dir(&objects).unwrap().next().unwrap();
    let file = file.unwrap().path();
    // A link to itself is an input/output error, as a bad sector is.
    let aside = site.state().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    store(&room, &[&two]).await;
    let (mut archive, _) = Peer::archive("all", "same", port).await;
    assert_eq!(archive.next("stored").await["stored"], two.instance);
    assert_eq!(archive.next("reported").await["reported"], 0);
    // The sector can be read again.
    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(archive.next("stored").await["stored"], one.instance);
    assert_eq!(archive.next("reported").await["reported"], 0);
    room.stop().await;
}

#[tokio::test]
async fn an_association_that_waits_for_its_report_is_not_kept_in_the_middle_of_a_pdu() {
    let site = Site::new().await;
    site.add(&table(free_port(), ""));
    let receive = format!("{RELAY}\nidle_timeout_ms = 300");
    let room = site.start_with(&receive, ROUTE).await;
    let film = Film::new(1, 1);
    store(&room, &[&film]).await;
    let asked = list("1.2.30", &[&film.instance]);
    let mut scu = proposing(Scu::connect(room.dimse).await, "TESTER", false).await;
    let status = utter(&mut scu, Message::Action(1), &asked).await;
    assert_eq!(status, Some(0));
    // Promised a report: it may wait between PDUs for longer than one that was promised none.
    let mut other = proposing(Scu::connect(room.dimse).await, "TESTER", false).await;
    let end = tokio::time::timeout(PATIENCE, other.read()).await.unwrap();
    assert!(matches!(end, Some(Pdu::AbortRQ { .. })), "{end:?}");
    assert_eq!(utter(&mut scu, Message::Action(1), &asked).await, Some(0));
    // The head of a P-DATA-TF, and nothing more.
    scu.send(&[4, 0, 0, 0, 0, 100]).await;
    let end = tokio::time::timeout(PATIENCE, scu.read()).await.unwrap();
    assert!(matches!(end, Some(Pdu::AbortRQ { .. }) | None), "{end:?}");
    room.stop().await;
}

#[tokio::test]
async fn of_an_n_service_only_as_much_is_kept_as_the_peer_may_say() {
    let site = Site::new().await;
    site.add(&table(free_port(), "max_references = 10"));
    let room = site.start_with(RELAY, ROUTE).await;
    // Longer than anything that is kept: read to its end, and forgotten on the way.
    let long = vec![0; 9 << 20];
    let status = say(room.dimse, "TESTER", Message::Event(1), &long).await;
    assert_eq!(status, Some(0x0124), "no archive, whatever it says");
    // Ten references have room in 6096 bytes.
    let mut long = list("1.2.40", &["1.2.826.0.1.99.1.1"]);
    long.extend_from_slice(&[9, 0, 0, 0, 0, 32, 0, 0]);
    long.resize(long.len() + 0x2000, 0);
    let status = say(room.dimse, "TESTER", Message::Action(1), &long).await;
    assert_eq!(status, None, "the association is aborted");
    assert!(commitments(&room).await.is_empty());
    room.stop().await;
}

#[tokio::test]
async fn what_the_archive_still_has_to_get_is_not_put_on_record_as_forgotten() {
    let site = Site::new().await;
    site.add(&table(free_port(), ""));
    site.listener.refusing.store(1, Ordering::SeqCst);
    let room = site.start_with(RELAY, ROUTE).await;
    store(&room, &[&Film::new(1, 1)]).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let row = loop {
        let row = room.studies().await.remove(0);
        if row.state == "dead" {
            break row;
        }
        assert!(tokio::time::Instant::now() < deadline, "{row:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let discard = format!("{{\"studies\":{{\"discard\":\"{}\"}}}}", row.key);
    let Answer::Refused(why) = room.request(&discard).await else {
        panic!("discarded");
    };
    assert!(why.contains("the archive does not have it yet"), "{why}");
    room.stop().await;
    let forgotten = site.events().into_iter().filter(|event| {
        event.action() == Action::KeyForgotten && event.decision() == Decision::Allowed
    });
    assert_eq!(forgotten.count(), 0);
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Message {
    Action(u16),
    Event(u16),
}

/// One N-service message on an association of its own; the status that answers it.
async fn say(room: SocketAddr, calling: &str, message: Message, data: &[u8]) -> Option<u16> {
    let mut scu = proposing(Scu::connect(room).await, calling, false).await;
    utter(&mut scu, message, data).await
}

/// As [`say`], from another address of this machine, or as somebody who would be SCP.
async fn say_as(
    room: SocketAddr,
    from: Ipv4Addr,
    calling: &str,
    scp: bool,
    message: Message,
    data: &[u8],
) -> Option<u16> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(room).await.unwrap();
    let mut scu = proposing(Scu::over(stream), calling, scp).await;
    utter(&mut scu, message, data).await
}

/// An association for Storage Commitment alone.
pub(super) async fn proposing<S: AsyncRead + AsyncWrite + Unpin>(
    mut scu: Scu<S>,
    calling: &str,
    scp: bool,
) -> Scu<S> {
    use super::scu::request;
    use dicom_dictionary_std::uids;
    use dicom_ul::pdu::{PresentationContextProposed, UserVariableItem};
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let mut asked = request("CLOISTER", calling);
    asked.presentation_contexts = vec![PresentationContextProposed {
        id: 1,
        abstract_syntax: class.to_owned(),
        transfer_syntaxes: vec![uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()],
    }];
    if scp {
        let length = (class.len() as u16).to_be_bytes();
        let role = [&length[..], class.as_bytes(), &[0, 1]].concat();
        asked
            .user_variables
            .push(UserVariableItem::Unknown(0x54, role));
    }
    let answer = scu.ask(&Pdu::AssociationRQ(asked)).await;
    assert!(matches!(answer, Some(Pdu::AssociationAC(_))), "{answer:?}");
    scu
}

pub(super) async fn utter<S: AsyncRead + AsyncWrite + Unpin>(
    scu: &mut Scu<S>,
    message: Message,
    data: &[u8],
) -> Option<u16> {
    use cloister_dimse::command::{action_request, event_request};
    let number = scu.next_message();
    let class = dicom_dictionary_std::uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let instance = "1.2.840.10008.1.20.1.1";
    let command = match message {
        Message::Action(kind) => action_request(number, class, instance, kind),
        Message::Event(kind) => event_request(number, class, instance, kind),
    };
    scu.values(1, true, &command, usize::MAX).await;
    scu.values(1, false, data, usize::MAX).await;
    scu.status().await
}
