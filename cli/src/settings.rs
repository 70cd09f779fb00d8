//! The configuration files of the three rooms, as an installation on loopback needs them. Paths
//! inside the state folder are relative to the file, so the folder can be moved.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;
use toml::{Table, Value};

use crate::pki::{Plan, identity_of_party};
use crate::rooms::ReadyFile;
use crate::state::{Room, State};

/// What differs between the demo and the tests.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Trust domain; also the site in the audit origins.
    pub trust_domain: String,
    /// Group that every study goes to.
    pub recipient_group: String,
    /// Called AE title.
    pub ae_title: String,
    /// A study is complete when nothing came for this long.
    pub quiet_ms: u64,
    /// What is asked about every study.
    pub query: String,
    /// Folder of the report model.
    pub report_bundle: PathBuf,
    /// Folder of the text detector.
    pub detector_bundle: PathBuf,
    /// ONNX Runtime; the pinned one in the cache if `None`.
    pub runtime_library: Option<PathBuf>,
    /// Redaction workers of dicom-scp.
    pub workers: usize,
    /// Bound addresses by room and name; 0 until a room has told its own.
    ports: BTreeMap<(Room, &'static str), SocketAddr>,
}

/// The TCP ports of each room, by their names in `ready.json`.
const PORTS: [(Room, &str); 5] = [
    (Room::Server, "admin"),
    (Room::Sidecar, "mtls"),
    (Room::Sidecar, "admin"),
    (Room::DicomScp, "dimse"),
    (Room::DicomScp, "admin"),
];

impl Settings {
    /// Settings with the reference bundles of a models folder.
    pub fn with_models(models: &std::path::Path) -> Self {
        Self {
            trust_domain: "cloister.demo".into(),
            recipient_group: "radiology".into(),
            ae_title: "CLOISTER".into(),
            quiet_ms: 1500,
            query: "Findings and impression".into(),
            report_bundle: models.join("cxr-report-ref"),
            detector_bundle: models.join("text-ppocr"),
            runtime_library: None,
            workers: 1,
            ports: BTreeMap::new(),
        }
    }

    /// Remembers the ports that a room bound, so that it binds them again after a restart.
    ///
    /// # Errors
    /// When `ready.json` lacks one.
    pub fn pin(&mut self, room: Room, ready: &ReadyFile) -> Result<()> {
        for (owner, name) in PORTS {
            if owner == room {
                self.ports.insert((room, name), ready.address(room, name)?);
            }
        }
        Ok(())
    }

    fn port(&self, room: Room, name: &'static str) -> Value {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.ports
            .get(&(room, name))
            .unwrap_or(&any)
            .to_string()
            .into()
    }

    /// A room's configuration file.
    ///
    /// # Errors
    /// When the trust domain is not one.
    pub fn render(&self, room: Room) -> Result<String> {
        let table = match room {
            Room::Server => self.server(),
            Room::Sidecar => self.sidecar(),
            Room::DicomScp => self.dicom_scp()?,
        };
        Ok(format!(
            "# Written by `cloister demo`. Paths are relative to this file.\n{}",
            toml::to_string(&table)?
        ))
    }

    fn origin(&self, room: Room) -> String {
        Plan::for_trust_domain(&self.trust_domain).origin(room)
    }

    fn server(&self) -> Table {
        let library = self.library();
        let mut model = table([("bundle", path(&self.report_bundle))]);
        let mut redact = table([
            ("detector_bundle", path(&self.detector_bundle)),
            ("workers", 1.into()),
        ]);
        for section in [&mut model, &mut redact] {
            section.extend(library.clone());
        }
        table([
            ("state_dir", Room::Server.name().into()),
            ("pseudonym_key_file", "pki/server-pseudonym.key".into()),
            ("gateway_keys", list(["pki/manifest-signing.pub"])),
            (
                "admin",
                table([("addr", self.port(Room::Server, "admin"))]).into(),
            ),
            ("model", model.into()),
            ("redact", redact.into()),
        ])
    }

