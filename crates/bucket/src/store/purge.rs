//! Deletion of an account's buckets after the account was deleted.
//!
//! A closed account's buckets are hidden at once, from reads and from writes in progress. They are then emptied in
//! small batches, so that other writes wait for one batch at most and a crash loses one at most. These changes cause
//! no notices.

use std::sync::PoisonError;

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::record::{self, Object};
use super::writer::Txn;
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey};

/// Objects, versions and uploads deleted per commit.
const BATCH: i64 = 256;
/// Maximum that is counted per bucket and kind.
const COUNT_LIMIT: i64 = 100_000;

/// Amount of data of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountContents {
    /// Number of buckets.
    pub buckets: u64,
    /// Number of objects, older versions and uploads. A lower bound if a bucket has more than 100,000.
    pub objects: u64,
}

impl Store {
    /// Hides an account's buckets and refuses new ones, until the process ends.
    pub fn close_account(&self, app_id: u64) {
        let closed = &self.inner.cache.closed;
        closed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(app_id);
    }

    /// Counts an account's data, closed or not.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn belongings(&self, app_id: u64) -> Result<AccountContents, StoreError> {
        self.inner
            .readers
            .read(move |sql| {
                let buckets = buckets(sql, app_id)?;
                let mut objects = 0;
                for (bucket, _) in &buckets {
                    for table in ["object", "version", "upload"] {
                        let query = format!(
                            "SELECT COUNT(*) FROM (SELECT 1 FROM {table} WHERE bucket = ? LIMIT {COUNT_LIMIT})"
                        );
                        let mut count = sql.prepare_cached(&query)?;
                        objects += count.query_row([bucket], |row| row.get::<_, i64>(0))? as u64;
                    }
                }
                Ok(AccountContents {
                    buckets: buckets.len() as u64,
                    objects,
                })
            })
            .await
    }

    /// Deletes one batch of a closed account's data. Returns its size, 0 once nothing is left.
    ///
    /// # Errors
    /// The index cannot be written.
    pub async fn purge_some(&self, app_id: u64) -> Result<u64, StoreError> {
        self.write_removal(move |txn| txn.purge_some(app_id)).await
    }
}

