//! A form's bytes, in sips: nobody stands behind a form until its fields have been read.
//!
//! `multer` takes all that there is whenever it looks, and looks for the end of a field's head in everything that it has. So it is
//! given a frame at a time, and before the file no more than a bound in all.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

/// Bytes in front of the file. S3 takes 20 KB of fields.
pub(super) const FRONT: u64 = 128 << 10;

/// The stream that is given.
#[derive(Debug)]
pub(super) struct Sips<S> {
    from: S,
    front: Front,
    /// Whether the last look had something.
    gave: bool,
}

/// How much was read in front of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Front(Arc<Read>);

#[derive(Debug, Default)]
struct Read {
    bytes: AtomicU64,
    /// Whether the file has begun.
    over: AtomicBool,
}

/// There is more in front of the file than may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Front {
    /// A stream of what `from` gives.
    pub(super) fn sips<S>(&self, from: S) -> Sips<S> {
        Sips {
            from,
            front: self.clone(),
            gave: false,
        }
    }

    /// The file has begun: what comes now is bounded by its reader.
    pub(super) fn is_behind(&self) {
        self.0.over.store(true, Relaxed);
    }

    fn is_full(&self) -> bool {
        !self.0.over.load(Relaxed) && self.0.bytes.load(Relaxed) >= FRONT
    }

    /// What comes of something that reads the stream.
    ///
    /// # Errors
    /// It needs more than may be read.
    pub(super) async fn within<T>(&self, reads: impl Future<Output = T>) -> Result<T, TooMuch> {
        let mut reads = pin!(reads);
        poll_fn(|cx| match reads.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(Ok(read)),
            Poll::Pending if self.is_full() => Poll::Ready(Err(TooMuch)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl<S, E> Stream for Sips<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.front.is_full() {
            // Whoever waits for it is told by `within`.
            return Poll::Pending;
        }
        if std::mem::take(&mut self.gave) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.from).poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.front.0.bytes.fetch_add(bytes.len() as u64, Relaxed);
            self.gave = true;
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

    async fn all<S: Stream + Unpin>(mut sips: S) -> usize {
        let mut read = 0;
        while sips.next().await.is_some() {
            read += 1;
        }
        read
    }

    #[tokio::test]
    async fn a_look_has_one_frame_and_all_come() {
        let front = Front::default();
        let mut sips = front.sips(stream::iter(frames(3, 10)));
        let looks = poll_fn(|cx| {
            let looks = [(); 3].map(|()| sips.poll_next_unpin(cx).is_ready());
            Poll::Ready(looks)
        });
        assert_eq!(looks.await, [true, false, true]);
        assert_eq!(front.within(all(sips)).await, Ok(1));
    }

    #[tokio::test]
    async fn in_front_of_the_file_there_is_a_bound_and_behind_none() {
        let front = Front::default();
        let sips = front.sips(stream::iter(frames(10, FRONT as usize / 4)));
        assert_eq!(front.within(all(sips)).await, Err(TooMuch));
        let front = Front::default();
        let sips = front.sips(stream::iter(frames(10, FRONT as usize / 4)));
        front.is_behind();
        assert_eq!(front.within(all(sips)).await, Ok(10));
    }
}
