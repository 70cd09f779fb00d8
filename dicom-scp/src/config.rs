//! The configuration: read first, before any port is bound. TOML, unknown keys refused, paths
//! relative to the file.
//!
//! ```toml
//! state_dir = "state/dicom-scp"        # spool/, vault/, audit/, control.sock, ready.json
//! site = "st-elsewhere"                # audit origin is <site>/dicom-scp/<replica>
//! replica = "0"                        # default "0"
//!
//! [listen]
//! dimse = "127.0.0.1:11112"            # 0 = any port; the chosen one stands in ready.json
//! admin = "127.0.0.1:9101"
//!
//! [receive]                            # every key has a default
//! ae_titles = ["CLOISTER"]             # called AE titles that we answer to
//! calling_ae_titles = []               # allow-list; empty = everybody
//! default_issuer = "LOCAL"             # issuer of patient ids when (0010,0021) is missing
//! max_pdu_bytes = 131072
//! max_object_bytes = 2147483648
//! max_objects = 10000                  # per association
//! max_connections = 256
//! max_connections_per_peer = 32
//! request_timeout_ms = 10000           # until the A-ASSOCIATE-RQ is complete
//! idle_timeout_ms = 30000              # for each PDU
//! association_timeout_ms = 3600000     # for the whole association
//!
//! [keys]                               # each a 0600 file
//! wrapping = "pki/wrapping.key"                  # 32 bytes
//! pseudonym = "pki/pseudonym.key"                # 32 bytes
//! manifest_signing = "pki/manifest-signing.key"  # Ed25519, PKCS#8 PEM
//! audit_signing = "pki/audit-dicom-scp.key"      # Ed25519, PKCS#8 PEM
//!
//! [directory]
//! file = "directory.jsonl"
//! enrolment_key = "pki/enrolment.pub"
//!
//! [route]
//! default_recipient = "group:radiology"   # absent: no matching rule means quarantine (NO_ROUTE)
//! [[route.rule]]                          # first match wins
//! calling_ae = "CT_1"
//! recipient = "spiffe://example.org/clinician/house"
//!
//! [[modality]]                         # what is known about a calling AE
//! calling_ae = "CT_1"
//! issuer = "WARD-7"
//!
//! [study]
//! quiet_ms = 5000
//! query = "Findings and impression"
//! urgency = "routine"                  # stat, urgent, routine
//! parallel = 2                         # studies worked on at a time
//!
//! [deidentify]                         # beside the Basic profile of PS3.15, which is always applied
//! options = []                         # of E.3: retain-safe-private, retain-uids,
//!                                      # retain-device-identity, retain-institution-identity,
//!                                      # retain-patient-characteristics, retain-full-dates,
//!                                      # retain-modified-dates (not with full dates),
//!                                      # clean-descriptors, clean-structured-content,
//!                                      # clean-graphics
//!
//! [redact]
//! detector_bundle = "models/text-ppocr"
//! runtime_library = "libonnxruntime.so"   # absent: the pinned one in the cache
//! workers = 1
//! memory_bytes = 4294967296
//! timeout_ms = 120000
//!
//! [sidecar]
//! endpoint = "https://127.0.0.1:8443"
//! identity = "spiffe://example.org/sidecar/sidecar"
//! certificate = "pki/gateway.crt"
//! key = "pki/gateway.key"
//! peer_ca = "pki/ca.crt"
//! retry_initial_ms = 500
//! retry_max_ms = 30000
//! deadline_ms = 600000                 # of one attempt
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_deid::Policy;
use cloister_phi::AeTitle;
use cloister_proto::v1::Urgency;
use cloister_redact::RedactConfig;
use cloister_runtime::ConfigError;
use cloister_tls::{SpiffeId, TlsFiles};

use crate::route::Routes;

mod raw;

/// Everything the room needs, parsed.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) audit_origin: String,
    pub(crate) dimse: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) receive: ReceiveConfig,
    pub(crate) keys: KeyFiles,
    pub(crate) directory_file: PathBuf,
    pub(crate) enrolment_key: PathBuf,
    pub(crate) routes: Routes,
    pub(crate) study: StudyConfig,
    pub(crate) deidentify: Policy,
    pub(crate) redact: RedactConfig,
    pub(crate) sidecar: SidecarConfig,
}

/// Limits and names of the DIMSE port.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveConfig {
    pub(crate) called: Vec<AeTitle>,
    /// Empty: everybody may call.
    pub(crate) calling: Vec<AeTitle>,
    pub(crate) default_issuer: String,
    pub(crate) issuers: BTreeMap<AeTitle, String>,
    pub(crate) max_pdu_bytes: u32,
    pub(crate) max_object_bytes: u64,
    pub(crate) max_objects: u32,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_peer: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) association_timeout: Duration,
}

impl ReceiveConfig {
    /// Who issued a patient id that names no issuer.
    pub(crate) fn issuer_of(&self, calling: &AeTitle) -> &str {
        self.issuers.get(calling).unwrap_or(&self.default_issuer)
    }
}

/// Where the secrets are.
#[derive(Debug, Clone)]
pub(crate) struct KeyFiles {
    pub(crate) wrapping: PathBuf,
    pub(crate) pseudonym: PathBuf,
    pub(crate) manifest_signing: PathBuf,
    pub(crate) audit_signing: PathBuf,
}

/// What is asked about a study, and when it counts as complete.
#[derive(Debug, Clone)]
pub(crate) struct StudyConfig {
    pub(crate) quiet: Duration,
    pub(crate) query: String,
    pub(crate) urgency: Urgency,
    pub(crate) parallel: usize,
}

/// Where cleared studies go.
#[derive(Debug, Clone)]
pub(crate) struct SidecarConfig {
    pub(crate) endpoint: String,
    pub(crate) identity: SpiffeId,
    pub(crate) tls: TlsFiles,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_max: Duration,
    pub(crate) deadline: Duration,
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] names the key that cannot be used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (raw, base) = cloister_runtime::config::load::<raw::Raw>(path)?;
        raw.check(&base)
    }
}

#[cfg(test)]
mod tests;
