//! One thread for each key: it holds the session, makes every call, and finds the token again when
//! it was away. Whoever asks waits until a deadline; what came too late is not done.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use cryptoki::error::Error;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use crate::TokenError;
use crate::error::is_lost;
use crate::session::Place;

/// Finds the key, and says what is wrong with it: also that it is another one than the last time.
pub(crate) type Find = Box<dyn FnMut(&Place, &Session) -> Result<ObjectHandle, TokenError> + Send>;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The caller's end.
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    deadline: Duration,
}

/// The thread's end.
pub(crate) struct Connection {
    place: Place,
    find: Find,
    open: Option<(Session, ObjectHandle)>,
}

impl Worker {
    /// Starts the thread and logs in, so that a wrong name or PIN is known at once.
    pub(crate) fn start(place: Place, find: Find, deadline: Duration) -> Result<Self, TokenError> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let mut connection = Connection {
            place,
            find,
            open: None,
        };
        let thread = std::thread::Builder::new().name("token".to_owned());
        let run = move || {
            for job in waiting {
                job(&mut connection);
            }
        };
        // Not joined: it ends with the last caller, unless the module never lets go of it.
        let started = thread.spawn(run);
        drop(started.map_err(|error| TokenError::Failed(error.to_string()))?);
        let worker = Self { jobs, deadline };
        worker.call(|connection| connection.opened().map(drop))?;
        Ok(worker)
    }

    /// Does one thing on the thread. Blocks, up to the deadline.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        let (answer, answered) = mpsc::channel();
        let until = Instant::now() + self.deadline;
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more: a token that was slow is not made slower.
            if Instant::now() < until {
                drop(answer.send(work(connection)));
            }
        });
        let gone = || TokenError::Failed("its thread has ended".to_owned());
        self.jobs.send(job).map_err(|_| gone())?;
        match answered.recv_timeout(self.deadline) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(TokenError::Timeout),
            // Too late by a hair, or a panic in the work.
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(if Instant::now() < until {
                gone()
            } else {
                TokenError::Timeout
            }),
        }
    }
}

impl Connection {
    fn opened(&mut self) -> Result<(&Session, ObjectHandle), TokenError> {
        let open = if let Some(open) = self.open.take() {
            open
        } else {
            let session = self.place.log_in()?;
            let key = (self.find)(&self.place, &session)?;
            (session, key)
        };
        let (session, key) = self.open.insert(open);
        Ok((session, *key))
    }

    /// Once more on a new session if this one is of no use.
    pub(crate) fn with_key<T>(
        &mut self,
        work: impl Fn(&Session, ObjectHandle) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, TokenError> {
        let (session, key) = self.opened()?;
        match work(session, key) {
            Err(error) if is_lost(&error) => {
                tracing::warn!(%error, "The token's session is lost; opening another.");
                self.open = None;
                let (session, key) = self.opened()?;
                let result = work(session, key);
                if result.as_ref().is_err_and(is_lost) {
                    self.open = None;
                }
                Ok(result)
            }
            result => Ok(result),
        }
    }
}
