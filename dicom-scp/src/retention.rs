//! Beside the path: identified data are erased once their time is over. Nothing is erased before its
//! report is released, and nothing before the archive has committed to it where there is one; a dead
//! letter waits for a human.

use std::time::Duration;

use cloister_audit::{Action, AuditLog, Event, Reason};
use cloister_phi::Pseudonym;
use cloister_runtime::Shutdown;

use crate::error::SpoolError;
use crate::metric::{self, Erased};
use crate::spool::record::now_unix_ms;
use crate::spool::worklist::Keep;
use crate::spool::worklist::commitment::Leaver;
use crate::spool::{Id, Spool};

/// After a fault, and for ever if nothing is due: a change wakes us anyway.
const AGAIN: Duration = Duration::from_mins(1);
/// Between a change and the look at it: films come in hundreds a second, and this looks at all of
/// them.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks for studies whose time is over until `shutdown`.
pub(crate) async fn run(spool: Spool, audit: AuditLog, keep: Keep, shutdown: Shutdown) {
    loop {
        let changed = spool.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let change = async {
            changed.await;
            tokio::time::sleep(PAUSE).await;
        };
        let (over, next) = spool.worklist().over(keep, now_unix_ms());
        for study in over {
            if let Err(error) = erase(&spool, &audit, study, keep).await {
                tracing::error!(%error, "A study whose time is over is not erased; trying again.");
            }
        }
        let left = next.map_or(AGAIN, |at| {
            let left = at.saturating_sub(now_unix_ms()).max(0);
            AGAIN.min(Duration::from_millis(left.unsigned_abs()))
        });
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = change => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum EraseError {
    #[error("the audit log: {0}")]
    Audit(#[from] cloister_audit::AuditError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

async fn erase(spool: &Spool, audit: &AuditLog, study: Id, keep: Keep) -> Result<(), EraseError> {
    let now = now_unix_ms();
    let event = {
        let worklist = spool.worklist();
        let Some(entry) = worklist
            .study(study)
            .filter(|_| worklist.is_over(study, keep, now))
        else {
            return Ok(());
        };
        let event = Event::new(Action::KeyForgotten)
            .reason(Reason::Retention)
            .count(entry.objects.len() as u32);
        let event = match entry.versions.last() {
            Some(version) => event.report(version.report),
            None => event,
        };
        match entry.pseudonym.as_deref().map(Pseudonym::parse) {
            Some(Ok(pseudonym)) => event.study(pseudonym),
            _ => event,
        }
    };
    audit.record(event).await?;
    let erased = spool.erase_study(study, Leaver::Retention, |worklist| {
        let over = worklist.is_over(study, keep, now);
        over.then(|| worklist.erasure(study, now)).flatten()
    });
    if let Some(objects) = erased.await? {
        metric::erased(Erased::Retention, objects);
        tracing::info!(%study, objects, "Erased a study whose time is over.");
    }
    Ok(())
}
