//! The fast part of the conformance suite (`conformance/`) against our own DICOM port.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use cloister::rooms::ReadyFile;
use cloister::state::Room;
use cloister_tests::{Harness, find_tool, note, run, skipped, workspace_root};
use tokio::process::Command;

/// No study becomes quiet while the suite runs: what comes after the spool has its own tests.
const QUIET_MS: u64 = 3_600_000;
/// The suite needs the standard library only, of this version or newer.
const PYTHON_IS_NEW_ENOUGH: &str = "import sys; sys.exit(sys.version_info < (3, 11))";

/// The Python of `make setup-test`, or the machine's.
async fn python() -> Result<Option<PathBuf>> {
    let ours = workspace_root().join(".venv/bin/python");
    let candidates = [
        Some(ours).filter(|path| path.is_file()),
        find_tool("python3"),
    ];
    for python in candidates.into_iter().flatten() {
        let mut check = Command::new(&python);
        if run(check.args(["-c", PYTHON_IS_NEW_ENOUGH]), &[])
            .await?
            .status
            .success()
        {
            return Ok(Some(python));
        }
    }
    Ok(None)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fast_cases_pass() -> Result<()> {
    let Some(python) = python().await? else {
        skipped("conformance", "no Python 3.11; `make setup-test` says more");
        return Ok(());
    };
    let mut harness = Harness::prepare(|settings| settings.quiet_ms = QUIET_MS)?;
    harness.installation.start_room(Room::DicomScp).await?;
    let peer = harness.peer()?;
    let ready = ReadyFile::read(harness.state(), Room::DicomScp).context("no ready.json")?;
    let mut suite = Command::new(python);
    suite
        .arg(workspace_root().join("conformance/run.py"))
        .args(["--fast", "--profile", "cloister", "--seed", "make-test"])
        .args(["--host", &peer.address.ip().to_string()])
        .args(["--port", &peer.address.port().to_string()])
        .args(["--called-ae", &peer.called])
        .args(["--metrics", &harness.admin(Room::DicomScp)?.to_string()])
        .args(["--pid", &ready.pid.to_string()])
        .arg("--control")
        .arg(harness.state().control_socket())
        .arg("--scan")
        .arg(harness.state().room(Room::DicomScp))
        .arg("--scan")
        .arg(harness.state().log(Room::DicomScp))
        .arg("--out")
        .arg(harness.scratch()?.join("conformance.json"));
    let output = run(&mut suite, &[]).await?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "{said}");
    for line in said.lines().filter(|line| line.contains("should FAIL  ")) {
        note(line);
    }
    harness.stop().await
}

/// The suite itself: it fails receivers that are wrong, and the published catalogue is its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_suite_can_fail() -> Result<()> {
    let Some(python) = python().await? else {
        skipped("conformance self-test", "no Python 3.11");
        return Ok(());
    };
    let script = workspace_root().join("conformance/selftest.py");
    let output = run(Command::new(python).arg(script), &[]).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}
