//! Completion of multipart uploads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;

use super::multipart::{PART_MIN, Part, upload_row};
use super::record::{self, Checksums, Object, ObjectKind, Piece};
use super::stage::ChecksumKind;
use super::writer::Txn;
use super::{ChangeOrigin, Put, PutConditions, Store};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey};
use crate::notice::ChangeKind;

/// How long the result of a completed upload is kept (ms), so that completing it again is idempotent.
const COMPLETED_TTL_MS: u64 = 24 * 3_600_000;

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

/// Stored result of a completed upload.
#[derive(Serialize, Deserialize)]
struct CompletedUpload {
    /// Digest of the part list of the request.
    parts: String,
    object: Object,
}

impl Store {
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
}

impl Txn<'_> {
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
