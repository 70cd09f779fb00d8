//! The pool: one thread per worker process takes objects from a bounded queue. A worker that died,
//! hung or spoke nonsense is killed and replaced; only the object it held is lost to quarantine.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cloister_scrub::KnownIdentifiers;
use tokio::sync::{mpsc, oneshot};

use crate::config::RedactConfig;
use crate::error::RedactError;
use crate::judge::judge;
use crate::process::Process;
use crate::redacted::{Findings, Preview, Redacted, RedactedPicture, Spent};
use crate::wire::{self, Ask};

struct Job {
    ask: Ask,
    payload: Vec<Bytes>,
    /// Wiped on drop.
    known: KnownIdentifiers,
    reply: oneshot::Sender<Result<Vec<u8>, RedactError>>,
}

/// Handle to the worker pool; clones share it, and the last one to go stops the workers.
#[derive(Debug, Clone)]
pub struct Redactor {
    jobs: mpsc::Sender<Job>,
    max_object_bytes: u64,
    has_presence: bool,
}

impl Redactor {
    /// Starts the workers and waits until each has loaded its model.
    ///
    /// # Errors
    /// [`RedactError::StartFailed`] when the executable, the bundle (missing, altered, untrusted) or
    /// the library cannot be used.
    pub fn start(mut config: RedactConfig) -> Result<Self, RedactError> {
        let absolute = |path: &std::path::Path| {
            std::path::absolute(path).map_err(|_| RedactError::StartFailed)
        };
        config.detector_bundle = absolute(&config.detector_bundle)?;
        config.presence_bundle = absolute(&config.presence_bundle)?;
        config.runtime_library = absolute(&config.runtime_library)?;
        config.worker_exe = absolute(&config.worker_exe)?;
        let max_object_bytes = config.max_object_bytes.min(u64::from(u32::MAX) / 4);
        config.max_object_bytes = max_object_bytes;
        let workers = config.workers.max(1);
        let config = Arc::new(config);
        let (jobs, queue) = mpsc::channel(workers);
        let queue = Arc::new(Mutex::new(queue));
        let (started, starting) = sync_channel(workers);
        for _ in 0..workers {
            let (config, queue, started) =
                (Arc::clone(&config), Arc::clone(&queue), started.clone());
            std::thread::Builder::new()
                .name("redact-worker".to_owned())
                .spawn(move || {
                    let first = Process::start(&config);
                    let result = first
                        .as_ref()
                        .map(Process::has_presence)
                        .map_err(|error| *error);
                    if started.send(result).is_ok() && result.is_ok() {
                        run(&config, &queue, first.ok());
                    }
                })
                .map_err(|_| RedactError::StartFailed)?;
        }
        let mut has_presence = true;
        for _ in 0..workers {
            has_presence &= starting.recv().map_err(|_| RedactError::StartFailed)??;
        }
        if !has_presence {
            tracing::warn!(
                "The text-presence net cannot be loaded: the slower detector looks at every pixel."
            );
        }
        Ok(Self {
            jobs,
            max_object_bytes,
            has_presence,
        })
    }

    /// Whether the text-presence net looks at the films. Without it the slower detector looks at every
    /// pixel itself.
    pub const fn has_presence(&self) -> bool {
        self.has_presence
    }

    /// Decodes, finds, reads, blanks and encodes one DICOM object. `known` are its patient's
    /// identifiers: they are compared with what is read, here and not in the worker, and a marker
    /// that is one of them does not stay.
    ///
    /// # Errors
    /// [`RedactError`]; the object must then not go on.
    pub async fn redact(
        &self,
        object: Vec<u8>,
        known: &KnownIdentifiers,
    ) -> Result<Redacted, RedactError> {
        let asked = vec![object.into()];
        let [findings, rendition, object] = self.ask(Ask::Redact, asked, known).await?;
        Ok(Redacted {
            object,
            rendition,
            findings: listed(&findings)?,
        })
    }

    /// The same for a PNG or JPEG picture.
    ///
    /// # Errors
    /// [`RedactError`]; the picture must then not go on.
    pub async fn redact_picture(
        &self,
        picture: Vec<u8>,
        known: &KnownIdentifiers,
    ) -> Result<RedactedPicture, RedactError> {
        let asked = vec![picture.into()];
        let [findings, rendition] = self.ask(Ask::RedactPicture, asked, known).await?;
        Ok(RedactedPicture {
            rendition,
            findings: listed(&findings)?,
        })
    }

