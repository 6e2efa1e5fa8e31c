//! Reads of objects.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::blobs::{Blobs, PinnedBlob};
use super::list_pin::PieceListPin;
use super::reader::Readers;
use super::record::{self, Object, Piece, PieceLocation, Pieces};
use super::writer::now_ms;
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};

/// Maximum inline bytes read in one go. An appended object can be larger than memory allows.
const EAGER_BYTES: u64 = 1 << 20;

/// Selects an object and a range of its bytes.
#[derive(Clone, Debug, Default)]
pub struct Get {
    /// Version; `None` for the current one.
    pub version: Option<VersionId>,
    /// Preconditions.
    pub when: ReadConditions,
    /// Byte range; `None` for all.
    pub range: Option<ByteRange>,
    /// Part number of a multipart object; `None` for all.
    pub part: Option<u32>,
}

/// Preconditions of a read, as in HTTP.
#[derive(Clone, Debug, Default)]
pub struct ReadConditions {
    /// ETags, one of which must match; `*` matches any.
    pub if_match: Option<Vec<String>>,
    /// ETags, none of which may match.
    pub if_none_match: Option<Vec<String>>,
    /// Time after which it must have changed (s since 1970).
    pub if_modified_since: Option<i64>,
    /// Time after which it must not have changed (s since 1970).
    pub if_unmodified_since: Option<i64>,
}

/// A byte range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first to the last byte, inclusive, or to the end.
    From(u64, Option<u64>),
    /// The last bytes of the object.
    Last(u64),
}

/// An object with the requested bytes.
#[derive(Debug)]
pub struct GetOutput {
    /// Object record.
    pub object: Object,
    /// Resolved range.
    pub range: Range<u64>,
    /// The bytes.
    pub content: Content,
}

/// Bytes of an object.
pub struct Content(Vec<Chunk>);

enum Chunk {
    Memory(Bytes),
    Blob(PinnedBlob, Range<u64>),
    /// Inline bytes that are read when the stream reaches them.
    Row(Arc<PieceListPin>, Arc<Readers>, u64, Range<u64>),
}

impl Content {
    /// Returns the bytes as a stream.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let chunks = self.0.into_iter().map(|chunk| match chunk {
            Chunk::Memory(bytes) => stream::once(async { Ok(bytes) }).boxed(),
            Chunk::Blob(pinned, range) => pinned.read(range).boxed(),
            Chunk::Row(list_pin, readers, row, range) => stream::once(async move {
                let bytes = readers.read(move |sql| inline(sql, row, range)).await;
                drop(list_pin);
                bytes
            })
            .boxed(),
        });
        let mut chunks: Vec<_> = chunks.collect();
        if chunks.len() == 1
            && let Some(only) = chunks.pop()
        {
            return only;
        }
        stream::iter(chunks).flatten().boxed()
    }

    /// Collects at most `most` bytes.
    ///
    /// # Errors
    /// There are more bytes, or they cannot be read.
    pub async fn collect(self, most: u64) -> Result<Vec<u8>, StoreError> {
        let mut stream = self.into_stream();
        let mut all = Vec::new();
        while let Some(bytes) = stream.next().await {
            all.extend_from_slice(&bytes?);
            if all.len() as u64 > most {
                return Err(StoreError::TooLarge(most));
            }
        }
        Ok(all)
    }
}

impl Store {
    /// Returns an object's record and the requested range.
    ///
    /// # Errors
    /// The object does not exist, or a precondition fails.
    pub async fn head(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        get: Get,
    ) -> Result<(Object, Range<u64>), StoreError> {
        let (id, _) = self.bucket_id(bucket)?;
        let key = key.clone();
        let read = move |sql: &Connection| {
            let object = find(sql, id, &key, get.version)?;
            get.when.check(&object)?;
            let range = get.range_of(sql, &object)?;
            Ok((object, range))
        };
        self.inner.readers.read(read).await
    }

