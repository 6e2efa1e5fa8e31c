//! Multipart uploads. The parts become the object without copying bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::{Digest, Md5};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;

use super::record::{self, Acl, Checksums, Meta, Object, ObjectKind, Piece, StorageClass, Tags};
use super::stage::{ChecksumKind, Staged};
use super::writer::Txn;
use super::{ChangeOrigin, Put, PutConditions, Store};
use super::{objects, read};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey};
use crate::notice::ChangeKind;

/// Minimum size of a part other than the last. This is COS's limit; S3's is 5 MB.
const PART_MIN: u64 = 1 << 20;
/// Maximum part number.
const PART_NUMBER: u32 = 10_000;
/// How long the result of a completed upload is kept (ms), so that completing it again is idempotent.
const COMPLETED_TTL_MS: u64 = 24 * 3_600_000;

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

/// A part named by a complete request.
#[derive(Clone, Debug, Default)]
pub struct CompletedPart {
    /// Part number.
    pub number: u32,
    /// ETag without quotes.
    pub etag: String,
    /// Checksums, if the request names them.
    pub sums: Checksums,
}

#[derive(Serialize, Deserialize)]
pub(super) struct UploadRow {
    begun_ms: u64,
    meta: Meta,
    #[serde(default)]
    tags: Tags,
    acl: Option<Acl>,
    #[serde(default)]
    class: StorageClass,
    checksum: Option<ChecksumKind>,
    #[serde(default)]
    full_object: bool,
    /// Preconditions from the start of the upload.
    #[serde(default)]
    when: PutConditions,
    #[serde(default)]
    by: Option<u64>,
}

/// Stored result of a completed upload.
#[derive(Serialize, Deserialize)]
struct CompletedUpload {
    /// Digest of the part list of the request.
    parts: String,
    object: Object,
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

    /// Completes an upload. A repeated request returns the same result without a second notice.
    ///
    /// # Errors
    /// A part does not match, is too small or out of order, or a precondition fails.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is one of the request's own"
    )]
    pub async fn complete_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
        parts: Vec<CompletedPart>,
        announced: Checksums,
        when: PutConditions,
        size: Option<i64>,
        origin: ChangeOrigin,
    ) -> Result<Object, StoreError> {
        let (bucket, key, id) = (bucket.clone(), key.clone(), id.to_owned());
        self.write(move |txn| {
            txn.complete(&bucket, &key, &id, &parts, &announced, &when, size, &origin)
        })
        .await
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

    fn take_upload(
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

    #[allow(clippy::too_many_arguments, reason = "as the request has them")]
    fn complete(
        &mut self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
        named: &[CompletedPart],
        announced: &Checksums,
        when: &PutConditions,
        size: Option<i64>,
        origin: &ChangeOrigin,
    ) -> Result<Object, StoreError> {
        let (bucket, of) = self.bucket(bucket)?;
        if let Some(completed_upload) = self.completed_upload(bucket, key, id)? {
            return if completed_upload.parts == digest(named) {
                Ok(completed_upload.object)
            } else {
                Err(StoreError::NoSuchUpload(id.to_owned()))
            };
        }
        let row = upload_row(self.sql, bucket, key, id)?;
        self.check_put(bucket, key, &row.when)?;
        self.check_put(bucket, key, when)?;
        let have = self.take_upload(bucket, key, id)?;
        let (used, unused) = select_parts(have, named)?;
        let mut object = self.object(Put {
            meta: row.meta,
            tags: row.tags,
            acl: row.acl,
            class: row.class,
            when: PutConditions::default(),
        });
        let mut etags = Md5::new();
        for part in &used {
            etags.update(hex::decode(&part.etag).unwrap_or_default());
            object.crc64 =
                checksum_combine(CrcAlgorithm::Crc64Xz, object.crc64, part.crc64, part.size);
            object.size += part.size;
        }
        if let Some(size) = size.filter(|size| *size != object.size as i64) {
            return Err(StoreError::Invalid(format!(
                "x-amz-mp-object-size is {size}, and the parts have {} bytes",
                object.size
            )));
        }
        object.etag = format!("{}-{}", hex::encode(etags.finalize()), used.len());
        object.kind = ObjectKind::Multipart(used.len() as u32);
        object.sums = match row.checksum {
            Some(kind) => combine_checksums(kind, row.full_object, &used)?,
            None => Checksums::default(),
        };
        check_announced(announced, &object.sums)?;
        let pieces = used.into_iter().flat_map(|part| {
            let number = part.number;
            let mut sums = (!part.sums.is_empty()).then(|| Box::new(part.sums));
            part.pieces.into_iter().map(move |piece| Piece {
                part: number,
                sums: sums.take(),
                ..piece
            })
        });
        self.place(&mut object, pieces.collect())?;
        for part in unused {
            self.discard_pieces(&part.pieces)?;
        }
        self.install(bucket, &of, key, &mut object)?;
        self.add_notices(
            ChangeKind::CompleteMultipartUpload,
            &of,
            key,
            &object,
            origin,
        )?;
        self.remember(bucket, key, id, named, &object)?;
        Ok(object)
    }

    fn completed_upload(
        &self,
        bucket: i64,
        key: &ObjectKey,
        id: &str,
    ) -> Result<Option<CompletedUpload>, StoreError> {
        let row = self
            .sql
            .prepare_cached(
                "SELECT record FROM completed WHERE upload = ? AND bucket = ? AND key = ?",
            )?
            .query_row(params![id, bucket, key.as_str().as_bytes()], |row| {
                row.get::<_, Vec<u8>>(0)
            })
            .optional()?;
        row.map(|row| record::decode(&row)).transpose()
    }

    fn remember(
        &mut self,
        bucket: i64,
        key: &ObjectKey,
        id: &str,
        named: &[CompletedPart],
        object: &Object,
    ) -> Result<(), StoreError> {
        let completed_upload = CompletedUpload {
            parts: digest(named),
            object: object.clone(),
        };
        self.sql
            .prepare_cached(
                "INSERT INTO completed (upload, bucket, key, at, record) VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![
                id,
                bucket,
                key.as_str().as_bytes(),
                self.now_ms as i64,
                record::encode(&completed_upload)?
            ])?;
        let oldest = self.now_ms.saturating_sub(COMPLETED_TTL_MS);
        self.sql
            .prepare_cached("DELETE FROM completed WHERE at < ?")?
            .execute([oldest as i64])?;
        Ok(())
    }
}

