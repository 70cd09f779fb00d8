//! `AuditService`: the audit trail, for auditors. Reading it is on it as well.

use std::sync::Arc;

use cloister_audit::{Action, AuditLog, Event};
use cloister_proto::v1;
use cloister_proto::v1::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use crate::error::Refusal;
use crate::record::{Audit, note};
use crate::stack::caller_of;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// `AuditService` on this sidecar's log.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) log: AuditLog,
    pub(crate) audit: Arc<dyn Audit>,
}

/// The proof that record `leaf_index` stands in the log.
///
/// # Errors
/// [`Refusal::NotFound`] when there is none; [`Refusal::AuditDown`].
pub(crate) async fn prove(log: &AuditLog, leaf_index: u64) -> Result<v1::InclusionProof, Refusal> {
    if leaf_index >= log.len() {
        return Err(Refusal::NotFound);
    }
    let log = log.clone();
    let proof = tokio::task::spawn_blocking(move || log.prove_inclusion(leaf_index)).await;
    let proof = proof.map_err(|_| Refusal::AuditDown)?.map_err(|error| {
        tracing::error!(%error, "An inclusion proof could not be made.");
        Refusal::AuditDown
    })?;
    Ok(v1::InclusionProof {
        leaf_index: proof.leaf_index,
        leaf: proof.leaf,
        path: proof.path.iter().map(|hash| hash.to_vec()).collect(),
        checkpoint: proof.checkpoint,
    })
}

#[tonic::async_trait]
impl AuditService for Service {
    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        note(
            &*self.audit,
            caller_of(&request)?.id(),
            Event::new(Action::CheckpointRead),
        )
        .await?;
        let checkpoint = self.log.checkpoint().map_err(|_| Refusal::AuditDown)?;
        Ok(Response::new(v1::GetCheckpointResponse { checkpoint }))
    }

    async fn prove_inclusion(
        &self,
        request: Request<v1::ProveInclusionRequest>,
    ) -> Result<Response<v1::InclusionProof>, Status> {
        note(
            &*self.audit,
            caller_of(&request)?.id(),
            Event::new(Action::ProofRead),
        )
        .await?;
        Ok(Response::new(
            prove(&self.log, request.into_inner().leaf_index).await?,
        ))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        note(
            &*self.audit,
            caller_of(&request)?.id(),
            Event::new(Action::EventsListed),
        )
        .await?;
        let asked = request.into_inner();
        let limit = match usize::try_from(asked.limit).unwrap_or(MAX_LIMIT) {
            0 => DEFAULT_LIMIT,
            limit => limit.min(MAX_LIMIT),
        };
        let log = self.log.clone();
        let read = tokio::task::spawn_blocking(move || log.events(asked.from, limit)).await;
        let events = read
            .map_err(|_| Refusal::AuditDown)?
            .map_err(|_| Refusal::AuditDown)?;
        let next = events.last().map_or(asked.from, |(index, _)| index + 1);
        Ok(Response::new(v1::ListEventsResponse {
            events: events.into_iter().map(|(_, leaf)| leaf).collect(),
            next,
        }))
    }
}
