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
const AGAIN: Duration = Duration::from_secs(5);

/// A list that stays while somebody reads what it names.
#[derive(Debug)]
pub(super) struct Kept {
    blobs: Arc<Blobs>,
    table: u64,
}

impl Kept {
    /// To be made within `Blobs::look`.
    pub(super) fn new(blobs: Arc<Blobs>, table: u64) -> Self {
        blobs.keep(table);
        Self { blobs, table }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.blobs.let_go(self.table);
    }
}

impl Store {
    /// Removes lists that were left.
    pub(super) fn spawn_remover(&self) {
        tokio::spawn(remover(Arc::downgrade(&self.inner)));
    }

    /// Removes those that nobody reads. Returns whether there may be more of them.
    async fn remove_left(&self) -> Result<bool, StoreError> {
        let blobs = self.inner.blobs.clone();
        let left = self.inner.readers.read(move |sql| {
            let mut unread = blobs.unread(left(sql)?);
            unread.truncate(AT_ONCE);
            Ok(unread)
        });
        let left = left.await?;
        if left.is_empty() {
            return Ok(false);
        }
        self.write_less(move |txn| left.into_iter().try_for_each(|table| txn.remove(table)))
            .await?;
        Ok(true)
    }
}

async fn remover(store: Weak<Inner>) {
    loop {
        let Some(inner) = store.upgrade() else {
            return;
        };
        let memory = inner.memory.clone();
        let mut ended = inner.ended.clone();
        let store = Store { inner };
        let again = match store.remove_left().await {
            Ok(true) => continue,
            Ok(false) => None,
            Err(_) if *ended.borrow() => return,
            Err(error) => {
                warn!(%error, "the pieces of removed objects stay for a while");
                Some(AGAIN)
            }
        };
        drop(store);
        if !super::goes_on(again, &memory.left, &mut ended).await {
            return;
        }
    }
}

fn left(sql: &Connection) -> Result<Vec<u64>, StoreError> {
    let mut query = sql.prepare_cached("SELECT object FROM leaving ORDER BY object")?;
    let rows = query.query_map([], |row| row.get::<_, i64>(0))?;
    rows.map(|row| Ok(row? as u64)).collect()
}

impl Txn<'_> {
    /// Leaves a list of pieces, which no object has from now on.
    pub(super) fn leave(&mut self, table: u64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT INTO leaving (object) VALUES (?)")?
            .execute([table as i64])?;
        self.effect(Effect::Left);
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
