//! `cloister doctor`: says what is wrong before something fails: library, bundles, permissions,
//! certificates, ports.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use cloister_onnx::{Bundle, Runtime, TrustedHashes};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tokio::net::TcpStream;
use x509_parser::parse_x509_certificate;

use crate::client::identity_in;
use crate::detector::{library, models_dir};
use crate::output::Output;
use crate::recipient::now_unix_ms;
use crate::rooms::{ReadyFile, own_binaries};
use crate::state::{Room, State};

/// A certificate that ends sooner than this is worth a warning.
const WARN_DAYS: i64 = 30;
/// Usual ports, as in ARCHITECTURE.md.
const DEFAULT_PORTS: [(&str, u16); 5] = [
    ("DIMSE", 11112),
    ("sidecar mTLS", 8443),
    ("dicom-scp admin", 9101),
    ("server admin", 9102),
    ("sidecar admin", 9103),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// State folder to look at as well.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Folder with the reference bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// ONNX Runtime library; the pinned one in the cache by default.
    #[arg(long, value_name = "FILE")]
    runtime_library: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

struct Finding {
    check: String,
    level: Level,
    detail: String,
}

fn finding(check: impl Into<String>, level: Level, detail: impl Into<String>) -> Finding {
    Finding {
        check: check.into(),
        level,
        detail: detail.into(),
    }
}

pub(crate) async fn run(args: &Args, out: Output) -> Result<()> {
    let mut findings = vec![runtime_library(args)];
    findings.extend(bundles(args));
    findings.extend(executables());
    match &args.state {
        Some(dir) => {
            let state = State::at(dir)?;
            findings.extend(permissions(&state));
            findings.extend(certificates(&state));
            findings.extend(running(&state).await);
        }
        None => findings.extend(default_ports().await),
    }
    for found in &findings {
        out.emit(&json!({
            "check": found.check,
            "result": found.level.word().to_ascii_lowercase(),
            "detail": found.detail,
        }))?;
        out.say(format!(
            "{:<5} {}: {}",
            found.level.word(),
            found.check,
            found.detail
        ))?;
    }
    let failed = findings
        .iter()
        .filter(|found| found.level == Level::Fail)
        .count();
    if failed > 0 {
        bail!("{failed} of {} checks failed", findings.len());
    }
    Ok(())
}

fn runtime_library(args: &Args) -> Finding {
    let check = "ONNX Runtime";
    let loaded =
        library(args.runtime_library.as_deref()).and_then(|path| Ok((Runtime::init(&path)?, path)));
    match loaded {
        Ok((_, path)) => finding(check, Level::Ok, format!("loads from {}", path.display())),
        Err(error) => finding(check, Level::Fail, crate::failure::one_line(&error)),
    }
}

fn bundles(args: &Args) -> Vec<Finding> {
    let listed = models_dir(args.models.as_deref()).and_then(|dir| {
        let mut found: Vec<PathBuf> = std::fs::read_dir(&dir)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join("bundle.toml").is_file())
            .collect();
        found.sort();
        Ok(found)
    });
    let trust = TrustedHashes::compiled_in();
    match (listed, trust) {
        (Ok(dirs), Ok(trust)) => dirs
            .into_iter()
            .map(|dir| match Bundle::load(&dir, &trust) {
                Ok(bundle) => {
                    let manifest = bundle.manifest();
                    let note = if manifest.evaluated {
                        ""
                    } else {
                        ", not evaluated"
                    };
                    let detail = format!("{} {}{note}", manifest.name, manifest.version);
                    finding("bundle", Level::Ok, detail)
                }
                Err(error) => finding("bundle", Level::Fail, format!("{}: {error}", dir.display())),
            })
            .collect(),
        (Err(error), _) => vec![finding(
            "bundles",
            Level::Fail,
            crate::failure::one_line(&error),
        )],
        (_, Err(error)) => vec![finding("bundles", Level::Fail, error.to_string())],
    }
}

fn executables() -> Vec<Finding> {
    let Ok(dir) = own_binaries() else {
        return Vec::new();
    };
    Room::ALL
        .into_iter()
        .map(|room| {
            let path = dir.join(room.binary());
            if path.is_file() {
                finding(room.binary(), Level::Ok, path.display().to_string())
            } else {
                finding(
                    room.binary(),
                    Level::Warn,
                    format!("not beside this one ({})", dir.display()),
                )
            }
        })
        .collect()
}

fn permissions(state: &State) -> Vec<Finding> {
    let pki = state.pki();
    let Ok(entries) = std::fs::read_dir(pki.dir()) else {
        return vec![finding(
            "keys",
            Level::Fail,
            format!("{}: no keys", pki.dir().display()),
        )];
    };
    let open: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "key"))
        .filter(|path| is_open(path))
        .map(|path| path.display().to_string())
        .collect();
    let mut findings = vec![if open.is_empty() {
        finding("keys", Level::Ok, "readable by their owner alone")
    } else {
        finding(
            "keys",
            Level::Fail,
            format!("chmod 0600 {}", open.join(" ")),
        )
    }];
    for path in [pki.ca_key(), pki.enrolment_key()] {
        if path.exists() {
            let detail = format!("{} should not be on a serving machine", path.display());
            findings.push(finding("offline keys", Level::Warn, detail));
        }
    }
    findings
}

fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

fn certificates(state: &State) -> Vec<Finding> {
    let pki = state.pki();
    let mut findings = Vec::new();
    for (party, ..) in crate::pki::PARTIES {
        let path = pki.certificate(party);
        findings.push(match days_left(&path) {
            Ok(days) if days < 0 => finding(party, Level::Fail, "the certificate has expired"),
            Ok(days) => {
                let level = if days < WARN_DAYS {
                    Level::Warn
                } else {
                    Level::Ok
                };
                match identity_in(&path) {
                    Ok(id) => finding(party, level, format!("{id}, {days} days left")),
                    Err(error) => finding(party, Level::Fail, crate::failure::one_line(&error)),
                }
            }
            Err(error) => finding(party, Level::Fail, crate::failure::one_line(&error)),
        });
    }
    findings
}

fn days_left(certificate: &Path) -> Result<i64> {
    let Ok(der) = CertificateDer::from_pem_file(certificate) else {
        bail!("{} holds no certificate", certificate.display());
    };
    let Ok((_, parsed)) = parse_x509_certificate(&der) else {
        bail!("{} cannot be parsed", certificate.display());
    };
    Ok((parsed.validity().not_after.timestamp() - now_unix_ms() / 1000).div_euclid(86_400))
}

/// Whether the rooms of a state folder serve, by their own ready.json.
async fn running(state: &State) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in Room::ALL {
        let address =
            ReadyFile::read(state, room).and_then(|ready| ready.address(room, "admin").ok());
        findings.push(match address {
            Some(address) if is_listening(address).await => {
                finding(room.name(), Level::Ok, format!("answers on {address}"))
            }
            _ => finding(room.name(), Level::Warn, "is not running"),
        });
    }
    findings
}

async fn default_ports() -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, port) in DEFAULT_PORTS {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        findings.push(if is_listening(address).await {
            finding(
                name,
                Level::Warn,
                format!("port {port} is in use on this machine"),
            )
        } else {
            finding(name, Level::Ok, format!("port {port} is free"))
        });
    }
    findings
}

async fn is_listening(address: SocketAddr) -> bool {
    let connect = TcpStream::connect(address);
    matches!(
        tokio::time::timeout(Duration::from_millis(500), connect).await,
        Ok(Ok(_))
    )
}