/// Returns a digest that identifies a list of parts.
fn digest(parts: &[CompletedPart]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(format!("{} {}\n", part.number, part.etag));
    }
    hex::encode(digest.finalize())
}

/// Splits the received parts into those that the request names, and the rest.
fn select_parts(
    have: Vec<Part>,
    named: &[CompletedPart],
) -> Result<(Vec<Part>, Vec<Part>), StoreError> {
    if named.is_empty() {
        return Err(StoreError::Malformed(
            "no part is named; name each part that the object is made of".into(),
        ));
    }
    if !named.windows(2).all(|pair| pair[0].number < pair[1].number) {
        return Err(StoreError::InvalidPartOrder);
    }
    let mut named = named.iter().peekable();
    let (mut used, mut unused) = (Vec::new(), Vec::new());
    for part in have {
        let Some(wanted) = named.next_if(|wanted| wanted.number == part.number) else {
            if named
                .peek()
                .is_some_and(|wanted| wanted.number < part.number)
            {
                break;
            }
            unused.push(part);
            continue;
        };
        let same = wanted.etag == part.etag && check_announced(&wanted.sums, &part.sums).is_ok();
        if !same {
            return Err(StoreError::InvalidPart(part.number));
        }
        used.push(part);
    }
    if let Some(missing) = named.next() {
        return Err(StoreError::InvalidPart(missing.number));
    }
    let last = used.len() - 1;
    match used[..last].iter().find(|part| part.size < PART_MIN) {
        Some(small) => Err(StoreError::PartTooSmall {
            number: small.number,
            size: small.size,
            least: PART_MIN,
        }),
        None => Ok((used, unused)),
    }
}

fn check_announced(announced: &Checksums, have: &Checksums) -> Result<(), StoreError> {
    let pairs = [
        (&announced.crc32, &have.crc32),
        (&announced.crc32c, &have.crc32c),
        (&announced.crc64nvme, &have.crc64nvme),
        (&announced.sha1, &have.sha1),
        (&announced.sha256, &have.sha256),
    ];
    let differs = pairs
        .iter()
        .any(|(announced, have)| announced.is_some() && have.is_some() && announced != have);
    if differs {
        return Err(StoreError::BadDigest("the checksum of the whole object"));
    }
    Ok(())
}

/// Combines the parts' checksums: into that of the bytes, or into a checksum of checksums.
fn combine_checksums(
    kind: ChecksumKind,
    full_object: bool,
    parts: &[Part],
) -> Result<Checksums, StoreError> {
    let mut sums = Checksums::default();
    let mut decoded = Vec::with_capacity(parts.len());
    for part in parts {
        let sum = match kind {
            ChecksumKind::Crc32 => &part.sums.crc32,
            ChecksumKind::Crc32c => &part.sums.crc32c,
            ChecksumKind::Crc64Nvme => &part.sums.crc64nvme,
            ChecksumKind::Sha1 => &part.sums.sha1,
            ChecksumKind::Sha256 => &part.sums.sha256,
        };
        let sum = sum.as_ref().and_then(|sum| STANDARD.decode(sum).ok());
        decoded.push(sum.ok_or(StoreError::InvalidPart(part.number))?);
    }
    let combined = |algorithm| {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let pairs = decoded.iter().zip(parts);
        pairs.fold(0, |crc, (sum, part)| {
            checksum_combine(algorithm, crc, number(sum), part.size)
        })
    };
    let four = |crc: u64| STANDARD.encode((crc as u32).to_be_bytes());
    let all = decoded.concat();
    let tail = parts.len();
    let of_sums = |sum: String| format!("{sum}-{tail}");
    sums.composite = !full_object && kind != ChecksumKind::Crc64Nvme;
    let composite = sums.composite;
    match kind {
        ChecksumKind::Crc32 if composite => {
            sums.crc32 = Some(of_sums(four(crc_fast::checksum(
                CrcAlgorithm::Crc32IsoHdlc,
                &all,
            ))));
        }
        ChecksumKind::Crc32 => sums.crc32 = Some(four(combined(CrcAlgorithm::Crc32IsoHdlc))),
        ChecksumKind::Crc32c if composite => {
            sums.crc32c = Some(of_sums(four(crc_fast::checksum(
                CrcAlgorithm::Crc32Iscsi,
                &all,
            ))));
        }
        ChecksumKind::Crc32c => sums.crc32c = Some(four(combined(CrcAlgorithm::Crc32Iscsi))),
        ChecksumKind::Crc64Nvme => {
            sums.crc64nvme = Some(STANDARD.encode(combined(CrcAlgorithm::Crc64Nvme).to_be_bytes()));
        }
        ChecksumKind::Sha1 => sums.sha1 = Some(of_sums(STANDARD.encode(Sha1::digest(&all)))),
        ChecksumKind::Sha256 => sums.sha256 = Some(of_sums(STANDARD.encode(Sha256::digest(&all)))),
    }
    Ok(sums)
}
