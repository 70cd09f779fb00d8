//! A server that lies: it stands on the real server's socket, behind the real sidecar, and gives
//! one patient's capsule or film to another patient's report.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use cloister_proto::v1::report_service_server::{ReportService, ReportServiceServer};
use cloister_proto::v1::{self, generate_response, object_chunk, submit_study_request};
use prost::Message as _;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// What the server puts in the wrong place, once it has seen one study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Nothing: shows that an honest answer opens.
    Nothing,
    /// The capsule of the first study.
    Capsule,
    /// The first film of the first study.
    Rendition,
    /// A findings text with no film at all.
    DropRendition,
}

/// What the first study brought.
#[derive(Debug, Default, Clone)]
struct Seen {
    capsule: Vec<u8>,
    renditions: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Liar {
    swap: Swap,
    first: Mutex<Option<Seen>>,
}

/// The fake, serving until it is dropped.
#[derive(Debug)]
pub struct FakeServer(JoinHandle<()>);

impl FakeServer {
    /// Binds the server's socket.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn start(socket: &Path, swap: Swap) -> Result<Self> {
        let incoming = UnixListenerStream::new(UnixListener::bind(socket)?);
        let service = ReportServiceServer::new(Liar {
            swap,
            first: Mutex::new(None),
        })
        .max_decoding_message_size(cloister_proto::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(cloister_proto::MAX_MESSAGE_BYTES);
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming);
        Ok(Self(tokio::spawn(async move { drop(serve.await) })))
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Liar {
    /// The study as it came, or with parts of the first one.
    fn swapped(&self, own: Seen) -> Seen {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(other) = first.clone() else {
            *first = Some(own.clone());
            return own;
        };
        let mut answer = own;
        match self.swap {
            Swap::Nothing => {}
            Swap::Capsule => answer.capsule = other.capsule,
            Swap::Rendition => {
                for (mine, theirs) in answer.renditions.iter_mut().zip(other.renditions).take(1) {
                    *mine = theirs;
                }
            }
            Swap::DropRendition => {
                answer.renditions.pop();
            }
        }
        answer
    }
}

#[tonic::async_trait]
impl ReportService for Liar {
    type GenerateStreamStream = tokio_stream::Empty<Result<v1::GenerateEvent, Status>>;

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let id = request
            .metadata()
            .get(cloister_proto::METADATA_REPORT_ID)
            .and_then(|value| Uuid::parse_str(value.to_str().ok()?).ok())
            .ok_or_else(|| Status::invalid_argument("no report id"))?;
        let own = Seen {
            capsule: request.into_inner().capsule,
            renditions: Vec::new(),
        };
        let mut report = draft(id.as_bytes().to_vec());
        report.capsule = self.swapped(own).capsule;
        Ok(answer(report))
    }

    async fn generate_stream(
        &self,
        _: Request<v1::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn submit_study(
        &self,
        request: Request<Streaming<v1::SubmitStudyRequest>>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let mut parts = request.into_inner();
        let mut head = None;
        let mut renditions: Vec<Vec<u8>> = Vec::new();
        while let Some(part) = parts.message().await? {
            match part.part {
                Some(submit_study_request::Part::Head(it)) => head = Some(it),
                Some(submit_study_request::Part::Chunk(chunk))
                    if chunk.part() == object_chunk::Part::Rendition =>
                {
                    let at = chunk.object_index as usize;
                    renditions.resize(renditions.len().max(at + 1), Vec::new());
                    renditions[at].extend_from_slice(&chunk.data);
                }
                _ => {}
            }
        }
        let head = head.ok_or_else(|| Status::invalid_argument("no head"))?;
        let signed = head
            .manifest
            .ok_or_else(|| Status::invalid_argument("no manifest"))?;
        let manifest = v1::StudyManifest::decode(signed.manifest.as_slice())
            .map_err(|_| Status::invalid_argument("no manifest"))?;
        let given = self.swapped(Seen {
            capsule: head.capsule,
            renditions,
        });
        let mut report = draft(manifest.report_id.clone());
        report.replaces.clone_from(&manifest.replaces);
        report.withheld_objects = manifest.withheld_objects;
        report.capsule = given.capsule;
        report.renditions = manifest
            .objects
            .iter()
            .zip(given.renditions)
            .map(|(object, png)| v1::Rendition {
                sop_instance_uid: object.sop_instance_uid.clone(),
                png,
                redacted_boxes: 0,
            })
            .collect();
        report.manifest = Some(signed);
        Ok(answer(report))
    }

    async fn validate(
        &self,
        _: Request<v1::ValidateRequest>,
    ) -> Result<Response<v1::ValidateResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn send_feedback(
        &self,
        _: Request<v1::FeedbackRequest>,
    ) -> Result<Response<v1::FeedbackResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }
}

fn draft(report_id: Vec<u8>) -> v1::Report {
    v1::Report {
        format: 1,
        report_id,
        findings: "A fake server wrote this.".into(),
        impression: "None.".into(),
        model: Some(v1::ModelIdentity {
            name: "fake".into(),
            ..Default::default()
        }),
        assessment: Some(v1::Assessment {
            outcome: v1::Outcome::Delivered.into(),
            confidence: 1.0,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn answer(report: v1::Report) -> Response<v1::GenerateResponse> {
    Response::new(v1::GenerateResponse {
        result: Some(generate_response::Result::Report(report)),
        receipt: None,
    })
}
