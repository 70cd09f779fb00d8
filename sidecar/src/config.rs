//! Before everything else: the configuration file, parsed into types that cannot be wrong.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_runtime::{ConfigError, config};
use cloister_tls::{SpiffeId, TlsFiles};
use serde::Deserialize;

/// What the sidecar runs with.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) state: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) tls: TlsFiles,
    pub(crate) server: Server,
    pub(crate) signing_key: PathBuf,
    pub(crate) audit_origin: String,
    pub(crate) audit_key: PathBuf,
    pub(crate) directory_file: PathBuf,
    pub(crate) enrolment_key: PathBuf,
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
}

/// Where the server is.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) grpc_socket: PathBuf,
    pub(crate) http_socket: PathBuf,
    /// The peer behind the sockets has to run as this user; `None` = as we do.
    pub(crate) uid: Option<u32>,
}

/// Who may name which recipients. Who may call what is code: `authorize.rs`.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) trust_domain: String,
    pub(crate) ehr: Vec<EhrRule>,
}

/// What one EHR, or every EHR, may do.
#[derive(Debug, Clone)]
pub(crate) struct EhrRule {
    /// `None` = every EHR.
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) recipients: Vec<RecipientRule>,
}

/// A set of recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecipientRule {
    /// Everybody in the directory.
    Any,
    /// The group by name, and each of its members.
    Group(String),
    /// One identity.
    Identity(SpiffeId),
}

