//! Calling ends other than the gateway's to the sidecar: peers are known by a [`Binding`], files may
//! change while the room runs.
//!
//! The chain is checked as ever: issuer, time, use, revocation. The host name is not: modalities and
//! archives are configured by address, and their certificates often bear no name that one could dial (those
//! of `cloister pki modality` bear a SPIFFE URI and nothing else). The binding says more than a name
//! would: which holder it is, and no other of the same issuer.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::binding::{Binding, Shown};
use crate::error::TlsError;
use crate::profile::{self, TlsFiles};
use crate::serve::Profile;
use crate::watch::Watched;

/// Where a calling end finds its files.
#[derive(Debug, Clone)]
pub struct ClientFiles {
    /// Own certificate and key, and the CA of the peers.
    pub tls: TlsFiles,
    /// Revocation lists, as [`crate::ServerFiles::crl`].
    pub crl: Option<PathBuf>,
}

/// A calling end that reads its files again when they change.
pub struct Client {
    files: ClientFiles,
    profile: Profile,
    watched: Watched<Parts>,
}

/// The configuration without a peer, and the check of its chain.
type Parts = (Arc<ClientConfig>, Arc<WebPkiServerVerifier>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] when one is missing, unsafe or does not fit.
    pub fn load(files: ClientFiles, profile: Profile) -> Result<Self, TlsError> {
        let watched = Watched::new(&files.tls, files.crl.as_deref(), || make(&files, profile))?;
        Ok(Self {
            files,
            profile,
            watched,
        })
    }

    /// For the next handshake, with what the files say now: it succeeds with a holder of one of
    /// `holders` and with nobody else, whatever name was dialled. Everybody else ends it with
    /// [`CertificateError::ApplicationVerificationFailure`].
    ///
    /// # Errors
    /// [`TlsError`] when a changed file cannot be used. As with [`crate::Server::config`], the older
    /// version is not used instead.
    pub fn config(&self, holders: &[Binding]) -> Result<Arc<ClientConfig>, TlsError> {
        let (config, chain) = self.watched.now(|| make(&self.files, self.profile))?;
        let mut config = ClientConfig::clone(&config);
        let holders = holders.to_vec();
        let verifier = Arc::new(HolderOf { chain, holders });
        config.dangerous().set_certificate_verifier(verifier);
        Ok(Arc::new(config))
    }
}

fn make(files: &ClientFiles, profile: Profile) -> Result<Parts, TlsError> {
    let crls = match &files.crl {
        Some(path) => profile::crls(path)?,
        None => Vec::new(),
    };
    profile::caller(
        &files.tls,
        crls,
        profile.provider(),
        profile.versions(),
        &[],
    )
}

#[derive(Debug)]
struct HolderOf {
    chain: Arc<WebPkiServerVerifier>,
    holders: Vec<Binding>,
}

impl ServerCertVerifier for HolderOf {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match checked {
            // The name is the last that rustls looks at, when nothing else is wrong; a test pins that.
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        let shown = Shown::read(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if self.holders.iter().any(|holder| shown.is(holder)) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