/// Returns an account's buckets with their row ids.
fn buckets(sql: &Connection, app_id: u64) -> Result<Vec<(i64, BucketName)>, StoreError> {
    let suffix = format!("-{app_id}");
    let mut query =
        sql.prepare_cached("SELECT id, name FROM bucket WHERE substr(name, -length(?1)) = ?1")?;
    let rows = query.query_map([&suffix], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let named = rows.into_iter().map(|(id, name)| {
        let name = BucketName::parse(&name);
        let name = name.map_err(|e| StoreError::Unavailable(format!("a bucket's name: {e}")))?;
        Ok((id, name))
    });
    let named: Vec<_> = named.collect::<Result<_, StoreError>>()?;
    Ok(named
        .into_iter()
        .filter(|(_, name)| name.app_id() == app_id)
        .collect())
}

impl Txn<'_> {
    fn purge_some(&mut self, app_id: u64) -> Result<u64, StoreError> {
        let Some((bucket, name)) = buckets(self.sql, app_id)?.into_iter().next() else {
            return Ok(0);
        };
        let objects = self.purge_rows(
            bucket,
            "DELETE FROM object WHERE (bucket, key) IN
             (SELECT bucket, key FROM object WHERE bucket = ? LIMIT ?) RETURNING record",
        )?;
        let versions = self.purge_rows(
            bucket,
            "DELETE FROM version WHERE (bucket, key, seq) IN
             (SELECT bucket, key, seq FROM version WHERE bucket = ? LIMIT ?) RETURNING record",
        )?;
        let mut removed = objects + versions;
        while removed < BATCH as u64
            && let Some((key, id)) = self.first_upload(bucket)?
        {
            self.drop_upload(bucket, &key, &id)?;
            removed += 1;
        }
        if removed > 0 {
            return Ok(removed);
        }
        for table in ["completed", "restoring"] {
            self.sql
                .prepare_cached(&format!("DELETE FROM {table} WHERE bucket = ?"))?
                .execute([bucket])?;
        }
        self.sql
            .prepare_cached("DELETE FROM bucket WHERE id = ?")?
            .execute([bucket])?;
        self.set_bucket(name, None);
        Ok(1)
    }

    fn purge_rows(&mut self, bucket: i64, delete: &str) -> Result<u64, StoreError> {
        let mut delete = self.sql.prepare_cached(delete)?;
        let rows = delete.query_map(params![bucket, BATCH], |row| row.get::<_, Vec<u8>>(0))?;
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        for row in &rows {
            self.discard(&record::decode::<Object>(row)?)?;
        }
        Ok(rows.len() as u64)
    }

    fn first_upload(&self, bucket: i64) -> Result<Option<(ObjectKey, String)>, StoreError> {
        let mut find = self
            .sql
            .prepare_cached("SELECT key, id FROM upload WHERE bucket = ? LIMIT 1")?;
        let found = find.query_row([bucket], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?))
        });
        let Some((key, id)) = found.optional()? else {
            return Ok(None);
        };
        let strange = || StoreError::Unavailable("a key in the index is not text".into());
        let key = String::from_utf8(key).map_err(|_| strange())?;
        Ok(Some((ObjectKey::parse(&key)?, id)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::stream;

    use super::super::{Acl, ChangeOrigin, Put, Settings, UploadSpec};
    use super::*;
    use crate::notice::{Change, ChangeKind, ChangeObserver, Notice};

    #[derive(Debug)]
    struct NoObserver;

    impl ChangeObserver for NoObserver {
        fn notices_of(&self, _: &Change) -> Vec<Notice> {
            Vec::new()
        }
    }

    async fn put(store: &Store, bucket: &BucketName, key: &str, bytes: usize) {
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![7; bytes]))]);
        let staged = store.stage(body, &[]).await.expect("staged");
        let key = ObjectKey::parse(key).expect("a key");
        let written = store
            .put(
                bucket,
                &key,
                staged,
                Put::default(),
                ChangeKind::Put,
                ChangeOrigin::default(),
            )
            .await;
        written.expect("written");
    }

    #[tokio::test]
    async fn closed_account_buckets_are_hidden_then_purged() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Store::open(directory.path(), Settings::default(), Arc::new(NoObserver));
        let store = open().expect("a store");
        let bucket = |name: &str| BucketName::parse(name).expect("a name");
        let (its, others) = (bucket("its-17"), bucket("its-7"));
        for name in [&its, &others] {
            let made = store.create_bucket(name, Acl::PublicRead, Vec::new()).await;
            made.expect("a bucket");
            store.set_versioning(name, true).await.expect("set");
            for key in 0..300 {
                put(&store, name, &format!("k{key}"), 10).await;
            }
            put(&store, name, "k0", 2 << 20).await;
            let key = ObjectKey::parse("upload").expect("a key");
            let begun = store.begin_upload(name, &key, UploadSpec::default()).await;
            begun.expect("an upload");
        }
        let has = |buckets, objects| AccountContents { buckets, objects };
        assert_eq!(store.belongings(17).await, Ok(has(1, 302)));
        store.close_account(17);
        let gone = Err(StoreError::NoSuchBucket(its.clone()));
        assert_eq!(store.bucket(&its).map(drop), gone);
        let again = store
            .create_bucket(&bucket("more-17"), Acl::Private, Vec::new())
            .await;
        assert!(again.is_err(), "{again:?}");
        assert!(store.purge_some(17).await.expect("purged") > 0);
        store.close().await;
        // The purge continues after a restart.
        let store = open().expect("a store");
        store.close_account(17);
        while store.purge_some(17).await.expect("purged") > 0 {}
        assert_eq!(store.belongings(17).await, Ok(has(0, 0)));
        assert_eq!(store.belongings(7).await, Ok(has(1, 302)));
        let rows = store.inner.readers.read(|sql| {
            Ok(sql.query_row(
                "SELECT (SELECT COUNT(*) FROM inline) + (SELECT COUNT(*) FROM blob)",
                [],
                |row| row.get::<_, i64>(0),
            )?)
        });
        assert_eq!(rows.await, Ok(301), "the bytes went with them");
    }
}
