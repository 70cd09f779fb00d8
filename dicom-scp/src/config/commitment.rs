//! `[commitment]`: the archive that commits for us, and the modalities that ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_phi::AeTitle;
use cloister_runtime::ConfigError;
use cloister_tls::{Binding, ClientFiles, TlsFiles};
use serde::Deserialize;

use super::ReceiveConfig;
use super::raw::{millis, positive, title, titles};
use super::receive::{Commitment, Identities};

/// Most objects that one request may name, whatever the configuration says: what a data set of
/// [`crate::relay::MAX_REFERENCES_BYTES`] has room for.
const MOST_REFERENCES: usize = 50_000;

/// Where originals go, who is believed, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct RelayConfig {
    /// `host:port`.
    pub(crate) archive: String,
    pub(crate) archive_ae: AeTitle,
    pub(crate) ae: AeTitle,
    pub(crate) tls: Option<ClientFiles>,
    /// Certificates that the archive may show; empty without TLS.
    pub(crate) identity: Vec<Binding>,
    pub(crate) timeout: Duration,
    /// For the archive's report on the association that asked.
    pub(crate) wait: Duration,
    /// For the archive's report at all.
    pub(crate) event_ms: i64,
    /// For a modality's request.
    pub(crate) limit_ms: i64,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_max: Duration,
    pub(crate) give_up_ms: i64,
    pub(crate) max_references: usize,
    pub(crate) modalities: BTreeMap<AeTitle, Asking>,
}

/// A modality that asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asking {
    /// `host:port` for the N-EVENT-REPORT.
    pub(crate) address: Option<String>,
    /// Certificates that may be shown there; absent: without TLS.
    pub(crate) tls: Option<Vec<Binding>>,
    pub(crate) sends_as: Vec<AeTitle>,
}

impl RelayConfig {
    /// Where a modality's report goes, if not on an association of its own.
    pub(crate) fn address(&self, calling: &AeTitle) -> Option<(&str, Option<&[Binding]>)> {
        let modality = self.modalities.get(calling)?;
        Some((modality.address.as_deref()?, modality.tls.as_deref()))
    }

