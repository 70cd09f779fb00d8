//! A gRPC channel to a sidecar whose identity is pinned: the calling side of the path.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::error::TlsError;
use crate::identity::{SpiffeId, identity_of};

/// From the first SYN to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A half-dead peer is noticed within this and [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `https://host:port`. The server's certificate must be of the configured CA, valid
/// for `host`, and name `server_identity`. The channel reconnects by itself, with the same checks.
///
/// # Errors
/// [`TlsError`] when the first connection cannot be made.
pub async fn connect(
    endpoint: &str,
    tls: Arc<ClientConfig>,
    server_identity: &SpiffeId,
) -> Result<Channel, TlsError> {
    let target = Target::parse(endpoint, tls, server_identity)?;
    // A first handshake of its own: tonic would hide its cause behind "transport error".
    drop(target.open().await?);
    target
        .endpoint()?
        .connect_with_connector(target.connector())
        .await
        .map_err(|error| TlsError::Connect(io::Error::other(error)))
}

/// As [`connect`], but the first connection is made by the first call, which fails with
/// `UNAVAILABLE` when there is none. For a caller that retries anyway.
///
/// # Errors
/// [`TlsError::Endpoint`] when the endpoint is malformed.
pub fn connect_lazy(
    endpoint: &str,
    tls: Arc<ClientConfig>,
    server_identity: &SpiffeId,
) -> Result<Channel, TlsError> {
    let target = Target::parse(endpoint, tls, server_identity)?;
    Ok(target
        .endpoint()?
        .connect_with_connector_lazy(target.connector()))
}

#[derive(Clone)]
struct Target {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    identity: SpiffeId,
}

impl Target {
    fn parse(
        endpoint: &str,
        tls: Arc<ClientConfig>,
        identity: &SpiffeId,
    ) -> Result<Self, TlsError> {
        let uri: Uri = endpoint.parse().map_err(|_| TlsError::Endpoint)?;
        if uri.scheme_str() != Some("https")
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err(TlsError::Endpoint);
        }
        let bare = uri
            .host()
            .ok_or(TlsError::Endpoint)?
            .trim_start_matches('[')
            .trim_end_matches(']');
        let host = bare.to_owned();
        let port = uri.port_u16().ok_or(TlsError::Endpoint)?;
        let name = ServerName::try_from(host.clone()).map_err(|_| TlsError::Endpoint)?;
        Ok(Self {
            host,
            port,
            name,
            tls,
            identity: identity.clone(),
        })
    }

    fn endpoint(&self) -> Result<Endpoint, TlsError> {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        // `http` because the connector below does TLS; `origin` puts the true scheme on the wire.
        let inner = format!("http://{host}:{}", self.port);
        let origin: Uri = format!("https://{host}:{}", self.port)
            .parse()
            .map_err(|_| TlsError::Endpoint)?;
        let endpoint = Endpoint::from_shared(inner).map_err(|_| TlsError::Endpoint)?;
        Ok(endpoint
            .origin(origin)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true))
    }

    fn connector(
        &self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = io::Error,
        Future: Send + 'static,
    > + Send
    + 'static {
        let target = self.clone();
        tower::service_fn(move |_: Uri| {
            let target = target.clone();
            async move {
                target
                    .open()
                    .await
                    .map(TokioIo::new)
                    .map_err(io::Error::other)
            }
        })
    }

    async fn open(&self) -> Result<TlsStream<TcpStream>, TlsError> {
        let opening = async {
            let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            // Else the last small frame of a request waits 40 ms for a delayed acknowledgement.
            tcp.set_nodelay(true)?;
            TlsConnector::from(Arc::clone(&self.tls))
                .connect(self.name.clone(), tcp)
                .await
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        let stream = opened
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(TlsError::Connect)?;
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let shown = leaf.map(identity_of).transpose()?;
        if shown.as_ref() != Some(&self.identity) {
            return Err(TlsError::WrongPeer {
                expected: self.identity.to_string(),
            });
        }
        Ok(stream)
    }
}
