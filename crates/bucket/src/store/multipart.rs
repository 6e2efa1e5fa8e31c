//! Multipart uploads. The parts become the object without copying bytes.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::record::{self, Acl, Checksums, Meta, Object, Piece, StorageClass, Tags};
use super::stage::{ChecksumKind, Staged};
use super::writer::Txn;
use super::{Put, PutConditions, Store, objects, read};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey};

/// Minimum size of a part other than the last. This is COS's limit; S3's is 5 MB.
pub(super) const PART_MIN: u64 = 1 << 20;
/// Maximum part number.
const PART_NUMBER: u32 = 10_000;
/// Properties of a new upload.
#[derive(Clone, Debug, Default)]
pub struct UploadSpec {
    /// Properties of the object.
    pub put: Put,
    /// Checksum algorithm of the parts.
    pub checksum: Option<ChecksumKind>,
    /// Whether the object's checksum covers its bytes instead of its parts' checksums.
    pub full_object: bool,
    /// AppId of the caller who starts it; `None` for anonymous requests.
    pub by: Option<u64>,
}

/// An incomplete upload.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Upload id.
    pub id: String,
    /// Object key.
    pub key: ObjectKey,
    /// Start time (ms since 1970).
    pub begun_ms: u64,
    /// Storage class of the object.
    pub class: StorageClass,
    /// Checksum algorithm of the parts.
    pub checksum: Option<ChecksumKind>,
    /// Whether the object's checksum covers its bytes.
    pub full_object: bool,
    /// AppId of the caller who started it, if known.
    pub by: Option<u64>,
}

/// A part of a completed multipart object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Part number.
    pub number: u32,
    /// Size in bytes.
    pub size: u64,
    /// Checksums, if stored.
    pub sums: Checksums,
}

/// A received part of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Part number.
    pub number: u32,
    /// Size in bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// CRC-64/XZ.
    pub crc64: u64,
    /// Checksums.
    #[serde(default, skip_serializing_if = "Checksums::is_empty")]
    pub sums: Checksums,
    /// Time of the upload (ms since 1970).
    pub modified_ms: u64,
    pub(super) pieces: Vec<Piece>,
}

