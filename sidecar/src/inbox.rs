//! `InboxService`: what a clinician's program may see. Every access is an audit event, written
//! before the answer; whoever is not a recipient learns nothing, not even that a report exists.

use std::sync::Arc;

use cloister_audit::{Action, AuditLog, Event, Reason};
use cloister_proto::v1;
use cloister_proto::v1::inbox_service_server::InboxService;
use cloister_runtime::Shutdown;
use cloister_seal::KeyId;
use cloister_tls::SpiffeId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::audit_service::prove;
use crate::directory::Directory;
use crate::error::Refusal;
use crate::record::{Audit, note, receipt};
use crate::release::Released;
use crate::stack::caller_of;
use crate::store::{Entry, Store};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// Entries that wait for a slow watcher.
const WATCH_BUFFER: usize = 16;

/// `InboxService` on the mailbox.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) log: AuditLog,
    pub(crate) directory: Directory,
    pub(crate) shutdown: Shutdown,
}

impl Service {
    /// Whether one of `keys` is `caller`'s.
    fn is_for(&self, keys: &[KeyId], caller: &SpiffeId) -> bool {
        keys.iter()
            .any(|key| self.directory.is_key_of(*key, caller))
    }

    /// Up to `limit` entries after `position` that are for `caller`.
    fn page(&self, caller: &SpiffeId, position: u64, limit: usize) -> Result<Vec<Entry>, Refusal> {
        Ok(self
            .store
            .released(position, limit, &|keys| self.is_for(keys, caller))?)
    }

    fn describe(&self, entry: &Entry, caller: &SpiffeId) -> Result<v1::ReportEntry, Refusal> {
        let release = entry.release.ok_or(Refusal::NotFound)?;
        let acknowledged = self
            .store
            .acknowledged(entry.report_id, &caller.to_string())?;
        Ok(v1::ReportEntry {
            position: release.position,
            report_id: entry.report_id.as_bytes().to_vec(),
            header: entry.header.clone(),
            receipt: Some(receipt(
                &*self.audit,
                entry.report_id,
                release.leaf_index,
                entry.sealed_sha256,
            )),
            acknowledged: acknowledged.is_some(),
            current: self.store.is_current(entry.report_id)?,
        })
    }

    /// The released report `id` if `caller` is one of its recipients; otherwise an audit record of
    /// the attempt, and the same answer whether it exists or not.
    async fn released_to(
        &self,
        caller: &SpiffeId,
        id: &[u8],
        action: Action,
    ) -> Result<Entry, Refusal> {
        let id = Uuid::from_slice(id).map_err(|_| Refusal::Malformed)?;
        let entry = self.store.find(id)?.filter(|entry| entry.release.is_some());
        let reason = match entry {
            Some(entry) if self.is_for(&entry.key_ids, caller) => return Ok(entry),
            Some(_) => Reason::NotRecipient,
            None => Reason::NotFound,
        };
        note(
            &*self.audit,
            caller,
            Event::refused(action, reason).report(id),
        )
        .await?;
        Err(Refusal::NotFound)
    }

