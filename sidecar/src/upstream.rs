//! The server's two Unix sockets: gRPC as HTTP/2 with prior knowledge, HTTP/JSON as HTTP/1.1.
//!
//! Connections are pooled and made anew when the server restarts; a request that was never sent is
//! tried again by the pool, one that was sent never is.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, Uri, Version, header, uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;

use crate::config::Server;
use crate::error::Refusal;
use crate::limit::BodyError;

/// A body on its way to the server.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, BodyError>;

/// Request headers that the server sees. Recipients are not among them: it never names one.
const FORWARDED: [&str; 9] = [
    "accept",
    "content-type",
    "content-length",
    "te",
    "grpc-timeout",
    "grpc-encoding",
    "user-agent",
    cloister_proto::METADATA_REPORT_ID,
    cloister_proto::METADATA_SESSION_ID,
];
/// Large enough that a study's upload is not cut into round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// The server is on this machine: an answer to PING takes microseconds unless it hangs.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Both sockets.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    grpc: Client<Connector, Outgoing>,
    http: Client<Connector, Outgoing>,
}

impl Upstream {
    /// Nothing is connected yet: the server may come later, and come back.
    pub(crate) fn new(server: &Server) -> Self {
        let uid = server
            .uid
            .unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let grpc = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .build(Connector {
                path: server.grpc_socket.clone(),
                uid,
            });
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(Connector {
                path: server.http_socket.clone(),
                uid,
            });
        Self { grpc, http }
    }

    /// Sends a gRPC request; answers with the head of the response.
    ///
    /// # Errors
    /// [`Refusal::UpstreamDown`].
    pub(crate) async fn grpc(
        &self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Refusal> {
        let mut request = towards(request, Version::HTTP_2)?;
        // The answer is decoded here or passed on to somebody else: no compression.
        request.headers_mut().remove("grpc-accept-encoding");
        self.grpc
            .request(request)
            .await
            .map_err(|error| down(&error))
    }

    /// Sends an HTTP/JSON request.
    ///
    /// # Errors
    /// [`Refusal::UpstreamDown`].
    pub(crate) async fn http(
        &self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Refusal> {
        let request = towards(request, Version::HTTP_11)?;
        self.http
            .request(request)
            .await
            .map_err(|error| down(&error))
    }
}

fn down(error: &Error) -> Refusal {
    tracing::warn!(%error, connect = error.is_connect(), "The server cannot be reached.");
    if error.is_connect() {
        Refusal::UpstreamDown
    } else {
        Refusal::UpstreamBroken
    }
}

/// The same request for the server: its own authority, and only the headers it needs.
fn towards(request: Request<Outgoing>, version: Version) -> Result<Request<Outgoing>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let path = parts
        .uri
        .path_and_query()
        .cloned()
        .ok_or(Refusal::Malformed)?;
    let mut target = uri::Parts::default();
    target.scheme = Some(uri::Scheme::HTTP);
    target.authority = Some(uri::Authority::from_static("server"));
    target.path_and_query = Some(path);
    parts.uri = Uri::from_parts(target).map_err(|_| Refusal::Malformed)?;
    parts.version = version;
    let mut headers = HeaderMap::with_capacity(FORWARDED.len());
    for name in FORWARDED {
        let name = HeaderName::from_static(name);
        for value in parts.headers.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if version == Version::HTTP_11 {
        headers.remove(header::TE);
    }
    parts.headers = headers;
    Ok(Request::from_parts(parts, body))
}

#[derive(Debug, Clone)]
struct Connector {
    path: PathBuf,
    /// Somebody else's process behind the socket gets no request.
    uid: u32,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<UnixStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { path, uid } = self.clone();
        Box::pin(async move {
            let stream = UnixStream::connect(path).await?;
            if stream.peer_cred()?.uid() != uid {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the socket belongs to another user",
                ));
            }
            Ok(TokioIo::new(stream))
        })
    }
}
