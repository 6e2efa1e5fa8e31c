//! Second half of a write: staged bytes become an object. Also deletion of objects.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::record::{
    self, Acl, Bucket, Meta, Object, ObjectKind, Piece, PieceLocation, Pieces, StorageClass, Tags,
    Versioning,
};
use super::stage::{Staged, StagedBytes};
use super::writer::{Effect, Txn};
use super::{ChangeOrigin, Store, tags};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};
use crate::notice::{Change, ChangeKind};

/// Maximum size of user metadata in bytes.
const USER_META: usize = 2048;
/// Maximum pieces that are listed in the object's record.
const INLINE_PIECES: usize = 8;

/// Properties of an object to be written.
#[derive(Clone, Debug, Default)]
pub struct Put {
    /// Metadata.
    pub meta: Meta,
    /// Tags.
    pub tags: Tags,
    /// ACL; `None` inherits the bucket's.
    pub acl: Option<Acl>,
    /// Storage class.
    pub class: StorageClass,
    /// Preconditions.
    pub when: PutConditions,
}

/// Preconditions of a write, on the current version of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PutConditions {
    /// ETag that it must have; `*` matches any.
    pub if_match: Option<String>,
    /// ETag that it must not have; `*` matches any, so that nothing is overwritten.
    pub if_none_match: Option<String>,
}

impl Store {
    /// Stores staged bytes as an object.
    ///
    /// # Errors
    /// A precondition fails, or a property is invalid.
    pub async fn put(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        staged: Staged,
        put: Put,
        kind: ChangeKind,
        origin: ChangeOrigin,
    ) -> Result<Object, StoreError> {
        check(&put)?;
        let (bucket, key) = (bucket.clone(), key.clone());
        self.write(move |txn| {
            let (id, bucket) = txn.bucket(&bucket)?;
            txn.check_put(id, &key, &put.when)?;
            let mut object = txn.object(put);
            object.size = staged.length;
            object.etag = staged.etag();
            object.crc64 = staged.crc64;
            object.sums = staged.sums.clone();
            let pieces = txn.store_staged(staged)?;
            txn.place(&mut object, pieces.into_iter().collect())?;
            txn.install(id, &bucket, &key, &mut object)?;
            txn.add_notices(kind, &bucket, &key, &object, &origin)?;
            Ok(object)
        })
        .await
    }

    /// Sets an object's ACL; `None` inherits the bucket's. Returns the version.
    ///
    /// # Errors
    /// The object does not exist.
    pub async fn set_object_acl(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
        acl: Option<Acl>,
    ) -> Result<VersionId, StoreError> {
        let changed = self.change_object(bucket, key, version, move |object| object.acl = acl);
        Ok(changed.await?.version())
    }

    /// Changes an object's record, but not its bytes.
    pub(super) async fn change_object(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
        change: impl FnOnce(&mut Object) + Send + 'static,
    ) -> Result<Object, StoreError> {
        let (bucket, key) = (bucket.clone(), key.clone());
        self.write(move |txn| {
            let (id, _) = txn.bucket(&bucket)?;
            let mut object = super::read::find(txn.sql, id, &key, version)?;
            change(&mut object);
            txn.rewrite(id, &key, &object)?;
            Ok(object)
        })
        .await
    }
}

/// Checks the properties of a write that need no look-up.
pub(super) fn check(put: &Put) -> Result<(), StoreError> {
    tags::check_object(&put.tags)?;
    let meta = put
        .meta
        .user
        .iter()
        .map(|(name, value)| name.len() + value.len());
    let bytes: usize = meta.sum();
    if bytes > USER_META {
        return Err(StoreError::MetadataTooLarge {
            bytes,
            most: USER_META,
        });
    }
    Ok(())
}

