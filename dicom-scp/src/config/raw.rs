//! The file as it stands, before it is checked. Long, because one table of the file is one struct here
//! and its check stands beside the others, in the order of the documentation in `config.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_deid::{Policy, ProfileOption};
use cloister_phi::AeTitle;
use cloister_proto::v1::Urgency;
use cloister_redact::RedactConfig;
use cloister_runtime::ConfigError;
use cloister_tls::{Binding, ServerFiles, SpiffeId, TlsFiles};
use serde::Deserialize;

use super::keys::{Keys, Pkcs11, Secrets};
use super::{
    Config, ReceiveConfig, SidecarConfig, StowConfig, StudyConfig, TlsListen, UnknownSopClasses,
};
use crate::route::{self, Pattern, Routes};
use crate::spool::space::Limits;
use crate::spool::worklist::Keep;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    state_dir: PathBuf,
    site: String,
    #[serde(default = "zero")]
    replica: String,
    listen: Listen,
    #[serde(default)]
    receive: Receive,
    #[serde(default)]
    spool: Spool,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    control: Control,
    dimse_tls: Option<DoorFiles>,
    stow: Option<Stow>,
    keys: Keys,
    pkcs11: Option<Pkcs11>,
    directory: Directory,
    #[serde(default)]
    route: Route,
    #[serde(default)]
    modality: Vec<Modality>,
    #[serde(default)]
    study: Study,
    #[serde(default)]
    deidentify: Deidentify,
    redact: Redact,
    sidecar: Sidecar,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    dimse: Option<SocketAddr>,
    dimse_tls: Option<SocketAddr>,
    admin: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Receive {
    ae_titles: Vec<String>,
    calling_ae_titles: Vec<String>,
    default_issuer: String,
    max_pdu_bytes: u32,
    max_object_bytes: u64,
    max_objects: u32,
    max_connections: usize,
    max_connections_per_peer: usize,
    request_timeout_ms: u64,
    idle_timeout_ms: u64,
    association_timeout_ms: u64,
    unknown_sop_classes: UnknownSopClasses,
    commitment: Commitment,
}

/// One value: a promise that is not kept must not be configurable.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Commitment {
    Off,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DoorFiles {
    certificate: PathBuf,
    key: PathBuf,
    peer_ca: PathBuf,
    crl: Option<PathBuf>,
}