    /// The last look at a film before it leaves: it is decoded again from the bytes that will leave, and
    /// every pixel is looked at again. `findings` are those of [`Self::redact`]: the markers that were
    /// kept are expected.
    ///
    /// # Errors
    /// [`RedactError::TextLeft`] where text shows, or what was blanked is not blank; others as before.
    pub async fn check(&self, object: Bytes, findings: &Findings) -> Result<Spent, RedactError> {
        let expected = serde_json::to_vec(&findings.boxes).map_err(|_| RedactError::Protocol)?;
        let head = wire::head(&[&expected], object.len());
        let asked = vec![head.into(), object];
        let [spent] = self
            .ask(Ask::Check, asked, &KnownIdentifiers::new())
            .await?;
        serde_json::from_slice(&spent).map_err(|_| RedactError::Protocol)
    }

    /// Only looks: DICOM, PNG or JPEG.
    ///
    /// # Errors
    /// [`RedactError`].
    pub async fn detect(
        &self,
        bytes: Vec<u8>,
        known: &KnownIdentifiers,
    ) -> Result<Findings, RedactError> {
        let [findings] = self.ask(Ask::Detect, vec![bytes.into()], known).await?;
        listed(&findings)
    }

    /// Renditions before and after: DICOM, PNG or JPEG.
    ///
    /// # Errors
    /// [`RedactError`].
    pub async fn preview(
        &self,
        bytes: Vec<u8>,
        known: &KnownIdentifiers,
    ) -> Result<Preview, RedactError> {
        let asked = vec![bytes.into()];
        let [findings, before, after, size] = self.ask(Ask::Preview, asked, known).await?;
        let ([width, height], []) = size.as_chunks::<4>() else {
            return Err(RedactError::Protocol);
        };
        Ok(Preview {
            before,
            after,
            size: (u32::from_le_bytes(*width), u32::from_le_bytes(*height)),
            findings: listed(&findings)?,
        })
    }

    async fn ask<const N: usize>(
        &self,
        ask: Ask,
        payload: Vec<Bytes>,
        known: &KnownIdentifiers,
    ) -> Result<[Vec<u8>; N], RedactError> {
        // The last piece is the film.
        let film = payload.last().map_or(0, Bytes::len);
        if film as u64 > self.max_object_bytes {
            return Err(RedactError::TooLarge);
        }
        let (reply, answer) = oneshot::channel();
        let job = Job {
            ask,
            payload,
            known: known.clone(),
            reply,
        };
        self.jobs
            .send(job)
            .await
            .map_err(|_| RedactError::Stopped)?;
        let payload = answer.await.map_err(|_| RedactError::Stopped)??;
        wire::split(payload).ok_or(RedactError::Protocol)
    }
}

fn listed(json: &[u8]) -> Result<Findings, RedactError> {
    serde_json::from_slice(json).map_err(|_| RedactError::Protocol)
}

/// Gives a worker its object; what it reads is compared with the patient's identifiers here.
fn converse(
    worker: &mut Process,
    ask: Ask,
    payload: Vec<Bytes>,
    known: &KnownIdentifiers,
    config: &RedactConfig,
) -> Result<(u8, Vec<u8>), RedactError> {
    let likeness = known.likeness();
    worker.converse(ask, payload, |told| judge(told, &likeness, config.markers))
}

/// One worker thread: takes a job, asks its process, replaces the process when needed.
fn run(config: &RedactConfig, queue: &Mutex<mpsc::Receiver<Job>>, mut process: Option<Process>) {
    loop {
        let next = queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        let Some(job) = next else { return };
        // Nobody waits any more: the caller's request was dropped.
        if job.reply.is_closed() {
            continue;
        }
        let result = match process.take().map_or_else(|| Process::start(config), Ok) {
            Err(error) => Err(error),
            Ok(mut worker) => match converse(&mut worker, job.ask, job.payload, &job.known, config)
            {
                Ok((kind, payload)) => {
                    process = Some(worker).filter(|worker| !worker.is_worn());
                    if kind == wire::DONE {
                        Ok(payload)
                    } else {
                        Err(wire::kind_to_error(kind))
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        worker = worker.id(),
                        code = error.code(),
                        "A worker is replaced."
                    );
                    Err(error)
                }
            },
        };
        // A caller that is gone meanwhile needs no answer.
        let _unheard = job.reply.send(result);
    }
}
