//! Asks dicom-scp's control socket: which studies there are, what was held back, and what an operator
//! wants done about it. The socket is on this machine and its owner's alone; only the answer to a
//! vault lookup holds identifiers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cloister_dicom_scp::control::{
    Answer, CommitmentRow, Counts, List, QuarantineRow, Request, StudyRow,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// The room answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// The vault is read to its end.
const MUCH_PATIENCE: Duration = Duration::from_mins(10);
/// Longest answer.
const MAX_BYTES: u64 = 256 << 20;

/// Every study that the gateway knows.
///
/// # Errors
/// When dicom-scp does not run, or answers something else.
pub async fn studies(socket: &Path) -> Result<Vec<StudyRow>> {
    match ask(socket, &Request::List(List::Studies)).await? {
        Answer::Studies(rows) => Ok(rows),
        _ => bail!("dicom-scp gave another answer than asked for"),
    }
}

/// Every object that was held back.
///
/// # Errors
/// As [`studies`].
pub async fn quarantine(socket: &Path) -> Result<Vec<QuarantineRow>> {
    match ask(socket, &Request::List(List::Quarantine)).await? {
        Answer::Quarantine(rows) => Ok(rows),
        _ => bail!("dicom-scp gave another answer than asked for"),
    }
}

/// Requests for commitment, and objects that the archive does not have.
///
/// # Errors
/// As [`studies`].
pub async fn commitments(socket: &Path) -> Result<Vec<CommitmentRow>> {
    match ask(socket, &Request::List(List::Commitments)).await? {
        Answer::Commitments(rows) => Ok(rows),
        _ => bail!("dicom-scp gave another answer than asked for"),
    }
}

/// How much there is of everything.
///
/// # Errors
/// As [`studies`].
pub async fn counts(socket: &Path) -> Result<Counts> {
    match ask(socket, &Request::List(List::Counts)).await? {
        Answer::Counts(counts) => Ok(counts),
        _ => bail!("dicom-scp gave another answer than asked for"),
    }
}

/// Has something done.
///
/// # Errors
/// As [`studies`], and when dicom-scp refuses: the error says why.
pub async fn operate(socket: &Path, request: &Request) -> Result<Answer> {
    match ask(socket, request).await? {
        Answer::Refused(why) => bail!("refused: {why}"),
        Answer::Error(_) => bail!("dicom-scp does not know this request"),
        answer => Ok(answer),
    }
}

async fn ask(socket: &Path, request: &Request) -> Result<Answer> {
    let patience = match request {
        Request::Vault(_) => MUCH_PATIENCE,
        _ => PATIENCE,
    };
    let answer = tokio::time::timeout(patience, exchange(socket, request))
        .await
        .context("dicom-scp did not answer in time")?;
    answer.with_context(|| format!("asking dicom-scp at {}", socket.display()))
}

async fn exchange(socket: &Path, request: &Request) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    // Question and answer of a lookup are identified.
    let mut question = Zeroizing::new(serde_json::to_vec(request)?);
    question.push(b'\n');
    stream.write_all(&question).await?;
    let mut line = Zeroizing::new(Vec::new());
    BufReader::new(stream.take(MAX_BYTES))
        .read_until(b'\n', &mut line)
        .await?;
    Ok(serde_json::from_slice(&line)?)
}
