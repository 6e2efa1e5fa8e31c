//! Work on long bodies, which would delay other requests.

/// Bytes whose processing takes about a millisecond.
const LONG: usize = 256 << 10;

/// Runs work on that many bytes. For many of them, the other tasks of this thread go to another thread first: small
/// requests would wait for milliseconds behind it.
pub fn hand_off_if_long<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LONG {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
