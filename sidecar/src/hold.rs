//! After seal, before record: the envelope is durable and invisible.
//!
//! From here on a crash loses nothing: [`Held::resume`] takes the report up again at the next start
//! or at the caller's next try, and the server is not asked a second time.

use cloister_proto::v1;
use cloister_seal::KeyId;
use prost::Message as _;
use uuid::Uuid;

use crate::authorize::Order;
use crate::error::Refusal;
use crate::seal::Sealed;
use crate::store::{Entry, Holding, Store};

/// A sealed report that survives a crash and that nobody sees.
pub(crate) struct Held {
    entry: Entry,
    envelope: v1::SealedReport,
}

/// Writes the envelope into the mailbox.
///
/// # Errors
/// [`Refusal::StoreFull`], [`Refusal::StoreFailed`]: not held, and nothing was shown.
pub(crate) async fn hold(
    store: &dyn Store,
    sealed: Sealed,
    order: &Order,
) -> Result<Held, Refusal> {
    let holding = Holding {
        report_id: sealed.report_id(),
        owner: order.caller().to_string(),
        recipients: order.recipients().to_vec(),
        key_ids: sealed.key_ids().to_vec(),
        header: sealed.header().to_vec(),
        replaces: sealed.replaces().to_vec(),
        sealed_sha256: sealed.sha256(),
        sealed: sealed.bytes().to_vec(),
    };
    let entry = store.hold(holding).await?;
    Ok(Held {
        entry,
        envelope: sealed.into_envelope(),
    })
}

impl Held {
    /// A report that an earlier run held and did not release.
    ///
    /// # Errors
    /// [`Refusal::StoreFailed`] when it cannot be read.
    pub(crate) async fn resume(store: &dyn Store, entry: Entry) -> Result<Self, Refusal> {
        let envelope = read(store, &entry).await?;
        Ok(Self { entry, envelope })
    }

    /// Its id.
    pub(crate) fn report_id(&self) -> Uuid {
        self.entry.report_id
    }

    /// Identity whose request made it.
    pub(crate) fn owner(&self) -> &str {
        &self.entry.owner
    }

    /// SHA-256 of the serialized envelope.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.entry.sealed_sha256
    }

    /// The keys it is sealed to.
    pub(crate) fn key_ids(&self) -> &[KeyId] {
        &self.entry.key_ids
    }

    /// The envelope, for the step after next.
    pub(crate) fn into_envelope(self) -> v1::SealedReport {
        self.envelope
    }
}

/// The stored envelope of `entry`.
///
/// # Errors
/// [`Refusal::StoreFailed`].
pub(crate) async fn read(store: &dyn Store, entry: &Entry) -> Result<v1::SealedReport, Refusal> {
    let bytes = store.sealed(entry).await?;
    v1::SealedReport::decode(&*bytes).map_err(|_| Refusal::StoreFailed)
}