/// A page of parts.
#[derive(Clone, Debug)]
pub struct PartPage {
    /// The upload.
    pub upload: Upload,
    /// Its parts.
    pub parts: Vec<Part>,
    /// Whether more parts follow.
    pub more: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct UploadRow {
    pub(super) begun_ms: u64,
    pub(super) meta: Meta,
    #[serde(default)]
    pub(super) tags: Tags,
    pub(super) acl: Option<Acl>,
    #[serde(default)]
    pub(super) class: StorageClass,
    pub(super) checksum: Option<ChecksumKind>,
    #[serde(default)]
    pub(super) full_object: bool,
    /// Preconditions from the start of the upload.
    #[serde(default)]
    pub(super) when: PutConditions,
    #[serde(default)]
    pub(super) by: Option<u64>,
}

impl UploadRow {
    pub(super) fn shown(&self, key: ObjectKey, id: String) -> Upload {
        Upload {
            id,
            key,
            begun_ms: self.begun_ms,
            class: self.class,
            checksum: self.checksum,
            full_object: self.full_object,
            by: self.by,
        }
    }
}

impl Store {
    /// Starts an upload.
    ///
    /// # Errors
    /// The bucket has too many uploads, or a property is invalid.
    pub async fn begin_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        spec: UploadSpec,
    ) -> Result<Upload, StoreError> {
        objects::check(&spec.put)?;
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|e| StoreError::Unavailable(format!("draw a random name: {e}")))?;
        let id = hex::encode(random);
        let (bucket, key) = (bucket.clone(), key.clone());
        self.write(move |txn| txn.begin_upload(&bucket, key, id, spec))
            .await
    }

    /// Returns an incomplete upload.
    ///
    /// # Errors
    /// It does not exist.
    pub async fn upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
    ) -> Result<Upload, StoreError> {
        let (bucket, _) = self.bucket_id(bucket)?;
        let (key, id) = (key.clone(), id.to_owned());
        let read = move |sql: &Connection| {
            let row = upload_row(sql, bucket, &key, &id)?;
            Ok(row.shown(key, id))
        };
        self.inner.readers.read(read).await
    }

    /// Adds staged bytes as a part, and replaces a part of the same number.
    ///
    /// # Errors
    /// The upload does not exist, or the part number is invalid.
    pub async fn put_part(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
        number: u32,
        staged: Staged,
    ) -> Result<Part, StoreError> {
        check_number(number)?;
        let (bucket, key, id) = (bucket.clone(), key.clone(), id.to_owned());
        self.write(move |txn| {
            let (bucket, _) = txn.bucket(&bucket)?;
            upload_row(txn.sql, bucket, &key, &id)?;
            let part = Part {
                number,
                size: staged.length,
                etag: staged.etag(),
                crc64: staged.crc64,
                sums: staged.sums.clone(),
                modified_ms: txn.now_ms,
                pieces: txn.store_staged(staged)?.into_iter().collect(),
            };
            txn.insert_part(&id, &part)?;
            Ok(part)
        })
        .await
    }

    /// Lists the parts of an upload with numbers above `after`.
    ///
    /// # Errors
    /// The upload does not exist.
    pub async fn parts(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
        after: u32,
        limit: usize,
    ) -> Result<PartPage, StoreError> {
        let (bucket, _) = self.bucket_id(bucket)?;
        let (key, id) = (key.clone(), id.to_owned());
        let read = move |sql: &Connection| {
            let row = upload_row(sql, bucket, &key, &id)?;
            let limit = limit.min(1000);
            let mut query = sql.prepare_cached(
                "SELECT record FROM part WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",
            )?;
            let rows = query.query_map(params![id, after, limit as i64 + 1], |row| {
                row.get::<_, Vec<u8>>(0)
            })?;
            let mut parts: Vec<Part> = rows
                .map(|row| record::decode(&row?))
                .collect::<Result<_, StoreError>>()?;
            let more = parts.len() > limit;
            parts.truncate(limit);
            Ok(PartPage {
                upload: row.shown(key, id),
                parts,
                more,
            })
        };
        self.inner.readers.read(read).await
    }

    /// Returns the parts of a multipart object, without empty ones.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn object_parts(&self, object: &Object) -> Result<Vec<StoredPart>, StoreError> {
        let object = object.clone();
        let read = move |sql: &Connection| {
            let pieces = read::pieces_in(sql, &object, &(0..object.size))?;
            let mut parts: Vec<StoredPart> = Vec::new();
            for piece in pieces {
                match parts.last_mut().filter(|last| last.number == piece.part) {
                    Some(last) => last.size += piece.length,
                    None => parts.push(StoredPart {
                        number: piece.part,
                        size: piece.length,
                        sums: piece.sums.map(|sums| *sums).unwrap_or_default(),
                    }),
                }
            }
            Ok(parts)
        };
        self.inner.readers.read(read).await
    }

    /// Aborts an upload and deletes its parts.
    ///
    /// # Errors
    /// The upload does not exist.
    pub async fn abort_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
    ) -> Result<(), StoreError> {
        let (bucket, key, id) = (bucket.clone(), key.clone(), id.to_owned());
        self.write_removal(move |txn| {
            let (bucket, _) = txn.bucket(&bucket)?;
            upload_row(txn.sql, bucket, &key, &id)?;
            txn.drop_upload(bucket, &key, &id)
        })
        .await
    }
}

pub(super) fn check_number(number: u32) -> Result<(), StoreError> {
    if (1..=PART_NUMBER).contains(&number) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "part number {number} cannot be; parts have numbers from 1 to {PART_NUMBER}"
    )))
}

pub(super) fn upload_row(
    sql: &Connection,
    bucket: i64,
    key: &ObjectKey,
    id: &str,
) -> Result<UploadRow, StoreError> {
    let row = sql
        .prepare_cached("SELECT record FROM upload WHERE bucket = ? AND key = ? AND id = ?")?
        .query_row(params![bucket, key.as_str().as_bytes(), id], |row| {
            row.get::<_, Vec<u8>>(0)
        })
        .optional()?;
    let row = row.ok_or_else(|| StoreError::NoSuchUpload(id.to_owned()))?;
    record::decode(&row)
}

