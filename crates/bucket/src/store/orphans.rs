//! Lists of pieces that no object references any more.
//!
//! A long object may consist of many rows of the index, which are read one by one. The rows stay until their last
//! reader has finished. Lists that a crash left behind are removed after the next start.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::{Connection, params};
use tracing::warn;

use super::writer::{Effect, Txn};
use super::{Inner, Store, read};
use crate::error::StoreError;

/// Lists removed per commit.
const BATCH: usize = 64;
/// Delay before a failed removal is retried.
const RETRY_DELAY: Duration = Duration::from_secs(5);

impl Store {
    /// Starts the background removal of orphaned lists.
    pub(super) fn spawn_orphan_remover(&self) {
        tokio::spawn(orphan_remover(Arc::downgrade(&self.inner)));
    }

    /// Removes orphaned lists without readers. Returns whether there may be more.
    async fn remove_orphans(&self) -> Result<bool, StoreError> {
        let blobs = self.inner.blobs.clone();
        let orphaned = self.inner.readers.read(move |sql| {
            let mut unpinned = blobs.unpinned(orphaned(sql)?);
            unpinned.truncate(BATCH);
            Ok(unpinned)
        });
        let orphaned = orphaned.await?;
        if orphaned.is_empty() {
            return Ok(false);
        }
        self.write_removal(move |txn| orphaned.into_iter().try_for_each(|table| txn.remove(table)))
            .await?;
        Ok(true)
    }
}

async fn orphan_remover(store: Weak<Inner>) {
    loop {
        let Some(inner) = store.upgrade() else {
            return;
        };
        let cache = inner.cache.clone();
        let mut ended = inner.ended.clone();
        let store = Store { inner };
        let again = match store.remove_orphans().await {
            Ok(true) => continue,
            Ok(false) => None,
            Err(_) if *ended.borrow() => return,
            Err(error) => {
                warn!(%error, "failed to remove the pieces of deleted objects; retrying");
                Some(RETRY_DELAY)
            }
        };
        drop(store);
        if !super::wait_for_work(again, &cache.orphaned, &mut ended).await {
            return;
        }
    }
}

fn orphaned(sql: &Connection) -> Result<Vec<u64>, StoreError> {
    let mut query = sql.prepare_cached("SELECT object FROM orphan ORDER BY object")?;
    let rows = query.query_map([], |row| row.get::<_, i64>(0))?;
    rows.map(|row| Ok(row? as u64)).collect()
}

impl Txn<'_> {
    /// Marks a list of pieces as orphaned.
    pub(super) fn orphan(&mut self, table: u64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT INTO orphan (object) VALUES (?)")?
            .execute([table as i64])?;
        self.effect(Effect::Orphaned);
        Ok(())
    }

    /// Removes a list with its pieces.
    fn remove(&mut self, table: u64) -> Result<(), StoreError> {
        let pieces = read::table(self.sql, table, 0, u64::MAX)?;
        self.discard_pieces(&pieces)?;
        for rows in [
            "DELETE FROM piece WHERE object = ?",
            "DELETE FROM orphan WHERE object = ?",
        ] {
            self.sql
                .prepare_cached(rows)?
                .execute(params![table as i64])?;
        }
        Ok(())
    }
}
