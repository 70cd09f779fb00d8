//! `SafeguardService`: is this text fit to be sent to a model?

use std::sync::Arc;
use std::time::Instant;

use cloister_proto::v1;
use cloister_proto::v1::safeguard_service_server::SafeguardService;
use tonic::{Request, Response, Status};

use super::Shared;
use crate::error::Fault;
use crate::metric;
use crate::screen::safeguard::{Evaluation, STAGE, evaluate, is_evaluable};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Safeguard(pub(crate) Arc<Shared>);

async fn evaluation(text: String) -> Result<Evaluation, Fault> {
    if !is_evaluable(&text) {
        return Err(Fault::BadField("text"));
    }
    tokio::task::spawn_blocking(move || evaluate(&text))
        .await
        .map_err(|_| Fault::Internal)
}

fn response(evaluation: &Evaluation) -> v1::EvaluateResponse {
    v1::EvaluateResponse {
        label: evaluation.label.into(),
        code: evaluation.code(),
        triggered_by: evaluation.triggered_by.clone(),
    }
}

#[tonic::async_trait]
impl SafeguardService for Safeguard {
    async fn evaluate(
        &self,
        request: Request<v1::EvaluateRequest>,
    ) -> Result<Response<v1::EvaluateResponse>, Status> {
        let started = Instant::now();
        let result = evaluation(request.into_inner().text).await;
        metric::request(
            "Evaluate",
            result.as_ref().err().map_or("OK", |fault| fault.reason()),
            started.elapsed(),
        );
        Ok(Response::new(response(&result?)))
    }

    async fn inspect(
        &self,
        request: Request<v1::EvaluateRequest>,
    ) -> Result<Response<v1::InspectResponse>, Status> {
        if !self.0.inspect {
            return Err(Fault::InspectOff.into());
        }
        let evaluation = evaluation(request.into_inner().text).await?;
        let trace = v1::StageTrace {
            stage: STAGE.to_owned(),
            label: evaluation.label.into(),
            duration_us: u64::try_from(evaluation.time.as_micros()).unwrap_or(u64::MAX),
        };
        Ok(Response::new(v1::InspectResponse {
            result: Some(response(&evaluation)),
            stages: vec![trace],
        }))
    }
}
