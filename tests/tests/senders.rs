//! Other people's senders and real films: DCMTK and pynetdicom where they are found.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cloister::opening::OpenedReport;
use cloister_dicom_scp::control::StudyRow;
use cloister_tests::{
    Harness, find_tool, original_instances, pynetdicom, run, shared_data, skipped, until,
};
use tokio::process::Command;

/// Long enough for a second process to send the second film of a study.
const QUIET_MS: u64 = 4000;

/// A program that sends DICOM files.
enum Sender {
    Dcmtk(PathBuf),
    Pynetdicom(PathBuf),
}

/// One real study: files with the option that DCMTK needs for their transfer syntax, and what has
/// to come out of them.
struct Case {
    name: &'static str,
    files: [(&'static str, &'static str); 2],
    reports: usize,
    films: usize,
    conflicts: usize,
}

const CASES: [Case; 3] = [
    Case {
        name: "presidio (RLE)",
        files: [
            ("dicom/presidio/0_ORIGINAL_compressed.dcm", "-xr"),
            ("", ""),
        ],
        reports: 1,
        films: 1,
        conflicts: 0,
    },
    Case {
        name: "RG1 (JPEG 2000 and JPEG-LS)",
        files: [
            ("dicom/pydicom-data/RG1_J2KI.dcm", "-xw"),
            ("dicom/robyoung/RG1_JLSN", "-xu"),
        ],
        reports: 1,
        films: 2,
        conflicts: 0,
    },
    Case {
        name: "torchxrayvision (JPEG baseline, one UID twice)",
        files: [("dicom/torchxrayvision", "-xy"), ("", "")],
        reports: 1,
        films: 1,
        conflicts: 1,
    },
];

impl Sender {
    async fn send(&self, harness: &Harness, file: &Path, option: &str) -> Result<()> {
        let peer = harness.peer()?;
        let (ip, port) = (
            peer.address.ip().to_string(),
            peer.address.port().to_string(),
        );
        let mut command = match self {
            Self::Dcmtk(storescu) => {
                let mut command = Command::new(storescu);
                command.args([option, "-aet", "DCMTK", "-aec", &peer.called, &ip, &port]);
                command
            }
            Self::Pynetdicom(python) => {
                let mut command = Command::new(python);
                command.args(["-m", "pynetdicom", "storescu", &ip, &port, "-cx"]);
                command.args(["-aet", "PYNETDICOM", "-aec", &peer.called]);
                command
            }
        };
        let output = run(command.arg(file), &[]).await?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.status.success(), "{}: {said}", file.display());
        ensure!(!said.contains("E: "), "{}: {said}", file.display());
        Ok(())
    }
}

/// The file itself, or every DICOM file of a folder.
fn expand(path: PathBuf) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path]);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "dcm"))
        .collect();
    files.sort();
    Ok(files)
}

/// The newest study's report once it shows as many films: where a sender takes longer than the
/// quiet time, a first version has fewer.
async fn newest_with(harness: &Harness, studies: usize, films: usize) -> Result<OpenedReport> {
    until(&format!("a report of {films} films"), 120, || async {
        let rows = harness.settled(studies).await?;
        let newest = rows
            .iter()
            .max_by_key(|row: &&StudyRow| row.received_at_unix_ms);
        let newest = newest.and_then(|row| row.report).context("no report")?;
        let opened = harness.inbox()?.open(newest).await?;
        Ok((original_instances(&opened).len() == films).then_some(opened))
    })
    .await
}

async fn deliver(sender: &Sender, name: &str) -> Result<()> {
    let harness = Harness::start_with(|settings| settings.quiet_ms = QUIET_MS).await?;
    let (mut studies, mut reports, mut conflicts) = (0, 0, 0);
    for case in &CASES {
        let mut sent = 0;
        for (path, option) in case.files.iter().filter(|(path, _)| !path.is_empty()) {
            let Some(path) = shared_data(path) else {
                skipped(
                    &format!("{name}: {}", case.name),
                    "../shared/data is not here",
                );
                continue;
            };
            for file in expand(path)? {
                sender.send(&harness, &file, option).await?;
                sent += 1;
            }
        }
        if sent == 0 {
            continue;
        }
        studies += 1;
        reports += case.reports;
        conflicts += case.conflicts;
        let opened = newest_with(&harness, studies, case.films)
            .await
            .with_context(|| format!("{name}: {}", case.name))?;
        assert!(opened.joined.identity.is_some(), "{name}: {}", case.name);
        assert_eq!(
            harness.inbox()?.list(true).await?.len(),
            reports,
            "{name}: {}",
            case.name
        );
        let held = harness.quarantine().await?;
        assert_eq!(held.len(), conflicts, "{name}: {}: {held:?}", case.name);
        assert!(
            held.iter().all(|row| row.reason == "UID_CONFLICT"),
            "{held:?}"
        );
    }
    harness.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dcmtk_pings_and_delivers() -> Result<()> {
    let (Some(echoscu), Some(storescu)) = (find_tool("echoscu"), find_tool("storescu")) else {
        skipped("DCMTK", "echoscu and storescu are not on the PATH");
        return Ok(());
    };
    let harness = Harness::start().await?;
    let peer = harness.peer()?;
    let (ip, port) = (
        peer.address.ip().to_string(),
        peer.address.port().to_string(),
    );
    let echo = run(
        Command::new(echoscu).args(["-aec", &peer.called, &ip, &port]),
        &[],
    )
    .await?;
    assert!(
        echo.status.success(),
        "{}",
        String::from_utf8_lossy(&echo.stderr)
    );
    send_drawn(&harness, &Sender::Dcmtk(storescu.clone())).await?;
    harness.stop().await?;
    deliver(&Sender::Dcmtk(storescu), "DCMTK").await
}

#[tokio::test(flavor = "multi_thread")]
async fn pynetdicom_delivers() -> Result<()> {
    let Some(python) = pynetdicom().await else {
        skipped(
            "pynetdicom",
            "no .venv with pynetdicom; `make setup-test` makes it",
        );
        return Ok(());
    };
    let harness = Harness::start().await?;
    send_drawn(&harness, &Sender::Pynetdicom(python.clone())).await?;
    harness.stop().await?;
    deliver(&Sender::Pynetdicom(python), "pynetdicom").await
}

/// A drawn film, so that the sender is tested without the shared data as well.
async fn send_drawn(harness: &Harness, sender: &Sender) -> Result<()> {
    use cloister::study::{Patient, StudySpec, draw};
    let study = draw(&StudySpec::chest(71, Patient::made_up(), 1, 256))?;
    let file = harness.scratch()?.join("film.dcm");
    cloister_tests::write(&file, &study.files[0])?;
    sender.send(harness, &file, "-x=").await?;
    assert_eq!(harness.settled(1).await?[0].state, "forwarded");
    Ok(())
}
