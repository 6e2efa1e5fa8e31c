//! A copy of the index's small data in memory, as of the last commit.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::Connection;
use tokio::sync::{Notify, watch};

use super::record::{self, Bucket};
use crate::error::StoreError;
use crate::names::BucketName;

type BucketMap = HashMap<BucketName, (i64, Arc<Bucket>)>;

/// In-memory copy of index data, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    pub(super) buckets: RwLock<BucketMap>,
    /// Closed accounts, whose buckets are hidden.
    pub(super) closed: RwLock<HashSet<u64>>,
    /// Bytes in use in the index file.
    pub(super) index_bytes: AtomicU64,
    pub(super) notices: AtomicU64,
    /// Signals a new notice.
    pub(super) notices_changed: watch::Sender<()>,
    /// Signals orphaned lists of pieces, or that one lost its last reader.
    pub(super) orphaned: Notify,
    /// Signals the start of a restore from an archive.
    pub(super) restoring: Notify,
}

impl IndexCache {
    /// Loads the cache from the index. Returns the first unused number.
    pub(super) fn load(&self, sql: &Connection) -> Result<u64, StoreError> {
        let mut all = sql.prepare("SELECT id, record FROM bucket")?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let (id, record) = row?;
            let bucket: Bucket = record::decode(&record)?;
            buckets.insert(bucket.name.clone(), (id, Arc::new(bucket)));
        }
        self.index_bytes.store(index_bytes(sql)?, Ordering::Relaxed);
        let ceiling = sql.query_row("SELECT ceiling FROM counter", [], |row| {
            row.get::<_, i64>(0)
        })?;
        Ok(ceiling as u64)
    }

    pub(super) fn bucket(&self, name: &BucketName) -> Option<(i64, Arc<Bucket>)> {
        if self.is_closed(name.app_id()) {
            return None;
        }
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned()
    }

    /// Returns whether an account is closed and its buckets are hidden.
    pub(super) fn is_closed(&self, app_id: u64) -> bool {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        !closed.is_empty() && closed.contains(&app_id)
    }
}

/// Returns the bytes in use in the index file.
pub(super) fn index_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |sql: &str| {
        connection
            .prepare_cached(sql)?
            .query_row([], |row| row.get::<_, i64>(0))
    };
    let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
    Ok(pages as u64 * number("PRAGMA page_size")? as u64)
}
