//! COS's append: an object that grows at its end.

use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, params};

use super::record::{self, Object, ObjectKind, Piece, PieceLocation, Pieces};
use super::stage::{INLINE, Staged, StagedBytes};
use super::writer::Txn;
use super::{ChangeOrigin, Put, Store, objects, read};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey};
use crate::notice::ChangeKind;

/// Result of an append.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The object after the append.
    pub object: Object,
    /// Position of the next append.
    pub next_position: u64,
}

impl Store {
    /// Appends staged bytes at a position, which must be the object's size. The first append creates the object with
    /// the metadata in `put`; later appends keep it.
    ///
    /// # Errors
    /// The position is wrong, or the object is not appendable.
    pub async fn append(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        position: u64,
        staged: Staged,
        put: Put,
        origin: ChangeOrigin,
    ) -> Result<Appended, StoreError> {
        objects::check(&put)?;
        let (bucket, key) = (bucket.clone(), key.clone());
        self.write(move |txn| {
            let (id, bucket) = txn.bucket(&bucket)?;
            let length = staged.length;
            let (md5, crc64) = (staged.md5, staged.crc64);
            let current = txn.current(id, &key)?;
            let mut object = match current {
                Some(object) if object.kind != ObjectKind::Appendable => {
                    return Err(StoreError::NotAppendable(key.as_str().to_owned()));
                }
                Some(object) if object.size != position => {
                    return Err(StoreError::WrongPosition(object.size));
                }
                None if position != 0 => return Err(StoreError::WrongPosition(0)),
                Some(object) => object,
                None => {
                    let mut object = txn.object(put);
                    object.kind = ObjectKind::Appendable;
                    txn.install(id, &bucket, &key, &mut object)?;
                    object
                }
            };
            if object.size + length > txn.settings.body_bytes {
                return Err(StoreError::TooLarge(txn.settings.body_bytes));
            }
            if !txn.merge_into_last_piece(&mut object, &staged)?
                && let Some(piece) = txn.store_staged(staged)?
            {
                txn.append_piece(&mut object, piece)?;
            }
            object.crc64 = checksum_combine(CrcAlgorithm::Crc64Xz, object.crc64, crc64, length);
            object.etag = hex::encode(
                Md5::new()
                    .chain_update(&object.etag)
                    .chain_update(md5)
                    .finalize(),
            );
            object.size += length;
            object.modified_ms = txn.now_ms;
            txn.sql
                .prepare_cached("UPDATE object SET record = ? WHERE bucket = ? AND key = ?")?
                .execute(params![
                    record::encode(&object)?,
                    id,
                    key.as_str().as_bytes()
                ])?;
            txn.add_notices(ChangeKind::Put, &bucket, &key, &object, &origin)?;
            let next_position = object.size;
            Ok(Appended {
                object,
                next_position,
            })
        })
        .await
    }
}

impl Txn<'_> {
    /// Merges bytes into the last piece if both are small and inline, so that a log of short lines has few pieces. A
    /// concurrent reader of the piece sees its old content.
    fn merge_into_last_piece(
        &mut self,
        object: &mut Object,
        staged: &Staged,
    ) -> Result<bool, StoreError> {
        let StagedBytes::Memory(bytes) = &staged.held else {
            return Ok(false);
        };
        let (start, last) = match &object.pieces {
            Pieces::Here(pieces) => (0, pieces.last().cloned()),
            Pieces::Table(table) => self.last_piece(*table)?,
        };
        let Some(mut last) = last else {
            return Ok(false);
        };
        let PieceLocation::Row(row) = last.place else {
            return Ok(false);
        };
        if bytes.is_empty() || last.length as usize + bytes.len() > INLINE {
            return Ok(false);
        }
        let had = read::inline(self.sql, row, 0..last.length)?;
        let joined = [&had[..], &bytes[..]].concat();
        self.sql
            .prepare_cached("UPDATE inline SET bytes = ? WHERE seq = ?")?
            .execute(params![joined, row as i64])?;
        last.length = joined.len() as u64;
        match &mut object.pieces {
            Pieces::Here(pieces) => {
                pieces.pop();
                pieces.push(last);
            }
            Pieces::Table(table) => {
                self.sql
                    .prepare_cached("UPDATE piece SET record = ? WHERE object = ? AND start = ?")?
                    .execute(params![record::encode(&last)?, *table as i64, start as i64])?;
            }
        }
        Ok(true)
    }

    /// Returns the last piece of a table and its offset in the object.
    fn last_piece(&self, table: u64) -> Result<(u64, Option<Piece>), StoreError> {
        let row = self
            .sql
            .prepare_cached(
                "SELECT start, record FROM piece WHERE object = ? ORDER BY start DESC LIMIT 1",
            )?
            .query_row([table as i64], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .optional()?;
        match row {
            Some((start, piece)) => Ok((start as u64, Some(record::decode(&piece)?))),
            None => Ok((0, None)),
        }
    }

    /// Appends a piece.
    fn append_piece(&mut self, object: &mut Object, piece: Piece) -> Result<(), StoreError> {
        match &mut object.pieces {
            Pieces::Table(table) => self.add_piece(*table, object.size, &piece),
            Pieces::Here(pieces) => {
                let mut pieces = std::mem::take(pieces);
                pieces.push(piece);
                self.place(object, pieces)
            }
        }
    }
}