    /// Whether `asking` may ask about what `sender` has stored.
    pub(crate) fn may_ask(&self, asking: &AeTitle, sender: &str) -> bool {
        let modality = self.modalities.get(asking);
        asking.as_str() == sender
            || modality.is_some_and(|modality| {
                modality
                    .sends_as
                    .iter()
                    .any(|title| title.as_str() == sender)
            })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    archive: String,
    archive_ae_title: String,
    ae_title: Option<String>,
    #[serde(default = "half_minute_ms")]
    timeout_ms: u64,
    #[serde(default = "five_seconds_ms")]
    wait_ms: u64,
    #[serde(default = "hour_ms")]
    event_timeout_ms: u64,
    #[serde(default = "day_ms")]
    request_timeout_ms: u64,
    #[serde(default = "second_ms")]
    retry_initial_ms: u64,
    #[serde(default = "five_minutes_ms")]
    retry_max_ms: u64,
    #[serde(default = "three_days_hours")]
    give_up_after_hours: u32,
    #[serde(default = "ten_thousand")]
    max_references: usize,
    tls: Option<Tls>,
    #[serde(default)]
    modality: Vec<Modality>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    peer_ca: PathBuf,
    crl: Option<PathBuf>,
    identity: Identities,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Modality {
    calling_ae: String,
    address: Option<String>,
    #[serde(default)]
    tls: bool,
    #[serde(default)]
    sends_as: Vec<String>,
}

/// Where the archive's reports may come in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// `listen.dimse`.
    pub(super) plain: bool,
    /// `listen.dimse_tls`.
    pub(super) tls: bool,
}

/// The two keys belong together.
pub(super) fn relay(
    commitment: Commitment,
    table: Option<Raw>,
    base: &Path,
    receive: &mut ReceiveConfig,
    ports: Ports,
) -> Result<Option<RelayConfig>, ConfigError> {
    match (commitment, table) {
        (Commitment::Off, None) => Ok(None),
        (Commitment::Relay, Some(raw)) => raw.check(base, receive, ports).map(Some),
        (Commitment::Relay, None) => Err(ConfigError::invalid(
            "commitment",
            "needed by receive.commitment = \"relay\"",
        )),
        (Commitment::Off, Some(_)) => Err(ConfigError::invalid(
            "receive.commitment",
            "\"relay\" is needed by [commitment]",
        )),
    }
}

impl Ports {
    /// An archive that may report on an association of its own must be able to.
    fn hear(self, archive: &AeTitle, receive: &ReceiveConfig) -> Result<(), ConfigError> {
        let bound = receive.bindings.contains_key(archive);
        if bound && !self.tls {
            return Err(ConfigError::invalid(
                "listen.dimse_tls",
                "needed: the archive reports with the certificate of its identity",
            ));
        }
        if !bound && self.tls && !self.plain {
            return Err(ConfigError::invalid(
                "commitment.archive_ae_title",
                "over TLS only AE titles with an identity are heard: give it one in \
                 [commitment.tls] or [[modality]], or a port without TLS",
            ));
        }
        Ok(())
    }
}

impl Raw {
    /// Also lets `receive` know the archive: its reports come to the same ports.
    fn check(
        self,
        base: &Path,
        receive: &mut ReceiveConfig,
        ports: Ports,
    ) -> Result<RelayConfig, ConfigError> {
        let archive_ae = title("commitment.archive_ae_title", &self.archive_ae_title)?;
        if receive.called.contains(&archive_ae) {
            return Err(ConfigError::invalid(
                "commitment.archive_ae_title",
                "is one of receive.ae_titles: we are no archive",
            ));
        }
        let ae = match (&self.ae_title, receive.called.first()) {
            (Some(text), _) => title("commitment.ae_title", text)?,
            (None, Some(first)) => first.clone(),
            (None, None) => return Err(ConfigError::invalid("commitment.ae_title", "missing")),
        };
        let mut identity = Vec::new();
        let tls = match self.tls {
            None => None,
            Some(tls) => {
                identity = tls.identity.check("commitment.tls.identity")?;
                if identity.is_empty() {
                    return Err(ConfigError::invalid(
                        "commitment.tls.identity",
                        "at least one: who is the archive?",
                    ));
                }
                // A report of the archive comes from the same holder, and never without TLS.
                let bound = receive.bindings.entry(archive_ae.clone());
                let bound = bound.or_insert_with(|| identity.clone());
                let same = bound.iter().all(|one| identity.contains(one))
                    && identity.iter().all(|one| bound.contains(one));
                if !same {
                    return Err(ConfigError::invalid(
                        "commitment.tls.identity",
                        "is not the one of [[modality]] for the same AE title",
                    ));
                }
                Some(ClientFiles {
                    tls: TlsFiles {
                        certificate: base.join(tls.certificate),
                        key: base.join(tls.key),
                        peer_ca: base.join(tls.peer_ca),
                    },
                    crl: tls.crl.map(|crl| base.join(crl)),
                })
            }
        };
        ports.hear(&archive_ae, receive)?;
        let mut modalities = BTreeMap::new();
        for modality in self.modality {
            let calling = title("commitment.modality.calling_ae", &modality.calling_ae)?;
            let shown = receive.bindings.get(&calling);
            let bindings = match (modality.tls, &modality.address, &tls, shown) {
                (false, ..) => None,
                (true, Some(_), Some(_), Some(shown)) => Some(shown.clone()),
                (true, ..) => {
                    return Err(ConfigError::invalid(
                        "commitment.modality.tls",
                        "needs its address, [commitment.tls] and its identity in [[modality]]",
                    ));
                }
            };
            let asking = Asking {
                address: modality
                    .address
                    .map(|text| address("commitment.modality.address", text))
                    .transpose()?,
                tls: bindings,
                sends_as: titles("commitment.modality.sends_as", &modality.sends_as)?,
            };
            if modalities.insert(calling.clone(), asking).is_some() {
                return Err(ConfigError::invalid(
                    "commitment.modality.calling_ae",
                    format!("two [[commitment.modality]] of {}", calling.as_str()),
                ));
            }
        }
        let max_references = positive("commitment.max_references", self.max_references)?;
        if max_references > MOST_REFERENCES {
            return Err(ConfigError::invalid(
                "commitment.max_references",
                format!("{MOST_REFERENCES} at most"),
            ));
        }
        receive.archive = Some(archive_ae.clone());
        let retry_initial = millis("commitment.retry_initial_ms", self.retry_initial_ms)?;
        let whole = |key: &str, value: u64| {
            positive(key, value).map(|value| i64::try_from(value).unwrap_or(i64::MAX / 2))
        };
        Ok(RelayConfig {
            archive: address("commitment.archive", self.archive)?,
            archive_ae,
            ae,
            tls,
            identity,
            timeout: millis("commitment.timeout_ms", self.timeout_ms)?,
            wait: Duration::from_millis(self.wait_ms),
            event_ms: whole("commitment.event_timeout_ms", self.event_timeout_ms)?,
            limit_ms: whole("commitment.request_timeout_ms", self.request_timeout_ms)?,
            retry_initial,
            retry_max: millis("commitment.retry_max_ms", self.retry_max_ms)?.max(retry_initial),
            give_up_ms: whole(
                "commitment.give_up_after_hours",
                u64::from(self.give_up_after_hours) * 3_600_000,
            )?,
            max_references,
            modalities,
        })
    }
}

/// `host:port`; the name is looked up when it is needed.
fn address(key: &str, text: String) -> Result<String, ConfigError> {
    let parts = text.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| {
        let port = port.parse::<u16>().is_ok_and(|port| port > 0);
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = !host.is_empty() && host.bytes().all(allowed);
        let host_is_good = bare.map_or(is_name, |v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
        port && host_is_good
    });
    if good {
        Ok(text)
    } else {
        Err(ConfigError::invalid(key, "host:port"))
    }
}

const fn second_ms() -> u64 {
    1000
}
const fn five_seconds_ms() -> u64 {
    5000
}
const fn half_minute_ms() -> u64 {
    30_000
}
const fn five_minutes_ms() -> u64 {
    300_000
}
const fn hour_ms() -> u64 {
    3_600_000
}
const fn day_ms() -> u64 {
    86_400_000
}
const fn three_days_hours() -> u32 {
    72
}
const fn ten_thousand() -> usize {
    10_000
}
