//! A running server on sockets in a folder of its own, and studies for it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloister_proto::v1::report_service_client::ReportServiceClient;
use cloister_proto::v1::{self, object_chunk::Part};
use cloister_proto::{MAX_MESSAGE_BYTES, METADATA_REPORT_ID};
use cloister_runtime::Shutdown;
use cloister_seal::{RecipientPrivateKey, SigningKey, Suite, capsule, manifest};
use cloister_server::Config;
use image::{GrayImage, ImageFormat, Luma};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use uuid::Uuid;

/// A running server.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    pub(crate) gateway: SigningKey,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models")
        .canonicalize()
        .unwrap()
}

impl Server {
    /// The scripted bundle, no workers.
    pub(crate) async fn start() -> Self {
        Self::start_with("scripted", "").await
    }

    /// Starts with a bundle of `models/` and further lines of configuration.
    pub(crate) async fn start_with(bundle: &str, further: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gateway = SigningKey::generate().unwrap();
        cloister_seal::files::write_secret(&dir.path().join("pseudonym.key"), &[7; 32]).unwrap();
        let config = format!(
            "state_dir = 'state'\npseudonym_key_file = 'pseudonym.key'\ngateway_keys = ['''{}''']\nreflection = true\n\
             [admin]\naddr = '127.0.0.1:0'\n[model]\nbundle = '{}'\n{further}",
            gateway.verifying_key().to_pem().unwrap(),
            models().join(bundle).display(),
        );
        let path = dir.path().join("server.toml");
        std::fs::write(&path, config).unwrap();
        let config = Config::load(&path).unwrap();
        let shutdown = Shutdown::new();
        let task = tokio::spawn(cloister_server::run(config, shutdown.clone()));
        let server = Self {
            dir,
            gateway,
            shutdown,
            task,
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        while !server.ready_file().exists() {
            assert!(
                !server.task.is_finished() && Instant::now() < deadline,
                "the server does not start"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.path().join("state/ready.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("state/cloister.sock")
    }

    pub(crate) fn http_socket(&self) -> PathBuf {
        self.dir.path().join("state/http.sock")
    }

    pub(crate) async fn channel(&self) -> Channel {
        let path = self.socket();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move {
                tokio::net::UnixStream::connect(path)
                    .await
                    .map(hyper_util::rt::TokioIo::new)
            }
        });
        Endpoint::from_static("http://server")
            .connect_with_connector(connector)
            .await
            .unwrap()
    }

    /// Everything that the admin port answers to a GET.
    pub(crate) async fn admin(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let ready: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.ready_file()).unwrap()).unwrap();
        let addr = ready["ports"]["admin"].as_str().unwrap();
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub(crate) async fn submit(&self, study: &Study) -> Result<v1::GenerateResponse, Status> {
        let mut client = ReportServiceClient::new(self.channel().await)
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let stream = tokio_stream::iter(study.messages());
        client
            .submit_study(with_id(stream, study.id))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
    }
}

/// A study as the gateway would send it.
pub(crate) struct Study {
    pub(crate) id: Uuid,
    pub(crate) query: String,
    pub(crate) signed: v1::SignedManifest,
    pub(crate) capsule: Vec<u8>,
    pub(crate) objects: Vec<Vec<u8>>,
    pub(crate) renditions: Vec<Vec<u8>>,
    pub(crate) chunk_bytes: usize,
    pub(crate) first_index: u32,
    manifest: v1::StudyManifest,
}

impl Study {
    pub(crate) fn new(server: &Server, films: usize, query: &str) -> Self {
        Self::with(server, films, query, |_| ())
    }

    pub(crate) fn with(
        server: &Server,
        films: usize,
        query: &str,
        edit: impl Fn(&mut v1::StudyManifest),
    ) -> Self {
        let id = Uuid::new_v4();
        let objects: Vec<Vec<u8>> = (0..films).map(|film| vec![film as u8 + 1; 3000]).collect();
        let renditions: Vec<Vec<u8>> = (0..films).map(|film| film_png(film as u32)).collect();
        let recipient = RecipientPrivateKey::generate(Suite::HpkeX25519)
            .unwrap()
            .public();
        let identity = v1::IdentityCapsule {
            report_id: id.as_bytes().to_vec(),
            ..Default::default()
        };
        let capsule = capsule::seal_capsule(&identity, id, &[recipient], &server.gateway)
            .unwrap()
            .encode_to_vec();
        let mut manifest = v1::StudyManifest {
            format: 1,
            report_id: id.as_bytes().to_vec(),
            study_pseudonym: "S-TEST".to_owned(),
            study_version: 1,
            objects: objects
                .iter()
                .zip(&renditions)
                .enumerate()
                .map(|(index, (object, rendition))| v1::ManifestObject {
                    sop_instance_uid: format!("2.25.{}", index + 1),
                    cleared_sha256: Sha256::digest(object).to_vec(),
                    rendition_sha256: Sha256::digest(rendition).to_vec(),
                    redacted_boxes: 0,
                })
                .collect(),
            recipient_key_ids: vec![vec![1; 16]],
            capsule_sha256: Sha256::digest(&capsule).to_vec(),
            issued_at_unix_ms: 1,
            ..Default::default()
        };
        edit(&mut manifest);
        let signed = manifest::sign(&manifest, &server.gateway);
        Self {
            id,
            query: query.to_owned(),
            signed,
            capsule,
            objects,
            renditions,
            chunk_bytes: 1000,
            first_index: 0,
            manifest,
        }
    }

    pub(crate) fn sign_with(&mut self, key: &SigningKey) {
        self.signed = manifest::sign(&self.manifest, key);
    }

    fn messages(&self) -> Vec<v1::SubmitStudyRequest> {
        use v1::submit_study_request::Part as Message;
        let head = v1::StudyHead {
            manifest: Some(self.signed.clone()),
            capsule: self.capsule.clone(),
            query: self.query.clone(),
            ..Default::default()
        };
        let mut messages = vec![Message::Head(head)];
        for (index, (object, rendition)) in
            (self.first_index..).zip(self.objects.iter().zip(&self.renditions))
        {
            for (part, bytes) in [(Part::Object, object), (Part::Rendition, rendition)] {
                messages.extend(bytes.chunks(self.chunk_bytes).map(|data| {
                    Message::Chunk(v1::ObjectChunk {
                        object_index: index,
                        part: part.into(),
                        data: data.to_vec().into(),
                    })
                }));
            }
        }
        messages
            .into_iter()
            .map(|part| v1::SubmitStudyRequest { part: Some(part) })
            .collect()
    }
}

/// A grey PNG, another one for another number.
pub(crate) fn film_png(number: u32) -> Vec<u8> {
    let film = GrayImage::from_fn(64, 64, |x, y| {
        Luma([((x * (number + 3) + y * 5) % 256) as u8])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    film.write_to(&mut png, ImageFormat::Png).unwrap();
    png.into_inner()
}

pub(crate) fn with_id<T>(message: T, id: Uuid) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(METADATA_REPORT_ID, id.to_string().parse().unwrap());
    request
}

pub(crate) fn report_of(response: v1::GenerateResponse) -> v1::Report {
    match response.result {
        Some(v1::generate_response::Result::Report(report)) => report,
        _ => panic!("no report"),
    }
}
