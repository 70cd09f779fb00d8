//! What can be wrong with certificates, keys and identities.

use std::io;
use std::path::PathBuf;

/// TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file is readable by group or world, or is no regular file.
    #[error("{path}: a private key must be a regular file of mode 0600 or 0400")]
    KeyPermissions {
        /// The file.
        path: PathBuf,
    },
    /// A file is not PEM, or holds nothing of the expected kind.
    #[error("{path}: no usable {what} in PEM form")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// rustls refuses the material, for example because key and certificate do not match.
    #[error("TLS material is refused: {0}")]
    Refused(#[from] rustls::Error),
    /// The CA file yields no usable verifier.
    #[error("the peer CA cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A certificate cannot be issued.
    #[error("a certificate cannot be issued: {0}")]
    Issue(#[from] rcgen::Error),
    /// A CA's certificate or key text cannot be used for issuing.
    #[error("the authority cannot be loaded: {0}")]
    Authority(&'static str),
    /// The endpoint is not `https://host:port`.
    #[error("an endpoint has the form https://host:port")]
    Endpoint,
    /// No connection, or the handshake failed.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// The server's certificate names somebody else.
    #[error("the server is not {expected}")]
    WrongPeer {
        /// Who was expected.
        expected: String,
    },
    /// An identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A certificate, or a text, holds no acceptable identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The certificate is not X.509.
    #[error("the certificate cannot be parsed")]
    Certificate,
    /// No URI in the subject alternative name.
    #[error("the certificate names no SPIFFE identity")]
    Missing,
    /// More than one URI: which one would count?
    #[error("the certificate names more than one URI")]
    Ambiguous,
    /// Not `spiffe://<trust-domain>/<role>/<name>`.
    #[error("an identity has the form spiffe://trust-domain/role/name")]
    Syntax,
    /// The role is not one of the closed list.
    #[error("the identity has an unknown role")]
    Role,
    /// Not one of the forms that tie a certificate to an AE title.
    #[error("a binding is spiffe://…, dns:NAME, cn:NAME or sha256:HEX")]
    Binding,
}
