//! Request bodies: their limit, and the handling of longer ones.
//!
//! The caller is notified of a body over the limit; the rest is drained and discarded, as for every
//! dropped [body](traffic::RequestBody).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use model::FailureKind;
use thiserror::Error;
use tokio::sync::Notify;
use traffic::{BodyError, BodyReader, Overloaded, ReceivedBody, Reservation, UNCOUNTED_MAX};
use worker::{BoxError, Outgoing};

use super::peer::connection;
use super::refusal::Refused;
use super::urls::Urls;

/// Memory for a body together with its event, as a multiple of the body's length.
const COPIES: u64 = 3;

impl Urls {
    /// Returns the announced length of a body. One over the limit is refused.
    fn announced(&self, parts: &Parts) -> Result<usize, Refused> {
        let limit = self.limit();
        let announced = parts
            .headers
            .get("content-length")
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let chunked = parts.headers.contains_key("transfer-encoding");
        let length = announced.unwrap_or(if chunked { limit } else { 0 });
        if length > limit {
            return Err(too_large(limit));
        }
        Ok(length)
    }

    /// Bounds a body to be passed on. Also returns the notification that it is over the limit.
    pub(super) fn passed(
        &self,
        parts: &Parts,
        body: Body,
    ) -> Result<(Outgoing, Arc<Notify>), Refused> {
        self.announced(parts)?;
        let body = Bounded::new(body, self.limit());
        let too_long = body.too_long.clone();
        Ok((body.boxed_unsync(), too_long))
    }

    /// Receives a whole body: in memory if it is small, else on disk.
    pub(super) async fn receive(&self, parts: &Parts, body: Body) -> Result<ReceivedBody, Refused> {
        self.announced(parts)?;
        let reader = BodyReader::new(body, self.limit(), connection(parts).cloned());
        reader.whole().await.map_err(|unread| self.unread(&unread))
    }

    /// Loads a received body into memory, with a reservation for the body and its event.
    pub(super) async fn load(
        &self,
        parts: &Parts,
        body: ReceivedBody,
    ) -> Result<(Bytes, Option<Reservation>), Refused> {
        let held = reserve(parts, body.length())?;
        let body = match body {
            ReceivedBody::Small(body) => body,
            ReceivedBody::Large(spooled) => {
                let loaded = spooled.load().await;
                loaded.map_err(|error| self.unread(&BodyError::Disk(error)))?
            }
        };
        Ok((body, held))
    }

    fn unread(&self, unread: &BodyError) -> Refused {
        let (status, kind) = match unread {
            BodyError::TooLong(_) => return too_large(self.limit()),
            BodyError::Incomplete => (StatusCode::BAD_REQUEST, FailureKind::InvalidRequest),
            BodyError::Overloaded(_) => return overloaded(),
            BodyError::Disk(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                FailureKind::PlatformFault,
            ),
        };
        Refused::new(status, kind, unread.to_string())
    }

    fn limit(&self) -> usize {
        self.limits.sync_event_bytes as usize
    }
}

/// Reserves memory for a body and its event.
fn reserve(parts: &Parts, length: usize) -> Result<Option<Reservation>, Refused> {
    let Some(connection) = connection(parts).filter(|_| length > UNCOUNTED_MAX) else {
        return Ok(None);
    };
    let held = connection.reserve(COPIES * length as u64);
    held.map(Some).map_err(|_| overloaded())
}

fn overloaded() -> Refused {
    Refused::new(
        StatusCode::SERVICE_UNAVAILABLE,
        FailureKind::StartRateExceeded,
        Overloaded.to_string(),
    )
}

/// Returns a body of one frame.
pub(super) fn full_body(body: Bytes) -> Outgoing {
    http_body_util::Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(super) fn too_large(limit: usize) -> Refused {
    let message = format!("the request's body is over the limit of {limit} bytes");
    Refused::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        FailureKind::RequestTooLarge,
        message,
    )
}

/// The body is over the limit.
#[derive(Debug, Error)]
#[error("the body is too long")]
struct TooLong;

/// A body that ends with [`TooLong`] at the limit; the rest is drained and discarded.
struct Bounded {
    body: Option<Body>,
    left: usize,
    too_long: Arc<Notify>,
}

impl Bounded {
    fn new(body: Body, limit: usize) -> Self {
        Self {
            body: Some(body),
            left: limit,
            too_long: Arc::default(),
        }
    }
}

impl hyper::body::Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(e)) => return Poll::Ready(Some(Err(e.into()))),
            None => return Poll::Ready(None),
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        if let Some(left) = self.left.checked_sub(length) {
            self.left = left;
            return Poll::Ready(Some(Ok(frame)));
        }
        self.body = None;
        self.too_long.notify_one();
        Poll::Ready(Some(Err(TooLong.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn body_over_the_limit_is_refused() {
        for (length, fits) in [(0, true), (10, true), (11, false)] {
            let body = Bounded::new(Body::from(vec![0; length]), 10);
            let too_long = body.too_long.clone();
            match body.collect().await {
                Ok(all) => assert!(fits && all.to_bytes().len() == length, "{length}"),
                Err(e) => {
                    assert!(!fits && e.is::<TooLong>(), "{length}");
                    too_long.notified().await;
                }
            }
        }
    }
}
