//! The three rooms as child processes: started in order, watched, stopped in reverse order.
//!
//! Nothing is restarted here: a room that dies is a fault somebody has to see. Under systemd or
//! Kubernetes each room is a unit of its own.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior};

use crate::state::{Room, State};

/// A room loads models and opens its logs before it is ready.
const START_LIMIT: Duration = Duration::from_mins(2);
/// A room finishes what it has begun, then goes.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A room did not start, or died.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoomsError {
    /// The executable is not where it is looked for.
    #[error("{path} does not exist; build it with `cargo build --workspace --bins`")]
    NoBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The process cannot be started or waited for.
    #[error("{room} cannot be started: {source}")]
    Spawn {
        /// Which.
        room: Room,
        /// Why.
        source: io::Error,
    },
    /// The process ended before it was told to.
    #[error("{room} ended with {status}{}", hint(.log.as_deref()))]
    Died {
        /// Which.
        room: Room,
        /// Its exit status.
        status: ExitStatus,
        /// Where its last words are.
        log: Option<PathBuf>,
    },
    /// No `ready.json` in time.
    #[error("{room} was not ready within {} s{}", START_LIMIT.as_secs(), hint(.log.as_deref()))]
    NotReady {
        /// Which.
        room: Room,
        /// Where its last words are.
        log: Option<PathBuf>,
    },
    /// A file of the state folder cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `ready.json` does not name a port.
    #[error("{room} names no port {name:?} in ready.json")]
    NoPort {
        /// Which room.
        room: Room,
        /// Which port.
        name: String,
    },
}

fn hint(log: Option<&Path>) -> String {
    log.map_or_else(String::new, |path| {
        format!("; its log is {}", path.display())
    })
}

/// What a room wrote into `ready.json`.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct ReadyFile {
    /// Process that wrote it.
    pub pid: u32,
    /// Bound addresses by name.
    pub ports: BTreeMap<String, String>,
}

impl ReadyFile {
    /// Reads a room's `ready.json`; `None` while there is none.
    pub fn read(state: &State, room: Room) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state.ready(room)).ok()?).ok()
    }

    /// A bound address.
    ///
    /// # Errors
    /// [`RoomsError::NoPort`].
    pub fn address(&self, room: Room, name: &str) -> Result<SocketAddr, RoomsError> {
        self.ports
            .get(name)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| RoomsError::NoPort {
                room,
                name: name.to_owned(),
            })
    }
}

/// Where a room's standard error goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTo {
    /// To this process's standard error.
    Inherit,
    /// To `<state>/logs/<room>.log`, appended.
    File,
}

/// One running room.
#[derive(Debug)]
pub struct Running {
    room: Room,
    child: Child,
    log: Option<PathBuf>,
}

