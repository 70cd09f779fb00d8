//! The control socket, `<state_dir>/control.sock` (mode 0600): what the command line shows of studies
//! and quarantine. One JSON object a line in, one JSON object a line out, any number of times.
//!
//! ```text
//! → {"list":"studies"}
//! ← {"studies":[{"key":"5f…","study":"…pseudonym or null…","state":"forwarded","version":1,
//!      "report":"uuid or null","replaces":"uuid or null","objects":2,"waiting":0,"cleared":2,
//!      "quarantined":0,"calling_ae":"CT_1","received_at_unix_ms":0}]}
//! → {"list":"quarantine"}
//! ← {"quarantine":[{"object":"9c…","study_key":"5f…","study":"…pseudonym or null…",
//!      "reason":"NOT_CHEST","at_unix_ms":0,"calling_ae":"CT_1","bytes":1024}]}
//! → {"list":"counts"}
//! ← {"counts":{"objects":2,"studies":1,"waiting":0,"pending":0,"forwarded":1,"quarantined":0}}
//! ← {"error":"bad_request"}
//! ```
//! States: `receiving` (not quiet yet), `clearing` (assembled, not every object decided),
//! `forwarding`, `forwarded`, `withheld` (all in quarantine). `version`, `report` and `replaces` are
//! those of the newest version. `key` and `object` are this room's own random or keyed names.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloister_runtime::Shutdown;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::spool::Spool;
use crate::spool::worklist::{ObjectState, Study, VersionState, Worklist};

/// Longest request line.
const MAX_REQUEST_BYTES: u64 = 4096;
/// Command lines at a time.
const MAX_CONNECTIONS: usize = 16;
const IDLE: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    list: List,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum List {
    Studies,
    Quarantine,
    Counts,
}

/// A line out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `studies`.
    Studies(Vec<StudyRow>),
    /// To `quarantine`.
    Quarantine(Vec<QuarantineRow>),
    /// To `counts`.
    Counts(Counts),
    /// The request was none of these.
    Error(String),
}

/// A study.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StudyRow {
    /// This room's own name for it.
    pub key: String,
    /// Its pseudonym, once an object was cleared.
    pub study: Option<String>,
    /// `receiving`, `clearing`, `forwarding`, `forwarded` or `withheld`.
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
pub(crate) async fn serve(listener: UnixListener, spool: Spool, shutdown: Shutdown) {
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
        let (spool, shutdown) = (spool.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                // Whoever breaks off loses only an answer.
                _ = connection(stream, &spool) => {}
            }
            drop(place);
        });
    }
}

async fn connection(stream: UnixStream, spool: &Spool) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(MAX_REQUEST_BYTES);
        let read = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await;
        if read.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice::<Query>(&line) {
            Ok(query) => answer(query.list, &spool.worklist()),
            Err(_) => Answer::Error("bad_request".to_owned()),
        };
        let bad = matches!(answer, Answer::Error(_));
        let mut out = serde_json::to_vec(&answer)?;
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
        List::Quarantine => {
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
                });
            let mut rows: Vec<_> = rows.collect();
            rows.sort_by_key(|row| row.at_unix_ms);
            Answer::Quarantine(rows)
        }
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
            }
            Answer::Counts(counts)
        }
    }
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
    }
}