/// Bounds that hold before anything is allocated for a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) max_streams_per_connection: u32,
    pub(crate) max_reports_in_flight: usize,
    pub(crate) max_header_bytes: u32,
    pub(crate) max_request_bytes: u64,
    pub(crate) max_study_bytes: u64,
    pub(crate) max_response_bytes: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) drain_timeout: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    state: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    tls: RawTls,
    server: RawServer,
    seal: RawSeal,
    audit: RawAudit,
    directory: RawDirectory,
    policy: RawPolicy,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
    peer_ca: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    grpc_socket: PathBuf,
    http_socket: PathBuf,
    uid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeal {
    signing_key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAudit {
    origin: String,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDirectory {
    file: PathBuf,
    enrolment_key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    trust_domain: String,
    #[serde(default)]
    ehr: Vec<RawEhr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEhr {
    identity: String,
    recipients: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    max_connections: usize,
    max_streams_per_connection: u32,
    max_reports_in_flight: usize,
    max_header_bytes: u32,
    max_request_bytes: u64,
    max_study_bytes: u64,
    max_response_bytes: usize,
    handshake_timeout_ms: u64,
    request_timeout_ms: u64,
    drain_timeout_ms: u64,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_streams_per_connection: 128,
            max_reports_in_flight: 64,
            max_header_bytes: 16 << 10,
            max_request_bytes: cloister_proto::MAX_MESSAGE_BYTES as u64,
            max_study_bytes: 2 << 30,
            max_response_bytes: cloister_proto::MAX_MESSAGE_BYTES,
            handshake_timeout_ms: 10_000,
            request_timeout_ms: 600_000,
            drain_timeout_ms: 30_000,
        }
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`]: the process ends before it binds a port.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (raw, base): (Raw, PathBuf) = config::load(path)?;
        let at = |path: PathBuf| base.join(path);
        if raw.audit.origin.is_empty()
            || raw
                .audit
                .origin
                .chars()
                .any(|c| c.is_whitespace() || c == '+')
        {
            return Err(ConfigError::invalid(
                "audit.origin",
                "a C2SP origin has no white space and no '+'",
            ));
        }
        Ok(Self {
            state: at(raw.state),
            listen: raw.listen,
            admin: raw.admin,
            tls: TlsFiles {
                certificate: at(raw.tls.certificate),
                key: at(raw.tls.key),
                peer_ca: at(raw.tls.peer_ca),
            },
            server: Server {
                grpc_socket: at(raw.server.grpc_socket),
                http_socket: at(raw.server.http_socket),
                uid: raw.server.uid,
            },
            signing_key: at(raw.seal.signing_key),
            audit_origin: raw.audit.origin,
            audit_key: at(raw.audit.key),
            directory_file: at(raw.directory.file),
            enrolment_key: at(raw.directory.enrolment_key),
            policy: raw.policy.try_into()?,
            limits: raw.limits.try_into()?,
        })
    }
}

impl TryFrom<RawPolicy> for Policy {
    type Error = ConfigError;

    fn try_from(raw: RawPolicy) -> Result<Self, Self::Error> {
        // Any well-formed identity proves that the trust domain is one.
        SpiffeId::new(&raw.trust_domain, cloister_tls::Role::Sidecar, "x")
            .map_err(|error| ConfigError::invalid("policy.trust_domain", error))?;
        let ehr = raw
            .ehr
            .into_iter()
            .map(EhrRule::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            trust_domain: raw.trust_domain,
            ehr,
        })
    }
}

impl TryFrom<RawEhr> for EhrRule {
    type Error = ConfigError;

    fn try_from(raw: RawEhr) -> Result<Self, Self::Error> {
        let identity = match raw.identity.as_str() {
            "*" => None,
            text => Some(
                SpiffeId::parse(text)
                    .map_err(|error| ConfigError::invalid("policy.ehr.identity", error))?,
            ),
        };
        let recipients = raw
            .recipients
            .iter()
            .map(|text| RecipientRule::parse(text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            identity,
            recipients,
        })
    }
}

impl RecipientRule {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(group) = text.strip_prefix("group:") {
            return Ok(Self::Group(group.to_owned()));
        }
        SpiffeId::parse(text).map(Self::Identity).map_err(|_| {
            ConfigError::invalid(
                "policy.ehr.recipients",
                "\"*\", \"group:NAME\" or spiffe://domain/role/name",
            )
        })
    }
}

impl TryFrom<RawLimits> for Limits {
    type Error = ConfigError;

    fn try_from(raw: RawLimits) -> Result<Self, Self::Error> {
        for (key, value) in [
            ("limits.max_connections", raw.max_connections as u64),
            (
                "limits.max_streams_per_connection",
                u64::from(raw.max_streams_per_connection),
            ),
            (
                "limits.max_reports_in_flight",
                raw.max_reports_in_flight as u64,
            ),
            ("limits.max_header_bytes", u64::from(raw.max_header_bytes)),
            ("limits.max_request_bytes", raw.max_request_bytes),
            ("limits.max_study_bytes", raw.max_study_bytes),
            ("limits.max_response_bytes", raw.max_response_bytes as u64),
            ("limits.handshake_timeout_ms", raw.handshake_timeout_ms),
            ("limits.request_timeout_ms", raw.request_timeout_ms),
            ("limits.drain_timeout_ms", raw.drain_timeout_ms),
        ] {
            if value == 0 {
                return Err(ConfigError::invalid(key, "must be greater than 0"));
            }
        }
        if raw.max_response_bytes > 100 << 20 {
            // The sealed report, padded, has to fit a mailbox record.
            return Err(ConfigError::invalid(
                "limits.max_response_bytes",
                "at most 100 MiB",
            ));
        }
        Ok(Self {
            max_connections: raw.max_connections,
            max_streams_per_connection: raw.max_streams_per_connection,
            max_reports_in_flight: raw.max_reports_in_flight,
            max_header_bytes: raw.max_header_bytes,
            max_request_bytes: raw.max_request_bytes,
            max_study_bytes: raw.max_study_bytes,
            max_response_bytes: raw.max_response_bytes,
            handshake_timeout: Duration::from_millis(raw.handshake_timeout_ms),
            request_timeout: Duration::from_millis(raw.request_timeout_ms),
            drain_timeout: Duration::from_millis(raw.drain_timeout_ms),
        })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "test files need not be durable")]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../sidecar.example.toml");

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sidecar.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn the_example_is_valid_and_names_every_limit() {
        let config = load(EXAMPLE).unwrap();
        assert_eq!(
            config.policy.ehr[0].recipients,
            [RecipientRule::Group("radiology".into())]
        );
        let defaults = load(EXAMPLE.split("[limits]").next().unwrap()).unwrap();
        assert_eq!(
            format!("{:?}", config.limits),
            format!("{:?}", defaults.limits)
        );
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (from, to, key) in [
            (
                "max_connections = 1024",
                "max_connections = 0",
                "max_connections",
            ),
            ("cloister.example", "Not A Domain", "trust_domain"),
            ("group:radiology", "radiology", "policy.ehr.recipients"),
            (
                "identity = \"*\"",
                "identity = \"ehr\"",
                "policy.ehr.identity",
            ),
            ("[limits]", "[limits]\nmax_conections = 1", "max_conections"),
            ("example/sidecar/0", "two words", "audit.origin"),
        ] {
            let error = load(&EXAMPLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
