//! Copies. The bytes of larger objects are shared, so that a copy costs what its record costs.

use super::objects;
use super::read::{self, ReadConditions};
use super::record::{Acl, Meta, Object, ObjectKind, Piece, PieceLocation, StorageClass, Tags};
use super::writer::Txn;
use super::{ChangeOrigin, Put, PutConditions, Store};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};
use crate::notice::ChangeKind;

/// What is copied.
#[derive(Clone, Debug)]
pub struct SourceObject {
    /// Its bucket.
    pub bucket: BucketName,
    /// Its key.
    pub key: ObjectKey,
    /// Its version; else what the key shows.
    pub version: Option<VersionId>,
    /// What must hold for it to be copied.
    pub when: ReadConditions,
}

/// What a copy is to be besides its source.
#[derive(Clone, Debug, Default)]
pub struct CopyMeta {
    /// What is said of it; else what is said of the source.
    pub meta: Option<Meta>,
    /// Its tags; else those of the source.
    pub tags: Option<Tags>,
    /// Where it is to be kept; else at hand.
    pub class: Option<StorageClass>,
    /// Who may read it; the bucket says where it does not.
    pub acl: Option<Acl>,
    /// What must hold for what the copy replaces.
    pub when: PutConditions,
}

impl Store {
    /// Copies an object. Returns the copy and what was copied.
    ///
    /// # Errors
    /// There is no such object, a condition does not hold, or it would be copied onto itself without a change.
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
    /// A piece for one object more.
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
