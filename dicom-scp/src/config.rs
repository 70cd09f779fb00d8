//! The configuration: read first, before any port is bound. TOML, unknown keys refused, paths
//! relative to the file.
//!
//! ```toml
//! state_dir = "state/dicom-scp"        # spool/, vault/, audit/, control.sock, ready.json
//! site = "st-elsewhere"                # audit origin is <site>/dicom-scp/<replica>
//! replica = "0"                        # default "0"
//!
//! [listen]
//! dimse = "127.0.0.1:11112"            # without TLS; absent: no such port. 0 = any port; the chosen
//!                                      # ones stand in ready.json
//! dimse_tls = "127.0.0.1:2762"         # absent: no such port; else [dimse_tls] is needed
//! admin = "127.0.0.1:9101"
//!
//! [receive]                            # every key has a default
//! ae_titles = ["CLOISTER"]             # called AE titles that we answer to
//! calling_ae_titles = []               # allow-list; empty = everybody
//! default_issuer = "LOCAL"             # issuer of patient ids when (0010,0021) is missing
//! max_pdu_bytes = 131072
//! max_object_bytes = 2147483648
//! max_objects = 10000                  # per association
//! max_connections = 512
//! max_connections_per_peer = 32
//! request_timeout_ms = 10000           # until the A-ASSOCIATE-RQ is complete
//! idle_timeout_ms = 30000              # for each PDU
//! association_timeout_ms = 3600000     # for the whole association
//! unknown_sop_classes = "refuse"       # "accept": also private storage classes, and newer ones of
//!                                      # the standard; what is no image ends in quarantine
//! commitment = "off"                   # Storage Commitment; "relay" needs [commitment], see below
//!
//! [dimse_tls]                          # TLS 1.2 (ECDHE, AEAD) and 1.3, client certificate demanded
//! certificate = "pki/dimse.crt"
//! key = "pki/dimse.key"
//! peer_ca = "pki/modalities.crt"
//! crl = "pki/modalities.crl"           # optional; PEM. Read again when it changes, like the others
//!
//! [stow]                               # STOW-RS (PS3.18 section 10.5); absent: off. TLS 1.3 only
//! listen = "127.0.0.1:8444"
//! certificate = "pki/stow.crt"
//! key = "pki/stow.key"
//! peer_ca = "pki/ca.crt"
//! crl = "pki/ca.crl"                   # optional
//! clients = ["PACS_1"]                 # allow-list: calling_ae of [[modality]] entries with identity
//! max_request_bytes = 34359738368      # of one request; max_object_bytes and max_objects hold, too
//!
//! [commitment]                         # with receive.commitment = "relay", and only then
//! archive = "pacs.example:104"         # every original object goes there
//! archive_ae_title = "PACS"            # called; the only title whose N-EVENT-REPORT is believed
//! ae_title = "CLOISTER"                # calling; default: the first of receive.ae_titles
//! timeout_ms = 30000                   # for a connection, and for each answer
//! wait_ms = 5000                       # for the archive's N-EVENT-REPORT on our own association
//! event_timeout_ms = 3600000           # for it at all; then the archive is asked again; a late one counts
//! request_timeout_ms = 86400000        # then a modality is told that what is undecided has failed
//! retry_initial_ms = 1000
//! retry_max_ms = 300000                # waits double up to this, less a random part
//! give_up_after_hours = 72             # then an object, or a report, is a dead letter
//! max_references = 10000               # objects of one request. All requests together: 10,000 with
//!                                      # 1,000,000 objects, half of that for one title that has a
//!                                      # [[commitment.modality]] and for all that have none, a tenth
//!                                      # for one that has none
//! [commitment.tls]                     # absent: without TLS. TLS 1.2 (ECDHE, AEAD) and 1.3
//! certificate = "pki/gateway.crt"
//! key = "pki/gateway.key"
//! peer_ca = "pki/archive-ca.crt"
//! crl = "pki/archive-ca.crl"           # optional; all four files are read again when they change
//! identity = "dns:pacs.example"        # of the archive; as in [[modality]]. It says who is there, and
//!                                      # not the host name in `archive`
//! [[commitment.modality]]              # one of each that asks, where the default does not do
//! calling_ae = "CT_1"
//! address = "ct1.example:104"          # the N-EVENT-REPORT goes there; absent: on an association
//!                                      # that the modality has open, now or later
//! tls = false                          # to that address; with [commitment.tls]'s files, to the
//!                                      # identity in [[modality]]
//! sends_as = ["CT_1_STORE"]            # other titles under which it stores what it asks about
//!
//! [spool]                              # every key has a default
//! min_free_bytes = 1073741824          # objects are refused (A700) while less is free on the disk
//! max_bytes = 107374182400             # … or while the spool's files are longer; absent = no limit
//!
//! [keys]                               # each a 0600 file, or "credential:NAME" for a file of that
//!                                      # name in systemd's $CREDENTIALS_DIRECTORY
//! wrapping = "pki/wrapping.key"                  # 32 bytes
//! wrapping_previous = []                         # open what was wrapped before; newest first, until
//!                                                # `cloister vault rotate` has wrapped it again
//!                                                # and said so: it fails while a key opens with none
//! pseudonym = "pki/pseudonym.key"                # 32 bytes; read at every start, counts at the first
//! manifest_signing = "pki/manifest-signing.key"  # Ed25519, PKCS#8 PEM
//! audit_signing = "pki/audit-dicom-scp.key"      # Ed25519, PKCS#8 PEM
//!
//! [pkcs11]                             # for wrapping keys on a token, see below
//! module = "/usr/lib/softhsm/libsofthsm2.so"
//! pin = "credential:token-pin"         # a 0600 file or a credential; never the PIN itself
//! allow_extractable = false            # a key that can leave the token protects no better than a file
//! timeout_ms = 10000                   # of one call; then the object is refused (A700) and the study waits
//!
//! [directory]
//! file = "directory.jsonl"
//! enrolment_key = "pki/enrolment.pub"
//!
//! [route]
//! default_recipient = "group:radiology"   # absent: no matching rule means quarantine (NO_ROUTE)
//! [[route.rule]]                          # first match wins; at least one of the four
//! calling_ae = "CT_1"
//! institution = "*general hospital*"      # (0008,0080); * = any text, case does not matter
//! modality = "DX"                         # (0008,0060)
//! referring_physician = "Doe^*"           # (0008,0090)
//! recipient = "spiffe://example.org/clinician/house"
//!
//! [[modality]]                         # what is known about a calling AE; one of each
//! calling_ae = "CT_1"
//! issuer = "WARD-7"                    # default: receive.default_issuer
//! identity = "spiffe://example.org/modality/ct-1"   # or "dns:NAME", "cn:NAME", "sha256:HEX"; or a
//!                                      # list of them, any of which will do
//!
//! [study]
//! quiet_ms = 5000
//! query = "Findings and impression"
//! urgency = "routine"                  # stat, urgent, routine
//! parallel = 2                         # studies worked on at a time
//! max_objects = 64                     # what the server takes; more is a dead letter at once
//! max_rendition_bytes = 50331648       # likewise, of all renditions together
//! max_object_bytes = 268435456         # a larger object is kept, and goes to quarantine (TOO_LARGE)
//!                                      # without being read: cleaning takes several times its size
//!
//! [retention]                          # identified data are erased, their keys first
//! forwarded_hours = 168                # after the newest report of a study is released
//! quarantined_days = 30                # after an object went to quarantine; the later of both counts
//!
//! [control]
//! operators = []                       # user ids that may release, purge, retry, discard and use the
//!                                      # vault; empty = only the one that the room runs as. Nobody
//!                                      # but that one and root (0) can open the socket, so any other
//!                                      # is an error
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
//! # presence_bundle = "models/text-presence"  # default: beside the detector; where it cannot be loaded, the
//!                                      # detector looks at every pixel, which is slower
//! runtime_library = "libonnxruntime.so"   # absent: the pinned one in the cache
//! workers = 1
//! memory_bytes = 536870912
//! timeout_ms = 120000
//! markers = "keep"                    # laterality markers and view labels: those of a closed list,
//!                                      # alone in their place and none of the patient's own words,
//!                                      # stay; or "redact": everything found is blanked
//! fill = "background"                  # what stands there then: the samples around it; or "solid":
//!                                      # black as displayed
//! outside = "blank"                    # margins on the rendition, which the model sees, and what lies
//!                                      # in them: their grey; or "crop", or "keep". Objects keep them
//!
//! [sidecar]
//! endpoint = "https://127.0.0.1:8443"
//! identity = "spiffe://example.org/sidecar/sidecar"
//! certificate = "pki/gateway.crt"
//! key = "pki/gateway.key"
//! peer_ca = "pki/ca.crt"
//! retry_initial_ms = 500
//! retry_max_ms = 30000                 # waits double up to this, less a random part
//! give_up_after_hours = 72             # then the study is a dead letter
//! deadline_ms = 600000                 # of one attempt
//! ```
//!
//! **Who is who over TLS.** On the TLS port a calling AE title is believed only from the certificate
//! that its `identity` names: a title without `identity`, or with another certificate, is rejected
//! (A-ASSOCIATE-RJ 1/1/3). On the plain port a title that has an `identity` is rejected as well, or
//! anybody could take it there. `dns:` is one DNS name of the subject alternative name, `cn:` the
//! only common name of the subject, `sha256:` the certificate itself; there are no wildcards.
//!
//! **Keys on a token.** `keys.wrapping` and `keys.wrapping_previous` may name an AES-256 key on a PKCS#11
//! token by an RFC 7512 URI, `"pkcs11:token=LABEL;object=LABEL"`: also by `serial`, `manufacturer`, `model`
//! and `id`, and with `?module-path=…&pin-source=…` in place of `[pkcs11]`. It has to be CKA_SENSITIVE, not
//! CKA_EXTRACTABLE, with CKA_ENCRYPT and CKA_DECRYPT, and the token has to have CKM_AES_GCM. A wrong PIN is
//! entered once and not again: after that somebody has to log in by hand with the right one. To change to
//! another key, on a token or not, name it in `wrapping` and the one before in `wrapping_previous`, and run
//! `cloister vault rotate`.
//!
//! **Storage Commitment** (PS3.4 annex J) is a promise of safekeeping that this room cannot give,
//! because it erases. Without `commitment = "relay"` its SOP class is not negotiated. With it, every
//! original object goes to the archive as it was received, the archive is asked to commit to it, and a
//! modality is told exactly what the archive said. What the archive has not committed is not erased,
//! whatever `[retention]` says; an operator can erase what has been given up. The archive is believed by
//! its certificate where `[commitment.tls]` stands, else by its title and the address of `archive`.
//! Without TLS identified objects go over the network in clear, as they do on the plain port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_deid::Policy;
use cloister_phi::AeTitle;
use cloister_proto::v1::Urgency;
use cloister_redact::RedactConfig;
use cloister_runtime::ConfigError;
use cloister_tls::{Binding, ServerFiles, Shown, SpiffeId, TlsFiles};
use serde::Deserialize;

