//! Fifth step: burned-in text is found and blanked, and the rendition made, in a worker process.
//! Before it stands `deidentify`, after it `clear`.

use std::time::Instant;

use bytes::Bytes;
use cloister_redact::{Findings, RedactError, Redactor};

use crate::deidentify::{Context, Deidentified};
use crate::error::{Later, StepError};
use crate::metric::{self, Step};
use crate::quarantine::Reason;
use crate::spool::Id;

/// What does the work.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// The worker processes.
    Pool(Redactor),
    /// Nothing is looked for: for tests of everything around it.
    #[cfg(test)]
    PassThrough,
}

impl Engine {
    /// Whether the text-presence net looks at films.
    pub(crate) const fn has_presence(&self) -> bool {
        match self {
            Self::Pool(redactor) => redactor.has_presence(),
            #[cfg(test)]
            Self::PassThrough => false,
        }
    }

    /// Looks at every pixel of what will leave.
    pub(crate) async fn check(&self, object: Bytes, findings: &Findings) -> Result<(), StepError> {
        match self {
            Self::Pool(redactor) => {
                redactor.check(object, findings).await.map_err(failed)?;
                Ok(())
            }
            #[cfg(test)]
            Self::PassThrough => Ok(()),
        }
    }
}

/// An object without identifiers in tags and pixels, and its rendition.
pub(crate) struct Redacted {
    object: Bytes,
    rendition: Vec<u8>,
    findings: Findings,
    context: Context,
}

impl Redacted {
    pub(crate) fn id(&self) -> Id {
        self.context.id
    }

    /// Object, rendition, what was found, and the rest for the step after.
    pub(crate) fn into_parts(self) -> (Bytes, Vec<u8>, Findings, Context) {
        (self.object, self.rendition, self.findings, self.context)
    }
}

/// Blanks burned-in text.
pub(crate) async fn redact(
    engine: &Engine,
    deidentified: Deidentified,
) -> Result<Redacted, StepError> {
    let started = Instant::now();
    let (encoded, context) = deidentified.into_parts();
    let (object, rendition, findings) = match engine {
        Engine::Pool(redactor) => {
            let redacted = redactor.redact(encoded, &context.known).await;
            let (object, rendition, findings) = redacted.map_err(failed)?.into_parts();
            // Only now the object may say that its pixels are clean. Reads and encodes it again: not
            // on the threads that answer modalities.
            let unredacted = context.unredacted.clone();
            let stated = tokio::task::spawn_blocking(move || unredacted.complete(object)).await;
            let stated = stated.map_err(|error| {
                if error.is_panic() {
                    StepError::Quarantine(Reason::DeidentifyFailed)
                } else {
                    Later::Stopping.into()
                }
            })?;
            let stated = stated.map_err(|error| StepError::Quarantine(Reason::of(error)))?;
            (stated.into_bytes(), rendition, findings)
        }
        #[cfg(test)]
        Engine::PassThrough => {
            let findings = Findings::default();
            (encoded, b"PNG of nothing".to_vec(), findings)
        }
    };
    metric::findings(&findings);
    metric::step(Step::Redact, started.elapsed());
    Ok(Redacted {
        object: object.into(),
        rendition,
        findings,
        context,
    })
}

fn failed(error: RedactError) -> StepError {
    let reason = match error {
        // The room's fault, not the object's.
        RedactError::StartFailed | RedactError::Stopped => return Later::Redactor.into(),
        RedactError::TimedOut => Reason::WorkerTimedOut,
        RedactError::TooLarge => Reason::TooLarge,
        RedactError::TextLeft => Reason::TextLeft,
        RedactError::UnknownTransferSyntax => Reason::UnknownTransferSyntax,
        RedactError::WorkerDied | RedactError::Protocol | RedactError::DetectorFailed => {
            Reason::WorkerDied
        }
        _ => Reason::Undecodable,
    };
    tracing::info!(code = error.code(), "An object cannot be redacted.");
    StepError::Quarantine(reason)
}