    fn sidecar(&self) -> Table {
        let ehr = table([
            ("identity", "*".into()),
            (
                "recipients",
                list([format!("group:{}", self.recipient_group).as_str()]),
            ),
        ]);
        table([
            ("state", Room::Sidecar.name().into()),
            ("listen", self.port(Room::Sidecar, "mtls")),
            ("admin", self.port(Room::Sidecar, "admin")),
            ("tls", tls("sidecar").into()),
            (
                "server",
                table([
                    ("grpc_socket", "server/cloister.sock".into()),
                    ("http_socket", "server/http.sock".into()),
                ])
                .into(),
            ),
            (
                "seal",
                table([("signing_key", "pki/node-signing.key".into())]).into(),
            ),
            (
                "audit",
                table([
                    ("origin", self.origin(Room::Sidecar).into()),
                    ("key", "pki/audit-sidecar.key".into()),
                ])
                .into(),
            ),
            ("directory", directory().into()),
            (
                "policy",
                table([
                    ("trust_domain", self.trust_domain.as_str().into()),
                    ("ehr", Value::Array(vec![ehr.into()])),
                ])
                .into(),
            ),
        ])
    }

    fn dicom_scp(&self) -> Result<Table> {
        let sidecar_address = self.port(Room::Sidecar, "mtls");
        let endpoint = format!("https://{}", sidecar_address.as_str().unwrap_or_default());
        let mut sidecar = tls("gateway");
        sidecar.extend(table([
            ("endpoint", endpoint.into()),
            (
                "identity",
                identity_of_party(&self.trust_domain, "sidecar")?
                    .to_string()
                    .into(),
            ),
            ("retry_initial_ms", 200.into()),
            ("retry_max_ms", 2000.into()),
        ]));
        let mut redact = table([
            ("detector_bundle", path(&self.detector_bundle)),
            ("workers", i64::try_from(self.workers)?.into()),
        ]);
        redact.extend(self.library());
        Ok(table([
            ("state_dir", Room::DicomScp.name().into()),
            ("site", self.trust_domain.as_str().into()),
            (
                "listen",
                table([
                    ("dimse", self.port(Room::DicomScp, "dimse")),
                    ("admin", self.port(Room::DicomScp, "admin")),
                ])
                .into(),
            ),
            (
                "receive",
                table([("ae_titles", list([self.ae_title.as_str()]))]).into(),
            ),
            (
                "keys",
                table([
                    ("wrapping", "pki/wrapping.key".into()),
                    ("pseudonym", "pki/pseudonym.key".into()),
                    ("manifest_signing", "pki/manifest-signing.key".into()),
                    ("audit_signing", "pki/audit-dicom-scp.key".into()),
                ])
                .into(),
            ),
            ("directory", directory().into()),
            (
                "route",
                table([(
                    "default_recipient",
                    format!("group:{}", self.recipient_group).into(),
                )])
                .into(),
            ),
            (
                "study",
                table([
                    ("quiet_ms", i64::try_from(self.quiet_ms)?.into()),
                    ("query", self.query.as_str().into()),
                ])
                .into(),
            ),
            ("redact", redact.into()),
            ("sidecar", sidecar.into()),
        ]))
    }

    fn library(&self) -> Table {
        self.runtime_library
            .iter()
            .map(|library| ("runtime_library".into(), path(library)))
            .collect()
    }
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn list<const N: usize>(texts: [&str; N]) -> Value {
    Value::Array(texts.into_iter().map(Value::from).collect())
}

fn path(path: &std::path::Path) -> Value {
    path.display().to_string().into()
}

fn tls(party: &str) -> Table {
    table([
        ("certificate", format!("pki/{party}.crt").into()),
        ("key", format!("pki/{party}.key").into()),
        ("peer_ca", "pki/ca.crt".into()),
    ])
}

fn directory() -> Table {
    table([
        ("file", "directory.jsonl".into()),
        ("enrolment_key", "pki/enrolment.pub".into()),
    ])
}

/// Whether the three configurations of a state folder exist.
pub fn all_exist(state: &State) -> bool {
    Room::ALL
        .into_iter()
        .all(|room| state.config(room).is_file())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::Settings;
    use crate::installation::Installation;
    use crate::rooms::LogTo;
    use crate::state::Room;

    /// The rooms' own parsers decide: a key that a room renames fails here.
    #[test]
    fn every_room_accepts_what_is_written_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::with_models(&PathBuf::from("/models"));
        settings.runtime_library = Some("/lib/onnx.so".into());
        let made =
            Installation::create(&dir.path().join("s"), settings, PathBuf::new(), LogTo::File)
                .unwrap();
        made.write_configs().unwrap();
        let state = made.state();
        cloister_server::Config::load(&state.config(Room::Server)).unwrap();
        cloister_sidecar::Config::load(&state.config(Room::Sidecar)).unwrap();
        cloister_dicom_scp::Config::load(&state.config(Room::DicomScp)).unwrap();
    }
}
