//! The steps in order, and why each stands where it does.
//!
//! Way in:
//! 1. [`crate::accept`] first: nobody speaks HTTP to us before a verified certificate.
//! 2. [`crate::identify`] next: everything after it needs to know who calls.
//! 3. [`crate::authorize`] before any limit is spent and before a byte goes upstream: method by
//!    role, then recipients by policy and directory.
//! 4. [`crate::limit`] before routing: body, time and number are bounded before memory is.
//! 5. [`crate::route`] last: to the server's sockets, or to a service of our own.
//!
//! Way out, for Generate, GenerateStream and SubmitStudy (a client never receives `Report`):
//! 6. [`crate::admit`]: only an assessed report that is the one asked for goes on.
//! 7. [`crate::seal`]: from here on there is no plaintext.
//! 8. [`crate::hold`]: durable before it is recorded, so that no record names a report we lost.
//! 9. [`crate::record`]: in the audit log before anybody sees it, so that nothing goes unrecorded.
//! 10. [`crate::release`]: visible, and only now answered.

use std::sync::Arc;

use cloister_audit::{Action, Event};
use cloister_proto::v1;
use cloister_proto::v1::audit_service_server::AuditServiceServer;
use cloister_proto::v1::directory_service_server::DirectoryServiceServer;
use cloister_proto::v1::inbox_service_server::InboxServiceServer;
use cloister_seal::SigningKey;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::body::Body;
use tower::Service as _;

use crate::admit::Assessed;
use crate::authorize::{Order, Permitted, order, permit};
use crate::config::{Limits, Policy};
use crate::directory::{self, Directory};
use crate::error::Refusal;
use crate::flight::{Flight, Flights};
use crate::hold::{Held, hold};
use crate::identify::Caller;
use crate::limit::{self, bounded};
use crate::metric::{self, ReportFate, RequestGuard, Step};
use crate::record::{Audit, note, record};
use crate::release::{Released, release};
use crate::route::{Method, Target};
use crate::seal::seal;
use crate::store::{Entry, Store};
use crate::upstream::{Outgoing, Upstream};
use crate::wire::{Ended, Guarded, Messages};
use crate::{audit_service, inbox};

mod events;

/// Everything the steps share.
pub(crate) struct Stack {
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) directory: Directory,
    pub(crate) upstream: Upstream,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) node: SigningKey,
    pub(crate) flights: Flights,
    pub(crate) places: Arc<Semaphore>,
    /// Ways out that go on when their caller has gone; the drain waits for them.
    pub(crate) out: TaskTracker,
    pub(crate) inbox: InboxServiceServer<inbox::Service>,
    pub(crate) audits: AuditServiceServer<audit_service::Service>,
    pub(crate) entries: DirectoryServiceServer<directory::Service>,
}

/// Why a report request has no report.
enum Failure {
    /// We refuse, withhold or failed.
    Refusal(Refusal),
    /// The server says so itself; its closed status goes to the caller.
    Server(Box<tonic::Status>),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Status(status) => Self::Server(status),
            Ended::Broken => Self::Refusal(Refusal::UpstreamBroken),
        }
    }
}

impl Failure {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Refusal(refusal) => *refusal,
            Self::Server(_) => Refusal::UpstreamBroken,
        }
    }

    fn status(&self) -> tonic::Status {
        match self {
            Self::Refusal(refusal) => refusal.status(),
            Self::Server(status) => tonic::Status::with_details(
                status.code(),
                status.message(),
                bytes::Bytes::copy_from_slice(status.details()),
            ),
        }
    }
}

/// The caller of a request that one of our own services answers.
///
/// # Errors
/// [`Refusal::RoleNotAllowed`] when the request did not come through [`Stack::handle`].
pub(crate) fn caller_of<T>(request: &tonic::Request<T>) -> Result<&Caller, Refusal> {
    request
        .extensions()
        .get::<Permitted>()
        .map(Permitted::caller)
        .ok_or(Refusal::RoleNotAllowed)
}

