//! Asks dicom-scp's control socket: which studies there are and what was held back. The socket is
//! on this machine and its owner's alone; its answers hold pseudonyms, never identifiers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cloister_dicom_scp::control::{Answer, Counts, QuarantineRow, StudyRow};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// The room answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer.
const MAX_BYTES: u64 = 256 << 20;

/// Every study that the gateway knows.
///
/// # Errors
/// When dicom-scp does not run, or answers something else.
pub async fn studies(socket: &Path) -> Result<Vec<StudyRow>> {
    match ask(socket, "studies").await? {
        Answer::Studies(rows) => Ok(rows),
        _ => bail!("dicom-scp gave another answer than asked for"),
    }
}

/// Every object that was held back.
///
/// # Errors
/// As [`studies`].
pub async fn quarantine(socket: &Path) -> Result<Vec<QuarantineRow>> {
    match ask(socket, "quarantine").await? {
        Answer::Quarantine(rows) => Ok(rows),
        _ => bail!("dicom-scp gave another answer than asked for"),
    }
}

/// How much there is of everything.
///
/// # Errors
/// As [`studies`].
pub async fn counts(socket: &Path) -> Result<Counts> {
    match ask(socket, "counts").await? {
        Answer::Counts(counts) => Ok(counts),
        _ => bail!("dicom-scp gave another answer than asked for"),
    }
}

async fn ask(socket: &Path, list: &str) -> Result<Answer> {
    let answer = tokio::time::timeout(PATIENCE, exchange(socket, list))
        .await
        .context("dicom-scp did not answer in time")?;
    answer.with_context(|| format!("asking dicom-scp at {}", socket.display()))
}

async fn exchange(socket: &Path, list: &str) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(format!("{{\"list\":\"{list}\"}}\n").as_bytes())
        .await?;
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_BYTES))
        .read_until(b'\n', &mut line)
        .await?;
    Ok(serde_json::from_slice(&line)?)
}
