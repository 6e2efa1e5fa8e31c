//! Deletion of objects and versions.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::record::{self, Bucket, Object, Versioning};
use super::writer::Txn;
use super::{ChangeOrigin, Put, Store};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};
use crate::notice::ChangeKind;

/// Preconditions of a deletion. Deleting an object that does not exist succeeds regardless.
#[derive(Clone, Debug, Default)]
pub struct DeleteConditions {
    /// ETag that it must have; `*` matches any.
    pub if_match: Option<String>,
    /// Time at which it must have been written (s since 1970).
    pub modified: Option<i64>,
    /// Size that it must have.
    pub size: Option<i64>,
}

impl DeleteConditions {
    fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.modified.is_none() && self.size.is_none()
    }

    fn check(&self, object: &Object) -> Result<(), StoreError> {
        let failed = |name| Err(StoreError::PreconditionFailed(name));
        let modified = (object.modified_ms / 1000) as i64;
        match self {
            Self {
                if_match: Some(tag),
                ..
            } if tag != "*" && *tag != object.etag => failed("If-Match"),
            Self {
                modified: Some(at), ..
            } if *at != modified => failed("If-Match-Last-Modified-Time"),
            Self {
                size: Some(size), ..
            } if *size != object.size as i64 => failed("If-Match-Size"),
            _ => Ok(()),
        }
    }
}

/// Result of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Deleted version, or the new delete marker.
    pub version: Option<VersionId>,
    /// Whether that is a delete marker.
    pub marker: bool,
}

/// An object, or one version of it, to be deleted.
#[derive(Clone, Debug)]
pub struct DeleteTarget {
    /// Key.
    pub key: ObjectKey,
    /// Version; `None` for the current one.
    pub version: Option<VersionId>,
    /// Preconditions.
    pub when: DeleteConditions,
}

impl Store {
    /// Deletes an object or a version, according to the bucket's versioning. It succeeds if the object does not exist.
    ///
    /// # Errors
    /// The bucket does not exist.
    pub async fn delete(
        &self,
        bucket: &BucketName,
        removed: DeleteTarget,
        origin: ChangeOrigin,
    ) -> Result<Deleted, StoreError> {
        let bucket = bucket.clone();
        self.write_removal(move |txn| {
            let (id, bucket) = txn.bucket(&bucket)?;
            txn.delete(id, &bucket, &removed, &origin)
        })
        .await
    }
}

impl Txn<'_> {
    pub(super) fn delete(
        &mut self,
        bucket: i64,
        of: &Arc<Bucket>,
        removed: &DeleteTarget,
        origin: &ChangeOrigin,
    ) -> Result<Deleted, StoreError> {
        let key = &removed.key;
        if !removed.when.is_empty() {
            let (found, version) = match removed.version {
                Some(version) => (self.any_version(bucket, key, version)?, Some(version)),
                // The condition may be meant for the version behind the delete marker.
                None => match self.current(bucket, key)? {
                    Some(object) => (Some(object), None),
                    None => (self.newest(bucket, key)?, None),
                },
            };
            let Some(object) = found else {
                return Ok(Deleted {
                    version,
                    marker: false,
                });
            };
            removed.when.check(&object)?;
        }
        if let Some(version) = removed.version {
            return self.delete_version(bucket, of, key, version, origin);
        }
        let displaced = self.displace_current(bucket, of, key)?;
        if of.versioning == Versioning::Off {
            if let Some(object) = displaced {
                self.add_notices(ChangeKind::Delete, of, key, &object, origin)?;
            }
            return Ok(Deleted::default());
        }
        let mut marker = self.object(Put::default());
        marker.named = of.versioning == Versioning::Enabled;
        self.insert_version(bucket, key, &marker, true)?;
        self.add_notices(ChangeKind::DeleteMarkerCreated, of, key, &marker, origin)?;
        Ok(Deleted {
            version: Some(marker.version()),
            marker: true,
        })
    }

    /// Returns the newest entry of a key without a current version: a delete marker, if any.
    fn newest(&self, bucket: i64, key: &ObjectKey) -> Result<Option<Object>, StoreError> {
        let row = self
            .sql
            .prepare_cached(
                "SELECT record FROM version WHERE bucket = ? AND key = ? ORDER BY seq DESC LIMIT 1",
            )?
            .query_row(params![bucket, key.as_str().as_bytes()], |row| {
                row.get::<_, Vec<u8>>(0)
            })
            .optional()?;
        row.map(|row| record::decode(&row)).transpose()
    }

    /// Returns a version, current or not, or a delete marker.
    fn any_version(
        &self,
        bucket: i64,
        key: &ObjectKey,
        version: VersionId,
    ) -> Result<Option<Object>, StoreError> {
        let current = self.current(bucket, key)?;
        match current.filter(|now| now.version() == version) {
            Some(object) => Ok(Some(object)),
            None => {
                let found = super::read::version(self.sql, bucket, key, version)?;
                Ok(found.map(|(object, _)| object))
            }
        }
    }

    fn delete_version(
        &mut self,
        bucket: i64,
        of: &Bucket,
        key: &ObjectKey,
        version: VersionId,
        origin: &ChangeOrigin,
    ) -> Result<Deleted, StoreError> {
        let bytes = key.as_str().as_bytes();
        let current = self.current(bucket, key)?;
        let (object, marker) = match current.filter(|now| now.version() == version) {
            Some(object) => {
                self.sql
                    .prepare_cached("DELETE FROM object WHERE bucket = ? AND key = ?")?
                    .execute(params![bucket, bytes])?;
                self.discard(&object)?;
                (object, false)
            }
            None => match super::read::version(self.sql, bucket, key, version)? {
                Some((object, marker)) => {
                    self.remove_version(bucket, key, &object)?;
                    (object, marker)
                }
                None => {
                    return Ok(Deleted {
                        version: Some(version),
                        marker: false,
                    });
                }
            },
        };
        self.promote_newest_version(bucket, key)?;
        self.add_notices(ChangeKind::Delete, of, key, &object, origin)?;
        Ok(Deleted {
            version: Some(version),
            marker,
        })
    }

    /// Makes the newest remaining version current, unless it is a delete marker.
    fn promote_newest_version(&mut self, bucket: i64, key: &ObjectKey) -> Result<(), StoreError> {
        let bytes = key.as_str().as_bytes();
        if self.current(bucket, key)?.is_some() {
            return Ok(());
        }
        let newest = self
            .sql
            .prepare_cached("SELECT seq, marker, record FROM version WHERE bucket = ? AND key = ? ORDER BY seq DESC LIMIT 1")?
            .query_row(params![bucket, bytes], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, row.get::<_, Vec<u8>>(2)?))
            })
            .optional()?;
        let Some((seq, false, record)) = newest else {
            return Ok(());
        };
        self.sql
            .prepare_cached("DELETE FROM version WHERE bucket = ? AND key = ? AND seq = ?")?
            .execute(params![bucket, bytes, seq])?;
        self.sql
            .prepare_cached("INSERT INTO object (bucket, key, record) VALUES (?, ?, ?)")?
            .execute(params![bucket, bytes, record])?;
        Ok(())
    }
}
