//! Sizes of the stored records, by account.

use std::collections::HashMap;

use model::AccountId;

/// Sizes of all records, and their sum per account.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    records: HashMap<String, u64>,
    accounts: HashMap<AccountId, u64>,
}

impl Sizes {
    /// Updates the size of a record; `None` removes it.
    pub(crate) fn update(&mut self, account: AccountId, key: &str, bytes: Option<u64>) {
        let old = match bytes {
            Some(bytes) => self.records.insert(key.to_owned(), bytes),
            None => self.records.remove(key),
        };
        let sum = self.accounts.entry(account).or_default();
        *sum = sum.saturating_sub(old.unwrap_or(0)) + bytes.unwrap_or(0);
        if *sum == 0 {
            self.accounts.remove(&account);
        }
    }

    /// Returns the keys of all records.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.records.keys().map(String::as_str)
    }

    /// Returns the size of a record (bytes), if there is one.
    pub(crate) fn record(&self, key: &str) -> Option<u64> {
        self.records.get(key).copied()
    }

    /// Returns the size of an account's records (bytes).
    pub(crate) fn of(&self, account: AccountId) -> u64 {
        self.accounts.get(&account).copied().unwrap_or(0)
    }
}