impl Txn<'_> {
    /// Returns a new object without bytes.
    pub(super) fn object(&mut self, put: Put) -> Object {
        Object {
            seq: self.number(),
            named: false,
            size: 0,
            etag: String::new(),
            modified_ms: self.now_ms,
            crc64: 0,
            sums: Default::default(),
            meta: put.meta,
            class: put.class,
            kind: ObjectKind::Normal,
            tags: put.tags,
            acl: put.acl,
            restore: None,
            pieces: Pieces::Here(Vec::new()),
        }
    }

    pub(super) fn check_put(
        &self,
        bucket: i64,
        key: &ObjectKey,
        when: &PutConditions,
    ) -> Result<(), StoreError> {
        if when.if_match.is_none() && when.if_none_match.is_none() {
            return Ok(());
        }
        let current = self.current(bucket, key)?;
        let is = |wanted: &str| {
            current
                .as_ref()
                .is_some_and(|now| wanted == "*" || wanted == now.etag)
        };
        if let Some(wanted) = &when.if_match {
            if current.is_none() {
                return Err(StoreError::NoSuchKey(key.as_str().to_owned()));
            }
            if !is(wanted) {
                return Err(StoreError::PreconditionFailed("If-Match"));
            }
        }
        match &when.if_none_match {
            Some(unwanted) if is(unwanted) => Err(StoreError::PreconditionFailed("If-None-Match")),
            _ => Ok(()),
        }
    }

    /// Returns the current version of a key.
    pub(super) fn current(
        &self,
        bucket: i64,
        key: &ObjectKey,
    ) -> Result<Option<Object>, StoreError> {
        let row = self
            .sql
            .prepare_cached("SELECT record FROM object WHERE bucket = ? AND key = ?")?
            .query_row(params![bucket, key.as_str().as_bytes()], |row| {
                row.get::<_, Vec<u8>>(0)
            })
            .optional()?;
        row.map(|row| record::decode(&row)).transpose()
    }

    /// Moves staged bytes into the index or marks their blob as kept. Returns `None` if there are no bytes.
    pub(super) fn store_staged(&mut self, staged: Staged) -> Result<Option<Piece>, StoreError> {
        let length = staged.length;
        if length == 0 {
            return Ok(None);
        }
        let place = match staged.held {
            StagedBytes::Memory(bytes) => PieceLocation::Row(self.insert_inline(&bytes)?),
            StagedBytes::Blob(upload) => {
                let id = upload.id().clone();
                self.sql
                    .prepare_cached("INSERT INTO blob (id, size, refs) VALUES (?, ?, 1)")?
                    .execute(params![id.0, length as i64])?;
                self.effect(Effect::Keep(upload));
                PieceLocation::Blob(id)
            }
        };
        Ok(Some(Piece {
            place,
            offset: 0,
            length,
            part: 0,
            sums: None,
        }))
    }

    pub(super) fn insert_inline(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        let row = self.number();
        self.sql
            .prepare_cached("INSERT INTO inline (seq, bytes) VALUES (?, ?)")?
            .execute(params![row as i64, bytes])?;
        Ok(row)
    }

    /// Stores an object's list of pieces: in its record if short, else in a table.
    pub(super) fn place(
        &mut self,
        object: &mut Object,
        pieces: Vec<Piece>,
    ) -> Result<(), StoreError> {
        if pieces.len() <= INLINE_PIECES {
            object.pieces = Pieces::Here(pieces);
            return Ok(());
        }
        let table = self.number();
        let mut start = 0;
        for piece in &pieces {
            self.add_piece(table, start, piece)?;
            start += piece.length;
        }
        object.pieces = Pieces::Table(table);
        Ok(())
    }

    pub(super) fn add_piece(
        &mut self,
        table: u64,
        start: u64,
        piece: &Piece,
    ) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT INTO piece (object, start, record) VALUES (?, ?, ?)")?
            .execute(params![table as i64, start as i64, record::encode(piece)?])?;
        Ok(())
    }

    /// Makes an object the current version of its key.
    pub(super) fn install(
        &mut self,
        bucket: i64,
        of: &Bucket,
        key: &ObjectKey,
        object: &mut Object,
    ) -> Result<(), StoreError> {
        object.named = of.versioning == Versioning::Enabled;
        self.displace_current(bucket, of, key)?;
        self.sql
            .prepare_cached("INSERT INTO object (bucket, key, record) VALUES (?, ?, ?)")?
            .execute(params![
                bucket,
                key.as_str().as_bytes(),
                record::encode(object)?
            ])?;
        Ok(())
    }

    /// Displaces the current version of a key. Named versions are kept; the null version is deleted and returned.
    pub(super) fn displace_current(
        &mut self,
        bucket: i64,
        of: &Bucket,
        key: &ObjectKey,
    ) -> Result<Option<Object>, StoreError> {
        let current = self.current(bucket, key)?;
        let keeps = of.versioning == Versioning::Enabled;
        let mut displaced = None;
        if let Some(object) = current {
            self.sql
                .prepare_cached("DELETE FROM object WHERE bucket = ? AND key = ?")?
                .execute(params![bucket, key.as_str().as_bytes()])?;
            if keeps || object.named {
                self.insert_version(bucket, key, &object, false)?;
            } else {
                self.discard(&object)?;
                displaced = Some(object);
            }
        }
        if of.versioning == Versioning::Suspended {
            let null = self.null_version(bucket, key)?;
            if let Some(object) = null {
                self.remove_version(bucket, key, &object)?;
                displaced = displaced.or(Some(object));
            }
        }
        Ok(displaced)
    }

    pub(super) fn null_version(
        &self,
        bucket: i64,
        key: &ObjectKey,
    ) -> Result<Option<Object>, StoreError> {
        let row = self
            .sql
            .prepare_cached(
                "SELECT record FROM version WHERE bucket = ? AND key = ? AND named = 0",
            )?
            .query_row(params![bucket, key.as_str().as_bytes()], |row| {
                row.get::<_, Vec<u8>>(0)
            })
            .optional()?;
        row.map(|row| record::decode(&row)).transpose()
    }

    pub(super) fn insert_version(
        &mut self,
        bucket: i64,
        key: &ObjectKey,
        object: &Object,
        marker: bool,
    ) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT INTO version (bucket, key, seq, named, marker, record) VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                bucket,
                key.as_str().as_bytes(),
                object.seq as i64,
                object.named,
                marker,
                record::encode(object)?
            ])?;
        Ok(())
    }

    pub(super) fn remove_version(
        &mut self,
        bucket: i64,
        key: &ObjectKey,
        object: &Object,
    ) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("DELETE FROM version WHERE bucket = ? AND key = ? AND seq = ?")?
            .execute(params![bucket, key.as_str().as_bytes(), object.seq as i64])?;
        self.discard(object)
    }

    /// Releases the bytes of an object that has left the index.
    pub(super) fn discard(&mut self, object: &Object) -> Result<(), StoreError> {
        match &object.pieces {
            Pieces::Here(pieces) => self.discard_pieces(pieces),
            Pieces::Table(table) => self.orphan(*table),
        }
    }

    pub(super) fn discard_pieces(&mut self, pieces: &[Piece]) -> Result<(), StoreError> {
        for piece in pieces {
            match &piece.place {
                PieceLocation::Row(row) => {
                    self.sql
                        .prepare_cached("DELETE FROM inline WHERE seq = ?")?
                        .execute([*row as i64])?;
                }
                PieceLocation::Blob(id) => {
                    let (refs, size): (i64, i64) = self
                        .sql
                        .prepare_cached(
                            "UPDATE blob SET refs = refs - 1 WHERE id = ? RETURNING refs, size",
                        )?
                        .query_row([&id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
                    if refs == 0 {
                        self.sql
                            .prepare_cached("DELETE FROM blob WHERE id = ?")?
                            .execute([&id.0])?;
                        self.effect(Effect::Drop(id.clone(), size as u64));
                    }
                }
            }
        }
        Ok(())
    }

    /// Updates an object's record.
    pub(super) fn rewrite(
        &mut self,
        bucket: i64,
        key: &ObjectKey,
        object: &Object,
    ) -> Result<(), StoreError> {
        let record = record::encode(object)?;
        let bytes = key.as_str().as_bytes();
        let current = self
            .current(bucket, key)?
            .is_some_and(|now| now.seq == object.seq);
        if current {
            self.sql
                .prepare_cached("UPDATE object SET record = ? WHERE bucket = ? AND key = ?")?
                .execute(params![record, bucket, bytes])?;
        } else {
            self.sql
                .prepare_cached(
                    "UPDATE version SET record = ? WHERE bucket = ? AND key = ? AND seq = ?",
                )?
                .execute(params![record, bucket, bytes, object.seq as i64])?;
        }
        Ok(())
    }

    /// Adds the observer's notices of a change to the outbox.
    pub(super) fn add_notices(
        &mut self,
        kind: ChangeKind,
        bucket: &Bucket,
        key: &ObjectKey,
        object: &Object,
        origin: &ChangeOrigin,
    ) -> Result<(), StoreError> {
        let version = (bucket.versioning != Versioning::Off).then(|| object.version().to_string());
        let notices = self.observer.notices_of(&Change {
            kind,
            bucket: bucket.name.name().to_owned(),
            app_id: bucket.name.app_id(),
            key: key.as_str().to_owned(),
            version,
            size: object.size,
            etag: object.etag.clone(),
            content_type: object.meta.content_type.clone(),
            at_ms: self.now_ms,
            request: origin.request.clone(),
            source_ip: origin.source_ip.clone(),
            by: origin.by.clone(),
            depth: origin.depth,
        });
        if notices.is_empty() {
            return Ok(());
        }
        let (account, count) = (bucket.name.app_id(), notices.len());
        let (most, own) = (self.settings.notices, self.settings.guaranteed_notices);
        let waiting = self.notices();
        if !waiting.admits(account, count as u64, most, own) {
            return Err(StoreError::OutboxFull(waiting.of(account)));
        }
        for notice in notices {
            self.sql
                .prepare_cached(
                    "INSERT INTO outbox (id, recipient, body, account) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![
                    notice.id,
                    notice.to,
                    &notice.body[..],
                    account as i64
                ])?;
        }
        self.notices_changed(account, count as i64);
        Ok(())
    }
}
