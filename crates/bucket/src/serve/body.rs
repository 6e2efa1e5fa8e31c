//! A request's body that may not stand still.
//!
//! Who sends a body often reads the answer only behind it. So what is left of one that was refused is read and thrown away, up
//! to a bound: a connection that is closed before would take the reason with it. Who asks before sending (`Expect`) and is refused
//! sends none, and what comes next is another request: there nothing is read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use s3s::StdError;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

/// How long a client may send nothing.
const STILL: Duration = Duration::from_secs(60);

/// Bytes of a refused body that are read. Whoever sends more sees the connection close.
const REFUSED: u64 = 64 << 20;

/// Its client sent nothing for too long.
#[derive(Debug, Error)]
#[error("nothing of the body arrived for {} seconds", STILL.as_secs())]
struct Stood;

/// The body, as long as it moves.
#[derive(Debug)]
pub(super) struct Moving(Option<Inner>);

#[derive(Debug)]
struct Inner {
    body: UnsyncBoxBody<Bytes, StdError>,
    until: Pin<Box<Sleep>>,
    /// Whether its sender waits to be told to send it.
    waits: bool,
}

impl Moving {
    /// A body, and whether its sender waits until it is read.
    pub(super) fn new<B>(body: B, waits: bool) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        Self(Some(Inner {
            body: UnsyncBoxBody::new(body.map_err(Into::into)),
            until: Box::pin(tokio::time::sleep(STILL)),
            waits,
        }))
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let left = |inner: &Inner| !inner.waits && !inner.body.is_end_stream();
        let Some(inner) = self.0.take().filter(left) else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(read_off(Self(Some(inner))));
        }
    }
}

async fn read_off(mut refused: Moving) {
    let mut left = REFUSED;
    while let Some(Ok(frame)) = refused.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => break,
        }
    }
    refused.0 = None;
}

impl Body for Moving {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let Some(this) = &mut self.0 else {
            return Poll::Ready(None);
        };
        this.waits = false;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.until.as_mut().reset(Instant::now() + STILL);
            return Poll::Ready(frame);
        }
        ready!(this.until.as_mut().poll(cx));
        Poll::Ready(Some(Err(Box::new(Stood))))
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|inner| inner.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.0.as_ref().map(|inner| inner.body.size_hint());
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}
