//! A request body that may have to be sent twice.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, SizeHint};

use super::body::{BoxError, Outgoing};

/// Longest body that is buffered for a retry, bytes. Buffering a longer one costs more than a new connection.
const REPEATABLE_MAX: u64 = 64 << 10;

/// A request body. It is repeatable if it is short and its length is known.
#[derive(Debug)]
pub struct Payload(Kind);

enum Kind {
    Empty,
    Short(Arc<Mutex<Source>>),
    Long(Option<Outgoing>),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Short(_) => "Short",
            Self::Long(_) => "Long",
        })
    }
}

impl Payload {
    /// Wraps a body.
    pub fn new(body: Outgoing) -> Self {
        if body.is_end_stream() {
            return Self(Kind::Empty);
        }
        Self(match body.size_hint().exact() {
            Some(length @ ..=REPEATABLE_MAX) => Kind::Short(Arc::new(Mutex::new(Source {
                body,
                length,
                read: Vec::new(),
                reader: 0,
                failed: false,
            }))),
            _ => Kind::Long(Some(body)),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    /// Returns whether [`Payload::send`] can be called again, which is not the case after the client aborted the body.
    pub(super) fn is_repeatable(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Short(source) => !lock(source).failed,
            Kind::Long(_) => false,
        }
    }

    /// Returns whether [`Payload::send`] returns the whole body if it is called now.
    pub(super) fn is_whole(&self) -> bool {
        self.is_repeatable() || matches!(self.0, Kind::Long(Some(_)))
    }

    /// Returns the body from its beginning. The previously returned one fails from then on.
    pub(super) fn send(&mut self) -> Outgoing {
        match &mut self.0 {
            Kind::Empty => empty_body(),
            Kind::Short(source) => {
                let number = {
                    let mut source = lock(source);
                    source.reader += 1;
                    source.reader
                };
                let source = source.clone();
                Reader {
                    source,
                    number,
                    at: 0,
                }
                .boxed_unsync()
            }
            Kind::Long(body) => body.take().unwrap_or_else(empty_body),
        }
    }
}

fn empty_body() -> Outgoing {
    let never = |never: std::convert::Infallible| match never {};
    Empty::new().map_err(never).boxed_unsync()
}

/// A short body and the part read so far.
pub(super) struct Source {
    body: Outgoing,
    length: u64,
    read: Vec<Bytes>,
    /// Number of the active [`Reader`]. Only one can be woken when more data arrives.
    reader: u32,
    failed: bool,
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A short body during one attempt.
struct Reader {
    source: Arc<Mutex<Source>>,
    number: u32,
    /// Index of the next chunk in [`Source::read`].
    at: usize,
}

impl Body for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut source = lock(&this.source);
        if source.reader != this.number {
            return Poll::Ready(Some(Err(
                "the request is sent over another connection".into()
            )));
        }
        if let Some(bytes) = source.read.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        let frame = ready!(Pin::new(&mut source.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    source.read.push(bytes.clone());
                    this.at += 1;
                }
            }
            Some(Err(_)) => source.failed = true,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let source = lock(&self.source);
        self.at == source.read.len() && source.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let source = lock(&self.source);
        let sent = source.read.iter().take(self.at).map(Bytes::len);
        let sent = sent.sum::<usize>() as u64;
        SizeHint::with_exact(source.length.saturating_sub(sent))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn full(length: usize) -> Outgoing {
        let body = Full::new(Bytes::from(vec![b'x'; length]));
        body.map_err(|never| match never {}).boxed_unsync()
    }

    /// A body of several chunks in reverse order, with an optional length.
    struct Parts(Vec<Result<&'static str, &'static str>>, Option<u64>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop().map(|part| match part {
                Ok(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
                Err(text) => Err(text.into()),
            }))
        }

        fn size_hint(&self) -> SizeHint {
            self.1.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    #[tokio::test]
    async fn short_body_is_resent_from_its_start() {
        for sent in 0..=3 {
            let parts = Parts(vec![Ok("c"), Ok("b"), Ok("a")], Some(3)).boxed_unsync();
            let mut payload = Payload::new(parts);
            let mut first = payload.send();
            for _ in 0..sent {
                first.frame().await.expect("a part").expect("bytes");
            }
            assert!(payload.is_repeatable());
            let second = payload.send();
            assert_eq!(second.size_hint().exact(), Some(3));
            // A connection that ends slowly takes no data from its successor.
            assert!(first.frame().await.expect("an end").is_err(), "{sent}");
            let all = second.collect().await.expect("a body").to_bytes();
            assert_eq!(all, "abc", "{sent}");
        }
    }

    #[tokio::test]
    async fn only_short_complete_bodies_are_repeatable() {
        let rows = [(0, true), (64 << 10, true), ((64 << 10) + 1, false)];
        for (length, repeatable) in rows {
            let mut payload = Payload::new(full(length));
            assert_eq!(payload.is_repeatable(), repeatable, "{length}");
            let sent = payload.send().collect().await.expect("a body").to_bytes();
            assert_eq!(sent.len(), length);
        }
        let stream = Parts(vec![Ok("a")], None).boxed_unsync();
        assert!(!Payload::new(stream).is_repeatable());
        let broken = Parts(vec![Err("gone"), Ok("a")], Some(3)).boxed_unsync();
        let mut broken = Payload::new(broken);
        assert!(broken.send().collect().await.is_err());
        assert!(!broken.is_repeatable());
    }
}
