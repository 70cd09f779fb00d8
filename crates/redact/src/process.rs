//! One worker process as the pool sees it: start, ask with a deadline, kill.

use std::io::{BufReader, BufWriter};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::config::RedactConfig;
use crate::error::RedactError;
use crate::judge::Verdict;
use crate::wire::{self, Ask, Begin};
use crate::worker::{ARGUMENT, max_answer_bytes};

/// Time a worker may take to load its model.
const START_TIME: Duration = Duration::from_mins(1);
/// Objects after which a worker is replaced: what a codec leaked goes with it.
const OBJECTS_PER_LIFE: u32 = 256;

/// A payload in pieces, which lie one behind the other on the wire.
type Question = (Ask, Vec<Bytes>);
type Answer = Result<(u8, Vec<u8>), RedactError>;

/// A running worker. Dropping kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
    objects: u32,
    timeout: Duration,
    /// What its address space may grow to.
    memory_bytes: u64,
    has_presence: bool,
}

impl Process {
    /// Starts a worker and waits until its model is loaded. Call it from a thread that lives as long
    /// as the worker shall: the kernel kills the worker when that thread ends.
    pub(crate) fn start(config: &RedactConfig) -> Result<Self, RedactError> {
        // The kernel counts processor time over the whole life.
        let cpu_seconds = config
            .timeout
            .as_secs()
            .max(1)
            .saturating_mul(u64::from(OBJECTS_PER_LIFE));
        let mut command = Command::new(&config.worker_exe);
        command
            .arg(ARGUMENT)
            .arg(config.memory_bytes.to_string())
            .arg(cpu_seconds.to_string())
            .env_clear()
            // ONNX Runtime from 1.29 on writes a device id and reports to its maker unless this is set
            // before the library is loaded; the API switch comes too late (microsoft/onnxruntime#27379).
            .env("ORT_DISABLE_TELEMETRY", "1")
            // Every further arena of the C library reserves 64 MiB of the address space.
            .env("MALLOC_ARENA_MAX", "1")
            // What a net's run frees is kept for the next: to the system and back, every page is cleared.
            .env("MALLOC_MMAP_THRESHOLD_", "50331648")
            .env("MALLOC_TRIM_THRESHOLD_", "536870912")
            // Large pages where the system has them on request: a net's planes are tens of megabytes.
            .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Nothing a codec prints reaches a log.
            .stderr(Stdio::null());
        // Where the bundle's fetched files lie; nothing else of the environment goes in.
        for name in ["HOME", "XDG_CACHE_HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let mut child = command.spawn().map_err(|_| RedactError::StartFailed)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(RedactError::StartFailed);
        };
        let (questions, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let max_bytes = max_answer_bytes(config.max_object_bytes);
        std::thread::Builder::new()
            .name("redact-pipe".to_owned())
            .spawn(move || carry(input, output, &asked, &answer, max_bytes))
            .map_err(|_| RedactError::StartFailed)?;
        let mut process = Self {
            child,
            questions,
            answers,
            objects: 0,
            timeout: START_TIME,
            memory_bytes: config.memory_bytes,
            has_presence: false,
        };
        let begin = Begin {
            detector_bundle: config.detector_bundle.clone(),
            presence_bundle: config.presence_bundle.clone(),
            runtime_library: config.runtime_library.clone(),
            max_object_bytes: config.max_object_bytes,
            fill: config.fill,
            outside: config.outside,
        };
        let begin = serde_json::to_vec(&begin).map_err(|_| RedactError::StartFailed)?;
        match process.ask(Ask::Begin, vec![begin.into()]) {
            Ok((wire::DONE, loaded)) => {
                process.timeout = config.timeout;
                process.has_presence = loaded == [1];
                Ok(process)
            }
            _ => Err(RedactError::StartFailed),
        }
    }

    /// Asks, lets `judge` answer what the worker asks back, and waits for the result. After an error
    /// the worker is of no more use.
    pub(crate) fn converse(
        &mut self,
        ask: Ask,
        payload: Vec<Bytes>,
        judge: impl Fn(&[u8]) -> Result<Verdict, RedactError>,
    ) -> Answer {
        self.objects += 1;
        let mut answer = self.ask(ask, payload)?;
        // A worker asks once, and once more after its second look.
        for _ in 0..2 {
            let (wire::READ, told) = answer else {
                return Ok(answer);
            };
            let verdict = judge(&Zeroizing::new(told))?;
            let verdict = serde_json::to_vec(&verdict).map_err(|_| RedactError::Protocol)?;
            answer = self.ask(Ask::Judged, vec![verdict.into()])?;
        }
        match answer {
            (wire::READ, _) => Err(RedactError::Protocol),
            answer => Ok(answer),
        }
    }

    /// Asks and waits. After an error the worker is of no more use.
    fn ask(&mut self, ask: Ask, payload: Vec<Bytes>) -> Answer {
        self.questions
            .send((ask, payload))
            .map_err(|_| RedactError::WorkerDied)?;
        match self.answers.recv_timeout(self.timeout) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(RedactError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(RedactError::WorkerDied),
        }
    }

    /// Whether it is time for a fresh worker: this one has served long enough, or what films of many
    /// sizes have left of its address space may not hold the next.
    pub(crate) fn is_worn(&self) -> bool {
        let grown = |bytes| bytes > self.memory_bytes / 2;
        self.objects > OBJECTS_PER_LIFE / 2 || self.address_space().is_some_and(grown)
    }

    /// Bytes that count towards the worker's limit (proc(5): the first number of `statm`).
    fn address_space(&self) -> Option<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).ok()?;
        let pages: u64 = statm.split(' ').next()?.parse().ok()?;
        Some(pages.saturating_mul(rustix::param::page_size() as u64))
    }

    /// Whether the text-presence net could be loaded.
    pub(crate) const fn has_presence(&self) -> bool {
        self.has_presence
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is what we want; reaping it must follow either way.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Carries questions and answers through the pipes; ends when either side is gone. Killing the worker
/// breaks the pipes, so this thread never outlives it.
fn carry(
    input: ChildStdin,
    output: ChildStdout,
    asked: &Receiver<Question>,
    answer: &SyncSender<Answer>,
    max_bytes: u64,
) {
    let (mut input, mut output) = (BufWriter::new(input), BufReader::new(output));
    while let Ok((ask, payload)) = asked.recv() {
        let written = wire::write_pieces(&mut input, ask as u8, &payload);
        // The worker has it now; a film is not kept for as long as that works.
        drop(payload);
        let result = match written {
            Ok(()) => wire::read(&mut output, max_bytes).map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => RedactError::Protocol,
                _ => RedactError::WorkerDied,
            }),
            Err(_) => Err(RedactError::WorkerDied),
        };
        let ended = result.is_err();
        if answer.send(result).is_err() || ended {
            return;
        }
    }
}
