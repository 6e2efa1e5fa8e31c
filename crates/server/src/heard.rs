//! What nobody reads of a request's body.
//!
//! Who is answered before all of a body has come must be listened to a little longer: a connection that is closed with bytes
//! unread is reset, and what was answered may be lost with it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

/// What is still read of a body that is not taken, and for how long.
const REST_BYTES: u64 = 64 << 20;
const REST_TIME: Duration = Duration::from_secs(10);

/// A request whose body is heard out when it is dropped.
pub(crate) fn heard(request: Request<Incoming>) -> Request<Body> {
    let waits = request.headers().contains_key(EXPECT);
    request.map(|body| {
        Body::new(Heard {
            body: Some(body),
            waits,
        })
    })
}

struct Heard {
    /// None when it has ended.
    body: Option<Incoming>,
    /// Whether its sender waits to be asked for it.
    waits: bool,
}

impl hyper::body::Body for Heard {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        if let Some(rest) = self.body.take()
            && !self.waits
            && !rest.is_end_stream()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(discard(rest));
        }
    }
}

async fn discard(mut body: Incoming) {
    let all = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len) as u64;
            if read > REST_BYTES {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(REST_TIME, all).await;
}
