//! The control socket, `<state_dir>/control.sock` (mode 0600): what the command line shows of studies
//! and quarantine, and what an operator may do about them. One JSON object a line in, one JSON object
//! a line out, any number of times.
//!
//! ```text
//! → {"list":"studies"}
//! ← {"studies":[{"key":"5f…","study":"…pseudonym or null…","state":"forwarded","version":1,
//!      "report":"uuid or null","replaces":"uuid or null","objects":2,"waiting":0,"cleared":2,
//!      "quarantined":0,"calling_ae":"CT_1","received_at_unix_ms":0,"dead":"GAVE_UP or null",
//!      "since_unix_ms":0}]}
//! → {"list":"quarantine"}
//! ← {"quarantine":[{"object":"9c…","study_key":"5f…","study":"…pseudonym or null…",
//!      "reason":"NOT_CHEST","at_unix_ms":0,"calling_ae":"CT_1","bytes":1024,
//!      "releasable":false,"why_not":"…"}]}
//! → {"list":"commitments"}
//! ← {"commitments":[{"key":"7a…","what":"request","state":"open","calling_ae":"CT_1",
//!      "since_unix_ms":0,"objects":3,"decided":2,"committed":1,"reason":null},
//!     {"key":"9c…","what":"object","state":"failed","calling_ae":"CT_1","since_unix_ms":0,
//!      "objects":1,"decided":1,"committed":0,"reason":"NO_SUCH_INSTANCE"}]}
//! → {"commitments":{"retry":"7a…"}}                      ← {"done":"relay_retried"}
//! → {"commitments":{"forget":"7a…"}}                     ← {"done":"commitment_forgotten"}
//! → {"list":"counts"}
//! ← {"counts":{"objects":2,"studies":1,"waiting":0,"pending":0,"forwarded":1,"quarantined":0,"dead":0}}
//! → {"studies":{"retry":"5f…"}}, "discard" likewise      ← {"done":"retried"}, {"done":"discarded"}
//! → {"quarantine":{"show":"9c…"}}                        ← {"shown":{…}}
//! → {"quarantine":{"release":"9c…"}}, "purge" likewise   ← {"done":"released"}, {"done":"purged"}
//! → {"vault":{"lookup":"2.25.…"}}                        ← {"identities":[{…}]}
//! → {"vault":"rotate"}                                   ← {"done":{"rotated":{…}}}
//! → {"vault":{"backup":"/file"}}, "verify" likewise      ← {"done":{"backup":{…}}}
//! ← {"refused":"the object is not in quarantine"}
//! ← {"error":"bad_request"}
//! ```
//! States: `receiving` (not quiet yet), `clearing` (assembled, not every object decided),
//! `forwarding`, `forwarded`, `withheld` (all in quarantine), `dead` (not tried again by itself).
//! `version`, `report` and `replaces` are those of the newest version. `key` and `object` are this
//! room's own random or keyed names. Only the answer to `lookup` holds identifiers. Whoever may open
//! the socket may list; everything that changes or reveals something is for `control.operators`.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cloister_audit::AuditLog;
use cloister_runtime::Shutdown;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::operate::Operation;
use crate::spool::Spool;
use crate::spool::worklist::{ObjectState, Study, Version, VersionState, Worklist};
use crate::vault::Vault;

mod commitments;
mod operate;

pub use commitments::{CommitmentRequest, CommitmentRow};

/// Longest request line.
const MAX_REQUEST_BYTES: u64 = 4096;
/// Command lines at a time.
const MAX_CONNECTIONS: usize = 16;
const IDLE: Duration = Duration::from_secs(30);

/// A line in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// What there is.
    List(List),
    /// About a study.
    Studies(StudyRequest),
    /// About an object in quarantine.
    Quarantine(QuarantineRequest),
    /// About the vault.
    Vault(VaultRequest),
    /// About what is relayed to the archive.
    Commitments(CommitmentRequest),
}

/// What can be listed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// Every study.
    Studies,
    /// Every object in quarantine.
    Quarantine,
    /// How much there is of everything.
    Counts,
    /// Requests for commitment, and objects that the archive does not have.
    Commitments,
}

/// What can be done about a study, named by its key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StudyRequest {
    /// Try a dead letter again.
    Retry(String),
    /// Erase a dead letter.
    Discard(String),
}

/// What can be done about an object in quarantine, named by its id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineRequest {
    /// Tell what is known.
    Show(String),
    /// Send it through the whole path again.
    Release(String),
    /// Erase it.
    Purge(String),
}

