//! `ReportService`. No method lets a word of the request into a status.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use cloister_proto::v1;
use cloister_proto::v1::report_service_server::ReportService;
use futures_util::{FutureExt, Stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::Shared;
use crate::admit::{StudyReceiver, Submitted, admit_generate, report_id};
use crate::assess::Assessed;
use crate::error::Fault;
use crate::metric::{self, Metric};
use crate::pipeline::Progress;

/// Events of `GenerateStream` that may wait for a slow reader; there are six.
const STREAM_EVENTS: usize = 16;
/// Longest section that `Validate` reads, in bytes: no report comes near it.
const MAX_SECTION_BYTES: usize = 64 << 10;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Reports(pub(crate) Arc<Shared>);

impl Reports {
    async fn draft(
        &self,
        submitted: Submitted,
        progress: Progress<'_>,
    ) -> Result<v1::Report, Fault> {
        if self.0.shutdown.is_triggered() {
            return Err(Fault::Stopping);
        }
        // A panic in a step ends this request only, and says nothing but that.
        AssertUnwindSafe(self.0.pipeline.run(submitted, progress))
            .catch_unwind()
            .await
            .map_err(|_| Fault::Internal)?
            .map(Assessed::into_report)
    }

    async fn receive(
        &self,
        id: Uuid,
        mut stream: Streaming<v1::SubmitStudyRequest>,
    ) -> Result<Submitted, Fault> {
        use v1::submit_study_request::Part;
        let first = stream.message().await.map_err(|_| Fault::BrokenStream)?;
        let Some(Part::Head(head)) = first.and_then(|message| message.part) else {
            return Err(Fault::BadField("head"));
        };
        let mut receiver = StudyReceiver::start(id, head, &self.0.gateway_keys, self.0.limits)?;
        while let Some(message) = stream.message().await.map_err(|_| Fault::BrokenStream)? {
            match message.part {
                Some(Part::Chunk(chunk)) => receiver.chunk(&chunk)?,
                _ => return Err(Fault::BadField("chunk")),
            }
        }
        receiver.finish()
    }
}

fn finish<T>(
    method: &'static str,
    started: Instant,
    result: Result<T, Fault>,
) -> Result<Response<T>, Status> {
    let label = result.as_ref().err().map_or("OK", |fault| fault.reason());
    metric::request(method, label, started.elapsed());
    if let Err(fault) = &result {
        tracing::info!(
            method,
            reason = fault.reason(),
            "A request ended with a fault."
        );
    }
    result.map(Response::new).map_err(Status::from)
}

fn response(report: v1::Report) -> v1::GenerateResponse {
    v1::GenerateResponse {
        result: Some(v1::generate_response::Result::Report(report)),
        receipt: None,
    }
}

#[tonic::async_trait]
impl ReportService for Reports {
    type GenerateStreamStream =
        Pin<Box<dyn Stream<Item = Result<v1::GenerateEvent, Status>> + Send>>;

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let started = Instant::now();
        let result = async {
            let id = report_id(request.metadata())?;
            let submitted = admit_generate(id, request.into_inner(), &self.0.limits)?;
            self.draft(submitted, &|_, _| ()).await.map(response)
        };
        finish("Generate", started, result.await)
    }

    async fn generate_stream(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        use v1::generate_event::Event;
        let started = Instant::now();
        let admitted = report_id(request.metadata())
            .and_then(|id| admit_generate(id, request.into_inner(), &self.0.limits));
        let submitted = match admitted {
            Ok(submitted) => submitted,
            Err(fault) => return finish("GenerateStream", started, Err(fault)),
        };
        let (events, stream) = mpsc::channel(STREAM_EVENTS);
        let this = self.clone();
        tokio::spawn(async move {
            let event = |event| v1::GenerateEvent {
                event: Some(event),
                receipt: None,
            };
            let told = events.clone();
            let progress = move |step: &'static str, fraction: f32| {
                let progress = v1::Progress {
                    step: step.to_owned(),
                    fraction,
                };
                // A reader that does not read loses progress, never the result.
                told.try_send(Ok(event(Event::Progress(progress)))).ok();
            };
            let result = tokio::select! {
                result = this.draft(submitted, &progress) => result,
                // The caller has gone: dropping the work ends it within one decode step.
                () = events.closed() => return,
            };
            let result = finish(
                "GenerateStream",
                started,
                result.map(|report| event(Event::Report(report))),
            );
            events.send(result.map(Response::into_inner)).await.ok();
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn submit_study(
        &self,
        request: Request<Streaming<v1::SubmitStudyRequest>>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let started = Instant::now();
        let result = async {
            let id = report_id(request.metadata())?;
            let submitted = self.receive(id, request.into_inner()).await?;
            self.draft(submitted, &|_, _| ()).await.map(response)
        };
        finish("SubmitStudy", started, result.await)
    }

    async fn validate(
        &self,
        request: Request<v1::ValidateRequest>,
    ) -> Result<Response<v1::ValidateResponse>, Status> {
        let started = Instant::now();
        let request = request.into_inner();
        let result = if request.findings.len() > MAX_SECTION_BYTES {
            Err(Fault::BadField("findings"))
        } else if request.impression.len() > MAX_SECTION_BYTES {
            Err(Fault::BadField("impression"))
        } else {
            let checker = &self.0.pipeline.checker;
            Ok(checker.validate(request.findings, request.impression).await)
        };
        finish("Validate", started, result)
    }

    async fn send_feedback(
        &self,
        request: Request<v1::FeedbackRequest>,
    ) -> Result<Response<v1::FeedbackResponse>, Status> {
        let started = Instant::now();
        let request = request.into_inner();
        let kind = v1::feedback_request::Kind::try_from(request.kind).unwrap_or_default();
        let result = if kind == v1::feedback_request::Kind::Unspecified {
            Err(Fault::BadField("kind"))
        } else if Uuid::from_slice(&request.report_id).is_err() {
            Err(Fault::BadField("report_id"))
        } else {
            metric::count(Metric::FeedbackTotal, "kind", kind.as_str_name());
            Ok(v1::FeedbackResponse {})
        };
        finish("SendFeedback", started, result)
    }
}
