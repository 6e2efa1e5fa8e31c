//! The notices that wait in the outbox because their account has reached its queue quota.

use std::collections::{BTreeMap, BTreeSet};

use model::AccountId;

/// Numbers of notices whose account has reached its queue quota.
#[derive(Debug, Default)]
pub(super) struct Parked {
    accounts: BTreeMap<AccountId, BTreeSet<u64>>,
}

impl Parked {
    /// Returns whether it is the account's only parked notice.
    pub(super) fn insert(&mut self, account: AccountId, number: u64) -> bool {
        let numbers = self.accounts.entry(account).or_default();
        numbers.insert(number) && numbers.len() == 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.accounts.values().map(BTreeSet::len).sum()
    }

    pub(super) fn has(&self, account: AccountId, number: u64) -> bool {
        let numbers = self.accounts.get(&account);
        numbers.is_some_and(|numbers| numbers.contains(&number))
    }

    /// Returns whether an earlier notice of the account is parked.
    pub(super) fn is_behind(&self, account: AccountId, number: u64) -> bool {
        let numbers = self.accounts.get(&account);
        numbers
            .and_then(BTreeSet::first)
            .is_some_and(|first| *first < number)
    }

    /// Returns whether it was parked.
    pub(super) fn remove(&mut self, account: AccountId, number: u64) -> bool {
        let Some(numbers) = self.accounts.get_mut(&account) else {
            return false;
        };
        let was = numbers.remove(&number);
        if numbers.is_empty() {
            self.accounts.remove(&account);
        }
        was
    }

    /// Returns the first parked notice of each account.
    pub(super) fn firsts(&self) -> Vec<(AccountId, u64)> {
        let firsts = self.accounts.iter();
        firsts
            .filter_map(|(account, numbers)| Some((*account, *numbers.first()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parked_account_keeps_order_and_blocks_no_other() {
        let (one, other) = (AccountId(1), AccountId(2));
        let mut parked = Parked::default();
        assert!(parked.insert(one, 5));
        assert!(!parked.is_behind(one, 5), "the first is tried again");
        assert!(parked.is_behind(one, 6) && !parked.is_behind(other, 6));
        assert!(!parked.insert(one, 6) && parked.insert(other, 8));
        assert!(!parked.insert(one, 6), "a second time it is the same");
        assert_eq!(parked.firsts(), [(one, 5), (other, 8)]);
        assert!(parked.remove(one, 5) && !parked.remove(one, 5));
        assert!(parked.has(one, 6) && !parked.has(other, 6) && parked.len() == 2);
        assert!(!parked.is_behind(one, 6));
        parked.remove(one, 6);
        parked.remove(one, 7);
        assert_eq!(parked.firsts(), [(other, 8)]);
    }
}
