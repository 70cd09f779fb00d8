//! HTTP/JSON on a socket of its own: `POST /v1/evaluate`, `POST /v1/inspect`, `GET /health`. From
//! outside only through the sidecar. `data.processed_text` is the caller's own text, as the
//! contract wants it; nothing of it is logged.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloister_runtime::Shutdown;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::grpc::Shared;
use crate::peer::AllowedUids;
use crate::screen::safeguard::{Evaluation, STAGE, evaluate, is_evaluable};

/// 8192 characters, each escaped at worst as `\uXXXX\uXXXX`, and the rest of the object.
const MAX_BODY_BYTES: usize = 128 << 10;
const MAX_CONNECTIONS: usize = 256;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

#[derive(Deserialize)]
struct Body {
    text: String,
}

/// Serves until `shutdown`.
pub(crate) async fn serve(
    listener: UnixListener,
    allowed: AllowedUids,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = shutdown.cancelled() => return,
        };
        let Ok(place) = place else { return };
        let stream = tokio::select! {
            stream = allowed.accept(&listener) => stream,
            () = shutdown.cancelled() => return,
        };
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: wait for some to be freed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, shared) => {}
                () = shutdown.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn connection(stream: UnixStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A broken connection is the peer's matter; the request was counted already.
    served.await.ok();
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let correlation = correlation_id(&request);
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/health") => health(shared),
        (&Method::POST, "/v1/evaluate") => match evaluated(request).await {
            Ok((text, evaluation)) => (StatusCode::OK, evaluation_json(&text, &evaluation)),
            Err(status) => (status, error_json(status)),
        },
        // Not there at all unless the configuration switches it on.
        (&Method::POST, "/v1/inspect") if shared.inspect => match evaluated(request).await {
            Ok((text, evaluation)) => (StatusCode::OK, inspection_json(&text, &evaluation)),
            Err(status) => (status, error_json(status)),
        },
        (_, "/health" | "/v1/evaluate") => (
            StatusCode::METHOD_NOT_ALLOWED,
            error_json(StatusCode::METHOD_NOT_ALLOWED),
        ),
        _ => (StatusCode::NOT_FOUND, error_json(StatusCode::NOT_FOUND)),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response.headers_mut().insert(CORRELATION_ID, correlation);
    response
}

/// The caller's, if it is short and visible; else a new one.
fn correlation_id(request: &Request<Incoming>) -> HeaderValue {
    let own = request.headers().get(CORRELATION_ID).filter(|value| {
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    own.cloned()
        .or_else(|| HeaderValue::try_from(Uuid::new_v4().to_string()).ok())
        .unwrap_or_else(|| HeaderValue::from_static("none"))
}

async fn evaluated(request: Request<Incoming>) -> Result<(String, Evaluation), StatusCode> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let body = tokio::time::timeout(REQUEST_TIMEOUT, body)
        .await
        .map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
    let body = body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?.to_bytes();
    let Body { text } =
        serde_json::from_slice(&body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    if !is_evaluable(&text) {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let evaluated = tokio::task::spawn_blocking(move || {
        let evaluation = evaluate(&text);
        (text, evaluation)
    });
    evaluated
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn health(shared: &Shared) -> (StatusCode, Value) {
    if shared.shutdown.is_triggered() || !shared.pipeline.drafter.engine.is_alive() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"status": "unavailable"}),
        );
    }
    let pipeline = json!({"stages": [STAGE], "stage_count": 1, "inspect_mode": shared.inspect});
    (
        StatusCode::OK,
        json!({"status": "ok", "pipeline": pipeline}),
    )
}

fn evaluation_json(text: &str, evaluation: &Evaluation) -> Value {
    json!({
        "code": evaluation.code(),
        "label": evaluation.name(),
        "data": {
            "processed_text": text,
            // A deterministic stage knows no degrees.
            "confidence_score": 1.0,
            "metadata": {"triggered_by": evaluation.triggered_by},
        },
    })
}

fn inspection_json(text: &str, evaluation: &Evaluation) -> Value {
    let short_circuit = evaluation.code() != 100;
    let milliseconds = evaluation.time.as_secs_f64() * 1000.0;
    json!({
        "final": evaluation_json(text, evaluation),
        "trace": [{
            "stage": STAGE,
            "label": evaluation.name(),
            "score": if short_circuit { 1.0 } else { 0.0 },
            "short_circuit": short_circuit,
            "duration_ms": milliseconds,
        }],
        "skipped_stages": [],
        "total_stages": 1,
        "total_duration_ms": milliseconds,
    })
}

fn error_json(status: StatusCode) -> Value {
    json!({"error": status.canonical_reason().unwrap_or("error")})
}
