//! `[dimse_tls]` and `[stow]`: the ports with TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cloister_runtime::ConfigError;
use cloister_tls::{ServerFiles, TlsFiles};
use serde::Deserialize;

use super::raw::{positive, titles};
use super::{ReceiveConfig, StowConfig, TlsListen};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DoorFiles {
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

/// Port and files of DIMSE over TLS: both or none.
pub(super) fn dimse_tls(
    listen: Option<SocketAddr>,
    files: Option<DoorFiles>,
    base: &Path,
) -> Result<Option<TlsListen>, ConfigError> {
    match (listen, files) {
        (Some(listen), Some(files)) => Ok(Some(TlsListen {
            listen,
            files: files.at(base),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::invalid(
            "dimse_tls",
            "needed by listen.dimse_tls",
        )),
        (None, Some(_)) => Err(ConfigError::invalid(
            "listen.dimse_tls",
            "needed by [dimse_tls]",
        )),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stow {
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
    pub(super) fn check(
        self,
        base: &Path,
        receive: &ReceiveConfig,
    ) -> Result<StowConfig, ConfigError> {
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

const fn thirty_two_gib() -> u64 {
    32 << 30
}