impl Txn<'_> {
    fn begin_upload(
        &mut self,
        bucket: &BucketName,
        key: ObjectKey,
        id: String,
        spec: UploadSpec,
    ) -> Result<Upload, StoreError> {
        let (bucket, _) = self.bucket(bucket)?;
        self.check_put(bucket, &key, &spec.put.when)?;
        let most = self.settings.uploads_per_bucket;
        let count: i64 = self
            .sql
            .prepare_cached("SELECT COUNT(*) FROM (SELECT 1 FROM upload WHERE bucket = ? LIMIT ?)")?
            .query_row(params![bucket, most as i64], |row| row.get(0))?;
        if count as u64 >= most {
            return Err(StoreError::TooManyUploads(most));
        }
        let row = UploadRow {
            begun_ms: self.now_ms,
            meta: spec.put.meta,
            tags: spec.put.tags,
            acl: spec.put.acl,
            class: spec.put.class,
            checksum: spec.checksum,
            full_object: spec.full_object,
            when: spec.put.when,
            by: spec.by,
        };
        self.sql
            .prepare_cached("INSERT INTO upload (bucket, key, id, record) VALUES (?, ?, ?, ?)")?
            .execute(params![
                bucket,
                key.as_str().as_bytes(),
                id,
                record::encode(&row)?
            ])?;
        Ok(row.shown(key, id))
    }

    pub(super) fn insert_part(&mut self, id: &str, part: &Part) -> Result<(), StoreError> {
        let old = self
            .sql
            .prepare_cached("SELECT record FROM part WHERE upload = ? AND number = ?")?
            .query_row(params![id, part.number], |row| row.get::<_, Vec<u8>>(0))
            .optional()?;
        if let Some(old) = old {
            let old: Part = record::decode(&old)?;
            self.discard_pieces(&old.pieces)?;
        }
        self.sql
            .prepare_cached(
                "INSERT OR REPLACE INTO part (upload, number, record) VALUES (?, ?, ?)",
            )?
            .execute(params![id, part.number, record::encode(part)?])?;
        Ok(())
    }

    /// Aborts all uploads of a bucket.
    pub(super) fn abort_uploads(&mut self, bucket: i64) -> Result<(), StoreError> {
        let uploads: Vec<(Vec<u8>, String)> = self
            .sql
            .prepare_cached("SELECT key, id FROM upload WHERE bucket = ?")?
            .query_map([bucket], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (key, id) in uploads {
            let key = String::from_utf8_lossy(&key);
            for part in self.take_upload(bucket, &ObjectKey::parse(&key)?, &id)? {
                self.discard_pieces(&part.pieces)?;
            }
        }
        Ok(())
    }

    /// Removes an upload with its parts and their bytes.
    pub(super) fn drop_upload(
        &mut self,
        bucket: i64,
        key: &ObjectKey,
        id: &str,
    ) -> Result<(), StoreError> {
        for part in self.take_upload(bucket, key, id)? {
            self.discard_pieces(&part.pieces)?;
        }
        Ok(())
    }

    pub(super) fn take_upload(
        &mut self,
        bucket: i64,
        key: &ObjectKey,
        id: &str,
    ) -> Result<Vec<Part>, StoreError> {
        let parts: Vec<Part> = {
            let mut query = self
                .sql
                .prepare_cached("SELECT record FROM part WHERE upload = ? ORDER BY number")?;
            let rows = query.query_map([id], |row| row.get::<_, Vec<u8>>(0))?;
            rows.map(|row| record::decode(&row?))
                .collect::<Result<_, StoreError>>()?
        };
        self.sql
            .prepare_cached("DELETE FROM part WHERE upload = ?")?
            .execute([id])?;
        self.sql
            .prepare_cached("DELETE FROM upload WHERE bucket = ? AND key = ? AND id = ?")?
            .execute(params![bucket, key.as_str().as_bytes(), id])?;
        Ok(parts)
    }
}
