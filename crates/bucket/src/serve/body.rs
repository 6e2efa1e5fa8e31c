//! A request's body that may not stand still.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use s3s::StdError;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

/// How long a client may send nothing.
const STILL: Duration = Duration::from_secs(60);

/// Its client sent nothing for too long.
#[derive(Debug, Error)]
#[error("nothing of the body arrived for {} seconds", STILL.as_secs())]
struct Stood;

/// The body, as long as it moves.
#[derive(Debug)]
pub(super) struct Moving {
    body: UnsyncBoxBody<Bytes, StdError>,
    until: Pin<Box<Sleep>>,
}

impl Moving {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        Self {
            body: UnsyncBoxBody::new(http_body_util::BodyExt::map_err(body, Into::into)),
            until: Box::pin(tokio::time::sleep(STILL)),
        }
    }
}

impl Body for Moving {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.until.as_mut().reset(Instant::now() + STILL);
            return Poll::Ready(frame);
        }
        ready!(this.until.as_mut().poll(cx));
        Poll::Ready(Some(Err(Box::new(Stood))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
