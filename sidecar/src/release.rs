//! Last step of the way out: the report becomes visible to its recipients, and the caller gets it.

use cloister_proto::v1;

use crate::error::Refusal;
use crate::hold;
use crate::record::{Audit, Recorded, receipt};
use crate::store::{Entry, Store};

/// A report that its recipients can see. All that a client ever receives.
pub(crate) struct Released {
    envelope: v1::SealedReport,
    receipt: v1::Receipt,
}

impl Released {
    /// Envelope and receipt.
    pub(crate) fn into_parts(self) -> (v1::SealedReport, v1::Receipt) {
        (self.envelope, self.receipt)
    }

    /// A report that was released before.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] while it is only held; [`Refusal::StoreFailed`].
    pub(crate) async fn again(
        store: &dyn Store,
        audit: &dyn Audit,
        entry: &Entry,
    ) -> Result<Self, Refusal> {
        let release = entry.release.ok_or(Refusal::NotFound)?;
        let envelope = hold::read(store, entry).await?;
        let receipt = receipt(
            audit,
            entry.report_id,
            release.leaf_index,
            entry.sealed_sha256,
        );
        Ok(Self { envelope, receipt })
    }
}

/// Makes a recorded report visible.
///
/// # Errors
/// [`Refusal::StoreFailed`], [`Refusal::StoreFull`]: it is released at the next try or start, since
/// its record exists.
pub(crate) async fn release(store: &dyn Store, recorded: Recorded) -> Result<Released, Refusal> {
    store
        .release(recorded.report_id(), recorded.receipt().leaf_index)
        .await?;
    let (envelope, receipt) = recorded.into_parts();
    Ok(Released { envelope, receipt })
}