impl Stack {
    /// Steps 3 to 10 for one request.
    pub(crate) async fn handle(
        self: Arc<Self>,
        caller: Caller,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let method = Method::of_path(request.uri().path());
        let guard = RequestGuard::new(method);
        let grpc = method.is_none_or(|method| method.target() != Target::Http);
        match self.inbound(&caller, method, request).await {
            Ok(response) => {
                // Absent where trailers follow: then the head at least is a success.
                let status = response.headers().get("grpc-status");
                guard.finish(status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes())));
                response
            }
            Err(refusal) => {
                guard.finish(refusal.code());
                refusal.into_response(grpc)
            }
        }
    }

    async fn inbound(
        self: Arc<Self>,
        caller: &Caller,
        method: Option<Method>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let checked = method
            .ok_or(Refusal::UnknownMethod)
            .and_then(|method| permit(&self.policy, caller, method))
            .and_then(|permitted| {
                let most = limit::body_bytes(&self.limits, permitted.method(), request.headers())?;
                let deadline = Instant::now() + limit::deadline(&self.limits, request.headers())?;
                Ok((permitted, Bounds { most, deadline }))
            });
        let (permitted, bounds) = match checked {
            Ok(checked) => checked,
            Err(refusal) => return Err(self.refused(caller, refusal).await),
        };
        match permitted.method().target() {
            Target::Report => {
                match order(&self.policy, &self.directory, &permitted, request.headers()) {
                    Ok(order) => Ok(self.report(order, bounds, request).await),
                    Err(refusal) => Err(self.refused(caller, refusal).await),
                }
            }
            Target::Grpc => self.pass_grpc(&permitted, bounds, request).await,
            Target::Http => self.pass_http(&permitted, bounds, request).await,
            own => {
                request.extensions_mut().insert(permitted);
                let answered = match own {
                    Target::Inbox => self.inbox.clone().call(request).await,
                    Target::Audit => self.audits.clone().call(request).await,
                    _ => self.entries.clone().call(request).await,
                };
                answered.map_err(|never| match never {})
            }
        }
    }

    /// Passes a gRPC request through, with its trailers.
    async fn pass_grpc(
        &self,
        permitted: &Permitted,
        bounds: Bounds,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        self.note_forwarding(permitted).await?;
        let response = self.forward(bounds, request, false).await?;
        let trailers_only = response.headers().contains_key("grpc-status");
        let (mut head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(Refusal::UpstreamBroken);
        }
        let headers = std::mem::take(&mut head.headers);
        head.headers = keep(&headers, |name| {
            name == "content-type" || name.starts_with("grpc-") || name.starts_with("cloister-")
        });
        let body = if trailers_only {
            Body::empty()
        } else {
            Body::new(Guarded::new(body))
        };
        Ok(Response::from_parts(head, body))
    }

    /// Passes an HTTP/JSON request through.
    async fn pass_http(
        &self,
        permitted: &Permitted,
        bounds: Bounds,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        self.note_forwarding(permitted).await?;
        let (head, body) = self.forward(bounds, request, true).await?.into_parts();
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = head.status;
        *response.headers_mut() = keep(&head.headers, |name| {
            matches!(name, "content-type" | "content-length" | "retry-after")
        });
        Ok(response)
    }

    async fn note_forwarding(&self, permitted: &Permitted) -> Result<(), Refusal> {
        let action = match permitted.method() {
            method if method.is_health() => return Ok(()),
            Method::SendFeedback => Action::FeedbackReceived,
            _ => Action::RequestForwarded,
        };
        note(&*self.audit, permitted.caller().id(), Event::new(action))
            .await
            .map(|_| ())
    }

    /// Sends a request up, within its bounds.
    async fn forward(
        &self,
        bounds: Bounds,
        request: Request<Incoming>,
        http: bool,
    ) -> Result<Response<Incoming>, Refusal> {
        let (head, body) = request.into_parts();
        let (body, exceeded) = bounded(body, bounds.most);
        let request: Request<Outgoing> = Request::from_parts(head, body.boxed_unsync());
        let answer = async {
            if http {
                self.upstream.http(request).await
            } else {
                self.upstream.grpc(request).await
            }
        };
        match timeout_at(bounds.deadline, answer).await {
            Err(_) => Err(Refusal::DeadlineExceeded),
            Ok(Err(_)) if exceeded.is_set() => Err(Refusal::TooLarge),
            Ok(answer) => answer,
        }
    }

    /// A request whose answer is a sealed report.
    async fn report(
        self: &Arc<Self>,
        order: Order,
        bounds: Bounds,
        request: Request<Incoming>,
    ) -> Response<Body> {
        match self.reported(&order, bounds, request).await {
            Ok(response) => response,
            Err(failure) => {
                let refusal = failure.refusal();
                if refusal == Refusal::IdConflict {
                    self.refused_order(&order, refusal).await;
                } else {
                    self.withheld(&order, refusal).await;
                }
                failure.status().into_http()
            }
        }
    }

    async fn reported(
        self: &Arc<Self>,
        order: &Order,
        bounds: Bounds,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let flight = timeout_at(bounds.deadline, self.flights.enter(order.report_id())).await;
        let flight = flight.map_err(|_| Refusal::DeadlineExceeded)?;
        if let Some(released) = self.known(order).await? {
            return Ok(events::answer(order.method(), released));
        }
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Refusal::Busy)?;
        let started = Instant::now();
        let response = self.forward(bounds, request, false).await?;
        if let Some(status) = tonic::Status::from_header_map(response.headers()) {
            return Err(Failure::Server(Box::new(status)));
        }
        if response.status() != StatusCode::OK {
            return Err(Refusal::UpstreamBroken.into());
        }
        let messages = Messages::new(response.into_body(), self.limits.max_response_bytes);
        let run = events::Run {
            stack: Arc::clone(self),
            order: order.clone(),
            bounds,
            flight,
            place,
            started,
        };
        if order.method() == Method::GenerateStream {
            return Ok(run.stream(messages));
        }
        run.unary(messages).await
    }

    /// The report of an id that was seen before: the same bytes, and the server is not asked.
    async fn known(&self, order: &Order) -> Result<Option<Released>, Refusal> {
        let Some(entry) = self.store.find(order.report_id())? else {
            return Ok(None);
        };
        if entry.owner != order.caller().to_string() || entry.recipients != order.recipients() {
            return Err(Refusal::IdConflict);
        }
        if entry.release.is_some() {
            metric::report(ReportFate::Replayed);
            return Released::again(&*self.store, &*self.audit, &entry)
                .await
                .map(Some);
        }
        self.resume(entry).await.map(Some)
    }

    /// Takes a report up that was held and not released.
    async fn resume(&self, entry: Entry) -> Result<Released, Refusal> {
        let held = Held::resume(&*self.store, entry).await?;
        let released = self.show(held).await?;
        metric::report(ReportFate::Resumed);
        Ok(released)
    }

    /// At start: every held report is recorded, if it is not yet, and released. What cannot be
    /// stays held, and its caller's next try takes it up.
    pub(crate) async fn resume_all(&self) -> Result<(), Refusal> {
        for id in self.store.held()? {
            if let Some(entry) = self.store.find(id)? {
                match self.resume(entry).await {
                    Ok(_) => {
                        tracing::info!(report = %id, "A held report was released after a restart.");
                    }
                    Err(error) => {
                        tracing::error!(report = %id, %error, "A held report stays held.");
                    }
                }
            }
        }
        Ok(())
    }

    /// Steps 6 to 10, in a task of its own: once the server has answered, a caller that goes away
    /// changes nothing.
    async fn outbound(
        self: &Arc<Self>,
        report: v1::Report,
        order: Order,
        flight: Flight,
    ) -> Result<Released, Refusal> {
        let stack = Arc::clone(self);
        let way_out = self.out.spawn(async move {
            let released = stack.steps_out(report, order).await;
            drop(flight);
            released
        });
        // A panic in a step: whatever was reached, nothing was shown.
        way_out.await.unwrap_or(Err(Refusal::SealFailed))
    }

    async fn steps_out(
        self: &Arc<Self>,
        report: v1::Report,
        order: Order,
    ) -> Result<Released, Refusal> {
        let assessed = Assessed::admit(report, &order).map_err(|unfit| {
            tracing::error!(report = %order.report_id(), %unfit, "A report is withheld.");
            Refusal::Withheld
        })?;
        let started = Instant::now();
        let (stack, sealing) = (Arc::clone(self), order.clone());
        // Tens of megabytes are encrypted and hashed: not on a thread that serves connections.
        let sealed =
            tokio::task::spawn_blocking(move || seal(assessed, &sealing, &stack.node, now_ms()))
                .await
                .map_err(|_| Refusal::SealFailed)??;
        metric::step(Step::Seal, started.elapsed());
        metric::sealed_bytes(sealed.bytes().len());
        let started = Instant::now();
        let held = hold(&*self.store, sealed, &order).await?;
        metric::step(Step::Hold, started.elapsed());
        let released = self.show(held).await?;
        metric::report(ReportFate::Released);
        Ok(released)
    }

    /// Steps 9 and 10.
    async fn show(&self, held: Held) -> Result<Released, Refusal> {
        let started = Instant::now();
        let recorded = record(&*self.audit, held).await?;
        metric::step(Step::Record, started.elapsed());
        let started = Instant::now();
        let released = release(&*self.store, recorded).await?;
        metric::step(Step::Release, started.elapsed());
        Ok(released)
    }

    /// Records a refused request; it is refused whether that succeeds or not.
    async fn refused(&self, caller: &Caller, refusal: Refusal) -> Refusal {
        let event = Event::refused(Action::RequestRefused, refusal.reason());
        note(&*self.audit, caller.id(), event).await.ok();
        refusal
    }

    async fn refused_order(&self, order: &Order, refusal: Refusal) {
        let event =
            Event::refused(Action::RequestRefused, refusal.reason()).report(order.report_id());
        note(&*self.audit, order.caller(), event).await.ok();
    }

    /// Records that a report was not released.
    async fn withheld(&self, order: &Order, refusal: Refusal) {
        metric::report(ReportFate::Withheld);
        let event =
            Event::failed(Action::ReportWithheld, refusal.reason()).report(order.report_id());
        note(&*self.audit, order.caller(), event).await.ok();
    }
}

/// What step 4 found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    most: u64,
    deadline: Instant,
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn keep(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| wanted(name.as_str()) && **name != header::CONNECTION)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
