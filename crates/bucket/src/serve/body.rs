//! A request body with an idle timeout and memory accounting.
//!
//! The connection drains the rest of a rejected body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use s3s::StdError;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

use crate::authorizer::MemoryReservation;
use crate::error_response::ErrorResponse;

/// Maximum time without data from the client.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum memory counted per body. A document is buffered up to this size; of an object, this much is between network
/// and disk.
const MAX_COUNTED: u64 = 4 << 20;
/// Unit of accounting. The first unit is covered by the connection's own share.
const STEP: u64 = 64 << 10;

/// Reason why reading a body stopped.
#[derive(Debug, Error)]
enum BodyError {
    #[error("nothing of the body arrived for {} seconds", IDLE_TIMEOUT.as_secs())]
    Idle,
    #[error("too much is held for this caller at the moment")]
    Overloaded,
}

/// A body that times out when idle and counts its memory.
#[derive(Debug)]
pub(super) struct MonitoredBody {
    body: UnsyncBoxBody<Bytes, StdError>,
    idle_deadline: Pin<Box<Sleep>>,
    received: u64,
    counted: u64,
    held: Box<dyn MemoryReservation>,
    overloaded: Overloaded,
}

/// Whether a body was rejected for lack of memory. It outlives the body.
#[derive(Clone, Debug, Default)]
pub(super) struct Overloaded(Arc<AtomicBool>);

impl Overloaded {
    /// Replaces a failed response by `SlowDown` if the body was rejected for lack of memory.
    pub(super) fn or<T>(
        &self,
        answered: Result<Response<T>, ErrorResponse>,
    ) -> Result<Response<T>, ErrorResponse> {
        let failed = answered
            .as_ref()
            .map_or(true, |response| !response.status().is_success());
        if !(failed && self.0.load(Relaxed)) {
            return answered;
        }
        let message = "virga holds too much for this caller at the moment; try again later";
        Err(ErrorResponse::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SlowDown",
            message,
        ))
    }
}

impl MonitoredBody {
    pub(super) fn new<B>(body: B, held: Box<dyn MemoryReservation>) -> (Self, Overloaded)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let overloaded = Overloaded::default();
        let monitored = Self {
            body: UnsyncBoxBody::new(body.map_err(Into::into)),
            idle_deadline: Box::pin(tokio::time::sleep(IDLE_TIMEOUT)),
            received: 0,
            counted: STEP,
            held,
            overloaded: overloaded.clone(),
        };
        (monitored, overloaded)
    }

    /// Counts received bytes.
    fn count(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.received += bytes as u64;
        let most = self.received.next_multiple_of(STEP).min(MAX_COUNTED);
        let more = most.saturating_sub(self.counted);
        if more > 0 && !self.held.grow(more) {
            self.overloaded.0.store(true, Relaxed);
            return Err(BodyError::Overloaded);
        }
        self.counted += more;
        Ok(())
    }
}

impl Body for MonitoredBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.idle_deadline
                .as_mut()
                .reset(Instant::now() + IDLE_TIMEOUT);
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if let Err(ended) = this.count(bytes) {
                    return Poll::Ready(Some(Err(Box::new(ended))));
                }
            }
            return Poll::Ready(frame);
        }
        ready!(this.idle_deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(Box::new(BodyError::Idle))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    /// A memory limit, and the bytes reserved.
    #[derive(Clone, Debug)]
    struct Budget(u64, Arc<Mutex<u64>>);

    impl MemoryReservation for Budget {
        fn grow(&mut self, bytes: u64) -> bool {
            let mut held = self.1.lock().expect("a lock");
            let fits = *held + bytes <= self.0;
            *held += if fits { bytes } else { 0 };
            fits
        }
    }

    fn read(length: usize, budget: u64) -> (bool, u64, Overloaded) {
        let budget = Budget(budget, Arc::default());
        let chunks = (0..length / 50_000)
            .map(|_| Ok::<_, StdError>(Frame::data(Bytes::from(vec![0; 50_000]))));
        let body = StreamBody::new(stream::iter(chunks));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let (whole, overloaded) = runtime.expect("a runtime").block_on(async {
            let (body, overloaded) = MonitoredBody::new(body, Box::new(budget.clone()));
            (body.collect().await.is_ok(), overloaded)
        });
        let held = *budget.1.lock().expect("a lock");
        (whole, held, overloaded)
    }

    #[test]
    fn body_memory_is_reserved_up_to_a_bound() {
        let refused = |overloaded: &Overloaded| {
            overloaded.or(Err::<Response<()>, _>(
                s3s::S3ErrorCode::IncompleteBody.into(),
            ))
        };
        for (length, budget, expected) in [
            (50_000, 0, Some(0)),
            (200_000, MAX_COUNTED, Some(3 * STEP)),
            (20 << 20, MAX_COUNTED, Some(MAX_COUNTED - STEP)),
            (200_000, STEP, None),
        ] {
            let (whole, held, overloaded) = read(length, budget);
            assert_eq!(whole.then_some(held), expected, "{length} {budget}");
            let code = refused(&overloaded).expect_err("an error").code;
            assert_eq!(code == "SlowDown", !whole, "{length} {budget}: {code}");
        }
    }
}
