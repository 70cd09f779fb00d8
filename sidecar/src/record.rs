//! After hold, before release: the audit trail says that this envelope goes to these keys. If it
//! cannot say so, the report stays held.

use std::fmt;

use cloister_audit::{Action, Actor, AuditLog, Event};
use cloister_proto::v1;
use cloister_tls::SpiffeId;
use futures_util::future::{BoxFuture, FutureExt as _};
use uuid::Uuid;

use crate::error::Refusal;
use crate::hold::Held;
use crate::metric;

/// The audit record could not be written. Nothing that needs it may happen.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the audit record could not be written")]
pub(crate) struct AuditDown;

/// The audit trail as the steps see it.
pub(crate) trait Audit: fmt::Debug + Send + Sync + 'static {
    /// Writes an event, durable when this returns its leaf index.
    fn record(&self, event: Event) -> BoxFuture<'_, Result<u64, AuditDown>>;

    /// The leaf that says that `report_id` was released, if there is one.
    fn released(&self, report_id: Uuid) -> Option<u64>;

    /// The log's origin line.
    fn origin(&self) -> &str;
}

impl Audit for AuditLog {
    fn record(&self, event: Event) -> BoxFuture<'_, Result<u64, AuditDown>> {
        async move {
            match Self::record(self, event).await {
                Ok(recorded) => Ok(recorded.leaf_index),
                Err(error) => {
                    tracing::error!(%error, "The audit record could not be written.");
                    metric::audit_failed();
                    Err(AuditDown)
                }
            }
        }
        .boxed()
    }

    fn released(&self, report_id: Uuid) -> Option<u64> {
        self.find(Action::ReportReleased, report_id)
    }

    fn origin(&self) -> &str {
        Self::origin(self)
    }
}

/// A held report whose release stands in the audit log.
pub(crate) struct Recorded {
    held: Held,
    receipt: v1::Receipt,
}

impl Recorded {
    /// The report's id.
    pub(crate) fn report_id(&self) -> Uuid {
        self.held.report_id()
    }

    /// Where the release stands in the audit log.
    pub(crate) fn receipt(&self) -> &v1::Receipt {
        &self.receipt
    }

    /// Envelope and receipt, for the next step.
    pub(crate) fn into_parts(self) -> (v1::SealedReport, v1::Receipt) {
        (self.held.into_envelope(), self.receipt)
    }
}

/// Writes the record, or finds the one that was written before a crash.
///
/// # Errors
/// [`Refusal::AuditDown`]: the report stays held.
pub(crate) async fn record(audit: &dyn Audit, held: Held) -> Result<Recorded, Refusal> {
    let leaf_index = if let Some(leaf_index) = audit.released(held.report_id()) {
        leaf_index
    } else {
        let event = Event::new(Action::ReportReleased)
            .actor(Actor::spiffe(held.owner()).map_err(|_| Refusal::AuditDown)?)
            .report(held.report_id())
            .object_sha256(held.sha256())
            .recipients(held.key_ids().iter().copied());
        let recorded = audit.record(event).await;
        recorded.map_err(|AuditDown| Refusal::AuditDown)?
    };
    let receipt = receipt(audit, held.report_id(), leaf_index, held.sha256());
    Ok(Recorded { held, receipt })
}

/// Where something stands in the audit log.
pub(crate) fn receipt(
    audit: &dyn Audit,
    report_id: Uuid,
    leaf_index: u64,
    sha256: [u8; 32],
) -> v1::Receipt {
    v1::Receipt {
        report_id: report_id.as_bytes().to_vec(),
        log_origin: audit.origin().to_owned(),
        leaf_index,
        sealed_sha256: sha256.to_vec(),
    }
}

/// Records what `caller` does; what it asked for may happen only if this succeeds.
///
/// # Errors
/// [`Refusal::AuditDown`].
pub(crate) async fn note(
    audit: &dyn Audit,
    caller: &SpiffeId,
    event: Event,
) -> Result<u64, Refusal> {
    let actor = Actor::spiffe(&caller.to_string()).map_err(|_| Refusal::AuditDown)?;
    audit
        .record(event.actor(actor))
        .await
        .map_err(|AuditDown| Refusal::AuditDown)
}

#[cfg(test)]
mod tests;
