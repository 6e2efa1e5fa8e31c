//! A stream that hands over a form frame by frame and limits the bytes in front of the file. The form is not
//! authenticated before its fields have been read.
//!
//! `multer` drains its stream on each poll, and scans everything buffered for the end of a field's header. So it gets
//! one frame per poll, and a limited total before the file.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

/// Maximum bytes in front of the file. S3 allows 20 KB of fields.
pub(super) const FIELDS_MAX: u64 = 128 << 10;

/// The limited stream.
#[derive(Debug)]
pub(super) struct FieldFrames<S> {
    from: S,
    field_limit: FieldLimit,
    /// Whether the last poll yielded a frame.
    yielded: bool,
}

/// Bytes read in front of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldLimit(Arc<Read>);

#[derive(Debug, Default)]
struct Read {
    bytes: AtomicU64,
    /// Whether the file has begun.
    file_begun: AtomicBool,
}

/// The fields exceed the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldsTooLong;

impl FieldLimit {
    /// Wraps a stream.
    pub(super) fn field_frames<S>(&self, from: S) -> FieldFrames<S> {
        FieldFrames {
            from,
            field_limit: self.clone(),
            yielded: false,
        }
    }

    /// Lifts the limit: the file has begun, and its reader limits it.
    pub(super) fn file_begins(&self) {
        self.0.file_begun.store(true, Relaxed);
    }

    fn is_full(&self) -> bool {
        !self.0.file_begun.load(Relaxed) && self.0.bytes.load(Relaxed) >= FIELDS_MAX
    }

    /// Runs a future that reads the stream.
    ///
    /// # Errors
    /// The future needs more than the limit.
    pub(super) async fn within<T>(
        &self,
        reads: impl Future<Output = T>,
    ) -> Result<T, FieldsTooLong> {
        let mut reads = pin!(reads);
        poll_fn(|cx| match reads.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(Ok(read)),
            Poll::Pending if self.is_full() => Poll::Ready(Err(FieldsTooLong)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl<S, E> Stream for FieldFrames<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.field_limit.is_full() {
            // `within` wakes the reader with an error.
            return Poll::Pending;
        }
        if std::mem::take(&mut self.yielded) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.from).poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.field_limit
                .0
                .bytes
                .fetch_add(bytes.len() as u64, Relaxed);
            self.yielded = true;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    type Frames = Vec<Result<Bytes, std::convert::Infallible>>;

    fn frames(count: usize, length: usize) -> Frames {
        (0..count)
            .map(|_| Ok(Bytes::from(vec![b'x'; length])))
            .collect()
    }

    async fn all<S: Stream + Unpin>(mut field_frames: S) -> usize {
        let mut read = 0;
        while field_frames.next().await.is_some() {
            read += 1;
        }
        read
    }

    #[tokio::test]
    async fn each_poll_yields_at_most_one_frame() {
        let field_limit = FieldLimit::default();
        let mut field_frames = field_limit.field_frames(stream::iter(frames(3, 10)));
        let looks = poll_fn(|cx| {
            let looks = [(); 3].map(|()| field_frames.poll_next_unpin(cx).is_ready());
            Poll::Ready(looks)
        });
        assert_eq!(looks.await, [true, false, true]);
        assert_eq!(field_limit.within(all(field_frames)).await, Ok(1));
    }

    #[tokio::test]
    async fn limit_applies_only_before_the_file() {
        let field_limit = FieldLimit::default();
        let field_frames =
            field_limit.field_frames(stream::iter(frames(10, FIELDS_MAX as usize / 4)));
        assert_eq!(
            field_limit.within(all(field_frames)).await,
            Err(FieldsTooLong)
        );
        let field_limit = FieldLimit::default();
        let field_frames =
            field_limit.field_frames(stream::iter(frames(10, FIELDS_MAX as usize / 4)));
        field_limit.file_begins();
        assert_eq!(field_limit.within(all(field_frames)).await, Ok(10));
    }
}
