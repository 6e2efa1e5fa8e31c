//! What can go wrong with buckets and objects.

use crate::names::{BucketName, InvalidName};

/// Why something was not done. Each dialect gives it a code of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such bucket.
    #[error("bucket {0} does not exist")]
    NoSuchBucket(BucketName),
    /// The name is taken, by the same account.
    #[error("bucket {0} exists already, and is yours")]
    BucketExists(BucketName),
    /// Only an empty bucket is removed.
    #[error("bucket {0} is not empty; remove its objects, their versions and its uploads first")]
    BucketNotEmpty(BucketName),
    /// The account has as many buckets as it may.
    #[error("the account has {0} buckets, which is as many as it may have; remove one first")]
    TooManyBuckets(usize),
    /// There is no such object.
    #[error("object {0:?} does not exist")]
    NoSuchKey(String),
    /// The object is hidden behind this delete marker.
    #[error("object {key:?} does not exist: its latest version, {version}, is a delete marker")]
    Hidden {
        /// The object.
        key: String,
        /// The marker.
        version: String,
    },
    /// The version that was asked for is a delete marker, which has no content.
    #[error("version {0} is a delete marker; it can be removed, but has no content")]
    IsMarker(String),
    /// There is no such version.
    #[error("version {0:?} does not exist")]
    NoSuchVersion(String),
    /// There is no such upload.
    #[error("upload {0:?} does not exist; it may have been completed or aborted")]
    NoSuchUpload(String),
    /// The bucket has as many uploads as it may.
    #[error(
        "the bucket has {0} uploads that are not complete, which is as many as it may have; complete or abort some"
    )]
    TooManyUploads(u64),
    /// The request's document is not as it must be.
    #[error("{0}")]
    Malformed(String),
    /// A part that was named is not there, or is another.
    #[error("part {0} was not uploaded, or its ETag or checksum is another")]
    InvalidPart(u32),
    /// Parts must be named in ascending order.
    #[error("parts are not in ascending order of their numbers")]
    InvalidPartOrder,
    /// A part that is not the last is too small.
    #[error("part {number} has {size} bytes; all but the last must have at least {least}")]
    PartTooSmall {
        /// The part.
        number: u32,
        /// Its length.
        size: u64,
        /// The least length.
        least: u64,
    },
    /// The object has no such part.
    #[error("the object has no part {0}")]
    InvalidPartNumber(u32),
    /// A condition of the request does not hold.
    #[error("condition {0} does not hold")]
    PreconditionFailed(&'static str),
    /// The caller has it already.
    #[error("not modified")]
    NotModified {
        /// Its ETag, without quotes.
        etag: String,
        /// When it was written, milliseconds since 1970.
        modified_ms: u64,
    },
    /// The range begins behind the object's end.
    #[error("the range begins behind the end of the object, which has {0} bytes")]
    InvalidRange(u64),
    /// What arrived is not what was announced.
    #[error("{0} does not match the bytes that arrived; send them again")]
    BadDigest(&'static str),
    /// It is too long.
    #[error(
        "the body is longer than {0} bytes, which is the most that one request may carry; use a multipart upload"
    )]
    TooLarge(u64),
    /// A value cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Tags cannot be so.
    #[error("{0}")]
    InvalidTag(String),
    /// There is too much of a user's own metadata.
    #[error("user metadata has {bytes} bytes, names and values together; it may have {most}")]
    MetadataTooLarge {
        /// How much there is.
        bytes: usize,
        /// How much there may be.
        most: usize,
    },
    /// A bucket's name cannot be.
    #[error("{0}")]
    InvalidBucketName(String),
    /// The object is in an archive.
    #[error("object {0:?} is archived; restore it first")]
    Archived(String),
    /// The object is not in an archive.
    #[error("object {0:?} is not archived, so there is nothing to restore")]
    NotArchived(String),
    /// It is on its way back already.
    #[error("object {0:?} is being restored already")]
    RestoreInProgress(String),
    /// A copy would change nothing.
    #[error(
        "the object would be copied onto itself without a change; replace its metadata or change its storage class"
    )]
    CopyOntoItself,
    /// Bytes are appended at the end alone.
    #[error("the position is not the object's length, {0}")]
    WrongPosition(u64),
    /// The object was not made by appending.
    #[error("object {0:?} was not made by appending, so nothing can be appended to it")]
    NotAppendable(String),
    /// Too many notices of the account's wait.
    #[error(
        "{0} notices of changes in this account's buckets wait for their functions, and there is no room for more; try again later"
    )]
    OutboxFull(u64),
    /// The budget is spent.
    #[error(
        "buckets hold {used} bytes and may hold {budget}; remove objects, or give buckets more room (bucket-store-mb)"
    )]
    Full {
        /// What there is.
        used: u64,
        /// What there may be.
        budget: u64,
    },
    /// The disk has no room.
    #[error("the disk that holds the buckets is full; make room on it, or remove objects")]
    NoSpace,
    /// The request's body broke off.
    #[error("the request's body could not be read: {0}")]
    Body(String),
    /// The S3 elsewhere cannot do it now.
    #[error("the S3 that holds the objects did not do it: {0}")]
    ExternalStorage(String),
    /// The store cannot do it now.
    #[error("the object store is unavailable: {0}")]
    Unavailable(String),
}

impl From<InvalidName> for StoreError {
    fn from(invalid: InvalidName) -> Self {
        Self::Invalid(invalid.0)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::NoSpace,
            _ => Self::Unavailable(format!("index: {error}")),
        }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>() {
                use std::io::ErrorKind::{QuotaExceeded, StorageFull};
                if matches!(io.kind(), StorageFull | QuotaExceeded) {
                    return Self::NoSpace;
                }
            }
            cause = inner.source();
        }
        match &error {
            object_store::Error::Generic { store: "S3", .. } => {
                Self::ExternalStorage(error.to_string())
            }
            _ => Self::Unavailable(format!("objects: {error}")),
        }
    }
}
