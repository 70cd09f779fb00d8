//! `cloister pki modality`: what it issues delivers over DICOM TLS with another TLS stack, and what it
//! revokes does not any more, while the gateway runs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cloister::rooms::LogTo;
use cloister::state::Room;
use cloister::study::{Patient, StudySpec, draw};
use cloister_tests::{Harness, binaries, cloister, find_tool, run, skipped};
use serde_json::Value;
use tokio::process::Command;

/// Runs `cloister pki modality …`; the lines that it prints.
async fn modality(pki: &Path, arguments: &[&str]) -> Result<Vec<Value>> {
    let pki = pki.to_str().context("a path of ours is text")?;
    let mut all = vec!["--json", "pki", "modality"];
    all.extend(arguments);
    all.extend(["--pki", pki]);
    let output = cloister(&all).await?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{arguments:?}: {error}");
    let lines = String::from_utf8(output.stdout)?;
    let lines = lines.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// Certificate and key of the last line but none.
fn pair(lines: &[Value]) -> Result<(PathBuf, PathBuf)> {
    let line = lines.first().context("a line")?;
    let path = |key: &str| line[key].as_str().map(PathBuf::from).context("a path");
    Ok((path("certificate")?, path("key")?))
}

/// Starts the gateway with a TLS port beside the plain one.
async fn start(harness: &mut Harness) -> Result<()> {
    for room in [Room::Server, Room::Sidecar] {
        harness.installation.start_room(room).await?;
    }
    harness.installation.write_configs()?;
    let state = harness.state().clone();
    let path = state.config(Room::DicomScp);
    let text = std::fs::read_to_string(&path)?;
    let text = text.replace("[listen]\n", "[listen]\ndimse_tls = \"127.0.0.1:0\"\n");
    // The sidecar's certificate is the one with a host name.
    let text = format!(
        "{text}\n[dimse_tls]\ncertificate = \"pki/sidecar.crt\"\nkey = \"pki/sidecar.key\"\n\
         peer_ca = \"pki/ca.crt\"\ncrl = \"pki/modalities.crl\"\n\
         [[modality]]\ncalling_ae = \"CT_1\"\n\
         identity = \"spiffe://cloister.test/modality/ct-1\"\n"
    );
    cloister_tests::write(&path, text.as_bytes())?;
    let rooms = harness.installation.rooms();
    rooms
        .start(&state, Room::DicomScp, &binaries()?, LogTo::File)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issued_certificate_delivers_until_it_is_revoked() -> Result<()> {
    let Some(storescu) = find_tool("storescu") else {
        skipped("pki modality", "storescu is not on the PATH");
        return Ok(());
    };
    let mut harness = Harness::prepare(|_| ())?;
    let pki = harness.state().pki().dir().to_owned();
    let first = pair(&modality(&pki, &["issue", "ct-1", "--calling-ae", "CT_1"]).await?)?;
    ensure!(modality(&pki, &["issue", "ct-1"]).await.is_err(), "twice");
    // A gateway without a list does not start when it is told of one.
    modality(&pki, &["crl"]).await?;
    start(&mut harness).await?;

    let study = draw(&StudySpec::chest(72, Patient::made_up(), 1, 256))?;
    let film = harness.scratch()?.join("film.dcm");
    cloister_tests::write(&film, &study.files[0])?;
    let address = harness.installation.address(Room::DicomScp, "dimse_tls")?;
    let send = |(certificate, key): (PathBuf, PathBuf)| {
        let mut command = Command::new(&storescu);
        command.arg("+tls").arg(key).arg(certificate);
        command.arg("+cf").arg(pki.join("ca.crt"));
        command.args([
            "-aet",
            "CT_1",
            "-aec",
            &harness.installation.settings().ae_title,
        ]);
        command.args(["localhost", &address.port().to_string()]);
        command.arg(&film);
        async move {
            let output = run(&mut command, &[]).await?;
            anyhow::Ok(output.status.success())
        }
    };
    ensure!(send(first.clone()).await?, "an issued certificate delivers");
    assert_eq!(harness.settled(1).await?[0].state, "forwarded");

    let second = pair(&modality(&pki, &["renew", "ct-1"]).await?)?;
    ensure!(send(first.clone()).await?, "the old one counts as well");
    ensure!(send(second.clone()).await?, "the new one delivers");
    modality(&pki, &["revoke", "ct-1", "--old"]).await?;
    ensure!(!send(first).await?, "a revoked certificate is refused");
    ensure!(send(second.clone()).await?, "and the other is not");
    modality(&pki, &["revoke", "ct-1"]).await?;
    ensure!(!send(second).await?, "no certificate is left");
    let standing: Vec<Value> = modality(&pki, &["list"]).await?;
    assert!(standing.iter().all(|line| line["standing"] == "revoked"));
    assert_eq!(standing.len(), 2);
    harness.stop().await
}
