//! Stock senders: dicom-ul's client, and DCMTK's where it is installed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dicom_dictionary_std::uids;
use dicom_ul::association::client::ClientAssociationOptions;
use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu};
use tokio::process::Command;

use super::scu::{Film, store_command};
use super::site::{Room, Site};

#[tokio::test]
async fn dicom_ul_stores_a_film() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut association = ClientAssociationOptions::new()
        .calling_ae_title("UL")
        .called_ae_title("CLOISTER")
        .with_presentation_context(
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
            vec![
                uids::EXPLICIT_VR_LITTLE_ENDIAN,
                uids::IMPLICIT_VR_LITTLE_ENDIAN,
            ],
        )
        .establish_async(room.dimse)
        .await
        .unwrap();
    let film = Film::new(1, 1);
    let context = association.presentation_contexts()[0].id;
    let value = |value_type, data: Vec<u8>| PDataValue {
        presentation_context_id: context,
        value_type,
        is_last: true,
        data,
    };
    for (kind, data) in [
        (PDataValueType::Command, store_command(1, &film.instance)),
        (PDataValueType::Data, film.data_set()),
    ] {
        association
            .send(&Pdu::PData {
                data: vec![value(kind, data)],
            })
            .await
            .unwrap();
    }
    let answer = association.receive().await.unwrap();
    assert!(matches!(answer, Pdu::PData { .. }), "{answer:?}");
    association.release().await.unwrap();
    assert_eq!(room.settled(1).await[0].state, "forwarded");
    room.stop().await;
}

/// Runs a DCMTK program; `None` where it is not installed.
async fn dcmtk(program: &str, options: &[&str], room: &Room, files: &[&Path]) -> Option<bool> {
    let mut command = Command::new(program);
    command
        .args(["-aec", "CLOISTER"])
        .args(options)
        .arg("127.0.0.1")
        .arg(room.dimse.port().to_string())
        .args(files);
    match tokio::time::timeout(Duration::from_mins(1), command.status())
        .await
        .unwrap()
    {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {program} is not installed");
            None
        }
        status => Some(status.unwrap().success()),
    }
}

#[tokio::test]
async fn dcmtk_echoes_and_stores() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut files = Vec::new();
    for instance in 1..=3 {
        let film = Film {
            side: 200,
            ..Film::new(1, instance)
        };
        let path = site.dir.path().join(format!("{instance}.dcm"));
        cloister_log::durable::write_atomic(&path, &film.file(), 0o600).unwrap();
        files.push(path);
    }
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    if dcmtk("echoscu", &[], &room, &[]).await == Some(true) {
        assert_eq!(dcmtk("storescu", &[], &room, &files).await, Some(true));
        assert_eq!(
            dcmtk("echoscu", &["-aec", "NOBODY"], &room, &[]).await,
            Some(false)
        );
        let rows = room.settled(1).await;
        assert_eq!((rows[0].cleared, rows[0].state.as_str()), (3, "forwarded"));
    }
    room.stop().await;
}

/// Real films in the syntaxes that DCMTK proposes when told so.
#[tokio::test]
async fn real_films_pass_every_step_but_the_blanking() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/dicom");
    if !data.is_dir() {
        eprintln!("SKIPPED: no ../shared/data");
        return;
    }
    let site = Site::new().await;
    let room = site.start().await;
    let films = [
        ("presidio/0_ORIGINAL_compressed.dcm", "-xr"),
        ("pydicom-data/RG1_J2KI.dcm", "-xw"),
        ("robyoung/RG1_JLSN", "-xu"),
        ("torchxrayvision/Fake_MONOHR1.dcm", "-xy"),
        (
            "torchxrayvision/1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm",
            "-xy",
        ),
    ];
    for (film, syntax) in films {
        match dcmtk("storescu", &["-R", syntax], &room, &[&data.join(film)]).await {
            None => return room.stop().await,
            Some(sent) => assert!(sent, "{film}"),
        }
    }
    let rows = room.settled(3).await;
    let mut cleared: Vec<_> = rows
        .iter()
        .map(|row| (row.state.as_str(), row.cleared, row.quarantined))
        .collect();
    cleared.sort_unstable();
    assert_eq!(
        cleared,
        [
            ("forwarded", 1, 0),
            ("forwarded", 1, 1),
            ("forwarded", 2, 0)
        ]
    );
    let quarantine = room.quarantine().await;
    assert_eq!(
        (quarantine.len(), quarantine[0].reason.as_str()),
        (1, "UID_CONFLICT")
    );
    room.stop().await;
}