use crate::route::Routes;
use crate::spool::space::Limits;
use crate::spool::worklist::Keep;

pub(crate) mod commitment;

mod doors;

mod keys;

mod raw;

mod receive;

mod redact;

mod route;

mod sidecar;

mod spool;

mod study;

pub(crate) use keys::{KeyFiles, KeySource, WrappingSource};

/// Everything the room needs, parsed.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) audit_origin: String,
    pub(crate) dimse: Option<SocketAddr>,
    pub(crate) dimse_tls: Option<TlsListen>,
    pub(crate) stow: Option<StowConfig>,
    pub(crate) admin: SocketAddr,
    pub(crate) receive: ReceiveConfig,
    /// Absent: Storage Commitment is off.
    pub(crate) relay: Option<commitment::RelayConfig>,
    pub(crate) spool: Limits,
    pub(crate) keep: Keep,
    /// User ids that may change things over the control socket.
    pub(crate) operators: Vec<u32>,
    pub(crate) keys: KeyFiles,
    pub(crate) directory_file: PathBuf,
    pub(crate) enrolment_key: PathBuf,
    pub(crate) routes: Routes,
    pub(crate) study: StudyConfig,
    pub(crate) deidentify: Policy,
    pub(crate) redact: RedactConfig,
    pub(crate) sidecar: SidecarConfig,
}

