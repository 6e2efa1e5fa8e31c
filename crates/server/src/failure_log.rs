//! Whether a part that writes is failing: told when it begins, now and then while it lasts, and when it is over. A full disk fails
//! thousands of writes a minute, and the log of them would fill it anew.

use std::time::{Duration, Instant};

/// How often a fault that lasts is told again.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// What a part knows about its own fault.
#[derive(Debug, Default)]
pub(crate) struct FailureLog {
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl FailureLog {
    /// Notes a failure. If it is to be told now: how many there were since the last that was.
    pub(crate) fn failure(&mut self) -> Option<u64> {
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

    /// Notes a success. Says whether it ends a fault, which is then to be told.
    pub(crate) fn success(&mut self) -> bool {
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
        assert!(!failure_log.success(), "nothing was wrong");
        assert_eq!(failure_log.failure(), Some(1));
        assert_eq!(failure_log.failure(), None);
        assert!(failure_log.success());
        assert!(!failure_log.success());
        assert_eq!(failure_log.failure(), Some(1), "another fault");
    }
}
