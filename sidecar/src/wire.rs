//! gRPC messages in an HTTP/2 body: read with a bound before memory is spent, written once.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message;

use crate::error::Refusal;

/// Flag and length before each message.
const PREFIX: usize = 5;

/// The server's messages, one after the other.
#[derive(Debug)]
pub(crate) struct Messages<B> {
    body: B,
    buffer: BytesMut,
    most: usize,
    trailers: Option<HeaderMap>,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    /// Messages of at most `most` bytes out of `body`.
    pub(crate) fn new(body: B, most: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            most,
            trailers: None,
        }
    }

    /// The next message; `None` when the server has ended the stream with success.
    ///
    /// # Errors
    /// The server's own error status as `Err(Ended::Status)`, or a broken protocol.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Ended> {
        loop {
            if let Some(message) = self.take()? {
                return M::decode(message).map(Some).map_err(|_| Ended::Broken);
            }
            let Some(frame) = self.body.frame().await else {
                return self.end();
            };
            match frame.map_err(|_| Ended::Broken)?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(other) => self.trailers = other.into_trailers().ok(),
            }
        }
    }

    /// A whole message, if the buffer holds one.
    fn take(&mut self) -> Result<Option<Bytes>, Ended> {
        let Some((head, _)) = self.buffer.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        // We offer no compression upstream, so a set flag breaks the protocol.
        if flag != 0 || length > self.most {
            return Err(Ended::Broken);
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn end<M>(&self) -> Result<Option<M>, Ended> {
        // No trailers: the stream was cut, and must not look like success.
        let trailers = self.trailers.as_ref().ok_or(Ended::Broken)?;
        match tonic::Status::from_header_map(trailers) {
            Some(status) if status.code() != tonic::Code::Ok => {
                Err(Ended::Status(Box::new(status)))
            }
            Some(_) if self.buffer.is_empty() => Ok(None),
            _ => Err(Ended::Broken),
        }
    }
}

/// The server's stream ended without success.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The server says why.
    Status(Box<tonic::Status>),
    /// The stream was cut, a message was malformed, compressed or too large.
    Broken,
}

/// A message with its prefix.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    // Messages are bounded far below 4 GiB by the configuration.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    if message.encode(&mut out).is_err() {
        // A BytesMut grows: it never runs out of room.
        out.truncate(0);
    }
    out.freeze()
}

/// Trailers of success.
pub(crate) fn success() -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )])
}

/// Trailers of `status`.
pub(crate) fn failure(status: &tonic::Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    trailers
}

/// One message and success.
pub(crate) fn unary(message: &impl Message) -> Response<tonic::body::Body> {
    let frames: [Result<_, std::convert::Infallible>; 2] = [
        Ok(Frame::data(encode(message))),
        Ok(Frame::trailers(success())),
    ];
    respond(StreamBody::new(futures_util::stream::iter(frames)))
}

/// The head of a gRPC response.
pub(crate) fn respond<B>(body: B) -> Response<tonic::body::Body>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut response = Response::new(tonic::body::Body::new(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

/// A passed-through gRPC response body that never ends without a status: when the server breaks
/// off, the caller gets `UNAVAILABLE` instead of something that looks like success.
#[derive(Debug)]
pub(crate) struct Guarded<B> {
    inner: B,
    ended: bool,
}

impl<B> Guarded<B> {
    /// Guards `inner`.
    pub(crate) fn new(inner: B) -> Self {
        Self {
            inner,
            ended: false,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Guarded<B> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(Some(Ok(if let Some(Ok(frame)) = frame {
            self.ended = frame.is_trailers();
            frame
        } else {
            self.ended = true;
            Frame::trailers(failure(&Refusal::UpstreamBroken.status()))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests;
