//! The pipeline in the caller's own process, for `cloister generate`: the same steps, no socket and
//! no seal.

use std::path::PathBuf;
use std::time::Duration;

use cloister_onnx::{ExecutionProvider, TrustedHashes};
use cloister_proto::v1;
use cloister_redact::RedactConfig;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::admit::{Limits, admit_generate};
use crate::assess::Assessed;
use crate::config::{ModelConfig, PseudonymKey};
use crate::draft::onnx::EngineLimits;
use crate::pipeline::Pipeline;
use crate::run::Parts;

/// What a local pipeline needs.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Folder of a `report` or `scripted` bundle.
    pub bundle: PathBuf,
    /// Which bundles may run.
    pub trust: TrustedHashes,
    /// ONNX Runtime; by default the pinned library in the cache.
    pub runtime_library: Option<PathBuf>,
    /// Where the graphs run.
    pub provider: ExecutionProvider,
    /// Workers that decode films and find text.
    pub redact: RedactConfig,
}

/// Why a local pipeline did not answer. Holds no text of the request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// Bundle, library or workers cannot be used.
    #[error("{0:#}")]
    Start(anyhow::Error),
    /// The request ended with a fault.
    #[error("{0}")]
    Fault(String),
}

/// A pipeline in this process.
#[derive(Debug)]
pub struct Local {
    pipeline: Pipeline,
    limits: Limits,
}

impl Local {
    /// Loads the bundle and starts the workers.
    ///
    /// # Errors
    /// [`LocalError::Start`].
    pub async fn start(config: LocalConfig) -> Result<Self, LocalError> {
        let mut key = Zeroizing::new([0; 32]);
        // Nothing of these pseudonyms outlives the process, so the key need not either.
        for part in key.chunks_exact_mut(16) {
            part.copy_from_slice(Uuid::new_v4().as_bytes());
        }
        let parts = Parts {
            model: ModelConfig {
                bundle: config.bundle,
                runtime_library: config.runtime_library,
                provider: config.provider,
                threads: 1,
                limits: EngineLimits {
                    max_batch: 8,
                    queue: 64,
                },
                trust: config.trust,
                confidence_threshold: None,
            },
            redact: Some(config.redact),
            pseudonym_key: PseudonymKey(key),
            max_query_chars: 2000,
            guard_timeout: Duration::from_secs(10),
        };
        let assembled = tokio::task::spawn_blocking(move || parts.assemble());
        let pipeline = assembled
            .await
            .map_err(|error| LocalError::Start(error.into()))?
            .map_err(LocalError::Start)?;
        Ok(Self {
            pipeline,
            limits: Limits::default(),
        })
    }

    /// Runs one request. An empty `media_type` of a film is found out from its first bytes.
    ///
    /// # Errors
    /// [`LocalError::Fault`].
    pub async fn generate(
        &self,
        mut request: v1::GenerateRequest,
    ) -> Result<v1::Report, LocalError> {
        let fault = |fault: crate::error::Fault| LocalError::Fault(fault.to_string());
        for film in &mut request.films {
            if film.media_type.is_empty() {
                media_type(&film.data).clone_into(&mut film.media_type);
            }
        }
        let submitted = admit_generate(Uuid::new_v4(), request, &self.limits).map_err(fault)?;
        self.pipeline
            .run(submitted, &|_, _| ())
            .await
            .map(Assessed::into_report)
            .map_err(fault)
    }
}

/// PNG and JPEG by their signatures; everything else is treated as DICOM, whose reader decides.
pub fn media_type(data: &[u8]) -> &'static str {
    if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        "image/png"
    } else if data.starts_with(&[0xff, 0xd8, 0xff]) {
        "image/jpeg"
    } else {
        "application/dicom"
    }
}
