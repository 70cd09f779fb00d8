//! A server that answers as it is told, and counts.

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cloister_proto::v1;
use cloister_proto::v1::report_service_server::{ReportService, ReportServiceServer};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    NoAssessment,
    OtherReport,
    Envelope,
    Fails,
}

pub(crate) struct Fake {
    pub(crate) mood: Mutex<Mood>,
    pub(crate) calls: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    /// Metadata keys of the last request.
    pub(crate) seen: Mutex<Vec<String>>,
    /// When set, an answer waits for it.
    pub(crate) gate: Mutex<Option<Arc<Notify>>>,
    /// The report that the next one replaces.
    pub(crate) replaces: Mutex<Vec<u8>>,
    /// Key ids that the gateway's manifest names.
    pub(crate) keys: Mutex<Vec<Vec<u8>>>,
}

/// Text that must be nowhere but inside an envelope.
pub(crate) const CANARY: &str = "No focal consolidation QZXCANARY.";

impl Fake {
    #[expect(
        clippy::unused_async,
        reason = "binds Tokio sockets: only inside a runtime"
    )]
    pub(crate) async fn start(grpc: &Path, http: &Path) -> Arc<Self> {
        let fake = Arc::new(Self {
            mood: Mutex::new(Mood::Good),
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            seen: Mutex::default(),
            gate: Mutex::default(),
            replaces: Mutex::default(),
            keys: Mutex::default(),
        });
        let incoming = UnixListenerStream::new(UnixListener::bind(grpc).unwrap());
        let service =
            ReportServiceServer::from_arc(Arc::clone(&fake)).max_decoding_message_size(64 << 20);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        let listener = UnixListener::bind(http).unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let echo = hyper::service::service_fn(
                    |request: http::Request<hyper::body::Incoming>| async move {
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let text = format!("{path} {}", String::from_utf8_lossy(&body));
                        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(text))))
                    },
                );
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), echo);
                tokio::spawn(serving);
            }
        });
        fake
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn report(&self, id: &str, manifest: bool) -> Result<v1::generate_response::Result, Status> {
        let mood = *self.mood.lock().unwrap();
        let mut report_id = Uuid::parse_str(id).unwrap().as_bytes().to_vec();
        match mood {
            Mood::Fails => return Err(Status::internal("failed")),
            Mood::Envelope => {
                return Ok(v1::generate_response::Result::Sealed(
                    v1::SealedReport::default(),
                ));
            }
            Mood::OtherReport => report_id = Uuid::new_v4().as_bytes().to_vec(),
            Mood::Good | Mood::NoAssessment => {}
        }
        let replaces = self.replaces.lock().unwrap().clone();
        let manifest = manifest.then(|| v1::SignedManifest {
            manifest: v1::StudyManifest {
                report_id: report_id.clone(),
                replaces: replaces.clone(),
                recipient_key_ids: self.keys.lock().unwrap().clone(),
                ..v1::StudyManifest::default()
            }
            .encode_to_vec(),
            ..v1::SignedManifest::default()
        });
        let assessment = v1::Assessment {
            outcome: v1::Outcome::Escalated.into(),
            acr_category: v1::AcrCategory::AcrCategory1.into(),
            communicate_within_minutes: 60,
            ..v1::Assessment::default()
        };
        Ok(v1::generate_response::Result::Report(v1::Report {
            report_id,
            replaces: if manifest.is_some() {
                replaces
            } else {
                Vec::new()
            },
            findings: CANARY.to_owned(),
            assessment: (mood != Mood::NoAssessment).then_some(assessment),
            model: Some(v1::ModelIdentity {
                bundle_sha256: vec![7; 32],
                ..v1::ModelIdentity::default()
            }),
            manifest,
            capsule: b"capsule".to_vec(),
            ..v1::Report::default()
        }))
    }

    async fn enter<T>(&self, request: &Request<T>) -> String {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let keys = request.metadata().clone().into_headers();
        *self.seen.lock().unwrap() = keys.keys().map(|name| name.as_str().to_owned()).collect();
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        request
            .metadata()
            .get(cloister_proto::METADATA_REPORT_ID)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }
}

#[tonic::async_trait]
impl ReportService for Fake {
    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let id = self.enter(&request).await;
        let result = Some(self.report(&id, false)?);
        Ok(Response::new(v1::GenerateResponse {
            result,
            receipt: None,
        }))
    }

    type GenerateStreamStream =
        Pin<Box<dyn Stream<Item = Result<v1::GenerateEvent, Status>> + Send>>;

    async fn generate_stream(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        use v1::generate_event::Event;
        let id = self.enter(&request).await;
        let event = |event| {
            Ok(v1::GenerateEvent {
                event: Some(event),
                receipt: None,
            })
        };
        let progress = Event::Progress(v1::Progress {
            step: "draft".to_owned(),
            fraction: 0.5,
        });
        let last = match self.report(&id, false) {
            Ok(v1::generate_response::Result::Report(report)) => event(Event::Report(report)),
            Ok(v1::generate_response::Result::Sealed(sealed)) => event(Event::Sealed(sealed)),
            Err(status) => Err(status),
        };
        Ok(Response::new(Box::pin(tokio_stream::iter([
            event(progress),
            last,
        ]))))
    }

    async fn submit_study(
        &self,
        request: Request<Streaming<v1::SubmitStudyRequest>>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let id = self.enter(&request).await;
        let mut parts = request.into_inner();
        while let Some(part) = parts.next().await {
            if let Some(v1::submit_study_request::Part::Chunk(chunk)) = part?.part {
                self.bytes.fetch_add(chunk.data.len(), Ordering::SeqCst);
            }
        }
        let result = Some(self.report(&id, true)?);
        Ok(Response::new(v1::GenerateResponse {
            result,
            receipt: None,
        }))
    }

    async fn validate(
        &self,
        request: Request<v1::ValidateRequest>,
    ) -> Result<Response<v1::ValidateResponse>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if request.into_inner().findings.is_empty() {
            let mut status = Status::with_details(
                tonic::Code::InvalidArgument,
                "empty",
                Bytes::from_static(b"why"),
            );
            status
                .metadata_mut()
                .insert("cloister-test", "kept".parse().unwrap());
            return Err(status);
        }
        Ok(Response::new(v1::ValidateResponse::default()))
    }

    async fn send_feedback(
        &self,
        _: Request<v1::FeedbackRequest>,
    ) -> Result<Response<v1::FeedbackResponse>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(v1::FeedbackResponse {}))
    }
}
