//! Programs that the tests drive: our own command line, and other people's where they are found.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::binaries::{binaries, workspace_root};

/// No program that a test starts may take longer.
const PATIENCE: Duration = Duration::from_mins(2);

/// Tells the person who runs the tests something. Straight to standard error: what a test prints
/// is shown only when it fails, and a skipped case has to be seen.
pub fn note(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Says that a case did not run, and why.
pub fn skipped(case: &str, reason: &str) {
    note(&format!("SKIPPED {case}: {reason}"));
}

/// A program on the PATH.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// The Python of the environment that `make setup-test` makes, if pynetdicom is in it.
pub async fn pynetdicom() -> Option<PathBuf> {
    let python = workspace_root().join(".venv/bin/python");
    let check = run(Command::new(&python).args(["-c", "import pynetdicom"]), &[])
        .await
        .ok()?;
    check.status.success().then_some(python)
}

/// Runs a program to its end, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started or takes longer than two minutes.
pub async fn run(command: &mut Command, input: &[u8]) -> Result<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let name = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let mut child = command.spawn().with_context(|| name.clone())?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that ends without reading everything is no failure of ours.
            stdin.write_all(input).await.ok();
        }
    };
    let work = async { tokio::join!(feed, child.wait_with_output()).1 };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(output) => Ok(output?),
        Err(_) => bail!("{name} took longer than {} s", PATIENCE.as_secs()),
    }
}

/// Runs our own command line.
///
/// # Errors
/// As [`run`].
pub async fn cloister(arguments: &[&str]) -> Result<Output> {
    let exe = binaries()?.join("cloister");
    run(Command::new(exe).args(arguments), &[]).await
}

/// A file or folder of `../shared/data`, which only the project's own machines have.
pub fn shared_data(path: &str) -> Option<PathBuf> {
    let root = workspace_root();
    let found = root
        .parent()
        .unwrap_or(Path::new("/"))
        .join("shared/data")
        .join(path);
    found.exists().then_some(found)
}
