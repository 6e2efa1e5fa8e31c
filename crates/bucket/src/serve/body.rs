//! A request's body, which may not stand still, and counts as held.
//!
//! What is left of one that was refused is for whoever serves the connection to throw away.

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

use crate::gate::Holding;
use crate::refusal::Refusal;

/// How long a client may send nothing.
const STILL: Duration = Duration::from_secs(60);
/// The most that counts as held of one body: a document is kept whole up to so much, and of an object as much is between the
/// network and the disk.
const HELD: u64 = 4 << 20;
/// Bytes that are counted at a time; a body of up to so many is part of what every connection counts for.
const STEP: u64 = 64 << 10;

/// Why a body is not read on.
#[derive(Debug, Error)]
enum Ended {
    #[error("nothing of the body arrived for {} seconds", STILL.as_secs())]
    Stood,
    #[error("too much is held for this caller at the moment")]
    Overloaded,
}

/// The body, as long as it moves.
#[derive(Debug)]
pub(super) struct Moving {
    body: UnsyncBoxBody<Bytes, StdError>,
    until: Pin<Box<Sleep>>,
    passed: u64,
    counted: u64,
    held: Box<dyn Holding>,
    overloaded: Overloaded,
}

/// Whether a body could not be held; known also when the body itself is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Overloaded(Arc<AtomicBool>);

impl Overloaded {
    /// The answer to a request whose body could not be held, whatever was made of that; or else the answer.
    pub(super) fn or<T>(
        &self,
        answered: Result<Response<T>, Refusal>,
    ) -> Result<Response<T>, Refusal> {
        let failed = answered
            .as_ref()
            .map_or(true, |response| !response.status().is_success());
        if !(failed && self.0.load(Relaxed)) {
            return answered;
        }
        let message = "virga holds too much for this caller at the moment; try again later";
        Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SlowDown",
            message,
        ))
    }
}

impl Moving {
    pub(super) fn new<B>(body: B, held: Box<dyn Holding>) -> (Self, Overloaded)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let overloaded = Overloaded::default();
        let moving = Self {
            body: UnsyncBoxBody::new(body.map_err(Into::into)),
            until: Box::pin(tokio::time::sleep(STILL)),
            passed: 0,
            counted: STEP,
            held,
            overloaded: overloaded.clone(),
        };
        (moving, overloaded)
    }

    /// Counts bytes that have come.
    fn count(&mut self, bytes: usize) -> Result<(), Ended> {
        self.passed += bytes as u64;
        let most = self.passed.next_multiple_of(STEP).min(HELD);
        let more = most.saturating_sub(self.counted);
        if more > 0 && !self.held.grow(more) {
            self.overloaded.0.store(true, Relaxed);
            return Err(Ended::Overloaded);
        }
        self.counted += more;
        Ok(())
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
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if let Err(ended) = this.count(bytes) {
                    return Poll::Ready(Some(Err(Box::new(ended))));
                }
            }
            return Poll::Ready(frame);
        }
        ready!(this.until.as_mut().poll(cx));
        Poll::Ready(Some(Err(Box::new(Ended::Stood))))
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

    /// Room for so many bytes, and what was taken of it.
    #[derive(Clone, Debug)]
    struct Room(u64, Arc<Mutex<u64>>);

    impl Holding for Room {
        fn grow(&mut self, bytes: u64) -> bool {
            let mut held = self.1.lock().expect("a lock");
            let fits = *held + bytes <= self.0;
            *held += if fits { bytes } else { 0 };
            fits
        }
    }

    fn read(length: usize, room: u64) -> (bool, u64, Overloaded) {
        let room = Room(room, Arc::default());
        let chunks = (0..length / 50_000)
            .map(|_| Ok::<_, StdError>(Frame::data(Bytes::from(vec![0; 50_000]))));
        let body = StreamBody::new(stream::iter(chunks));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let (whole, overloaded) = runtime.expect("a runtime").block_on(async {
            let (body, overloaded) = Moving::new(body, Box::new(room.clone()));
            (body.collect().await.is_ok(), overloaded)
        });
        let held = *room.1.lock().expect("a lock");
        (whole, held, overloaded)
    }

    #[test]
    fn a_body_is_held_as_it_comes_up_to_a_bound() {
        let refused = |overloaded: &Overloaded| {
            overloaded.or(Err::<Response<()>, _>(
                s3s::S3ErrorCode::IncompleteBody.into(),
            ))
        };
        for (length, room, expected) in [
            (50_000, 0, Some(0)),
            (200_000, HELD, Some(3 * STEP)),
            (20 << 20, HELD, Some(HELD - STEP)),
            (200_000, STEP, None),
        ] {
            let (whole, held, overloaded) = read(length, room);
            assert_eq!(whole.then_some(held), expected, "{length} {room}");
            let code = refused(&overloaded).expect_err("an error").code;
            assert_eq!(code == "SlowDown", !whole, "{length} {room}: {code}");
        }
    }
}