/// What can be done with the vault.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultRequest {
    /// Who is behind a pseudonym, or which pseudonym an identifier has.
    Lookup(String),
    /// New key for new pseudonyms; everything wrapped again under the newest wrapping key.
    Rotate,
    /// Copy the vault to a new file (absolute path).
    Backup(PathBuf),
    /// Read a copy to its end.
    Verify(PathBuf),
}

// The question may be an identifier.
impl std::fmt::Debug for VaultRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultRequest")
    }
}

/// A line out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `list` `studies`.
    Studies(Vec<StudyRow>),
    /// To `list` `quarantine`.
    Quarantine(Vec<QuarantineRow>),
    /// To `list` `counts`.
    Counts(Counts),
    /// To `list` `commitments`.
    Commitments(Vec<CommitmentRow>),
    /// To `show`.
    Shown(Box<QuarantineRow>),
    /// To `lookup`.
    Identities(Vec<Identity>),
    /// It was done.
    Done(Done),
    /// It was not done, and why.
    Refused(String),
    /// The request was none of these.
    Error(String),
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// A dead letter is tried again.
    Retried,
    /// A dead letter is erased.
    Discarded,
    /// An object waits for its study's next version.
    Released,
    /// An object is erased.
    Purged,
    /// An object goes to the archive again, or a report to its modality.
    RelayRetried,
    /// A request of a modality is not remembered any more.
    CommitmentForgotten,
    /// The keyring has this generation, and so many keys were wrapped again.
    Rotated {
        /// Of the key that makes new pseudonyms.
        generation: u32,
        /// Keys of studies and objects.
        keys: u32,
    },
    /// A copy was written or read.
    Backup {
        /// Identifiers with a pseudonym.
        entries: u64,
        /// Records of the vault's log.
        records: u64,
        /// Of the keyring.
        generation: u32,
    },
}

/// Who is behind a pseudonym. Identified.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Kind of identifier.
    pub kind: String,
    /// Who issued it.
    pub issuer: String,
    /// The identifier.
    pub original: String,
    /// What stands for it.
    pub pseudonym: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// A study.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StudyRow {
    /// This room's own name for it.
    pub key: String,
    /// Its pseudonym, once an object was cleared.
    pub study: Option<String>,
    /// `receiving`, `clearing`, `forwarding`, `forwarded`, `withheld` or `dead`.
    pub state: String,
    /// Newest version, 0 before the first.
    pub version: u32,
    /// Its report.
    pub report: Option<Uuid>,
    /// The report that it replaces.
    pub replaces: Option<Uuid>,
    /// Objects in all, those in quarantine included.
    pub objects: u32,
    /// Not assembled yet.
    pub waiting: u32,
    /// Cleared.
    pub cleared: u32,
    /// In quarantine.
    pub quarantined: u32,
    /// Who sent the first object.
    pub calling_ae: String,
    /// When it came.
    pub received_at_unix_ms: i64,
    /// Why it is not tried again by itself: a closed code.
    #[serde(default)]
    pub dead: Option<String>,
    /// When the newest version came into its state, 0 before the first.
    #[serde(default)]
    pub since_unix_ms: i64,
}

/// A quarantine entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuarantineRow {
    /// This room's own random name for the object.
    pub object: String,
    /// This room's own name for the study.
    pub study_key: String,
    /// The study's pseudonym, once another object of it was cleared.
    pub study: Option<String>,
    /// Closed code.
    pub reason: String,
    /// When.
    pub at_unix_ms: i64,
    /// Who sent it.
    pub calling_ae: String,
    /// Size of its data set.
    pub bytes: u64,
    /// Whether `release` makes sense.
    #[serde(default)]
    pub releasable: bool,
    /// If not, why.
    #[serde(default)]
    pub why_not: Option<String>,
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Acknowledged objects.
    pub objects: u64,
    /// Studies.
    pub studies: u64,
    /// Objects that wait for their study to be quiet.
    pub waiting: u64,
    /// Study versions on their way.
    pub pending: u64,
    /// Study versions whose report is released.
    pub forwarded: u64,
    /// Objects in quarantine.
    pub quarantined: u64,
    /// Study versions that are not tried again by themselves.
    #[serde(default)]
    pub dead: u64,
}

/// What the socket's answers come from.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) spool: Spool,
    pub(crate) vault: Vault,
    pub(crate) audit: AuditLog,
    pub(crate) operators: Vec<u32>,
}

/// Binds the socket in place of one that a killed process left.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `shutdown`.
pub(crate) async fn serve(listener: UnixListener, desk: Desk, shutdown: Shutdown) {
    let desk = Arc::new(desk);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (desk, shutdown) = (Arc::clone(&desk), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                // Whoever breaks off loses only an answer.
                _ = connection(stream, &desk) => {}
            }
            drop(place);
        });
    }
}

