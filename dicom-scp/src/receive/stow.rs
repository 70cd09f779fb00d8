//! STOW-RS (PS3.18 section 10.5): `POST /studies` and `POST /studies/{study}`. Another way to the
//! same `object` and `store`; what is said of an object there holds here. HTTP/1.1 over TLS 1.3,
//! and only for the clients of the allow-list, which stand for the AE titles that their
//! certificates are bound to.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use cloister_audit::{Action, Reason};
use cloister_phi::{AeTitle, Phi, Uid};
use cloister_runtime::Shutdown;
use cloister_tls::Shown;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::Reception;
use super::peers::Place;
use super::socket::Socket;
use crate::config::StowConfig;
use crate::metric::{self, Ended, Stowed};

mod answer;
mod media;
mod multipart;
mod part10;
mod upload;

use answer::Answer;
use upload::{Upload, UploadError};

/// Request head and what hyper reads at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// Serves one connection.
pub(super) async fn serve(
    reception: Arc<Reception>,
    socket: Socket,
    peer: IpAddr,
    config: &StowConfig,
    shown: &Shown,
    place: &Place,
    shutdown: Shutdown,
) {
    let allowed = |ae: &&AeTitle| reception.config.may_claim(ae, Some(shown));
    let Some(client) = config.clients.iter().find(allowed) else {
        metric::association(Ended::Rejected);
        reception.note(
            peer,
            None,
            Action::ConnectionRefused,
            Reason::CallingAeCertificate,
        );
        return;
    };
    place.keep();
    let client = Arc::new(Client {
        calling: Arc::new(client.clone()),
        peer,
        max_request_bytes: config.max_request_bytes,
        reception: Arc::clone(&reception),
    });
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(client.answer(request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(reception.config.request_timeout)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(serving);
    let whole = tokio::time::sleep(reception.config.association_timeout);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = whole => {
            metric::association(Ended::TimedOut);
            return;
        }
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    metric::association(match ended {
        Ok(()) => Ended::Released,
        Err(error) if error.is_timeout() => Ended::TimedOut,
        Err(_) => Ended::Closed,
    });
}

/// Who is at the other end.
struct Client {
    reception: Arc<Reception>,
    calling: Arc<AeTitle>,
    peer: IpAddr,
    max_request_bytes: u64,
}

impl Client {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.store(request).await {
            Ok(answer) => answer.response(),
            Err(refusal) => {
                metric::stow(Stowed::Refused);
                let calling = Some(&*self.calling);
                self.reception
                    .note(self.peer, calling, Action::RequestRefused, refusal.reason);
                refusal.response()
            }
        }
    }

    async fn store(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let study = study(request.uri().path())?;
        if request.method() != Method::POST {
            return Err(Refusal::METHOD);
        }
        if !media::accepts_dicom_json(request.headers().get_all(header::ACCEPT)) {
            return Err(Refusal::NOT_ACCEPTABLE);
        }
        let kind = request.headers().get(header::CONTENT_TYPE);
        let boundary = kind
            .and_then(|kind| kind.to_str().ok())
            .and_then(media::boundary)
            .ok_or(Refusal::MEDIA_TYPE)?;
        let mut body = request.into_body();
        if body.size_hint().lower() > self.max_request_bytes {
            return Err(Refusal::TOO_LARGE);
        }
        let mut upload = Upload::new(&self.reception, &self.calling, self.peer, study, &boundary);
        let mut bytes = 0u64;
        let idle = self.reception.config.idle_timeout;
        while let Some(frame) = tokio::time::timeout(idle, body.frame())
            .await
            .map_err(|_| Refusal::TIMEOUT)?
        {
            let Ok(data) = frame.map_err(|_| Refusal::MALFORMED)?.into_data() else {
                continue;
            };
            bytes += data.len() as u64;
            if bytes > self.max_request_bytes {
                return Err(Refusal::TOO_LARGE);
            }
            upload.push(data).await?;
        }
        Ok(upload.finish()?)
    }
}

/// The study of the path, if it names one.
fn study(path: &str) -> Result<Option<Phi<Uid>>, Refusal> {
    let rest = path.strip_prefix("/studies").ok_or(Refusal::NOT_FOUND)?;
    match rest.strip_prefix('/') {
        None if rest.is_empty() => Ok(None),
        None => Err(Refusal::NOT_FOUND),
        Some(study) => match Uid::parse(study) {
            Ok(uid) if uid.as_str() == study => Ok(Some(Phi::new(uid))),
            _ => Err(Refusal::NOT_FOUND),
        },
    }
}

/// The request as a whole is not answered with a list of instances.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    status: StatusCode,
    reason: Reason,
}

impl Refusal {
    const METHOD: Self = Self::new(StatusCode::METHOD_NOT_ALLOWED, Reason::MethodNotAllowed);
    const NOT_FOUND: Self = Self::new(StatusCode::NOT_FOUND, Reason::NotFound);
    const NOT_ACCEPTABLE: Self = Self::new(StatusCode::NOT_ACCEPTABLE, Reason::Malformed);
    const MEDIA_TYPE: Self = Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::Malformed);
    const TOO_LARGE: Self = Self::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge);
    const MALFORMED: Self = Self::new(StatusCode::BAD_REQUEST, Reason::Malformed);
    const TIMEOUT: Self = Self::new(StatusCode::REQUEST_TIMEOUT, Reason::DeadlineExceeded);

    const fn new(status: StatusCode, reason: Reason) -> Self {
        Self { status, reason }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = self.status;
        // What is left of the body is not read.
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            let post = header::HeaderValue::from_static("POST");
            response.headers_mut().insert(header::ALLOW, post);
        }
        response
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Malformed => Self::MALFORMED,
            UploadError::TooMany => Self::TOO_LARGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_study_or_none() {
        assert!(study("/studies").unwrap().is_none());
        let named = study("/studies/1.2.3").unwrap().unwrap();
        assert_eq!(named.expose().as_str(), "1.2.3");
        for bad in [
            "/",
            "/studiesx",
            "/studies/",
            "/studies/1.2/",
            "/studies/1.2/series",
            "/studies/1..2",
            "/studies/%31",
            "/wado",
        ] {
            assert!(study(bad).is_err(), "{bad}");
        }
    }
}
