//! The monotonic clock of the queue.

use std::time::Instant;

use dispatch::Time;

/// A monotonic clock in microseconds since the Unix epoch.
///
/// It never goes back: while virga runs it ignores changes of the host's clock, and at a restart it starts no earlier than the last
/// time on disk.
#[derive(Clone, Copy, Debug)]
pub struct QueueClock {
    base: u64,
    begun: Instant,
}

impl QueueClock {
    /// Creates a clock that starts at the wall-clock time or at `reached`, whichever is later.
    pub(crate) fn starting(reached: Time) -> Self {
        let wall = u64::try_from(clock::now_ms()).unwrap_or(0) * 1000;
        Self {
            base: wall.max(reached.0),
            begun: Instant::now(),
        }
    }

    /// Returns the current time.
    pub fn now(&self) -> Time {
        Time(self.base + self.begun.elapsed().as_micros() as u64)
    }

    /// Returns the duration until a time, zero if it has passed.
    pub fn until(&self, at: Time) -> std::time::Duration {
        std::time::Duration::from_micros(at.0.saturating_sub(self.now().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_clock_is_monotonic_when_the_wall_clock_goes_back() {
        let reached = Time(QueueClock::starting(Time(0)).now().0 + 3_600_000_000);
        assert!(QueueClock::starting(reached).now() >= reached);
    }
}
