//! Between the server's answer and the way out: one message for Generate and SubmitStudy, events
//! for GenerateStream. What goes to the caller holds a sealed report or none.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use cloister_proto::v1;
use cloister_proto::v1::{generate_event, generate_response};
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;

use super::{Bounds, Failure, Stack};
use crate::authorize::Order;
use crate::error::Refusal;
use crate::flight::Flight;
use crate::metric::{self, Step};
use crate::release::Released;
use crate::route::Method;
use crate::wire::{self, Messages};

/// Events that wait for a slow caller; then the server waits.
const BUFFER: usize = 8;

type Frames = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

/// One report on its way, with all that it occupies until it ends.
pub(super) struct Run {
    pub(super) stack: Arc<Stack>,
    pub(super) order: Order,
    pub(super) bounds: Bounds,
    pub(super) flight: Flight,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) started: Instant,
}

impl Run {
    /// Generate and SubmitStudy.
    pub(super) async fn unary(
        self,
        mut messages: Messages<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let method = self.order.method();
        let first = self.next::<v1::GenerateResponse>(&mut messages).await?;
        let Some(generate_response::Result::Report(report)) = first.and_then(|first| first.result)
        else {
            // Nothing, or an envelope that is not ours.
            return Err(Refusal::UpstreamBroken.into());
        };
        let released = self
            .finish::<v1::GenerateResponse>(messages, report)
            .await?;
        Ok(answer(method, released))
    }

    /// GenerateStream. The head goes out at once; the rest runs in a task that ends with the caller
    /// until the server has answered.
    pub(super) fn stream(self, messages: Messages<Incoming>) -> Response<Body> {
        let (frames, out) = mpsc::channel(BUFFER);
        let (stack, order) = (Arc::clone(&self.stack), self.order.clone());
        self.stack.out.clone().spawn(async move {
            let trailers = match self.pump(messages, &frames).await {
                Ok(()) => wire::success(),
                Err(failure) => {
                    stack.withheld(&order, failure.refusal()).await;
                    wire::failure(&failure.status())
                }
            };
            frames.send(Ok(Frame::trailers(trailers))).await.ok();
        });
        wire::respond(StreamBody::new(ReceiverStream::new(out)))
    }

    async fn pump(self, mut messages: Messages<Incoming>, frames: &Frames) -> Result<(), Failure> {
        loop {
            let event = tokio::select! {
                event = self.next::<v1::GenerateEvent>(&mut messages) => event?,
                // The caller is gone before there is a report: dropping the stream tells the server.
                () = frames.closed() => return Err(Refusal::DeadlineExceeded.into()),
            };
            match event.and_then(|event| event.event) {
                Some(generate_event::Event::Progress(progress)) => {
                    let event = Some(generate_event::Event::Progress(progress));
                    let message = v1::GenerateEvent {
                        event,
                        receipt: None,
                    };
                    frames
                        .send(Ok(Frame::data(wire::encode(&message))))
                        .await
                        .ok();
                }
                Some(generate_event::Event::Report(report)) => {
                    let released = self.finish::<v1::GenerateEvent>(messages, report).await?;
                    frames
                        .send(Ok(Frame::data(wire::encode(&event_of(released)))))
                        .await
                        .ok();
                    return Ok(());
                }
                // Nothing, or an envelope that is not ours.
                _ => return Err(Refusal::UpstreamBroken.into()),
            }
        }
    }

    async fn next<M: Message + Default>(
        &self,
        messages: &mut Messages<Incoming>,
    ) -> Result<Option<M>, Failure> {
        match timeout_at(self.bounds.deadline, messages.next()).await {
            Ok(message) => Ok(message?),
            Err(_) => Err(Refusal::DeadlineExceeded.into()),
        }
    }

    /// The server has to end with success before its report counts; then the way out.
    async fn finish<M: Message + Default>(
        self,
        mut messages: Messages<Incoming>,
        report: v1::Report,
    ) -> Result<Released, Failure> {
        if self.next::<M>(&mut messages).await?.is_some() {
            return Err(Refusal::UpstreamBroken.into());
        }
        metric::step(Step::Upstream, self.started.elapsed());
        let released = self.stack.outbound(report, self.order, self.flight).await;
        drop(self.place);
        Ok(released?)
    }
}

/// A released report as the answer of `method`.
pub(super) fn answer(method: Method, released: Released) -> Response<Body> {
    if method == Method::GenerateStream {
        return wire::unary(&event_of(released));
    }
    let (sealed, receipt) = released.into_parts();
    let result = Some(generate_response::Result::Sealed(sealed));
    wire::unary(&v1::GenerateResponse {
        result,
        receipt: Some(receipt),
    })
}

fn event_of(released: Released) -> v1::GenerateEvent {
    let (sealed, receipt) = released.into_parts();
    v1::GenerateEvent {
        event: Some(generate_event::Event::Sealed(sealed)),
        receipt: Some(receipt),
    }
}