async fn connection(stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let operation = Operation { desk, uid };
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(MAX_REQUEST_BYTES);
        let read = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await;
        if read.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(Request::List(list)) => answer(list, &desk.spool.worklist()),
            Ok(Request::Studies(request)) => operation.studies(request).await,
            Ok(Request::Quarantine(request)) => operation.quarantine(request).await,
            Ok(Request::Vault(request)) => operation.vault(request).await,
            Ok(Request::Commitments(request)) => operation.commitments(request).await,
            Err(_) => Answer::Error("bad_request".to_owned()),
        };
        let bad = matches!(answer, Answer::Error(_));
        // It may hold identifiers.
        let mut out = zeroize::Zeroizing::new(serde_json::to_vec(&answer)?);
        out.push(b'\n');
        reader.get_mut().write_all(&out).await?;
        if bad {
            return Ok(());
        }
    }
}

fn answer(list: List, worklist: &Worklist) -> Answer {
    match list {
        List::Studies => Answer::Studies(
            worklist
                .studies()
                .map(|(id, study)| study_row(&id.to_string(), study, worklist))
                .collect(),
        ),
        List::Commitments => Answer::Commitments(commitments::rows(worklist)),
        List::Quarantine => Answer::Quarantine(quarantine_rows(worklist)),
        List::Counts => {
            let mut counts = Counts::default();
            for (_, study) in worklist.studies() {
                let row = study_row("", study, worklist);
                counts.studies += 1;
                counts.objects += u64::from(row.objects);
                counts.waiting += u64::from(row.waiting);
                counts.quarantined += u64::from(row.quarantined);
                let of = |state| {
                    study
                        .versions
                        .iter()
                        .filter(|version| version.state == state)
                        .count() as u64
                };
                counts.pending += of(VersionState::Pending);
                counts.forwarded += of(VersionState::Accepted);
                let dead = |version: &&Version| matches!(version.state, VersionState::Dead(_));
                counts.dead += study.versions.iter().filter(dead).count() as u64;
            }
            Answer::Counts(counts)
        }
    }
}

fn quarantine_rows(worklist: &Worklist) -> Vec<QuarantineRow> {
    let rows = worklist
        .quarantine()
        .map(|(object, reason, at_unix_ms)| QuarantineRow {
            object: object.stored.object.to_string(),
            study_key: object.stored.study.to_string(),
            study: worklist
                .study(object.stored.study)
                .and_then(|study| study.pseudonym.clone()),
            reason: reason.code().to_owned(),
            at_unix_ms,
            calling_ae: object.stored.calling_ae.clone(),
            bytes: object.stored.bytes,
            releasable: reason.not_releasable().is_none(),
            why_not: reason.not_releasable().map(str::to_owned),
        });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| row.at_unix_ms);
    rows
}

fn study_row(key: &str, study: &Study, worklist: &Worklist) -> StudyRow {
    let (mut waiting, mut assembled, mut cleared, mut quarantined) = (0, 0, 0, 0);
    let objects = || study.objects.values().filter_map(|id| worklist.object(*id));
    for object in objects() {
        match object.state {
            ObjectState::Waiting => waiting += 1,
            ObjectState::Assembled => assembled += 1,
            ObjectState::Cleared { .. } => cleared += 1,
            ObjectState::Quarantined { .. } => quarantined += 1,
        }
    }
    let newest = study.versions.last();
    let state = match newest.map(|version| version.state) {
        Some(VersionState::Pending) if assembled > 0 => "clearing",
        Some(VersionState::Pending) => "forwarding",
        _ if waiting > 0 => "receiving",
        Some(VersionState::Dead(_)) => "dead",
        Some(VersionState::Accepted) => "forwarded",
        // Nothing but conflicts, or nothing that could be cleared.
        Some(VersionState::Withheld) | None => "withheld",
    };
    let first = objects().next();
    StudyRow {
        key: key.to_owned(),
        study: study.pseudonym.clone(),
        state: state.to_owned(),
        version: newest.map_or(0, |version| version.number),
        report: newest.map(|version| version.report),
        replaces: newest.and_then(|version| version.replaces),
        objects: study.objects.len() as u32,
        waiting,
        cleared,
        quarantined,
        calling_ae: first
            .map(|object| object.stored.calling_ae.clone())
            .unwrap_or_default(),
        received_at_unix_ms: first.map_or(0, |object| object.stored.at_unix_ms),
        dead: match newest.map(|version| version.state) {
            Some(VersionState::Dead(reason)) => Some(reason.code().to_owned()),
            _ => None,
        },
        since_unix_ms: newest.map_or(0, |version| version.since_unix_ms),
    }
}
