//! A caller's end of the sidecar's mTLS: who calls, where, and whom it expects there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use cloister_proto::MAX_MESSAGE_BYTES;
use cloister_proto::v1::inbox_service_client::InboxServiceClient;
use cloister_proto::v1::report_service_client::ReportServiceClient;
use cloister_tls::{CertificateDer, Role, SpiffeId, TlsFiles, client_config, identity_of};
use rustls::pki_types::pem::PemObject as _;
use tonic::transport::Channel;

use crate::failure::usage;
use crate::rooms::ReadyFile;
use crate::state::{Pki, Room, State};

/// How to reach the sidecar. With `--state` everything has a default.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// State folder of a local installation (from `demo` or `serve`): gives all options below.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Address of the sidecar.
    #[arg(long, value_name = "https://HOST:PORT")]
    pub endpoint: Option<String>,
    /// TLS certificate of the caller.
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// TLS key of the caller.
    #[arg(long, value_name = "FILE")]
    pub cert_key: Option<PathBuf>,
    /// CA certificate that the sidecar is checked against.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Identity that the sidecar must have; the caller's trust domain with /sidecar/sidecar.
    #[arg(long, value_name = "SPIFFE-ID")]
    pub sidecar: Option<String>,
}

impl ClientArgs {
    /// The state folder, if one was named.
    pub fn state(&self) -> Result<Option<State>> {
        Ok(self.state.as_deref().map(State::at).transpose()?)
    }

    /// The keys of the state folder, if one was named.
    pub fn pki(&self) -> Result<Option<Pki>> {
        Ok(self.state()?.map(|state| state.pki()))
    }

    /// Settles the options for a caller whose files in a state folder are named `party`.
    ///
    /// # Errors
    /// A usage error names the option that is missing.
    pub fn client(&self, party: &str) -> Result<Client> {
        let state = self.state()?;
        let pki = state.as_ref().map(State::pki);
        let file = |given: &Option<PathBuf>, own: Option<PathBuf>, option: &str| {
            given
                .clone()
                .or(own)
                .ok_or_else(|| usage(format!("give --state or {option}")))
        };
        let tls = TlsFiles {
            certificate: file(
                &self.cert,
                pki.as_ref().map(|p| p.certificate(party)),
                "--cert",
            )?,
            key: file(
                &self.cert_key,
                pki.as_ref().map(|p| p.tls_key(party)),
                "--cert-key",
            )?,
            peer_ca: file(&self.ca, pki.as_ref().map(Pki::ca), "--ca")?,
        };
        let endpoint = match (&self.endpoint, &state) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(state)) => endpoint_of(state)?,
            (None, None) => return Err(usage("give --state or --endpoint")),
        };
        let sidecar = match &self.sidecar {
            Some(id) => {
                SpiffeId::parse(id).map_err(|error| usage(format!("--sidecar: {error}")))?
            }
            None => sidecar_of(&identity_in(&tls.certificate)?)?,
        };
        Ok(Client {
            endpoint,
            tls,
            sidecar,
        })
    }
}

/// Where the running sidecar of a state folder listens.
///
/// # Errors
/// When it does not run.
pub fn endpoint_of(state: &State) -> Result<String> {
    let ready = ReadyFile::read(state, Room::Sidecar).with_context(|| {
        format!(
            "the sidecar of {} is not running (no ready.json)",
            state.root().display()
        )
    })?;
    Ok(format!("https://{}", ready.address(Room::Sidecar, "mtls")?))
}

/// The identity in a certificate file.
///
/// # Errors
/// When the file holds no certificate with exactly one SPIFFE URI.
pub fn identity_in(certificate: &Path) -> Result<SpiffeId> {
    let der = CertificateDer::from_pem_file(certificate)
        .map_err(|_| anyhow::anyhow!("{} holds no certificate", certificate.display()))?;
    identity_of(&der).with_context(|| certificate.display().to_string())
}

fn sidecar_of(caller: &SpiffeId) -> Result<SpiffeId> {
    Ok(SpiffeId::new(
        caller.trust_domain(),
        Role::Sidecar,
        "sidecar",
    )?)
}

/// A settled caller.
#[derive(Debug, Clone)]
pub struct Client {
    /// `https://host:port`.
    pub endpoint: String,
    /// Certificate, key and CA.
    pub tls: TlsFiles,
    /// Who has to answer.
    pub sidecar: SpiffeId,
}

impl Client {
    /// A party of a local installation.
    ///
    /// # Errors
    /// When the sidecar does not run or the party has no certificate.
    pub fn of_state(state: &State, party: &str) -> Result<Self> {
        let pki = state.pki();
        let tls = TlsFiles {
            certificate: pki.certificate(party),
            key: pki.tls_key(party),
            peer_ca: pki.ca(),
        };
        let sidecar = sidecar_of(&identity_in(&tls.certificate)?)?;
        Ok(Self {
            endpoint: endpoint_of(state)?,
            tls,
            sidecar,
        })
    }

    /// Connects.
    ///
    /// # Errors
    /// When the sidecar cannot be reached, or is somebody else.
    pub async fn channel(&self) -> Result<Channel> {
        let tls = client_config(&self.tls, &[b"h2"])?;
        cloister_tls::channel::connect(&self.endpoint, tls, &self.sidecar)
            .await
            .with_context(|| format!("connecting to the sidecar at {}", self.endpoint))
    }

    /// Connects to the inbox.
    ///
    /// # Errors
    /// As [`Client::channel`].
    pub async fn inbox(&self) -> Result<InboxServiceClient<Channel>> {
        Ok(InboxServiceClient::new(self.channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Connects to the report service.
    ///
    /// # Errors
    /// As [`Client::channel`].
    pub async fn reports(&self) -> Result<ReportServiceClient<Channel>> {
        Ok(ReportServiceClient::new(self.channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }
}

/// An error status as one sentence: code and the service's own closed text.
pub fn status_error(status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!(
        "the sidecar answered {:?}: {}",
        status.code(),
        status.message()
    )
}
