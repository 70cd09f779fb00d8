//! The configuration: a raw structure that knows every key, then typed values. Paths are relative
//! to the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_onnx::{ExecutionProvider, TrustedHashes};
use cloister_redact::RedactConfig;
use cloister_runtime::ConfigError;
use cloister_seal::{VerifyingKey, files};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::admit::Limits;
use crate::draft::onnx::EngineLimits;

/// The server's configuration.
#[derive(Debug)]
pub struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) http_socket: PathBuf,
    pub(crate) allowed_uids: Vec<u32>,
    pub(crate) dev_listen: Option<SocketAddr>,
    pub(crate) reflection: bool,
    pub(crate) inspect: bool,
    pub(crate) admin: SocketAddr,
    pub(crate) gateway_keys: Vec<VerifyingKey>,
    pub(crate) pseudonym_key: PseudonymKey,
    pub(crate) model: ModelConfig,
    pub(crate) redact: Option<RedactConfig>,
    pub(crate) max_query_chars: usize,
    pub(crate) guard_timeout: Duration,
    pub(crate) limits: Limits,
}

/// Which bundle runs, and how.
#[derive(Debug, Clone)]
pub(crate) struct ModelConfig {
    pub(crate) bundle: PathBuf,
    pub(crate) runtime_library: Option<PathBuf>,
    pub(crate) provider: ExecutionProvider,
    pub(crate) threads: usize,
    pub(crate) limits: EngineLimits,
    pub(crate) trust: TrustedHashes,
    pub(crate) confidence_threshold: Option<f32>,
}

/// The key of pseudonyms for films by `Generate`.
pub(crate) struct PseudonymKey(pub(crate) Zeroizing<[u8; 32]>);

impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PseudonymKey")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    /// Holds ready.json and, by default, the sockets. Mode 0700.
    state_dir: PathBuf,
    socket: Option<PathBuf>,
    http_socket: Option<PathBuf>,
    /// User ids that may connect beside our own.
    #[serde(default)]
    allowed_uids: Vec<u32>,
    /// Loopback only; refused anywhere else.
    dev_listen: Option<SocketAddr>,
    #[serde(default)]
    reflection: bool,
    #[serde(default)]
    inspect: bool,
    /// 32 random bytes, raw or as 64 hexadecimal digits, mode 0600.
    pseudonym_key_file: PathBuf,
    /// PEM blocks, or files that hold one each.
    gateway_keys: Vec<String>,
    #[serde(default)]
    admin: RawAdmin,
    model: RawModel,
    redact: Option<RawRedact>,
    #[serde(default)]
    screen: RawScreen,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAdmin {
    addr: SocketAddr,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 9102)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    bundle: PathBuf,
    /// Default: the pinned library in the cache.
    runtime_library: Option<PathBuf>,
    #[serde(default = "cpu")]
    execution_provider: String,
    #[serde(default = "one")]
    threads: usize,
    #[serde(default = "eight")]
    max_batch: usize,
    #[serde(default = "sixty_four")]
    queue: usize,
    /// Overrides the bundle's threshold; only upwards makes sense, but both are allowed.
    confidence_threshold: Option<f32>,
    /// SHA-256 of further bundles' bundle.toml.
    #[serde(default)]
    trusted_sha256: Vec<String>,
    /// Ed25519 keys (PEM) whose signature makes a bundle trusted.
    #[serde(default)]
    trusted_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRedact {
    detector_bundle: PathBuf,
    /// Default: `text-presence` beside the detector.
    presence_bundle: Option<PathBuf>,
    runtime_library: Option<PathBuf>,
    workers: Option<usize>,
    memory_bytes: Option<u64>,
    timeout_seconds: Option<u64>,
    max_object_bytes: Option<u64>,
    /// "keep" (the default) or "redact": laterality markers and view labels.
    markers: Option<String>,
    /// "background" (the default) or "solid": what stands where something was blanked.
    fill: Option<String>,
    /// "blank" (the default), "crop" or "keep": what the model sees of margins.
    outside: Option<String>,
    /// Default: this executable.
    worker_exe: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawScreen {
    max_query_chars: usize,
    timeout_ms: u64,
}

impl Default for RawScreen {
    fn default() -> Self {
        Self {
            max_query_chars: 2000,
            timeout_ms: 2000,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    films: Option<usize>,
    object_bytes: Option<u64>,
    rendition_bytes: Option<usize>,
}

fn cpu() -> String {
    "cpu".to_owned()
}
const fn one() -> usize {
    1
}
const fn eight() -> usize {
    8
}
const fn sixty_four() -> usize {
    64
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (raw, base) = cloister_runtime::config::load::<Raw>(path)?;
        Self::from_raw(raw, &base)
    }

    fn from_raw(raw: Raw, base: &Path) -> Result<Self, ConfigError> {
        let state_dir = base.join(&raw.state_dir);
        if let Some(addr) = raw.dev_listen
            && !addr.ip().is_loopback()
        {
            return Err(ConfigError::invalid(
                "dev_listen",
                "must be a loopback address",
            ));
        }
        if raw.gateway_keys.is_empty() {
            return Err(ConfigError::invalid(
                "gateway_keys",
                "at least one gateway key has to be pinned",
            ));
        }
        let gateway_keys = raw
            .gateway_keys
            .iter()
            .map(|entry| {
                let pem = pem_text(entry, base, "gateway_keys")?;
                VerifyingKey::from_pem(&pem)
                    .map_err(|error| ConfigError::invalid("gateway_keys", error))
            })
            .collect::<Result<_, _>>()?;
        if raw.screen.timeout_ms == 0 || raw.screen.max_query_chars == 0 {
            return Err(ConfigError::invalid("screen", "must not be 0"));
        }
        let model = raw.model.typed(base)?;
        let redact = raw.redact.map(|redact| redact.typed(base)).transpose()?;
        let mut limits = Limits::default();
        limits.films = raw.limits.films.unwrap_or(limits.films);
        limits.object_bytes = raw.limits.object_bytes.unwrap_or(limits.object_bytes);
        limits.rendition_bytes = raw.limits.rendition_bytes.unwrap_or(limits.rendition_bytes);
        Ok(Self {
            socket: raw
                .socket
                .map_or_else(|| state_dir.join("cloister.sock"), |path| base.join(path)),
            http_socket: raw
                .http_socket
                .map_or_else(|| state_dir.join("http.sock"), |path| base.join(path)),
            state_dir,
            allowed_uids: raw.allowed_uids,
            dev_listen: raw.dev_listen,
            reflection: raw.reflection,
            inspect: raw.inspect,
            admin: raw.admin.addr,
            gateway_keys,
            pseudonym_key: pseudonym_key(&base.join(raw.pseudonym_key_file))?,
            model,
            redact,
            max_query_chars: raw.screen.max_query_chars,
            guard_timeout: Duration::from_millis(raw.screen.timeout_ms),
            limits,
        })
    }
}

impl RawModel {
    fn typed(self, base: &Path) -> Result<ModelConfig, ConfigError> {
        let provider = self
            .execution_provider
            .parse()
            .map_err(|reason| ConfigError::invalid("model.execution_provider", reason))?;
        let mut trust = TrustedHashes::compiled_in()
            .map_err(|error| ConfigError::invalid("model.trusted", error))?;
        for hash in &self.trusted_sha256 {
            trust = trust
                .with_hash(hash)
                .map_err(|error| ConfigError::invalid("model.trusted_sha256", error))?;
        }
        for key in &self.trusted_keys {
            let pem = pem_text(key, base, "model.trusted_keys")?;
            trust = trust
                .with_key_pem(&pem)
                .map_err(|error| ConfigError::invalid("model.trusted_keys", error))?;
        }
        if self
            .confidence_threshold
            .is_some_and(|threshold| !(0.0..=1.0).contains(&threshold))
        {
            return Err(ConfigError::invalid(
                "model.confidence_threshold",
                "must be in 0..1",
            ));
        }
        if self.threads == 0 || self.max_batch == 0 || self.queue == 0 {
            return Err(ConfigError::invalid(
                "model",
                "threads, max_batch and queue must not be 0",
            ));
        }
        Ok(ModelConfig {
            bundle: base.join(self.bundle),
            runtime_library: self.runtime_library.map(|path| base.join(path)),
            provider,
            threads: self.threads,
            limits: EngineLimits {
                max_batch: self.max_batch,
                queue: self.queue,
            },
            trust,
            confidence_threshold: self.confidence_threshold,
        })
    }
}

impl RawRedact {
    fn typed(self, base: &Path) -> Result<RedactConfig, ConfigError> {
        let invalid = |key, reason: String| ConfigError::invalid(key, reason);
        let exe = match self.worker_exe {
            Some(path) => base.join(path),
            None => {
                std::env::current_exe().map_err(|e| invalid("redact.worker_exe", e.to_string()))?
            }
        };
        let library = match self.runtime_library {
            Some(path) => base.join(path),
            None => cloister_onnx::library_path()
                .map_err(|e| invalid("redact.runtime_library", e.to_string()))?,
        };
        let mut config = RedactConfig::at(exe, base.join(self.detector_bundle), library);
        if let Some(path) = self.presence_bundle {
            config.presence_bundle = base.join(path);
        }
        config.workers = self.workers.unwrap_or(config.workers);
        config.memory_bytes = self.memory_bytes.unwrap_or(config.memory_bytes);
        config.timeout = self
            .timeout_seconds
            .map_or(config.timeout, Duration::from_secs);
        config.max_object_bytes = self.max_object_bytes.unwrap_or(config.max_object_bytes);
        if let Some(markers) = self.markers {
            config.markers = markers
                .parse()
                .map_err(|reason: &str| ConfigError::invalid("redact.markers", reason))?;
        }
        if let Some(fill) = self.fill {
            config.fill = fill
                .parse()
                .map_err(|reason: &str| ConfigError::invalid("redact.fill", reason))?;
        }
        if let Some(outside) = self.outside {
            config.outside = outside
                .parse()
                .map_err(|reason: &str| ConfigError::invalid("redact.outside", reason))?;
        }
        if config.workers == 0 || config.timeout.is_zero() {
            return Err(invalid(
                "redact",
                "workers and timeout_seconds must not be 0".to_owned(),
            ));
        }
        Ok(config)
    }
}

/// A PEM block, or the content of the file that is named.
fn pem_text(entry: &str, base: &Path, key: &'static str) -> Result<String, ConfigError> {
    if entry.trim_start().starts_with("-----BEGIN") {
        return Ok(entry.to_owned());
    }
    std::fs::read_to_string(base.join(entry)).map_err(|error| ConfigError::invalid(key, error))
}

fn pseudonym_key(path: &Path) -> Result<PseudonymKey, ConfigError> {
    let invalid = |reason: String| ConfigError::invalid("pseudonym_key_file", reason);
    let bytes = files::read_secret(path).map_err(|error| invalid(error.to_string()))?;
    parse_key(&bytes).ok_or_else(|| invalid("must hold 32 bytes, raw or in hexadecimal".to_owned()))
}

/// 32 bytes, raw or as 64 hexadecimal digits.
pub(crate) fn parse_key(bytes: &[u8]) -> Option<PseudonymKey> {
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() == 32 {
        key.copy_from_slice(bytes);
    } else {
        hex::decode_to_slice(bytes.trim_ascii(), key.as_mut_slice()).ok()?;
    }
    Some(PseudonymKey(key))
}
