//! Detects functions with short requests, which use the processor briefly and wait for nothing else.

use std::fs;
use std::time::{Duration, Instant};

/// Least number of requests between two samples.
const REQUESTS_MIN: u64 = 64;
/// How long a verdict is valid. A sample reads three files of the kernel.
const VALID_FOR: Duration = Duration::from_millis(200);
/// Largest average processor time of a short request, nanoseconds.
const SHORT_NS: u64 = 500_000;

/// Usage of an instance's main thread.
#[derive(Clone, Copy, Debug)]
struct ThreadUsage {
    processor_ns: u64,
    /// Voluntary context switches.
    voluntary_switches: u64,
}

/// Samples of one instance.
#[derive(Debug, Default)]
pub(crate) struct ShortRequestDetector {
    requests_since: u64,
    used: Option<ThreadUsage>,
    valid_until: Option<Instant>,
}

impl ShortRequestDetector {
    /// Counts a request. Occasionally returns whether the last requests were short; `process` returns the instance's
    /// process if it has only one.
    pub(crate) fn count(
        &mut self,
        now: Instant,
        process: impl FnOnce() -> Option<i32>,
    ) -> Option<bool> {
        self.requests_since += 1;
        if self.requests_since < REQUESTS_MIN || self.valid_until.is_some_and(|until| now < until) {
            return None;
        }
        let requests = std::mem::take(&mut self.requests_since);
        let used = process().and_then(ThreadUsage::of);
        let before = std::mem::replace(&mut self.used, used)?;
        self.valid_until = Some(now + VALID_FOR);
        Some(used.is_some_and(|used| used.is_short(before, requests)))
    }
}

impl ThreadUsage {
    fn of(process: i32) -> Option<Self> {
        let times = fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let voluntary_switches = |line: &str| {
            line.strip_prefix("voluntary_ctxt_switches:")?
                .trim()
                .parse()
                .ok()
        };
        Some(Self {
            processor_ns: times.split_whitespace().next()?.parse().ok()?,
            voluntary_switches: status.lines().find_map(voluntary_switches)?,
        })
    }

    fn is_short(self, before: Self, requests: u64) -> bool {
        let used = self.processor_ns.saturating_sub(before.processor_ns);
        let waited = self
            .voluntary_switches
            .saturating_sub(before.voluntary_switches);
        // A process that waits for nothing but its next request switches once per request. A quarter is tolerance.
        let voluntary_switches = requests + requests / 4;
        // A kernel without scheduler statistics reports 0.
        (1..SHORT_NS * requests).contains(&used) && waited <= voluntary_switches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(processor_ns: u64, voluntary_switches: u64) -> ThreadUsage {
        ThreadUsage {
            processor_ns,
            voluntary_switches,
        }
    }

    #[test]
    fn short_requests_neither_compute_nor_wait_long() {
        let before = used(1_000_000, 100);
        let after = |each_ns: u64, voluntary_switches: u64| {
            used(1_000_000 + 64 * each_ns, 100 + voluntary_switches)
        };
        for (after, short) in [
            (after(50_000, 64), true),
            (after(50_000, 3), true),
            (after(50_000, 128), false),
            (after(600_000, 64), false),
            (after(0, 64), false),
        ] {
            assert_eq!(after.is_short(before, 64), short, "{after:?}");
        }
    }

    #[test]
    fn usage_is_sampled_at_most_once_per_interval() {
        let own = || Some(std::process::id() as i32);
        let (mut short_requests, begun) = (ShortRequestDetector::default(), Instant::now());
        let mut verdicts = |requests, at: Duration| {
            let counted = (0..requests).filter_map(|_| short_requests.count(begun + at, own));
            counted.count()
        };
        assert_eq!(verdicts(64, Duration::ZERO), 0, "compared with nothing");
        assert_eq!(verdicts(64, Duration::ZERO), 1);
        assert_eq!(verdicts(1000, VALID_FOR / 2), 0, "it stands");
        assert_eq!(verdicts(1000, VALID_FOR), 1, "over all since");
        let mut gone = ShortRequestDetector::default();
        assert!((0..200).all(|_| gone.count(begun, || None).is_none()));
    }
}
