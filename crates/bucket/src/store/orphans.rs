//! Lists of pieces that no object has any more.
//!
//! A long object may be made of many rows of the index, which are read one by one. So they stay until nobody reads them, and
//! what a crash leaves of them goes after the next start.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::{Connection, params};
use tracing::warn;

use super::blobs::Blobs;
use super::writer::{Effect, Txn};
use super::{Inner, Store, read};
use crate::error::StoreError;

/// Lists that are removed with one commit.
const AT_ONCE: usize = 64;
/// How long a removal that failed waits before it is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// A list that stays while somebody reads what it names.
#[derive(Debug)]
pub(super) struct PieceListPin {
    blobs: Arc<Blobs>,
    table: u64,
}

impl PieceListPin {
    /// To be made within `Blobs::look`.
    pub(super) fn new(blobs: Arc<Blobs>, table: u64) -> Self {
        blobs.pin_list(table);
        Self { blobs, table }
    }
}

impl Drop for PieceListPin {
    fn drop(&mut self) {
        self.blobs.unpin_list(self.table);
    }
}

impl Store {
    /// Removes lists that were left.
    pub(super) fn spawn_orphan_remover(&self) {
        tokio::spawn(orphan_remover(Arc::downgrade(&self.inner)));
    }

    /// Removes those that nobody reads. Returns whether there may be more of them.
    async fn remove_orphans(&self) -> Result<bool, StoreError> {
        let blobs = self.inner.blobs.clone();
        let orphaned = self.inner.readers.read(move |sql| {
            let mut unpinned = blobs.unpinned(orphaned(sql)?);
            unpinned.truncate(AT_ONCE);
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
                warn!(%error, "the pieces of removed objects stay for a while");
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
    let mut query = sql.prepare_cached("SELECT object FROM leaving ORDER BY object")?;
    let rows = query.query_map([], |row| row.get::<_, i64>(0))?;
    rows.map(|row| Ok(row? as u64)).collect()
}

impl Txn<'_> {
    /// Leaves a list of pieces, which no object has from now on.
    pub(super) fn orphan(&mut self, table: u64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT INTO leaving (object) VALUES (?)")?
            .execute([table as i64])?;
        self.effect(Effect::Orphaned);
        Ok(())
    }

    /// Removes a list, and the pieces that it names.
    fn remove(&mut self, table: u64) -> Result<(), StoreError> {
        let pieces = read::table(self.sql, table, 0, u64::MAX)?;
        self.discard_pieces(&pieces)?;
        for rows in [
            "DELETE FROM piece WHERE object = ?",
            "DELETE FROM leaving WHERE object = ?",
        ] {
            self.sql
                .prepare_cached(rows)?
                .execute(params![table as i64])?;
        }
        Ok(())
    }
}
