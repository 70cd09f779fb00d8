//! The handshake: who is at the other end, before a byte of DICOM or HTTP is read.

use std::io;

use cloister_audit::Reason;
use cloister_tls::{Server, Shown};
use rustls::{CertificateError, PeerIncompatible};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Ends before `deadline`, with the verified certificate or with the reason for the audit log.
pub(crate) async fn shake(
    server: &Server,
    stream: TcpStream,
    deadline: Instant,
) -> Result<(Box<TlsStream<TcpStream>>, Shown), Reason> {
    drop(stream.set_nodelay(true));
    let config = server.config().map_err(|error| {
        tracing::error!(%error, "TLS files changed and cannot be used: nobody is let in.");
        Reason::HandshakeFailed
    })?;
    let stream = timeout_at(deadline, TlsAcceptor::from(config).accept(stream))
        .await
        .map_err(|_| Reason::HandshakeTimeout)?
        .map_err(|error| reason(&error))?;
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or(Reason::NoCertificate)?;
    let shown = Shown::read(leaf).map_err(|_| Reason::BadCertificate)?;
    Ok((Box::new(stream), shown))
}

/// Why rustls refused.
fn reason(error: &io::Error) -> Reason {
    let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return Reason::HandshakeFailed;
    };
    match tls {
        rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::ExpiredCertificate,
            CertificateError::Revoked
            | CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Reason::RevokedCertificate,
            CertificateError::UnknownIssuer => Reason::UnknownAuthority,
            _ => Reason::BadCertificate,
        },
        rustls::Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => Reason::ProtocolVersion,
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
            Reason::NotTls
        }
        _ => Reason::HandshakeFailed,
    }
}
