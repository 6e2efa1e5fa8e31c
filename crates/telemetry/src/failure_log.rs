//! Rate-limited logging of a repeating failure: the first occurrence, one line every 30 s, and the recovery.
//!
//! A full disk fails thousands of writes per minute; logging each would fill the disk again.

use std::time::{Duration, Instant};

/// Interval between log lines of a lasting failure.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The state of one kind of failure.
#[derive(Debug, Default)]
pub struct FailureLog {
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl FailureLog {
    /// Records a failure. If it should be logged now, returns the number of failures since the last log line.
    pub fn failure(&mut self) -> Option<u64> {
        self.unlogged += 1;
        if self
            .logged_at
            .is_some_and(|logged_at| logged_at.elapsed() < LOG_INTERVAL)
        {
            return None;
        }
        self.logged_at = Some(Instant::now());
        Some(std::mem::take(&mut self.unlogged))
    }

    /// Records a success. Returns whether it ends a failure, so that the recovery should be logged.
    pub fn success(&mut self) -> bool {
        self.unlogged = 0;
        self.logged_at.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_logged_at_its_start_and_its_recovery() {
        let mut failure_log = FailureLog::default();
        assert!(!failure_log.success(), "there was no failure");
        assert_eq!(failure_log.failure(), Some(1));
        assert_eq!(failure_log.failure(), None);
        assert!(failure_log.success());
        assert!(!failure_log.success());
        assert_eq!(failure_log.failure(), Some(1), "a new failure");
    }
}
