//! The quota on the size of an account's records.
//!
//! The whole catalog is in memory, so the size of each account's records is bounded. Sizes are those of the stored records
//! before encryption, and are maintained as records change. A write that would exceed the quota is rejected; a write that
//! does not grow the records never is.

use std::sync::PoisonError;

use model::AccountId;

use crate::error::Error;
use crate::table::Catalog;

/// Tables under the quota: tenants control the size of their records. The other tables have few, small records.
const COUNTED_TABLES: &[&str] = &["function", "namespace", "layer", "domain", "role"];

/// Bytes reserved for a write in progress. Released on drop: after the view contains the write, or after it failed.
pub(crate) struct ByteReservation<'a> {
    catalog: &'a Catalog,
    account: AccountId,
    bytes: u64,
}

impl Catalog {
    /// Returns the size of an account's records (bytes).
    pub fn bytes_of(&self, account: AccountId) -> u64 {
        self.read(|view| view.sizes.of(account))
    }

    /// Reserves quota for a record, so that concurrent writes cannot exceed it together.
    pub(crate) fn reserve_bytes(
        &self,
        key: &str,
        bytes: u64,
    ) -> Result<Option<ByteReservation<'_>>, Error> {
        let quota = self.inner.account_bytes;
        let mut parts = key.split('/');
        let table = parts.next().unwrap_or_default();
        let account = parts.next().and_then(|id| id.parse().ok());
        let counted = COUNTED_TABLES.contains(&table);
        let Some(account) = account.map(AccountId).filter(|_| counted) else {
            return Ok(None);
        };
        if quota == 0 {
            return Ok(None);
        }
        let reserved = &self.inner.reserved_bytes;
        let mut reserved = reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, old) = self.read(|view| {
            let old = view.sizes.record(key);
            (view.sizes.of(account), old.unwrap_or(0))
        });
        let more = bytes.saturating_sub(old);
        if more == 0 {
            return Ok(None);
        }
        let pending = reserved.entry(account).or_default();
        if used.saturating_add(*pending).saturating_add(more) > quota {
            return Err(Error::Bytes { used, more, quota });
        }
        *pending += more;
        Ok(Some(ByteReservation {
            catalog: self,
            account,
            bytes: more,
        }))
    }
}

impl Drop for ByteReservation<'_> {
    fn drop(&mut self) {
        let reserved = &self.catalog.inner.reserved_bytes;
        let mut reserved = reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pending) = reserved.get_mut(&self.account) {
            *pending = pending.saturating_sub(self.bytes);
            if *pending == 0 {
                reserved.remove(&self.account);
            }
        }
    }
}
