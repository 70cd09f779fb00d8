//! After authorization, before routing: bounds on body, time and number, before memory is spent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use crate::config::Limits;
use crate::error::Refusal;
use crate::route::Method;

/// The body is longer than allowed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the peer broke the body off")]
    BrokenOff,
}

/// A request body that ends with an error when it grows past its bound. It is streamed through and
/// never collected here.
#[derive(Debug)]
pub(crate) struct Bounded<B> {
    inner: B,
    left: u64,
    exceeded: Exceeded,
}

/// Tells, after the body is gone, whether it was too long.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exceeded(Arc<AtomicBool>);

impl Exceeded {
    /// Whether the body was too long.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Puts a bound on `body`.
pub(crate) fn bounded<B>(body: B, most: u64) -> (Bounded<B>, Exceeded) {
    let exceeded = Exceeded::default();
    (
        Bounded {
            inner: body,
            left: most,
            exceeded: exceeded.clone(),
        },
        exceeded,
    )
}

impl<B: Body<Data = Bytes> + Unpin> Body for Bounded<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|_| BodyError::BrokenOff)?;
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(left) = self.left.checked_sub(length) else {
                self.exceeded.0.store(true, Ordering::Release);
                return Err(BodyError::TooLarge);
            };
            self.left = left;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Bytes that a request body of `method` may have, checked at once where the caller says them.
///
/// # Errors
/// [`Refusal::TooLarge`].
pub(crate) fn body_bytes(
    limits: &Limits,
    method: Method,
    headers: &HeaderMap,
) -> Result<u64, Refusal> {
    let most = match method {
        Method::SubmitStudy => limits.max_study_bytes,
        _ => limits.max_request_bytes,
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most) {
        Err(Refusal::TooLarge)
    } else {
        Ok(most)
    }
}

/// How long a request may take: its own `grpc-timeout`, but never longer than the configuration.
///
/// # Errors
/// [`Refusal::Malformed`] for a `grpc-timeout` that is none.
pub(crate) fn deadline(limits: &Limits, headers: &HeaderMap) -> Result<Duration, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(limits.request_timeout);
    };
    let asked = value
        .to_str()
        .ok()
        .and_then(parse_timeout)
        .ok_or(Refusal::Malformed)?;
    Ok(asked.min(limits.request_timeout))
}

/// gRPC over HTTP/2: at most 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(value),
        "M" => Duration::from_mins(value),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_body_may_be_as_long_as_its_bound_and_no_longer() {
        let (body, exceeded) = bounded(Full::new(Bytes::from_static(b"1234")), 4);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "1234");
        assert!(!exceeded.is_set());
        let (body, exceeded) = bounded(Full::new(Bytes::from_static(b"12345")), 4);
        assert!(body.collect().await.is_err());
        assert!(exceeded.is_set());
    }

    #[test]
    fn timeouts_parse_as_the_grpc_protocol_says() {
        assert_eq!(
            parse_timeout("99999999H"),
            Some(Duration::from_hours(99_999_999))
        );
        assert_eq!(parse_timeout("15m"), Some(Duration::from_millis(15)));
        for text in ["", "S", "-1S", "1", "1s", "123456789S", "1.5S", " 1S", "1é"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_timeout_text_is_parsed_or_refused(text in ".{0,12}") {
            parse_timeout(&text);
        }
    }
}
