//! The bytes of each account's records, and their quota.
//!
//! Everything in the catalog is in memory, so what an account can make it hold is bounded. The bytes are those of the records
//! as they are stored, before they are sealed; they are counted as records come and go. A change that would make an account's
//! records larger than the quota is refused; one that makes them smaller, or leaves them as they are, never is.

use std::collections::HashMap;
use std::sync::PoisonError;

use model::AccountId;

use super::{Catalog, Error};

/// The tables whose records grow at a tenant's word. The others have few records, and small ones.
const HELD: &[&str] = &["function", "namespace", "layer", "domain", "role"];

/// The bytes of all records, and of each account's.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    records: HashMap<String, u64>,
    accounts: HashMap<AccountId, u64>,
}

impl Sizes {
    /// Notes the size of a record that came, changed or went.
    pub(crate) fn note(&mut self, account: AccountId, key: &str, bytes: Option<u64>) {
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

    fn of(&self, account: AccountId) -> u64 {
        self.accounts.get(&account).copied().unwrap_or(0)
    }
}

/// Room that a write under way has taken, given back when the view shows the write, or it failed.
pub(crate) struct Growth<'a> {
    catalog: &'a Catalog,
    account: AccountId,
    bytes: u64,
}

impl Catalog {
    /// The bytes of an account's records.
    pub fn bytes_of(&self, account: AccountId) -> u64 {
        self.read(|view| view.sizes.of(account))
    }

    /// Takes room for a record of so many bytes. Writes at the same time cannot take the same room.
    pub(crate) fn grow(&self, key: &str, bytes: u64) -> Result<Option<Growth<'_>>, Error> {
        let quota = self.inner.account_bytes;
        let mut parts = key.split('/');
        let table = parts.next().unwrap_or_default();
        let account = parts.next().and_then(|id| id.parse().ok());
        let Some(account) = account.map(AccountId).filter(|_| HELD.contains(&table)) else {
            return Ok(None);
        };
        if quota == 0 {
            return Ok(None);
        }
        let growing = &self.inner.growing;
        let mut growing = growing.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, old) = self.read(|view| {
            let old = view.sizes.records.get(key).copied();
            (view.sizes.of(account), old.unwrap_or(0))
        });
        let more = bytes.saturating_sub(old);
        if more == 0 {
            return Ok(None);
        }
        let taken = growing.entry(account).or_default();
        if used.saturating_add(*taken).saturating_add(more) > quota {
            return Err(Error::Bytes { used, more, quota });
        }
        *taken += more;
        Ok(Some(Growth {
            catalog: self,
            account,
            bytes: more,
        }))
    }
}

impl Drop for Growth<'_> {
    fn drop(&mut self) {
        let growing = &self.catalog.inner.growing;
        let mut growing = growing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = growing.get_mut(&self.account) {
            *taken = taken.saturating_sub(self.bytes);
            if *taken == 0 {
                growing.remove(&self.account);
            }
        }
    }
}
