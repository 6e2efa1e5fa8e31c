//! The queue's time.

use std::time::Instant;

use dispatch::Time;

use crate::clock;

/// Microseconds since the Unix epoch, and never back: not while virga runs, whatever the host's clock does, and not over a
/// restart either, since it begins no earlier than the last time that is on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueClock {
    base: u64,
    begun: Instant,
}

impl QueueClock {
    /// A clock that begins now, or at a time that was reached before.
    pub(crate) fn starting(reached: Time) -> Self {
        let wall = u64::try_from(clock::now_ms()).unwrap_or(0) * 1000;
        Self {
            base: wall.max(reached.0),
            begun: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time(self.base + self.begun.elapsed().as_micros() as u64)
    }

    /// How long until a time.
    pub(crate) fn until(&self, at: Time) -> std::time::Duration {
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