/// A port with TLS, and its files.
#[derive(Debug, Clone)]
pub(crate) struct TlsListen {
    pub(crate) listen: SocketAddr,
    pub(crate) files: ServerFiles,
}

/// The STOW-RS port.
#[derive(Debug, Clone)]
pub(crate) struct StowConfig {
    pub(crate) door: TlsListen,
    /// Who may store; each has a binding in [`ReceiveConfig::bindings`].
    pub(crate) clients: Vec<AeTitle>,
    pub(crate) max_request_bytes: u64,
}

/// What is answered to a SOP class that is no storage class of the standard as we know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownSopClasses {
    Accept,
    Refuse,
}

/// Limits and names of the receiving ports.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveConfig {
    pub(crate) called: Vec<AeTitle>,
    /// Empty: everybody may call.
    pub(crate) calling: Vec<AeTitle>,
    pub(crate) default_issuer: String,
    pub(crate) issuers: BTreeMap<AeTitle, String>,
    /// Certificates that may claim an AE title.
    pub(crate) bindings: BTreeMap<AeTitle, Vec<Binding>>,
    /// The archive that commits for us. Absent: nobody does, and nobody can ask.
    pub(crate) archive: Option<AeTitle>,
    pub(crate) unknown_sop_classes: UnknownSopClasses,
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

    /// Whether `calling` is a title of the configuration, not just any that a peer may make up.
    pub(crate) fn names(&self, calling: &AeTitle) -> bool {
        self.calling.contains(calling)
            || self.bindings.contains_key(calling)
            || self.issuers.contains_key(calling)
    }

    /// Whether `calling` may be claimed by a peer that shows `shown`, or by one without TLS.
    pub(crate) fn may_claim(&self, calling: &AeTitle, shown: Option<&Shown>) -> bool {
        match (self.bindings.get(calling), shown) {
            (Some(bindings), Some(shown)) => bindings.iter().any(|binding| shown.is(binding)),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// What is asked about a study, and when it counts as complete.
#[derive(Debug, Clone)]
pub(crate) struct StudyConfig {
    pub(crate) quiet: Duration,
    pub(crate) query: String,
    pub(crate) urgency: Urgency,
    pub(crate) parallel: usize,
    /// More cleared objects than this are never forwarded together.
    pub(crate) max_objects: usize,
    pub(crate) max_rendition_bytes: u64,
    /// Larger objects are not read into memory.
    pub(crate) max_object_bytes: u64,
}

/// Where cleared studies go.
#[derive(Debug, Clone)]
pub(crate) struct SidecarConfig {
    pub(crate) endpoint: String,
    pub(crate) identity: SpiffeId,
    pub(crate) tls: TlsFiles,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_max: Duration,
    pub(crate) give_up_after: Duration,
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
