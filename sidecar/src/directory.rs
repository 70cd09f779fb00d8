//! Who may receive reports and under which key: loaded and verified at start, entry by entry, with
//! the pinned enrolment key. Also answers `DirectoryService`.

use std::path::Path;
use std::sync::Arc;

use cloister_audit::{Action, Event};
use cloister_proto::v1;
use cloister_proto::v1::directory_service_server::DirectoryService;
use cloister_seal::directory::DirectoryError;
use cloister_seal::{KeyId, RecipientPublicKey, VerifyingKey};
use cloister_tls::SpiffeId;
use tonic::{Request, Response, Status};

use crate::error::Refusal;
use crate::record::{Audit, note};
use crate::stack::caller_of;

/// The verified directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory(Arc<cloister_seal::directory::Directory>);

impl Directory {
    /// Reads and verifies every entry.
    ///
    /// # Errors
    /// [`DirectoryError`]: one bad entry stops the start.
    pub(crate) fn load(path: &Path, enrolment: &VerifyingKey) -> Result<Self, DirectoryError> {
        cloister_seal::directory::Directory::load(path, enrolment)
            .map(|inner| Self(Arc::new(inner)))
    }

    /// The valid keys of `spiffe://…` or `group:NAME`.
    pub(crate) fn resolve(&self, recipient: &str) -> Result<Vec<RecipientPublicKey>, Refusal> {
        self.0
            .resolve(recipient)
            .map_err(|_| Refusal::RecipientUnknown)
    }

    /// Whether an entry of `identity` belongs to `group`.
    pub(crate) fn is_member(&self, identity: &str, group: &str) -> bool {
        self.0
            .by_group(group)
            .iter()
            .any(|entry| entry.identity() == identity)
    }

    /// Whether the directory says that key `id` is `identity`'s. A key past its validity still
    /// reads the reports that were sealed to it.
    pub(crate) fn is_key_of(&self, id: KeyId, identity: &SpiffeId) -> bool {
        self.0
            .by_key_id(id)
            .is_some_and(|entry| entry.identity() == identity.to_string())
    }
}

/// `DirectoryService`, for auditors.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) directory: Directory,
    pub(crate) audit: Arc<dyn Audit>,
}

#[tonic::async_trait]
impl DirectoryService for Service {
    async fn list_entries(
        &self,
        request: Request<v1::ListEntriesRequest>,
    ) -> Result<Response<v1::ListEntriesResponse>, Status> {
        note(
            &*self.audit,
            caller_of(&request)?.id(),
            Event::new(Action::DirectoryListed),
        )
        .await?;
        let entries = self
            .directory
            .0
            .entries()
            .iter()
            .map(|entry| entry.signed().clone())
            .collect();
        Ok(Response::new(v1::ListEntriesResponse { entries }))
    }
}
