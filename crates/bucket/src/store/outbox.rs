//! The outbox: change notifications that wait for their receiver.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use rusqlite::params;

use tokio::sync::watch;

use super::Store;
use crate::error::StoreError;
use crate::notice::Notice;

/// The pending notices of a store, in commit order.
#[derive(Clone, Debug)]
pub struct Outbox {
    store: Store,
    seen: watch::Receiver<()>,
}

impl Store {
    /// Returns the store's outbox.
    pub fn outbox(&self) -> Outbox {
        Outbox {
            store: self.clone(),
            seen: self.inner.cache.notices_changed.subscribe(),
        }
    }
}

impl Outbox {
    /// Returns the oldest notices with numbers above `after`, in order. Start with 0. They stay until they are
    /// acknowledged.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn next(&self, after: u64, limit: usize) -> Result<Vec<(u64, Notice)>, StoreError> {
        let next = move |sql: &rusqlite::Connection| {
            let mut query =
                sql.prepare_cached("SELECT number, id, recipient, body FROM outbox WHERE number > ? ORDER BY number LIMIT ?")?;
            let rows = query.query_map(params![after as i64, limit as i64], |row| {
                let notice = Notice {
                    id: row.get(1)?,
                    to: row.get(2)?,
                    body: row.get::<_, Vec<u8>>(3)?.into(),
                };
                Ok((row.get::<_, i64>(0)? as u64, notice))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.store.inner.readers.read(next).await
    }

    /// Acknowledges all notices up to a number.
    ///
    /// # Errors
    /// The index cannot be written; the notices are redelivered.
    pub async fn done(&self, up_to: u64) -> Result<(), StoreError> {
        self.forget(vec![0..=up_to]).await
    }

    /// Acknowledges the notices in ranges of numbers, ends included.
    ///
    /// # Errors
    /// The index cannot be written; the notices are redelivered.
    pub async fn forget(&self, ranges: Vec<RangeInclusive<u64>>) -> Result<(), StoreError> {
        self.store
            .write_removal(move |txn| {
                let mut delete = txn.sql.prepare_cached(
                    "DELETE FROM outbox WHERE number BETWEEN ? AND ? RETURNING account",
                )?;
                let mut gone: HashMap<u64, i64> = HashMap::new();
                for range in &ranges {
                    let range = params![*range.start() as i64, *range.end() as i64];
                    for account in delete.query_map(range, |row| row.get::<_, i64>(0))? {
                        *gone.entry(account? as u64).or_default() += 1;
                    }
                }
                drop(delete);
                for (account, count) in gone {
                    txn.notices_changed(account, -count);
                }
                Ok(())
            })
            .await
    }

    /// Returns the number of pending notices.
    pub fn len(&self) -> u64 {
        self.store
            .inner
            .cache
            .notices
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Returns whether no notice is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for new notices since this was created or last returned. Call `next` afterwards; no notice is missed.
    pub async fn changed(&mut self) {
        // The sender lives as long as the store, which this value keeps alive.
        let _ = self.seen.changed().await;
    }
}