impl Running {
    /// Starts a room's executable from `binaries` on its configuration in `state` and waits until
    /// it serves.
    ///
    /// # Errors
    /// [`RoomsError`].
    pub async fn start(
        state: &State,
        room: Room,
        binaries: &Path,
        log_to: LogTo,
    ) -> Result<Self, RoomsError> {
        let path = binaries.join(room.binary());
        if !path.is_file() {
            return Err(RoomsError::NoBinary { path });
        }
        let ready = state.ready(room);
        match std::fs::remove_file(&ready) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(RoomsError::File {
                    path: ready,
                    source,
                });
            }
            _ => {}
        }
        let mut command = Command::new(path);
        command
            .arg("--config")
            .arg(state.config(room))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C at the terminal goes to this process alone, which then stops the rooms in order.
            .process_group(0)
            .kill_on_drop(true);
        let log = (log_to == LogTo::File).then(|| state.log(room));
        if let Some(path) = &log {
            command.stderr(open_log(path)?);
        }
        let child = command
            .spawn()
            .map_err(|source| RoomsError::Spawn { room, source })?;
        let mut running = Self { room, child, log };
        running.wait_ready(state).await?;
        Ok(running)
    }

    async fn wait_ready(&mut self, state: &State) -> Result<(), RoomsError> {
        let deadline = Instant::now() + START_LIMIT;
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            poll.tick().await;
            if let Some(status) = self.ended()? {
                return Err(self.died(status));
            }
            let ready = ReadyFile::read(state, self.room);
            if ready.is_some_and(|ready| Some(ready.pid) == self.child.id()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(RoomsError::NotReady {
                    room: self.room,
                    log: self.log.clone(),
                });
            }
        }
    }

    /// Which room it is.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, RoomsError> {
        self.child.try_wait().map_err(|source| RoomsError::Spawn {
            room: self.room,
            source,
        })
    }

    fn died(&self, status: ExitStatus) -> RoomsError {
        RoomsError::Died {
            room: self.room,
            status,
            log: self.log.clone(),
        }
    }

    /// SIGKILL, and waits until the process is gone: what a power cut or the OOM killer does.
    ///
    /// # Errors
    /// [`RoomsError::Spawn`].
    pub async fn kill(mut self) -> Result<(), RoomsError> {
        let room = self.room;
        self.child
            .kill()
            .await
            .map_err(|source| RoomsError::Spawn { room, source })
    }

    /// SIGTERM, then waits; SIGKILL after 30 s.
    ///
    /// # Errors
    /// [`RoomsError::Died`] when it does not end with success.
    pub async fn stop(mut self) -> Result<(), RoomsError> {
        let room = self.room;
        let spawn = |source| RoomsError::Spawn { room, source };
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
        {
            // The process may have ended by itself since; waiting tells.
            kill_process(pid, Signal::TERM).ok();
        }
        let Ok(waited) = tokio::time::timeout(STOP_LIMIT, self.child.wait()).await else {
            self.child.kill().await.map_err(spawn)?;
            let status = self.child.wait().await.map_err(spawn)?;
            return Err(self.died(status));
        };
        let status = waited.map_err(spawn)?;
        if status.success() {
            Ok(())
        } else {
            Err(self.died(status))
        }
    }
}

fn open_log(path: &Path) -> Result<File, RoomsError> {
    let fail = |source| RoomsError::File {
        path: path.to_owned(),
        source,
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(fail)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(fail)
}

/// The rooms of one installation.
#[derive(Debug, Default)]
pub struct Rooms {
    running: Vec<Running>,
}

impl Rooms {
    /// Nothing runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts one more room.
    ///
    /// # Errors
    /// [`RoomsError`].
    pub async fn start(
        &mut self,
        state: &State,
        room: Room,
        binaries: &Path,
        log_to: LogTo,
    ) -> Result<(), RoomsError> {
        self.running
            .push(Running::start(state, room, binaries, log_to).await?);
        Ok(())
    }

    /// Takes a running room out, for example to kill it.
    pub fn take(&mut self, room: Room) -> Option<Running> {
        let at = self
            .running
            .iter()
            .position(|running| running.room == room)?;
        Some(self.running.remove(at))
    }

    /// Waits until any room ends by itself.
    pub async fn first_death(&mut self) -> RoomsError {
        let mut poll = tokio::time::interval(Duration::from_millis(200));
        loop {
            poll.tick().await;
            for running in &mut self.running {
                match running.ended() {
                    Ok(Some(status)) => return running.died(status),
                    Ok(None) => {}
                    Err(error) => return error,
                }
            }
        }
    }

    /// Stops what runs, last started first, so that nobody forwards to a room that is gone.
    ///
    /// # Errors
    /// The first [`RoomsError`]; the others are stopped all the same.
    pub async fn stop(mut self) -> Result<(), RoomsError> {
        self.running.sort_by_key(Running::room);
        let mut result = Ok(());
        while let Some(running) = self.running.pop() {
            let stopped = running.stop().await;
            result = result.and(stopped);
        }
        result
    }
}

/// The folder of this executable, where the rooms' executables lie as well.
///
/// # Errors
/// When the operating system does not tell.
pub fn own_binaries() -> io::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    Ok(exe.parent().unwrap_or(Path::new("/")).to_owned())
}
