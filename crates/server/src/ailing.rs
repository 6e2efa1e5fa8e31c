//! Whether a part that writes is failing: told when it begins, now and then while it lasts, and when it is over. A full disk fails
//! thousands of writes a minute, and the log of them would fill it anew.

use std::time::{Duration, Instant};

/// How often a fault that lasts is told again.
const AGAIN: Duration = Duration::from_secs(30);

/// What a part knows about its own fault.
#[derive(Debug, Default)]
pub(crate) struct Ailing {
    told: Option<Instant>,
    untold: u64,
}

impl Ailing {
    /// Notes a failure. If it is to be told now: how many there were since the last that was.
    pub(crate) fn failed(&mut self) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| told.elapsed() < AGAIN) {
            return None;
        }
        self.told = Some(Instant::now());
        Some(std::mem::take(&mut self.untold))
    }

    /// Notes a success. Says whether it ends a fault, which is then to be told.
    pub(crate) fn works(&mut self) -> bool {
        self.untold = 0;
        self.told.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_when_it_begins_and_when_it_ends() {
        let mut ailing = Ailing::default();
        assert!(!ailing.works(), "nothing was wrong");
        assert_eq!(ailing.failed(), Some(1));
        assert_eq!(ailing.failed(), None);
        assert!(ailing.works());
        assert!(!ailing.works());
        assert_eq!(ailing.failed(), Some(1), "another fault");
    }
}