impl DoorFiles {
    fn at(self, base: &Path) -> ServerFiles {
        ServerFiles {
            tls: TlsFiles {
                certificate: base.join(self.certificate),
                key: base.join(self.key),
                peer_ca: base.join(self.peer_ca),
            },
            crl: self.crl.map(|crl| base.join(crl)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stow {
    listen: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    peer_ca: PathBuf,
    crl: Option<PathBuf>,
    clients: Vec<String>,
    #[serde(default = "thirty_two_gib")]
    max_request_bytes: u64,
}

impl Stow {
    fn check(self, base: &Path, receive: &ReceiveConfig) -> Result<StowConfig, ConfigError> {
        let clients = titles("stow.clients", &self.clients)?;
        if clients.is_empty() {
            return Err(ConfigError::invalid("stow.clients", "at least one"));
        }
        if clients.iter().any(|ae| !receive.bindings.contains_key(ae)) {
            return Err(ConfigError::invalid(
                "stow.clients",
                "each needs a [[modality]] with identity",
            ));
        }
        let files = DoorFiles {
            certificate: self.certificate,
            key: self.key,
            peer_ca: self.peer_ca,
            crl: self.crl,
        };
        let door = TlsListen {
            listen: self.listen,
            files: files.at(base),
        };
        Ok(StowConfig {
            door,
            clients,
            max_request_bytes: positive("stow.max_request_bytes", self.max_request_bytes)?,
        })
    }
}

impl Default for Receive {
    fn default() -> Self {
        Self {
            ae_titles: vec!["CLOISTER".to_owned()],
            calling_ae_titles: Vec::new(),
            default_issuer: "LOCAL".to_owned(),
            max_pdu_bytes: 128 << 10,
            max_object_bytes: 2 << 30,
            max_objects: 10_000,
            max_connections: 512,
            max_connections_per_peer: 32,
            request_timeout_ms: 10_000,
            idle_timeout_ms: 30_000,
            association_timeout_ms: 3_600_000,
            unknown_sop_classes: UnknownSopClasses::Refuse,
            commitment: Commitment::Off,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Spool {
    min_free_bytes: u64,
    max_bytes: Option<u64>,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            min_free_bytes: 1 << 30,
            max_bytes: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Retention {
    forwarded_hours: u32,
    quarantined_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            forwarded_hours: 168,
            quarantined_days: 30,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Control {
    operators: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    file: PathBuf,
    enrolment_key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Route {
    default_recipient: Option<String>,
    rule: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    calling_ae: Option<String>,
    institution: Option<String>,
    modality: Option<String>,
    referring_physician: Option<String>,
    recipient: String,
}

impl Rule {
    fn check(&self) -> Result<route::Rule, ConfigError> {
        let calling = self.calling_ae.as_deref();
        let calling = calling.map(|text| title("route.rule.calling_ae", text));
        let tags = [
            ("route.rule.institution", &self.institution),
            ("route.rule.modality", &self.modality),
            ("route.rule.referring_physician", &self.referring_physician),
        ];
        for (key, text) in tags {
            if text.as_deref().is_some_and(|text| text.trim().is_empty()) {
                return Err(ConfigError::invalid(key, "must not be empty"));
            }
        }
        let rule = route::Rule {
            calling: calling.transpose()?,
            tags: tags.map(|(_, text)| text.as_deref().map(Pattern::new)),
            recipient: recipient("route.rule.recipient", &self.recipient)?,
        };
        if rule.calling.is_none() && rule.tags.iter().all(Option::is_none) {
            return Err(ConfigError::invalid(
                "route.rule",
                "names nothing to match; route.default_recipient is for everything else",
            ));
        }
        Ok(rule)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Modality {
    calling_ae: String,
    issuer: Option<String>,
    #[serde(default)]
    identity: Identities,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Identities {
    One(String),
    Any(Vec<String>),
}

impl Default for Identities {
    fn default() -> Self {
        Self::Any(Vec::new())
    }
}

impl Identities {
    fn check(&self) -> Result<Vec<Binding>, ConfigError> {
        let texts = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Any(texts) => texts,
        };
        texts
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|error| ConfigError::invalid("modality.identity", error))
            })
            .collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Study {
    quiet_ms: u64,
    query: String,
    urgency: String,
    parallel: usize,
    max_objects: usize,
    max_rendition_bytes: u64,
}

impl Default for Study {
    fn default() -> Self {
        Self {
            quiet_ms: 5000,
            query: "Findings and impression".to_owned(),
            urgency: "routine".to_owned(),
            parallel: 2,
            max_objects: 64,
            max_rendition_bytes: 48 << 20,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Deidentify {
    options: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redact {
    detector_bundle: PathBuf,
    runtime_library: Option<PathBuf>,
    #[serde(default = "one")]
    workers: usize,
    #[serde(default = "four_gib")]
    memory_bytes: u64,
    #[serde(default = "two_minutes_ms")]
    timeout_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    endpoint: String,
    identity: String,
    certificate: PathBuf,
    key: PathBuf,
    peer_ca: PathBuf,
    #[serde(default = "half_second_ms")]
    retry_initial_ms: u64,
    #[serde(default = "half_minute_ms")]
    retry_max_ms: u64,
    #[serde(default = "three_days_hours")]
    give_up_after_hours: u64,
    #[serde(default = "ten_minutes_ms")]
    deadline_ms: u64,
}

fn zero() -> String {
    "0".to_owned()
}
const fn one() -> usize {
    1
}
const fn four_gib() -> u64 {
    4 << 30
}
const fn thirty_two_gib() -> u64 {
    32 << 30
}
const fn half_second_ms() -> u64 {
    500
}
const fn half_minute_ms() -> u64 {
    30_000
}
const fn three_days_hours() -> u64 {
    72
}
const fn two_minutes_ms() -> u64 {
    120_000
}
const fn ten_minutes_ms() -> u64 {
    600_000
}

fn title(key: &str, text: &str) -> Result<AeTitle, ConfigError> {
    AeTitle::parse(text).map_err(|error| ConfigError::invalid(key, error))
}

fn titles(key: &str, texts: &[String]) -> Result<Vec<AeTitle>, ConfigError> {
    texts.iter().map(|text| title(key, text)).collect()
}

pub(super) fn positive<T: PartialOrd + Default + Copy>(
    key: &str,
    value: T,
) -> Result<T, ConfigError> {
    if value > T::default() {
        Ok(value)
    } else {
        Err(ConfigError::invalid(key, "must not be 0"))
    }
}

fn recipient(key: &str, text: &str) -> Result<String, ConfigError> {
    let known = text
        .strip_prefix("group:")
        .is_some_and(|group| !group.is_empty())
        || SpiffeId::parse(text).is_ok();
    if known {
        Ok(text.to_owned())
    } else {
        Err(ConfigError::invalid(key, "spiffe://… or group:NAME"))
    }
}

fn policy(options: &[String]) -> Result<Policy, ConfigError> {
    let invalid = |error: &dyn std::fmt::Display| {
        ConfigError::invalid("deidentify.options", error.to_string())
    };
    let options: Result<Vec<ProfileOption>, _> =
        options.iter().map(|option| option.parse()).collect();
    Policy::with(options.map_err(|error| invalid(&error))?).map_err(|error| invalid(&error))
}

impl Raw {
    pub(super) fn check(self, base: &Path) -> Result<Config, ConfigError> {
        let called = titles("receive.ae_titles", &self.receive.ae_titles)?;
        if called.is_empty() {
            return Err(ConfigError::invalid("receive.ae_titles", "at least one"));
        }
        // An origin is one line of a signed note.
        let word = |text: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed)
        };
        if !word(&self.site) || !word(&self.replica) {
            return Err(ConfigError::invalid(
                "site",
                "site and replica: letters, digits, dots and dashes",
            ));
        }
        let max_pdu_bytes = self.receive.max_pdu_bytes;
        if !(4096..=(16 << 20)).contains(&max_pdu_bytes) {
            return Err(ConfigError::invalid(
                "receive.max_pdu_bytes",
                "between 4 KiB and 16 MiB",
            ));
        }
        let (mut issuers, mut bindings) = (BTreeMap::new(), BTreeMap::new());
        let mut seen = BTreeSet::new();
        for modality in &self.modality {
            let calling = title("modality.calling_ae", &modality.calling_ae)?;
            if !seen.insert(calling.clone()) {
                return Err(ConfigError::invalid(
                    "modality.calling_ae",
                    format!("two [[modality]] of {}", calling.as_str()),
                ));
            }
            let identities = modality.identity.check()?;
            if !identities.is_empty() {
                bindings.insert(calling.clone(), identities);
            }
            if let Some(issuer) = &modality.issuer {
                issuers.insert(calling, issuer.clone());
            }
        }
        let receive = ReceiveConfig {
            called,
            calling: titles("receive.calling_ae_titles", &self.receive.calling_ae_titles)?,
            default_issuer: self.receive.default_issuer,
            issuers,
            bindings,
            unknown_sop_classes: self.receive.unknown_sop_classes,
            max_pdu_bytes,
            max_object_bytes: positive("receive.max_object_bytes", self.receive.max_object_bytes)?,
            max_objects: positive("receive.max_objects", self.receive.max_objects)?,
            max_connections: positive("receive.max_connections", self.receive.max_connections)?,
            max_connections_per_peer: positive(
                "receive.max_connections_per_peer",
                self.receive.max_connections_per_peer,
            )?,
            request_timeout: millis(
                "receive.request_timeout_ms",
                self.receive.request_timeout_ms,
            )?,
            idle_timeout: millis("receive.idle_timeout_ms", self.receive.idle_timeout_ms)?,
            association_timeout: millis(
                "receive.association_timeout_ms",
                self.receive.association_timeout_ms,
            )?,
        };
        let Commitment::Off = self.receive.commitment;
        let stow = self
            .stow
            .map(|stow| stow.check(base, &receive))
            .transpose()?;
        let dimse_tls = match (self.listen.dimse_tls, self.dimse_tls) {
            (Some(listen), Some(files)) => Some(TlsListen {
                listen,
                files: files.at(base),
            }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::invalid(
                    "dimse_tls",
                    "needed by listen.dimse_tls",
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError::invalid(
                    "listen.dimse_tls",
                    "needed by [dimse_tls]",
                ));
            }
        };
        if self.listen.dimse.is_none() && dimse_tls.is_none() && stow.is_none() {
            return Err(ConfigError::invalid(
                "listen",
                "dimse, dimse_tls or [stow]: no film could come",
            ));
        }
        if dimse_tls.is_some() && receive.bindings.is_empty() {
            return Err(ConfigError::invalid(
                "modality.identity",
                "over TLS only AE titles with an identity are accepted, and there is none",
            ));
        }
        let rules = self.route.rule.iter().map(Rule::check);
        let rules = rules.collect::<Result<Vec<_>, _>>()?;
        let default = self.route.default_recipient.as_deref();
        let default = default
            .map(|text| recipient("route.default_recipient", text))
            .transpose()?;
        let routes = Routes::new(rules, default);
        if let Some((rule, before)) = routes.unreachable() {
            return Err(ConfigError::invalid(
                "route.rule",
                format!("rule {rule} can never match: rule {before} takes all that it would"),
            ));
        }
        let urgency = match self.study.urgency.as_str() {
            "stat" => Urgency::Stat,
            "urgent" => Urgency::Urgent,
            "routine" => Urgency::Routine,
            _ => {
                return Err(ConfigError::invalid(
                    "study.urgency",
                    "stat, urgent or routine",
                ));
            }
        };
        let runtime_library = match self.redact.runtime_library {
            Some(path) => base.join(path),
            None => cloister_onnx::library_path()
                .map_err(|error| ConfigError::invalid("redact.runtime_library", error))?,
        };
        let exe = std::env::current_exe().map_err(|error| ConfigError::invalid("redact", error))?;
        let redact = RedactConfig {
            workers: positive("redact.workers", self.redact.workers)?,
            memory_bytes: positive("redact.memory_bytes", self.redact.memory_bytes)?,
            timeout: millis("redact.timeout_ms", self.redact.timeout_ms)?,
            ..RedactConfig::at(exe, base.join(self.redact.detector_bundle), runtime_library)
        };
        let sidecar = SidecarConfig {
            endpoint: self.sidecar.endpoint,
            identity: SpiffeId::parse(&self.sidecar.identity)
                .map_err(|error| ConfigError::invalid("sidecar.identity", error))?,
            tls: TlsFiles {
                certificate: base.join(self.sidecar.certificate),
                key: base.join(self.sidecar.key),
                peer_ca: base.join(self.sidecar.peer_ca),
            },
            retry_initial: millis("sidecar.retry_initial_ms", self.sidecar.retry_initial_ms)?,
            retry_max: millis("sidecar.retry_max_ms", self.sidecar.retry_max_ms)?,
            give_up_after: positive(
                "sidecar.give_up_after_hours",
                self.sidecar.give_up_after_hours,
            )
            .map(|hours| Duration::from_secs(hours.saturating_mul(3600)))?,
            deadline: millis("sidecar.deadline_ms", self.sidecar.deadline_ms)?,
        };
        let secrets = Secrets {
            base,
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        };
        let keys = self.keys.check(&secrets, self.pkcs11.as_ref())?;
        let own = rustix::process::geteuid().as_raw();
        // The socket's mode is 0600: nobody else would ever get that far.
        let foreign = |uid: &&u32| **uid != own && **uid != 0;
        if let Some(uid) = self.control.operators.iter().find(foreign) {
            return Err(ConfigError::invalid(
                "control.operators",
                format!("user {uid} cannot open control.sock: 0 and the room's own {own} can"),
            ));
        }
        Ok(Config {
            spool: Limits {
                min_free_bytes: self.spool.min_free_bytes,
                max_bytes: self
                    .spool
                    .max_bytes
                    .map(|most| positive("spool.max_bytes", most))
                    .transpose()?,
            },
            keep: Keep {
                forwarded_ms: i64::from(self.retention.forwarded_hours) * 3_600_000,
                quarantined_ms: i64::from(self.retention.quarantined_days) * 24 * 3_600_000,
            },
            operators: if self.control.operators.is_empty() {
                vec![own]
            } else {
                self.control.operators
            },
            state_dir: base.join(self.state_dir),
            audit_origin: format!("{}/dicom-scp/{}", self.site, self.replica),
            dimse: self.listen.dimse,
            dimse_tls,
            stow,
            admin: self.listen.admin,
            receive,
            keys,
            directory_file: base.join(self.directory.file),
            enrolment_key: base.join(self.directory.enrolment_key),
            routes,
            study: StudyConfig {
                quiet: Duration::from_millis(self.study.quiet_ms),
                query: self.study.query,
                urgency,
                parallel: positive("study.parallel", self.study.parallel)?,
                max_objects: positive("study.max_objects", self.study.max_objects)?,
                max_rendition_bytes: positive(
                    "study.max_rendition_bytes",
                    self.study.max_rendition_bytes,
                )?,
            },
            deidentify: policy(&self.deidentify.options)?,
            redact,
            sidecar,
        })
    }
}

pub(super) fn millis(key: &str, value: u64) -> Result<Duration, ConfigError> {
    positive(key, value).map(Duration::from_millis)
}