    /// Entries after `position`, then live, until the watcher or the process goes.
    async fn watch(
        self,
        caller: SpiffeId,
        mut position: u64,
        watcher: mpsc::Sender<Result<v1::ReportEntry, Status>>,
    ) {
        let mut latest = self.store.latest();
        loop {
            // Before the scan, so that a release during it wakes us again.
            latest.borrow_and_update();
            let page = self
                .page(&caller, position, WATCH_BUFFER)
                .and_then(|entries| {
                    entries
                        .iter()
                        .map(|entry| self.describe(entry, &caller))
                        .collect::<Result<Vec<_>, _>>()
                });
            let page = match page {
                Ok(page) => page,
                Err(refusal) => {
                    watcher.send(Err(refusal.status())).await.ok();
                    return;
                }
            };
            if page.is_empty() {
                tokio::select! {
                    changed = latest.changed() => if changed.is_err() { return },
                    () = watcher.closed() => return,
                    () = self.shutdown.cancelled() => return,
                }
            }
            for entry in page {
                position = entry.position;
                if watcher.send(Ok(entry)).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl InboxService for Service {
    async fn list_reports(
        &self,
        request: Request<v1::ListReportsRequest>,
    ) -> Result<Response<v1::ListReportsResponse>, Status> {
        let caller = caller_of(&request)?.id().clone();
        let asked = request.into_inner();
        let limit = match usize::try_from(asked.limit).unwrap_or(MAX_LIMIT) {
            0 => DEFAULT_LIMIT,
            limit => limit.min(MAX_LIMIT),
        };
        note(&*self.audit, &caller, Event::new(Action::ReportListed)).await?;
        let mut entries = Vec::new();
        let mut position = asked.after;
        while entries.len() < limit {
            let page = self.page(&caller, position, limit - entries.len())?;
            let Some(last) = page.last().and_then(|entry| entry.release) else {
                break;
            };
            position = last.position;
            for entry in &page {
                let entry = self.describe(entry, &caller)?;
                if entry.current || !asked.current_only {
                    entries.push(entry);
                }
            }
        }
        Ok(Response::new(v1::ListReportsResponse { entries }))
    }

    async fn fetch_report(
        &self,
        request: Request<v1::FetchReportRequest>,
    ) -> Result<Response<v1::FetchReportResponse>, Status> {
        let caller = caller_of(&request)?.id().clone();
        let id = request.into_inner().report_id;
        let entry = self
            .released_to(&caller, &id, Action::ReportFetched)
            .await?;
        let event = Event::new(Action::ReportFetched)
            .report(entry.report_id)
            .object_sha256(entry.sealed_sha256);
        note(&*self.audit, &caller, event).await?;
        let (sealed, receipt) = Released::again(&*self.store, &*self.audit, &entry)
            .await?
            .into_parts();
        let proof = prove(&self.log, receipt.leaf_index).await?;
        let current = self
            .store
            .is_current(entry.report_id)
            .map_err(Refusal::from)?;
        Ok(Response::new(v1::FetchReportResponse {
            sealed: Some(sealed),
            receipt: Some(receipt),
            proof: Some(proof),
            current,
        }))
    }

    type WatchReportsStream = ReceiverStream<Result<v1::ReportEntry, Status>>;

    async fn watch_reports(
        &self,
        request: Request<v1::WatchReportsRequest>,
    ) -> Result<Response<Self::WatchReportsStream>, Status> {
        let caller = caller_of(&request)?.id().clone();
        note(&*self.audit, &caller, Event::new(Action::ReportListed)).await?;
        let (watcher, watched) = mpsc::channel(WATCH_BUFFER);
        tokio::spawn(
            self.clone()
                .watch(caller, request.into_inner().after, watcher),
        );
        Ok(Response::new(ReceiverStream::new(watched)))
    }

    async fn acknowledge_report(
        &self,
        request: Request<v1::AcknowledgeReportRequest>,
    ) -> Result<Response<v1::AcknowledgeReportResponse>, Status> {
        let caller = caller_of(&request)?.id().clone();
        let id = request.into_inner().report_id;
        let entry = self
            .released_to(&caller, &id, Action::ReportAcknowledged)
            .await?;
        let identity = caller.to_string();
        let known = self
            .store
            .acknowledged(entry.report_id, &identity)
            .map_err(Refusal::from)?;
        let leaf_index = if let Some(leaf_index) = known {
            leaf_index
        } else {
            let event = Event::new(Action::ReportAcknowledged)
                .report(entry.report_id)
                .object_sha256(entry.sealed_sha256);
            let leaf_index = note(&*self.audit, &caller, event).await?;
            self.store
                .acknowledge(entry.report_id, &identity, leaf_index)
                .await
                .map_err(Refusal::from)?;
            leaf_index
        };
        let receipt = receipt(
            &*self.audit,
            entry.report_id,
            leaf_index,
            entry.sealed_sha256,
        );
        Ok(Response::new(v1::AcknowledgeReportResponse {
            receipt: Some(receipt),
        }))
    }
}
