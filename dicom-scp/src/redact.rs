//! Fifth step: burned-in text is found and blanked, and the rendition made, in a worker process.
//! Before it stands `deidentify`, after it `clear`.

use std::time::Instant;

use cloister_redact::{RedactError, Redactor};

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

/// An object without identifiers in tags and pixels, and its rendition.
pub(crate) struct Redacted {
    object: Vec<u8>,
    rendition: Vec<u8>,
    boxes: u32,
    context: Context,
}

impl Redacted {
    pub(crate) fn id(&self) -> Id {
        self.context.id
    }

    /// Object, rendition, number of blanked places, and the rest for the step after.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<u8>, u32, Context) {
        (self.object, self.rendition, self.boxes, self.context)
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
            let findings = cloister_redact::Findings::default();
            (encoded, b"PNG of nothing".to_vec(), findings)
        }
    };
    metric::findings(&findings);
    metric::step(Step::Redact, started.elapsed());
    Ok(Redacted {
        object,
        rendition,
        boxes: u32::try_from(findings.redacted()).unwrap_or(u32::MAX),
        context,
    })
}

fn failed(error: RedactError) -> StepError {
    let reason = match error {
        // The room's fault, not the object's.
        RedactError::StartFailed | RedactError::Stopped => return Later::Redactor.into(),
        RedactError::TimedOut => Reason::WorkerTimedOut,
        RedactError::TooLarge => Reason::TooLarge,
        RedactError::UnknownTransferSyntax => Reason::UnknownTransferSyntax,
        RedactError::WorkerDied | RedactError::Protocol | RedactError::DetectorFailed => {
            Reason::WorkerDied
        }
        _ => Reason::Undecodable,
    };
    tracing::info!(code = error.code(), "An object cannot be redacted.");
    StepError::Quarantine(reason)
}