    /// Returns an object with its bytes.
    ///
    /// # Errors
    /// The object does not exist or is archived, or a precondition fails.
    pub async fn get(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        get: Get,
    ) -> Result<GetOutput, StoreError> {
        let (id, _) = self.bucket_id(bucket)?;
        let key = key.clone();
        let blobs = self.inner.blobs.clone();
        let readers = self.inner.readers.clone();
        let read = move |sql: &Connection| {
            let object = find(sql, id, &key, get.version)?;
            get.when.check(&object)?;
            if object.is_archived(now_ms()) {
                return Err(StoreError::Archived(key.as_str().to_owned()));
            }
            let range = get.range_of(sql, &object)?;
            let pieces = pieces_in(sql, &object, &range)?;
            Ok((object, range, pieces))
        };
        let lookup = move |sql: &Connection| {
            Blobs::with_pins(&blobs, |pin| {
                let (object, range, pieces) = read(sql)?;
                let mut chunks = Vec::with_capacity(pieces.len());
                let list_pin = match &object.pieces {
                    Pieces::Table(table) => {
                        Some(Arc::new(PieceListPin::new(blobs.clone(), *table)))
                    }
                    // Few pieces are read at once.
                    Pieces::Here(_) => None,
                };
                let mut at_once = 0;
                for piece in pieces {
                    let part = piece.offset..piece.offset + piece.length;
                    chunks.push(match (&piece.place, &list_pin) {
                        (PieceLocation::Row(row), Some(list_pin)) if at_once >= EAGER_BYTES => {
                            Chunk::Row(list_pin.clone(), readers.clone(), *row, part)
                        }
                        (PieceLocation::Row(row), _) => {
                            at_once += piece.length;
                            Chunk::Memory(inline(sql, *row, part)?)
                        }
                        (PieceLocation::Blob(blob), _) => Chunk::Blob(pin(blob), part),
                    });
                }
                Ok(GetOutput {
                    object,
                    range,
                    content: Content(chunks),
                })
            })
        };
        // The first lookup fixes the snapshot, so blobs that are removed later are pinned in time.
        self.inner.readers.read(lookup).await
    }
}

impl Get {
    fn range_of(&self, sql: &Connection, object: &Object) -> Result<Range<u64>, StoreError> {
        if let Some(part) = self.part {
            return part_range(sql, object, part);
        }
        let size = object.size;
        let wrong = || StoreError::InvalidRange(size);
        match self.range {
            None => Ok(0..size),
            Some(ByteRange::From(first, last)) if first < size => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                if end <= first {
                    Err(wrong())
                } else {
                    Ok(first..end)
                }
            }
            Some(ByteRange::Last(count)) if count > 0 && size > 0 => {
                Ok(size - count.min(size)..size)
            }
            Some(_) => Err(wrong()),
        }
    }
}

impl ReadConditions {
    /// Checks the preconditions in HTTP's order.
    ///
    /// # Errors
    /// A precondition fails.
    pub fn check(&self, object: &Object) -> Result<(), StoreError> {
        let is = |tags: &[String]| tags.iter().any(|tag| tag == "*" || *tag == object.etag);
        let modified = (object.modified_ms / 1000) as i64;
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !is(tags) => return Err(StoreError::PreconditionFailed("If-Match")),
            (None, Some(since)) if modified > since => {
                return Err(StoreError::PreconditionFailed("If-Unmodified-Since"));
            }
            _ => {}
        }
        let same = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => is(tags),
            (None, Some(since)) => modified <= since,
            (None, None) => false,
        };
        if same {
            return Err(StoreError::NotModified {
                etag: object.etag.clone(),
                modified_ms: object.modified_ms,
            });
        }
        Ok(())
    }
}

/// Returns the current version of a key, or the requested one.
pub(super) fn find(
    sql: &Connection,
    bucket: i64,
    key: &ObjectKey,
    wanted: Option<VersionId>,
) -> Result<Object, StoreError> {
    let current = sql
        .prepare_cached("SELECT record FROM object WHERE bucket = ? AND key = ?")?
        .query_row(params![bucket, key.as_str().as_bytes()], |row| {
            row.get::<_, Vec<u8>>(0)
        })
        .optional()?;
    let current: Option<Object> = current.map(|row| record::decode(&row)).transpose()?;
    let Some(wanted) = wanted else {
        return match current {
            Some(object) => Ok(object),
            None => Err(missing_reason(sql, bucket, key)?),
        };
    };
    if let Some(object) = current.filter(|object| object.version() == wanted) {
        return Ok(object);
    }
    match version(sql, bucket, key, wanted)? {
        Some((object, false)) => Ok(object),
        Some((marker, true)) => Err(StoreError::IsMarker(marker.version().to_string())),
        None => Err(StoreError::NoSuchVersion(wanted.to_string())),
    }
}

