//! First step of the way in: a TCP connection becomes an mTLS connection of a known caller, or an
//! audit record.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cloister_audit::merge::Merger;
use cloister_audit::{Action, Reason};
use cloister_runtime::Shutdown;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{CertificateError, PeerIncompatible};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::identify::Caller;
use crate::metric::{self, Connected, ConnectionGuard};
use crate::stack::Stack;

/// HTTP/2 and nothing else (RFC 7301).
pub(crate) const ALPN: &[&[u8]] = &[b"h2"];
/// A peer that vanished is noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What every connection needs.
pub(crate) struct Acceptor {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) stack: Arc<Stack>,
    pub(crate) merger: Merger,
    pub(crate) limits: Limits,
    pub(crate) shutdown: Shutdown,
}

/// Accepts until shutdown, then lets open connections end (GOAWAY) within the drain time.
pub(crate) async fn serve(listener: TcpListener, acceptor: Arc<Acceptor>) {
    let places = Arc::new(Semaphore::new(acceptor.limits.max_connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = acceptor.shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: let others close theirs.
                tracing::warn!(%error, "A connection could not be accepted.");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            metric::connection(Connected::Full);
            continue;
        };
        let acceptor = Arc::clone(&acceptor);
        connections.spawn(async move {
            connection(&acceptor, stream, peer).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(acceptor.limits.drain_timeout, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            open = connections.len(),
            "Connections were cut off at the end of the drain time."
        );
    }
}

async fn connection(acceptor: &Acceptor, stream: TcpStream, peer: SocketAddr) {
    let (tls, caller) = match handshake(acceptor, stream).await {
        Ok(accepted) => accepted,
        Err(reason) => {
            refuse(acceptor, peer.ip(), reason);
            return;
        }
    };
    metric::connection(Connected::Accepted);
    let _open = ConnectionGuard::new();
    let stack = Arc::clone(&acceptor.stack);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (stack, caller) = (Arc::clone(&stack), caller.clone());
        async move { Ok::<_, Infallible>(stack.handle(caller, request).await) }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(acceptor.limits.max_header_bytes)
        .max_concurrent_streams(acceptor.limits.max_streams_per_connection)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(tls), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = acceptor.shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "A connection ended early.");
    }
}

async fn handshake(
    acceptor: &Acceptor,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, Caller), Reason> {
    // Else a response waits 40 ms for the peer's delayed acknowledgement.
    stream
        .set_nodelay(true)
        .map_err(|_| Reason::HandshakeFailed)?;
    let started = tokio::time::Instant::now();
    let shaking = TlsAcceptor::from(Arc::clone(&acceptor.tls)).accept(stream);
    let tls = tokio::time::timeout(acceptor.limits.handshake_timeout, shaking)
        .await
        .map_err(|_| Reason::HandshakeTimeout)?
        .map_err(|error| reason(&error))?;
    let (_, session) = tls.get_ref();
    // A client that offers no ALPN at all gets through rustls.
    if session.alpn_protocol() != Some(b"h2") {
        return Err(Reason::HandshakeFailed);
    }
    let caller = Caller::identify(session.peer_certificates()).map_err(|_| Reason::NoIdentity)?;
    metric::handshake(started.elapsed());
    Ok((tls, caller))
}

/// Counted at once; recorded merged, because whoever comes here has shown nothing about itself.
fn refuse(acceptor: &Acceptor, source: IpAddr, reason: Reason) {
    metric::connection(Connected::Refused);
    tracing::debug!(%source, ?reason, "A connection was refused.");
    acceptor
        .merger
        .note(source, Action::ConnectionRefused, reason);
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
