//! The bodies of requests and replies under way, which track whether the peer owes bytes and what it has not read.
//!
//! A request's body that is dropped before its end is drained, so that the reply is not lost to a TCP reset. All
//! draining shares one rate, because those bytes are of no use.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

use super::connection::{Connection, RequestPart};

/// Largest number of bytes of a body that are drained, and the time limit.
const DRAIN_BYTES_MAX: u64 = 128 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Wraps a request's body. Also returns the part for its reply.
pub(crate) fn wrap_request(
    request: Request<Incoming>,
    connection: &Arc<Connection>,
) -> (Request<RequestBody>, RequestPart) {
    let waits = request.headers().contains_key(EXPECT);
    let [part, reply] = connection.begin();
    let request = request.map(|body| RequestBody {
        open: (!body.is_end_stream()).then_some((body, part)),
        waits,
    });
    (request, reply)
}

/// A request's body.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` after the end.
    open: Option<(Incoming, RequestPart)>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    waits: bool,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some((body, part)) = &mut self.open else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        part.connection().set_body_owed(frame.is_pending());
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.open = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let open = self.open.as_ref();
        open.is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let open = self.open.as_ref();
        open.map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some((rest, part)) = self.open.take() else {
            return;
        };
        part.connection().set_body_owed(false);
        let wanted = !self.waits && !part.connection().discards_rest();
        if wanted
            && !rest.is_end_stream()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(drain(rest, part));
        }
    }
}

async fn drain(mut body: Incoming, part: RequestPart) {
    let connection = part.connection();
    let all = async {
        let mut read = 0;
        loop {
            connection.set_body_owed(true);
            let Some(Ok(frame)) = body.frame().await else {
                return;
            };
            connection.set_body_owed(false);
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            drop(frame);
            read += length;
            if read > DRAIN_BYTES_MAX {
                return;
            }
            connection.spooler().throttle.pass(length).await;
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, all).await;
    connection.set_body_owed(false);
}

/// A reply's body.
#[derive(Debug)]
pub(crate) struct ReplyBody<B> {
    body: B,
    part: RequestPart,
}

impl<B> ReplyBody<B> {
    pub(crate) fn new(body: B, part: RequestPart) -> Self {
        Self { body, part }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ReplyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.part.connection().queued(length as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
