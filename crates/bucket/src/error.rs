//! Errors of buckets and objects.

use crate::names::{BucketName, InvalidName};

/// Reason why an operation failed. Each dialect maps it to an error code of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The bucket does not exist.
    #[error("bucket {0} does not exist")]
    NoSuchBucket(BucketName),
    /// The account owns a bucket of this name already.
    #[error("bucket {0} exists already, and is yours")]
    BucketExists(BucketName),
    /// The bucket to delete is not empty.
    #[error("bucket {0} is not empty; remove its objects, their versions and its uploads first")]
    BucketNotEmpty(BucketName),
    /// The account has reached its limit of buckets.
    #[error("the account has {0} buckets, which is as many as it may have; remove one first")]
    TooManyBuckets(usize),
    /// The object does not exist.
    #[error("object {0:?} does not exist")]
    NoSuchKey(String),
    /// The latest version of the object is a delete marker.
    #[error("object {key:?} does not exist: its latest version, {version}, is a delete marker")]
    Hidden {
        /// Key of the object.
        key: String,
        /// Version id of the delete marker.
        version: String,
    },
    /// The requested version is a delete marker, which has no content.
    #[error("version {0} is a delete marker; it can be removed, but has no content")]
    IsMarker(String),
    /// The version does not exist.
    #[error("version {0:?} does not exist")]
    NoSuchVersion(String),
    /// The multipart upload does not exist.
    #[error("upload {0:?} does not exist; it may have been completed or aborted")]
    NoSuchUpload(String),
    /// The bucket has reached its limit of incomplete uploads.
    #[error(
        "the bucket has {0} uploads that are not complete, which is as many as it may have; complete or abort some"
    )]
    TooManyUploads(u64),
    /// The request's document is malformed.
    #[error("{0}")]
    Malformed(String),
    /// A named part does not exist, or its ETag or checksum differs.
    #[error("part {0} was not uploaded, or its ETag or checksum is another")]
    InvalidPart(u32),
    /// The parts are not in ascending order.
    #[error("parts are not in ascending order of their numbers")]
    InvalidPartOrder,
    /// A part other than the last is too small.
    #[error("part {number} has {size} bytes; all but the last must have at least {least}")]
    PartTooSmall {
        /// Number of the part.
        number: u32,
        /// Size of the part.
        size: u64,
        /// Minimum size.
        least: u64,
    },
    /// The object has no part of this number.
    #[error("the object has no part {0}")]
    InvalidPartNumber(u32),
    /// A precondition of the request failed.
    #[error("condition {0} does not hold")]
    PreconditionFailed(&'static str),
    /// The caller's copy is current.
    #[error("not modified")]
    NotModified {
        /// ETag without quotes.
        etag: String,
        /// Time of the last write (ms since 1970).
        modified_ms: u64,
    },
    /// The range starts after the end of the object.
    #[error("the range begins behind the end of the object, which has {0} bytes")]
    InvalidRange(u64),
    /// A digest does not match the received bytes.
    #[error("{0} does not match the bytes that arrived; send them again")]
    BadDigest(&'static str),
    /// The body exceeds the size limit.
    #[error(
        "the body is longer than {0} bytes, which is the most that one request may carry; use a multipart upload"
    )]
    TooLarge(u64),
    /// An argument is invalid.
    #[error("{0}")]
    Invalid(String),
    /// A tag is invalid.
    #[error("{0}")]
    InvalidTag(String),
    /// The user metadata exceeds its size limit.
    #[error("user metadata has {bytes} bytes, names and values together; it may have {most}")]
    MetadataTooLarge {
        /// Actual size in bytes.
        bytes: usize,
        /// Maximum size in bytes.
        most: usize,
    },
    /// The bucket name is invalid.
    #[error("{0}")]
    InvalidBucketName(String),
    /// The object is archived and not restored.
    #[error("object {0:?} is archived; restore it first")]
    Archived(String),
    /// The object is not archived.
    #[error("object {0:?} is not archived, so there is nothing to restore")]
    NotArchived(String),
    /// A restore of the object is in progress.
    #[error("object {0:?} is being restored already")]
    RestoreInProgress(String),
    /// The copy would replace an object with itself, unchanged.
    #[error(
        "the object would be copied onto itself without a change; replace its metadata or change its storage class"
    )]
    CopyOntoItself,
    /// The append position is not the end of the object.
    #[error("the position is not the object's length, {0}")]
    WrongPosition(u64),
    /// The object is not appendable.
    #[error("object {0:?} was not made by appending, so nothing can be appended to it")]
    NotAppendable(String),
    /// The account has reached its quota of pending notices.
    #[error(
        "{0} notices of changes in this account's buckets wait for their functions, which is the maximum; try again later"
    )]
    OutboxFull(u64),
    /// The storage budget is exhausted.
    #[error(
        "buckets hold {used} bytes and may hold {budget}; remove objects, or raise the option bucket-store-mb"
    )]
    Full {
        /// Bytes in use.
        used: u64,
        /// Maximum in bytes.
        budget: u64,
    },
    /// The disk is full.
    #[error("the disk that holds the buckets is full; free some space, or remove objects")]
    NoSpace,
    /// The request body ended with an error.
    #[error("the request's body could not be read: {0}")]
    Body(String),
    /// The external storage failed or is unreachable.
    #[error("the S3 that holds the objects did not do it: {0}")]
    ExternalStorage(String),
    /// The store failed or is closed.
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