/// Returns a non-current version, and whether it is a delete marker.
pub(super) fn version(
    sql: &Connection,
    bucket: i64,
    key: &ObjectKey,
    wanted: VersionId,
) -> Result<Option<(Object, bool)>, StoreError> {
    let (condition, number) = match wanted {
        VersionId::Null => ("named = 0 AND ?3 = 0", 0),
        VersionId::Number(number) => ("named = 1 AND seq = ?3", number),
    };
    let query = format!(
        "SELECT record, marker FROM version WHERE bucket = ?1 AND key = ?2 AND {condition}"
    );
    let row = sql
        .prepare_cached(&query)?
        .query_row(
            params![bucket, key.as_str().as_bytes(), number as i64],
            |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, bool>(1)?)),
        )
        .optional()?;
    row.map(|(record, marker)| Ok((record::decode(&record)?, marker)))
        .transpose()
}

/// Returns why a key has no current version: it does not exist, or a delete marker hides it.
fn missing_reason(
    sql: &Connection,
    bucket: i64,
    key: &ObjectKey,
) -> Result<StoreError, StoreError> {
    let newest = sql
        .prepare_cached(
            "SELECT record FROM version WHERE bucket = ? AND key = ? ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![bucket, key.as_str().as_bytes()], |row| {
            row.get::<_, Vec<u8>>(0)
        })
        .optional()?;
    let key = key.as_str().to_owned();
    Ok(match newest {
        Some(record) => {
            let marker: Object = record::decode(&record)?;
            StoreError::Hidden {
                key,
                version: marker.version().to_string(),
            }
        }
        None => StoreError::NoSuchKey(key),
    })
}

/// Returns the pieces of a range, each clipped to it.
pub(super) fn pieces_in(
    sql: &Connection,
    object: &Object,
    range: &Range<u64>,
) -> Result<Vec<Piece>, StoreError> {
    let (mut start, pieces) = match &object.pieces {
        Pieces::Here(pieces) => (0, pieces.clone()),
        Pieces::Table(number) => {
            let first: i64 = sql
                .prepare_cached(
                    "SELECT COALESCE(MAX(start), 0) FROM piece WHERE object = ? AND start <= ?",
                )?
                .query_row(params![*number as i64, range.start as i64], |row| {
                    row.get(0)
                })?;
            (first as u64, table(sql, *number, first as u64, range.end)?)
        }
    };
    let mut cut = Vec::new();
    for piece in pieces {
        let from = range.start.max(start);
        let to = range.end.min(start + piece.length);
        if from < to {
            cut.push(Piece {
                offset: piece.offset + (from - start),
                length: to - from,
                ..piece.clone()
            });
        }
        start += piece.length;
    }
    Ok(cut)
}

/// Returns the pieces of a table that start in a range.
pub(super) fn table(
    sql: &Connection,
    number: u64,
    from: u64,
    to: u64,
) -> Result<Vec<Piece>, StoreError> {
    let mut query = sql.prepare_cached(
        "SELECT record FROM piece WHERE object = ? AND start >= ? AND start < ? ORDER BY start",
    )?;
    let to = i64::try_from(to).unwrap_or(i64::MAX);
    let rows = query.query_map(params![number as i64, from as i64, to], |row| {
        row.get::<_, Vec<u8>>(0)
    })?;
    rows.map(|row| record::decode(&row?)).collect()
}

fn part_range(sql: &Connection, object: &Object, wanted: u32) -> Result<Range<u64>, StoreError> {
    let mut range: Option<Range<u64>> = None;
    let mut start = 0;
    for piece in pieces_in(sql, object, &(0..object.size))? {
        let end = start + piece.length;
        // An object of a single put counts as part 1.
        if piece.part.max(1) == wanted {
            range = Some(range.map_or(start, |range| range.start)..end);
        }
        start = end;
    }
    match range {
        Some(range) => Ok(range),
        None if wanted == 1 => Ok(0..object.size),
        None => Err(StoreError::InvalidPartNumber(wanted)),
    }
}

pub(super) fn inline(sql: &Connection, row: u64, range: Range<u64>) -> Result<Bytes, StoreError> {
    let bytes: Option<Vec<u8>> = sql
        .prepare_cached("SELECT bytes FROM inline WHERE seq = ?")?
        .query_row([row as i64], |row| row.get(0))
        .optional()?;
    let lost = || {
        StoreError::Unavailable(format!(
            "bytes of an object are missing from row {row} of the index"
        ))
    };
    let bytes = bytes.ok_or_else(lost)?;
    let (start, end) = (range.start as usize, range.end as usize);
    if end > bytes.len() || start > end {
        return Err(lost());
    }
    Ok(Bytes::from(bytes).slice(start..end))
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("chunks", &self.0.len())
            .finish()
    }
}
