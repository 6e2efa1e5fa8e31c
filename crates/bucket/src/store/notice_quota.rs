//! Quotas of accounts in the outbox, by a dynamic threshold.
//!
//! An account may have as many pending notices as it leaves free; alone, half of the outbox. An account whose notices
//! are not consumed is refused further changes, while others continue. Every account has a small guaranteed minimum,
//! even if many accounts in turn have filled the outbox. Source: Choudhury and Hahne, "Dynamic queue length thresholds
//! for shared-memory packet switches", 1998, with α = 1.

use std::collections::HashMap;

/// Pending notices per account, as the current transaction sees them.
#[derive(Debug, Default)]
pub(super) struct NoticeCounts {
    total: u64,
    accounts: HashMap<u64, u64>,
    /// Changes since the last commit, for rollback.
    changes: Vec<(u64, i64)>,
}

impl NoticeCounts {
    /// Creates the committed counts.
    pub(super) fn committed(accounts: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut counts = Self::default();
        for (account, count) in accounts {
            counts.change(account, count as i64);
        }
        counts
    }

    /// Returns the number of notices.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Returns the number of notices of an account.
    pub(super) fn of(&self, account: u64) -> u64 {
        self.accounts.get(&account).copied().unwrap_or(0)
    }

    /// Returns whether an account may add notices. `most` is the capacity of the outbox, `own` the guaranteed minimum
    /// per account.
    pub(super) fn admits(&self, account: u64, added: u64, most: u64, own: u64) -> bool {
        let after = self.of(account) + added;
        let free = most.saturating_sub(self.total + added);
        after <= own.max(free)
    }

    /// Changes the count of an account.
    pub(super) fn add(&mut self, account: u64, by: i64) {
        self.change(account, by);
        self.changes.push((account, by));
    }

    /// Returns a mark for [`NoticeCounts::undo`].
    pub(super) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Rolls back the changes since a mark. 0 is the last commit.
    pub(super) fn undo(&mut self, mark: usize) {
        while self.changes.len() > mark
            && let Some((account, by)) = self.changes.pop()
        {
            self.change(account, -by);
        }
    }

    /// Commits all changes.
    pub(super) fn commit(&mut self) {
        self.changes.clear();
    }

    fn change(&mut self, account: u64, by: i64) {
        self.total = self.total.saturating_add_signed(by);
        let count = self.accounts.entry(account).or_default();
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            self.accounts.remove(&account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 10_000;
    const OWN: u64 = 16;

    /// Adds notices of an account until it reaches its quota.
    fn fill(counts: &mut NoticeCounts, account: u64) -> u64 {
        while counts.admits(account, 1, MOST, OWN) {
            counts.add(account, 1);
        }
        counts.of(account)
    }

    #[test]
    fn single_account_gets_half_and_newcomers_their_minimum() {
        let mut counts = NoticeCounts::default();
        assert_eq!(fill(&mut counts, 1), MOST / 2);
        assert_eq!(fill(&mut counts, 2), MOST / 4);
        for account in 3..100 {
            assert!(fill(&mut counts, account) >= OWN, "account {account}");
        }
        assert!(!counts.admits(1, 1, MOST, OWN));
        assert!(counts.total() <= MOST + 100 * OWN, "{}", counts.total());
    }

    #[test]
    fn drained_account_can_add_again() {
        let mut counts = NoticeCounts::default();
        let held = fill(&mut counts, 1);
        counts.add(1, -(held as i64));
        assert_eq!((counts.total(), counts.accounts.len()), (0, 0));
        assert_eq!(fill(&mut counts, 1), held);
    }

    #[test]
    fn rollback_restores_counts() {
        let mut counts = NoticeCounts::committed([(1, 5), (2, 7)]);
        counts.add(1, 3);
        let mark = counts.mark();
        counts.add(1, 2);
        counts.add(2, -7);
        counts.undo(mark);
        assert_eq!((counts.of(1), counts.of(2), counts.total()), (8, 7, 15));
        counts.undo(0);
        assert_eq!((counts.of(1), counts.of(2), counts.total()), (5, 7, 12));
        counts.add(2, 1);
        counts.commit();
        counts.undo(0);
        assert_eq!((counts.of(2), counts.total()), (8, 13));
    }
}
