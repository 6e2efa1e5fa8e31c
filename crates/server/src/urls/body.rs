//! Bodies of requests: how long they may be, and what becomes of those that are longer.
//!
//! Who sends too much is told so; the rest is heard and not kept, as with each body that is [dropped](crate::traffic::inflow).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use model::StatusCode as Outcome;
use thiserror::Error;
use tokio::sync::Notify;
use worker::{BoxError, Outgoing};

use super::{Refused, Urls};
use crate::traffic::{Arriving, Connection, FREE, Held, Overloaded, Peer, Unread, Whole};

/// A body together with the event that is made of it, as a multiple of its length.
const COPIES: u64 = 3;

impl Urls {
    /// The length of a body as far as it is announced. One that is announced to be too long is refused.
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

    /// A body to be passed on, which tells when it turns out to be too long.
    pub(super) fn passed(
        &self,
        parts: &Parts,
        body: Body,
    ) -> Result<(Outgoing, Arc<Notify>), Refused> {
        self.announced(parts)?;
        let body = Bounded::new(body, self.limit());
        let over = body.over.clone();
        Ok((body.boxed_unsync(), over))
    }

    /// All of a body, once it has come: in memory where it is small, else on disk.
    pub(super) async fn receive(&self, parts: &Parts, body: Body) -> Result<Whole, Refused> {
        self.announced(parts)?;
        let arriving = Arriving::new(body, self.limit(), connection(parts).cloned());
        arriving
            .whole()
            .await
            .map_err(|unread| self.unread(&unread))
    }

    /// The bytes of a body that was received, for as long as what comes with them is held.
    pub(super) async fn load(
        &self,
        parts: &Parts,
        body: Whole,
    ) -> Result<(Bytes, Option<Held>), Refused> {
        let held = hold(parts, body.length())?;
        let body = match body {
            Whole::Small(body) => body,
            Whole::Large(spooled) => {
                let loaded = spooled.load().await;
                loaded.map_err(|error| self.unread(&Unread::Disk(error)))?
            }
        };
        Ok((body, held))
    }

    fn unread(&self, unread: &Unread) -> Refused {
        let (status, outcome) = match unread {
            Unread::TooLong(_) => return too_large(self.limit()),
            Unread::Broken => (StatusCode::BAD_REQUEST, Outcome::InvalidParameterValue),
            Unread::Overloaded(_) => return overloaded(),
            Unread::Disk(_) => (StatusCode::INTERNAL_SERVER_ERROR, Outcome::InternalError),
        };
        Refused::new(status, outcome, unread.to_string())
    }

    fn limit(&self) -> usize {
        self.limits.sync_event_bytes as usize
    }
}

pub(super) fn connection(parts: &Parts) -> Option<&Arc<Connection>> {
    let peer = parts.extensions.get::<Peer>();
    peer.map(|peer| &peer.connection)
}

/// Counts a body in memory, with the event that is made of it.
fn hold(parts: &Parts, length: usize) -> Result<Option<Held>, Refused> {
    let Some(connection) = connection(parts).filter(|_| length > FREE) else {
        return Ok(None);
    };
    let held = connection.hold(COPIES * length as u64);
    held.map(Some).map_err(|_| overloaded())
}

fn overloaded() -> Refused {
    Refused::new(
        StatusCode::SERVICE_UNAVAILABLE,
        Outcome::ResourceLimit,
        Overloaded.to_string(),
    )
}

/// All of a body at once.
pub(super) fn whole(body: Bytes) -> Outgoing {
    http_body_util::Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(super) fn too_large(limit: usize) -> Refused {
    let message = format!("the request's body is over {limit} bytes, which is the limit");
    Refused::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Outcome::RequestTooLarge,
        message,
    )
}

/// A body is longer than it may be.
#[derive(Debug, Error)]
#[error("the body is too long")]
struct TooLong;

/// A body that ends with [`TooLong`] where it is longer than it may be; the rest is heard and not kept.
struct Bounded {
    body: Option<Body>,
    left: usize,
    over: Arc<Notify>,
}

impl Bounded {
    fn new(body: Body, limit: usize) -> Self {
        Self {
            body: Some(body),
            left: limit,
            over: Arc::default(),
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
        self.over.notify_one();
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
    async fn a_body_may_be_as_long_as_its_limit() {
        for (length, fits) in [(0, true), (10, true), (11, false)] {
            let body = Bounded::new(Body::from(vec![0; length]), 10);
            let over = body.over.clone();
            match body.collect().await {
                Ok(all) => assert!(fits && all.to_bytes().len() == length, "{length}"),
                Err(e) => {
                    assert!(!fits && e.is::<TooLong>(), "{length}");
                    over.notified().await;
                }
            }
        }
    }
}
