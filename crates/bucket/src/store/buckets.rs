//! Creation, configuration and deletion of buckets.

use std::sync::{Arc, PoisonError};

use rusqlite::params;

use super::Store;
use super::record::{self, Acl, Bucket, CorsRule, Tags, Versioning};
use super::tags;
use super::writer::Txn;
use crate::error::StoreError;
use crate::names::BucketName;

/// Maximum CORS rules per bucket.
const CORS_RULES: usize = 100;

impl Store {
    /// Creates a bucket.
    ///
    /// # Errors
    /// It exists already, or the account has reached its limit.
    pub async fn create_bucket(
        &self,
        name: &BucketName,
        acl: Acl,
        tags: Tags,
    ) -> Result<Arc<Bucket>, StoreError> {
        tags::check_bucket(&tags)?;
        let name = name.clone();
        self.write(move |txn| txn.create_bucket(name, acl, tags))
            .await
    }

    /// Returns a bucket.
    ///
    /// # Errors
    /// It does not exist.
    pub fn bucket(&self, name: &BucketName) -> Result<Arc<Bucket>, StoreError> {
        Ok(self.bucket_id(name)?.1)
    }

    /// Returns all buckets of an account, sorted by name.
    pub fn buckets(&self, app_id: u64) -> Vec<Arc<Bucket>> {
        let buckets = self
            .inner
            .cache
            .buckets
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let own = buckets.iter().filter(|(name, _)| name.app_id() == app_id);
        let mut own: Vec<_> = own.map(|(_, (_, bucket))| bucket.clone()).collect();
        own.sort_by(|a, b| a.name.cmp(&b.name));
        own
    }

    /// Returns the highest AppId that owns a bucket; 0 if there is none.
    pub fn highest_account(&self) -> u64 {
        let buckets = self
            .inner
            .cache
            .buckets
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        buckets.keys().map(BucketName::app_id).max().unwrap_or(0)
    }

    /// Deletes an empty bucket. With `uploads`, incomplete uploads are deleted, too.
    ///
    /// # Errors
    /// The bucket is not empty.
    pub async fn delete_bucket(&self, name: &BucketName, uploads: bool) -> Result<(), StoreError> {
        let name = name.clone();
        self.write_removal(move |txn| txn.delete_bucket(name, uploads))
            .await
    }

    /// Sets a bucket's ACL.
    ///
    /// # Errors
    /// The bucket does not exist.
    pub async fn set_bucket_acl(&self, name: &BucketName, acl: Acl) -> Result<(), StoreError> {
        self.change_bucket(name, move |bucket| bucket.acl = acl)
            .await
    }

    /// Enables or suspends versioning.
    ///
    /// # Errors
    /// The bucket does not exist.
    pub async fn set_versioning(&self, name: &BucketName, enabled: bool) -> Result<(), StoreError> {
        let versioning = if enabled {
            Versioning::Enabled
        } else {
            Versioning::Suspended
        };
        self.change_bucket(name, move |bucket| bucket.versioning = versioning)
            .await
    }

    /// Sets a bucket's CORS rules. An empty list removes them.
    ///
    /// # Errors
    /// There are too many rules.
    pub async fn set_cors(
        &self,
        name: &BucketName,
        rules: Vec<CorsRule>,
    ) -> Result<(), StoreError> {
        if rules.len() > CORS_RULES {
            let count = rules.len();
            return Err(StoreError::Invalid(format!(
                "there are {count} rules for other origins; a bucket may have {CORS_RULES}"
            )));
        }
        self.change_bucket(name, move |bucket| bucket.cors = rules)
            .await
    }

    /// Sets a bucket's tags. An empty list removes them.
    ///
    /// # Errors
    /// A tag is invalid.
    pub async fn set_bucket_tags(&self, name: &BucketName, tags: Tags) -> Result<(), StoreError> {
        tags::check_bucket(&tags)?;
        self.change_bucket(name, move |bucket| bucket.tags = tags)
            .await
    }

    async fn change_bucket(
        &self,
        name: &BucketName,
        change: impl FnOnce(&mut Bucket) + Send + 'static,
    ) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |txn| {
            let (id, bucket) = txn.bucket(&name)?;
            let mut bucket = Bucket::clone(&bucket);
            change(&mut bucket);
            txn.sql
                .prepare_cached("UPDATE bucket SET record = ? WHERE id = ?")?
                .execute(params![record::encode(&bucket)?, id])?;
            txn.set_bucket(name, Some((id, Arc::new(bucket))));
            Ok(())
        })
        .await
    }
}

impl Txn<'_> {
    fn create_bucket(
        &mut self,
        name: BucketName,
        acl: Acl,
        tags: Tags,
    ) -> Result<Arc<Bucket>, StoreError> {
        if self.cache.is_closed(name.app_id()) {
            return Err(StoreError::NoSuchBucket(name));
        }
        if self.bucket(&name).is_ok() {
            return Err(StoreError::BucketExists(name));
        }
        let suffix = format!("-{}", name.app_id());
        let count: i64 = self
            .sql
            .prepare_cached("SELECT COUNT(*) FROM bucket WHERE substr(name, -length(?1)) = ?1")?
            .query_row([&suffix], |row| row.get(0))?;
        let most = self.settings.buckets_per_account;
        if count as usize >= most {
            return Err(StoreError::TooManyBuckets(most));
        }
        let bucket = Arc::new(Bucket {
            name: name.clone(),
            created_ms: self.now_ms,
            acl,
            versioning: Versioning::default(),
            cors: Vec::new(),
            tags,
        });
        self.sql
            .prepare_cached("INSERT INTO bucket (name, record) VALUES (?, ?)")?
            .execute(params![name.as_str(), record::encode(&*bucket)?])?;
        let id = self.sql.last_insert_rowid();
        self.set_bucket(name, Some((id, bucket.clone())));
        Ok(bucket)
    }

    fn delete_bucket(&mut self, name: BucketName, uploads: bool) -> Result<(), StoreError> {
        let (id, _) = self.bucket(&name)?;
        for table in ["object", "version", "upload"] {
            if uploads && table == "upload" {
                self.abort_uploads(id)?;
            }
            let query = format!("SELECT 1 FROM {table} WHERE bucket = ? LIMIT 1");
            if self.sql.prepare_cached(&query)?.exists([id])? {
                return Err(StoreError::BucketNotEmpty(name));
            }
        }
        self.sql
            .prepare_cached("DELETE FROM bucket WHERE id = ?")?
            .execute([id])?;
        self.set_bucket(name, None);
        Ok(())
    }
}
