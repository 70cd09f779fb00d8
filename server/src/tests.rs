//! Guards that fail on purpose: every one of them, in every way, must leave a refused report
//! without a word in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloister_onnx::{ExecutionProvider, TrustedHashes};
use cloister_proto::v1;
use cloister_proto::v1::{Outcome, ReasonCode};
use cloister_seal::{RecipientPrivateKey, SigningKey, Suite, capsule, manifest};
use prost::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::admit::{Limits, StudyReceiver, Submitted};
use crate::assess::Assessed;
use crate::check::{Checker, DraftView};
use crate::config::{ModelConfig, PseudonymKey};
use crate::draft::onnx::EngineLimits;
use crate::pipeline::Pipeline;
use crate::run::Parts;
use crate::screen::Screener;
use crate::screen::guard::{Guard, GuardError, Verdict};

const GUARD_TIMEOUT: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy)]
enum Failure {
    Error,
    Panic,
    Late,
}

struct Broken(Failure);

impl<I: ?Sized> Guard<I> for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn check(&self, _: &I) -> Result<Verdict, GuardError> {
        match self.0 {
            Failure::Error => Err(GuardError),
            Failure::Panic => panic!("on purpose"),
            Failure::Late => {
                // Stands for a guard that hangs; the pipeline must not wait for it.
                std::thread::park_timeout(GUARD_TIMEOUT * 5);
                Ok(Verdict::Allow)
            }
        }
    }
}

fn pipeline() -> Pipeline {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let parts = Parts {
        model: ModelConfig {
            bundle: models.join("scripted"),
            runtime_library: None,
            provider: ExecutionProvider::Cpu,
            threads: 1,
            limits: EngineLimits {
                max_batch: 2,
                queue: 2,
            },
            trust: TrustedHashes::compiled_in().unwrap(),
            confidence_threshold: None,
        },
        redact: None,
        pseudonym_key: PseudonymKey(Zeroizing::new([1; 32])),
        max_query_chars: 2000,
        guard_timeout: GUARD_TIMEOUT,
    };
    parts.assemble().unwrap()
}

/// An admitted study of one film.
fn submitted(query: &str) -> Submitted {
    let gateway = SigningKey::generate().unwrap();
    let id = Uuid::new_v4();
    let film = image::GrayImage::from_pixel(32, 32, image::Luma([90]));
    let mut png = std::io::Cursor::new(Vec::new());
    film.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = Bytes::from(png.into_inner());
    let recipient = RecipientPrivateKey::generate(Suite::HpkeX25519)
        .unwrap()
        .public();
    let identity = v1::IdentityCapsule {
        report_id: id.as_bytes().to_vec(),
        ..Default::default()
    };
    let capsule = capsule::seal_capsule(&identity, id, &[recipient], &gateway)
        .unwrap()
        .encode_to_vec();
    let study = v1::StudyManifest {
        format: 1,
        report_id: id.as_bytes().to_vec(),
        study_pseudonym: "S".to_owned(),
        study_version: 1,
        objects: vec![v1::ManifestObject {
            sop_instance_uid: "2.25.1".to_owned(),
            cleared_sha256: Sha256::digest(b"object").to_vec(),
            rendition_sha256: Sha256::digest(&png).to_vec(),
            redacted_boxes: 0,
        }],
        recipient_key_ids: vec![vec![1; 16]],
        capsule_sha256: Sha256::digest(&capsule).to_vec(),
        issued_at_unix_ms: 1,
        ..Default::default()
    };
    let head = v1::StudyHead {
        manifest: Some(manifest::sign(&study, &gateway)),
        capsule,
        query: query.to_owned(),
        ..Default::default()
    };
    let mut receiver =
        StudyReceiver::start(id, head, &[gateway.verifying_key()], Limits::default()).unwrap();
    for (part, data) in [
        (
            v1::object_chunk::Part::Object,
            Bytes::from_static(b"object"),
        ),
        (v1::object_chunk::Part::Rendition, png),
    ] {
        receiver
            .chunk(&v1::ObjectChunk {
                object_index: 0,
                part: part.into(),
                data,
            })
            .unwrap();
    }
    receiver.finish().unwrap()
}

async fn report(pipeline: &Pipeline) -> v1::Report {
    pipeline
        .run(submitted("cough"), &|_, _| ())
        .await
        .map(Assessed::into_report)
        .unwrap()
}

fn assert_withheld(report: &v1::Report, how: &str) {
    let assessment = report.assessment.as_ref().unwrap();
    assert_eq!(assessment.outcome(), Outcome::Refused, "{how}");
    assert_eq!(
        assessment.reasons,
        [i32::from(ReasonCode::GuardFailed)],
        "{how}"
    );
    assert!(
        report.findings.is_empty() && report.impression.is_empty(),
        "{how}"
    );
    assert!(
        report.sentences.is_empty() && report.tokens.is_empty() && report.labels.is_empty(),
        "{how}"
    );
}

#[tokio::test]
async fn a_guard_of_queries_that_errors_panics_or_hangs_refuses() {
    for failure in [Failure::Error, Failure::Panic, Failure::Late] {
        let mut pipeline = pipeline();
        let screener = Screener::new(2000, GUARD_TIMEOUT).with_guard(Arc::new(Broken(failure)));
        pipeline.screener = Arc::new(screener);
        assert_withheld(&report(&pipeline).await, &format!("{failure:?}"));
    }
}

#[tokio::test]
async fn a_guard_of_drafts_that_errors_panics_or_hangs_withholds() {
    for failure in [Failure::Error, Failure::Panic, Failure::Late] {
        let mut pipeline = pipeline();
        let guard: Arc<dyn Guard<DraftView>> = Arc::new(Broken(failure));
        pipeline.checker = Arc::new(Checker::new("prefix", GUARD_TIMEOUT).with_guard(guard));
        assert_withheld(&report(&pipeline).await, &format!("{failure:?}"));
    }
}

#[tokio::test]
async fn without_a_broken_guard_the_same_request_is_delivered() {
    let report = report(&pipeline()).await;
    assert_eq!(report.assessment.unwrap().outcome(), Outcome::Delivered);
    assert!(!report.findings.is_empty());
}
