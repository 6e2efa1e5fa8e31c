//! Copies of objects. They share the blobs of their source, so that a copy writes only its record.

use super::objects;
use super::read::{self, ReadConditions};
use super::record::{Acl, Meta, Object, ObjectKind, Piece, PieceLocation, StorageClass, Tags};
use super::writer::Txn;
use super::{ChangeOrigin, Put, PutConditions, Store};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};
use crate::notice::ChangeKind;

/// The object to copy.
#[derive(Clone, Debug)]
pub struct SourceObject {
    /// Bucket.
    pub bucket: BucketName,
    /// Key.
    pub key: ObjectKey,
    /// Version; `None` for the current one.
    pub version: Option<VersionId>,
    /// Preconditions on the source.
    pub when: ReadConditions,
}

/// Properties of the copy that differ from the source.
#[derive(Clone, Debug, Default)]
pub struct CopyMeta {
    /// Metadata; `None` copies that of the source.
    pub meta: Option<Meta>,
    /// Tags; `None` copies those of the source.
    pub tags: Option<Tags>,
    /// Storage class; `None` for the standard class.
    pub class: Option<StorageClass>,
    /// ACL; `None` inherits the bucket's.
    pub acl: Option<Acl>,
    /// Preconditions on the object that the copy replaces.
    pub when: PutConditions,
}

impl Store {
    /// Copies an object. Returns the copy and its source.
    ///
    /// # Errors
    /// The source does not exist, a precondition fails, or the copy would change nothing.
    pub async fn copy(
        &self,
        source: SourceObject,
        bucket: &BucketName,
        key: &ObjectKey,
        change: CopyMeta,
        origin: ChangeOrigin,
    ) -> Result<(Object, Object), StoreError> {
        let (bucket, key) = (bucket.clone(), key.clone());
        self.write(move |txn| {
            let (from, _) = txn.bucket(&source.bucket)?;
            let (id, of) = txn.bucket(&bucket)?;
            txn.check_put(id, &key, &change.when)?;
            let old = read::find(txn.sql, from, &source.key, source.version)?;
            match source.when.check(&old) {
                Err(StoreError::NotModified { .. }) => {
                    return Err(StoreError::PreconditionFailed("x-amz-copy-source-if"));
                }
                checked => checked?,
            }
            if old.is_archived(txn.now_ms) {
                return Err(StoreError::Archived(source.key.as_str().to_owned()));
            }
            let changes =
                change.meta.is_some() || change.class.is_some_and(|class| class != old.class);
            if from == id && source.key == key && source.version.is_none() && !changes {
                return Err(StoreError::CopyOntoItself);
            }
            let put = Put {
                meta: change.meta.unwrap_or_else(|| old.meta.clone()),
                tags: change.tags.unwrap_or_else(|| old.tags.clone()),
                acl: change.acl,
                class: change.class.unwrap_or_default(),
                when: Default::default(),
            };
            objects::check(&put)?;
            let mut copy = txn.object(put);
            copy.size = old.size;
            copy.etag = old.etag.clone();
            copy.crc64 = old.crc64;
            copy.sums = old.sums.clone();
            copy.kind = match old.kind {
                ObjectKind::Appendable => ObjectKind::Normal,
                kind => kind,
            };
            let pieces = read::pieces_in(txn.sql, &old, &(0..old.size))?;
            let pieces = pieces.into_iter().map(|piece| txn.share_piece(piece));
            let pieces = pieces.collect::<Result<_, _>>()?;
            txn.place(&mut copy, pieces)?;
            txn.install(id, &of, &key, &mut copy)?;
            txn.add_notices(ChangeKind::Copy, &of, &key, &copy, &origin)?;
            Ok((copy, old))
        })
        .await
    }
}

impl Txn<'_> {
    /// Returns a piece for the copy: a new reference to the blob, or a copy of an inline row.
    fn share_piece(&mut self, piece: Piece) -> Result<Piece, StoreError> {
        match &piece.place {
            PieceLocation::Blob(id) => {
                self.sql
                    .prepare_cached("UPDATE blob SET refs = refs + 1 WHERE id = ?")?
                    .execute([&id.0])?;
                Ok(piece)
            }
            PieceLocation::Row(row) => {
                let bytes =
                    read::inline(self.sql, *row, piece.offset..piece.offset + piece.length)?;
                let row = self.insert_inline(&bytes)?;
                Ok(Piece {
                    place: PieceLocation::Row(row),
                    offset: 0,
                    ..piece
                })
            }
        }
    }
}
