//! Shares of accounts in the outbox, by a dynamic threshold.
//!
//! An account may have as many notices waiting as it leaves free: alone half of the outbox. So one whose notices nobody takes
//! is refused further changes, and others go on. A few notices of each account are taken in any case, also where many accounts
//! in turn have filled the outbox. Source: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
//! switches", 1998, with α = 1.

use std::collections::HashMap;

/// Notices of each account, as the transaction that is under way sees them.
#[derive(Debug, Default)]
pub(super) struct NoticeCounts {
    total: u64,
    accounts: HashMap<u64, u64>,
    /// Changes since the last commit, so that they can be undone.
    changes: Vec<(u64, i64)>,
}

impl NoticeCounts {
    /// The counts of what is committed.
    pub(super) fn committed(accounts: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut counts = Self::default();
        for (account, count) in accounts {
            counts.change(account, count as i64);
        }
        counts
    }

    /// Returns how many notices there are.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Returns how many notices of an account there are.
    pub(super) fn of(&self, account: u64) -> u64 {
        self.accounts.get(&account).copied().unwrap_or(0)
    }

    /// Whether an account may add so many notices. `most` is the size of the outbox, `own` is what each account may have in
    /// any case.
    pub(super) fn admits(&self, account: u64, added: u64, most: u64, own: u64) -> bool {
        let after = self.of(account) + added;
        let free = most.saturating_sub(self.total + added);
        after <= own.max(free)
    }

    /// Notes that notices of an account came, or went.
    pub(super) fn add(&mut self, account: u64, by: i64) {
        self.change(account, by);
        self.changes.push((account, by));
    }

    /// Returns the point to which [`NoticeCounts::undo`] goes back.
    pub(super) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Undoes the changes since a mark. 0 is the last commit.
    pub(super) fn undo(&mut self, mark: usize) {
        while self.changes.len() > mark
            && let Some((account, by)) = self.changes.pop()
        {
            self.change(account, -by);
        }
    }

    /// Notes that all changes are committed.
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

    /// Adds notices of an account as long as there is room for them.
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
