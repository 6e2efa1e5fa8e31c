//! The output of an instance: reading its pipe into a log.

use std::time::Duration;

use tokio::net::unix::pipe;

use crate::log::Log;

/// Waits until the log pipe is readable. Once the log is full, the pipe is drained only every few milliseconds:
/// backpressure slows down a function that prints endlessly, instead of its output using the processor time of others.
pub(super) async fn readable(pipe: &pipe::Receiver, full: bool) -> std::io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(2);
    if full {
        tokio::time::sleep(PAUSE).await;
    }
    pipe.readable().await
}

/// Drains the log pipe without waiting, up to a bound. Returns whether the pipe is still open.
pub(super) fn collect(
    mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    log: &mut Log,
) -> bool {
    // Twice the size of a pipe's buffer: a background process that keeps printing cannot occupy the reader.
    const ROUNDS: usize = 32;
    // It is zeroed on every call, mostly for nothing, so it is small.
    let mut buffer = [0; 4 << 10];
    for _ in 0..ROUNDS {
        match read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => log.push(&buffer[..length]),
            Err(e) => return e.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
    true
}
