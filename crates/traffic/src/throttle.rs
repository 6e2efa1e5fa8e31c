//! A shared rate limit for bytes that are discarded, or that belong to an unverified caller.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Largest burst.
const AHEAD: Duration = Duration::from_millis(100);

/// The rate limiter: the generic cell rate algorithm in one number, the time at which the next bytes are due.
#[derive(Debug)]
pub(crate) struct Throttle {
    begun: Instant,
    due_ns: AtomicU64,
    bytes_per_second: u64,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            begun: Instant::now(),
            due_ns: AtomicU64::new(0),
            bytes_per_second,
        }
    }

    /// Waits until the bytes are due.
    pub(crate) async fn pass(&self, bytes: u64) {
        let now = self.begun.elapsed().as_nanos() as u64;
        let takes = bytes.saturating_mul(1_000_000_000) / self.bytes_per_second;
        let due = self
            .due_ns
            .update(Relaxed, Relaxed, |due| due.max(now).saturating_add(takes));
        let early = due.saturating_sub(now);
        let ahead = AHEAD.as_nanos() as u64;
        if early > ahead {
            tokio::time::sleep(Duration::from_nanos(early - ahead)).await;
        }
    }
}
