//! The admin port: `/metrics`, `/healthz`, `/readyz`. Nothing of a request, a report or a policy is
//! reachable through it, so it asks for no identity; bind it to loopback or a monitoring network.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::shutdown::Shutdown;

/// Connections at a time: a few scrapers and a person.
const MAX_CONNECTIONS: usize = 32;
/// From accept to the end of the request head: an idle or slow peer frees its place.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// How often histogram samples are folded when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
/// hyper's smallest.
const MAX_HEAD_BYTES: usize = 8192;

/// Whether the process serves. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the process serves.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether the process serves.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Binds `addr` and serves in a task of its own until `shutdown`. Answers with the bound address.
///
/// # Errors
/// When the port cannot be bound.
pub async fn serve(
    addr: SocketAddr,
    ready: Ready,
    handle: PrometheusHandle,
    shutdown: Shutdown,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = upkeep.tick() => handle.run_upkeep(),
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        // Out of file descriptors: let others close theirs.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    // No place: the connection is closed by dropping it.
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let (ready, handle) = (ready.clone(), handle.clone());
                    tokio::spawn(async move {
                        tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, ready, handle)).await.ok();
                        drop(place);
                    });
                }
            }
        }
    });
    Ok(bound)
}

async fn connection(stream: TcpStream, ready: Ready, handle: PrometheusHandle) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &ready, &handle);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended early");
    }
}

fn answer<B>(
    request: &Request<B>,
    ready: &Ready,
    handle: &PrometheusHandle,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = Response::new(Full::from(handle.render()));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" if ready.is_set() => plain(StatusCode::OK, "ready\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        _ => plain(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::{Ready, serve};
    use crate::{Shutdown, telemetry};

    async fn ask(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(addr: SocketAddr, path: &str) -> String {
        ask(
            addr,
            &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        )
        .await
    }

    #[tokio::test]
    async fn tells_health_readiness_and_metrics_and_nothing_else() {
        let (ready, shutdown) = (Ready::new(), Shutdown::new());
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let addr = serve(any, ready.clone(), telemetry::recorder(), shutdown.clone())
            .await
            .unwrap();
        assert!(get(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 503"));
        ready.set(true);
        assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        metrics::counter!("cloister_test_admin_total").increment(1);
        assert!(
            get(addr, "/metrics")
                .await
                .contains("cloister_test_admin_total 1")
        );
        assert!(get(addr, "/").await.starts_with("HTTP/1.1 404"));
        assert!(ask(addr, "POST /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 405"));
        assert!(
            ask(addr, "garbage\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400")
        );
        shutdown.trigger();
    }
}
