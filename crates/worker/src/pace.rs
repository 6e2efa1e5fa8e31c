//! Whether a function's requests are brief, and wait for nothing but a processor.

use std::fs;
use std::time::{Duration, Instant};

/// Requests of an instance from one look to the next, at least.
const EVERY: u64 = 64;
/// A look reads three files of the kernel's, so that what has been said stands for so long.
const STANDS: Duration = Duration::from_millis(200);
/// Processor time of a brief request, nanoseconds.
const BRIEF_NS: u64 = 500_000;

/// What an instance's first thread has used.
#[derive(Clone, Copy, Debug)]
struct Used {
    processor_ns: u64,
    /// How often it gave the processor up by itself.
    waits: u64,
}

/// What is known of an instance's requests.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: u64,
    used: Option<Used>,
    stands_until: Option<Instant>,
}

impl Pace {
    /// Counts a request. Says now and then whether the last ones were brief, where `process` is all there is of the instance.
    pub(crate) fn count(
        &mut self,
        now: Instant,
        process: impl FnOnce() -> Option<i32>,
    ) -> Option<bool> {
        self.since += 1;
        if self.since < EVERY || self.stands_until.is_some_and(|until| now < until) {
            return None;
        }
        let requests = std::mem::take(&mut self.since);
        let used = process().and_then(Used::by);
        let before = std::mem::replace(&mut self.used, used)?;
        self.stands_until = Some(now + STANDS);
        Some(used.is_some_and(|used| used.is_brief(before, requests)))
    }
}

impl Used {
    fn by(process: i32) -> Option<Self> {
        let times = fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let waits = |line: &str| {
            line.strip_prefix("voluntary_ctxt_switches:")?
                .trim()
                .parse()
                .ok()
        };
        Some(Self {
            processor_ns: times.split_whitespace().next()?.parse().ok()?,
            waits: status.lines().find_map(waits)?,
        })
    }

    fn is_brief(self, before: Self, requests: u64) -> bool {
        let used = self.processor_ns.saturating_sub(before.processor_ns);
        let waited = self.waits.saturating_sub(before.waits);
        // A process that waits for its next request alone does so once for each. It is given a quarter more.
        let waits = requests + requests / 4;
        // A kernel that does not count says 0.
        (1..BRIEF_NS * requests).contains(&used) && waited <= waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(processor_ns: u64, waits: u64) -> Used {
        Used {
            processor_ns,
            waits,
        }
    }

    #[test]
    fn brief_is_what_neither_works_nor_waits_for_long() {
        let before = used(1_000_000, 100);
        let after = |each_ns: u64, waits: u64| used(1_000_000 + 64 * each_ns, 100 + waits);
        for (after, brief) in [
            (after(50_000, 64), true),
            (after(50_000, 3), true),
            (after(50_000, 128), false),
            (after(600_000, 64), false),
            (after(0, 64), false),
        ] {
            assert_eq!(after.is_brief(before, 64), brief, "{after:?}");
        }
    }

    #[test]
    fn it_is_looked_at_now_and_then() {
        let own = || Some(std::process::id() as i32);
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let mut said = |requests, at: Duration| {
            let counted = (0..requests).filter_map(|_| pace.count(begun + at, own));
            counted.count()
        };
        assert_eq!(said(64, Duration::ZERO), 0, "compared with nothing");
        assert_eq!(said(64, Duration::ZERO), 1);
        assert_eq!(said(1000, STANDS / 2), 0, "it stands");
        assert_eq!(said(1000, STANDS), 1, "over all since");
        let mut gone = Pace::default();
        assert!((0..200).all(|_| gone.count(begun, || None).is_none()));
    }
}
