//! Broken and foreign input: a clear refusal in the right protocol, nothing forwarded, nothing
//! lost, and the next good study goes through.

use std::net::SocketAddr;

use anyhow::Result;
use cloister::scu::{self, Association, Film, Peer};
use cloister::state::Room;
use cloister::study::{Patient, StudySpec, draw};
use cloister_tests::{Chance, Harness, cloister, get, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// What strangers send.
fn garbage(chance: &mut Chance) -> Vec<Vec<u8>> {
    let mut noise = vec![0; 4096];
    noise.fill_with(|| chance.draw() as u8);
    vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        // An A-ASSOCIATE-RQ that announces 4 GiB.
        vec![0x01, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x01],
        // A P-DATA-TF before any association.
        vec![
            0x04, 0x00, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x02, 0x01, 0x03,
        ],
        // A TLS record that is no ClientHello.
        vec![0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x00],
        noise,
    ]
}

async fn throw(address: SocketAddr, bytes: &[u8]) -> Result<()> {
    within("a port that got garbage", 30, async {
        let mut stream = TcpStream::connect(address).await?;
        // The peer may close at any moment: that is the point.
        stream.write_all(bytes).await.ok();
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_port_harms_nothing() -> Result<()> {
    let harness = Harness::start().await?;
    let mut chance = Chance::from_env("CLOISTER_GARBAGE_SEED");
    let mut addresses = vec![
        harness.peer()?.address,
        harness.installation.address(Room::Sidecar, "mtls")?,
    ];
    for room in Room::ALL {
        addresses.push(harness.admin(room)?);
    }
    for address in addresses {
        for bytes in garbage(&mut chance) {
            throw(address, &bytes).await?;
        }
    }
    let state = harness.state();
    for socket in [
        state.server_socket(),
        state.http_socket(),
        state.control_socket(),
    ] {
        for bytes in garbage(&mut chance) {
            within("a socket that got garbage", 60, async {
                let mut stream = UnixStream::connect(&socket).await?;
                stream.write_all(&bytes).await.ok();
                stream.shutdown().await.ok();
                stream.read_to_end(&mut Vec::new()).await.ok();
                Ok(())
            })
            .await?;
        }
    }
    let study = draw(&StudySpec::chest(41, Patient::made_up(), 1, 256))?;
    harness.send_files(&study.files).await?;
    assert_eq!(
        harness.settled(1).await?[0].state,
        "forwarded",
        "a good study still goes through"
    );
    for room in Room::ALL {
        assert!(
            get(harness.admin(room)?, "/readyz").await.is_ok(),
            "{room} is ready"
        );
    }
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn films_that_cannot_go_on_are_quarantined_with_a_reason() -> Result<()> {
    let harness = Harness::start().await?;
    let of = |seed| StudySpec::chest(seed, Patient::made_up(), 1, 256);
    let mut knee = of(51);
    knee.body_part = "KNEE".into();
    harness.send_files(&draw(&knee)?.files).await?;
    // Explicit VR data that says it is JPEG 2000.
    let film = Film::parse(&draw(&of(52))?.files[0])?;
    harness
        .send(&[film.with_transfer_syntax("1.2.840.10008.1.2.4.90")])
        .await?;
    let rows = until("two quarantine entries or refusals", 60, || async {
        let rows = harness.quarantine().await?;
        Ok((!rows.is_empty() && harness.settled(1).await.is_ok()).then_some(rows))
    })
    .await?;
    assert!(rows.iter().any(|row| row.reason == "NOT_CHEST"), "{rows:?}");
    let entries = harness.inbox()?.list(false).await?;
    assert!(entries.is_empty(), "nothing of them was forwarded");
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_uid_with_other_bytes_is_a_conflict_and_the_study_stays_complete() -> Result<()> {
    let harness = Harness::start().await?;
    let spec = StudySpec::chest(53, Patient::made_up(), 1, 256);
    let first = draw(&spec)?;
    let mut other = spec.clone();
    other.side = 320;
    let second = draw(&other)?;
    assert_eq!(first.instance_uids, second.instance_uids);
    harness.send_files(&first.files).await?;
    harness.send_files(&second.files).await?;
    let rows = until("the conflict", 60, || async {
        let rows = harness.quarantine().await?;
        Ok((!rows.is_empty()).then_some(rows))
    })
    .await?;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].reason, "UID_CONFLICT");
    harness.settled(1).await?;
    let reports = harness.inbox()?.open_current().await?;
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].joined.report.withheld_objects, 0);
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_and_broken_off_films_are_never_reported() -> Result<()> {
    let harness = Harness::start().await?;
    let study = draw(&StudySpec::chest(54, Patient::made_up(), 1, 256))?;
    let film = Film::parse(&study.files[0])?;
    for bytes in [0, 7, 200, 5000] {
        let cut = film.clone().truncated(bytes);
        let mut association =
            Association::open(&harness.peer()?, std::slice::from_ref(&cut)).await?;
        // Refused with a status, or stored and quarantined later: both are clear.
        let status = association.store(&cut).await;
        if let Ok(status) = status {
            association.release().await.ok();
            if status.is_stored() {
                until("a quarantine entry", 60, || async {
                    Ok((!harness.quarantine().await?.is_empty()).then_some(()))
                })
                .await?;
            }
        }
    }
    // A modality that vanishes in the middle of a film.
    let mut half = TcpStream::connect(harness.peer()?.address).await?;
    half.write_all(&[0x01, 0x00, 0x00, 0x00]).await?;
    drop(half);
    assert!(
        harness.inbox()?.list(false).await?.is_empty(),
        "nothing was forwarded"
    );
    // The whole film afterwards: the gateway has not taken the stump for it.
    harness.send_files(&study.files).await?;
    until("the report of the whole film", 60, || async {
        Ok((!harness.inbox()?.list(true).await?.is_empty()).then_some(()))
    })
    .await?;
    harness.stop().await
}

/// Digital Signatures Sequence (FFFA,FFFA) nested in itself, every length defined, so that only who
/// reads inside meets the depth. Explicit VR little endian, 20 bytes a level.
fn tower(levels: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for above in (0..levels).rev() {
        bytes.extend([0xfa, 0xff, 0xfa, 0xff, b'S', b'Q', 0, 0]);
        bytes.extend((above * 20 + 8).to_le_bytes());
        bytes.extend([0xfe, 0xff, 0x00, 0xe0]);
        bytes.extend((above * 20).to_le_bytes());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_nested_deeper_than_any_stack_is_quarantined_and_the_gateway_lives() -> Result<()> {
    let harness = Harness::start().await?;
    let study = draw(&StudySpec::chest(57, Patient::made_up(), 1, 256))?;
    let mut deep = study.files[0].clone();
    deep.extend(tower(50_000));
    let statuses = harness.send_files(&[deep]).await?;
    assert!(
        statuses.iter().all(|status| status.is_stored()),
        "acknowledged"
    );
    let entries = until("a quarantine entry", 60, || async {
        let entries = harness.quarantine().await?;
        Ok((!entries.is_empty()).then_some(entries))
    })
    .await?;
    assert_eq!(entries.len(), 1);
    let other = draw(&StudySpec::chest(58, Patient::made_up(), 1, 256))?;
    harness.send_files(&other.files).await?;
    until("the report of the next film", 60, || async {
        Ok((!harness.inbox()?.list(true).await?.is_empty()).then_some(()))
    })
    .await?;
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_ae_title_and_an_empty_association_are_answered_in_dicom() -> Result<()> {
    let harness = Harness::start().await?;
    let peer = harness.peer()?;
    assert_eq!(scu::echo(&peer).await?, scu::Status(0));
    let stranger = Peer {
        called: "SOMEBODY_ELSE".into(),
        ..peer.clone()
    };
    assert!(
        scu::echo(&stranger).await.is_err(),
        "another called AE title is rejected"
    );
    // An association without a single object is no study.
    Association::open(&peer, &[]).await?.release().await?;
    assert!(harness.studies().await?.is_empty());
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_is_wrong_in_one_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().display().to_string();
    for (arguments, code) in [
        (vec!["no-such-command"], 64),
        (vec!["report", "list"], 64),
        (vec!["audit", "verify", "--state", &path], 1),
        (vec!["studies", "--state", &path], 1),
        (
            vec![
                "keys",
                "generate",
                "--suite",
                "rot13",
                "--out",
                "/nonexistent/key",
            ],
            64,
        ),
        (vec!["serve", "--state", &path], 64),
    ] {
        let output = cloister(&arguments).await?;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    Ok(())
}
