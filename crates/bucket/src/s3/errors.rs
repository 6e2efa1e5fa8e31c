//! The mapping of store errors to S3 error codes.

use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode};
use tracing::{error, warn};

use super::dates::timestamp;
use crate::error::StoreError;

/// Converts a store error to the client's error.
#[expect(clippy::too_many_lines, reason = "one arm for each error")]
pub(crate) fn to_s3_error(why: StoreError) -> S3Error {
    let message = why.to_string();
    let mut headers = HeaderMap::new();
    let code = match &why {
        StoreError::NoSuchBucket(_) => S3ErrorCode::NoSuchBucket,
        StoreError::BucketExists(_) => S3ErrorCode::BucketAlreadyOwnedByYou,
        StoreError::BucketNotEmpty(_) => S3ErrorCode::BucketNotEmpty,
        StoreError::TooManyBuckets(_) => S3ErrorCode::TooManyBuckets,
        StoreError::NoSuchKey(_) => S3ErrorCode::NoSuchKey,
        StoreError::Hidden { version, .. } => {
            marker(&mut headers, version);
            S3ErrorCode::NoSuchKey
        }
        StoreError::IsMarker(version) => {
            marker(&mut headers, version);
            S3ErrorCode::MethodNotAllowed
        }
        StoreError::NoSuchVersion(_) => S3ErrorCode::NoSuchVersion,
        StoreError::NoSuchUpload(_) => S3ErrorCode::NoSuchUpload,
        StoreError::InvalidPart(_) => S3ErrorCode::InvalidPart,
        StoreError::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
        StoreError::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
        StoreError::InvalidPartNumber(_) => {
            return custom(
                "InvalidPartNumber",
                StatusCode::RANGE_NOT_SATISFIABLE,
                message,
            );
        }
        StoreError::PreconditionFailed(_) => S3ErrorCode::PreconditionFailed,
        StoreError::NotModified { etag, modified_ms } => {
            insert(&mut headers, "etag", &format!("\"{etag}\""));
            insert(
                &mut headers,
                "last-modified",
                &http_date(&timestamp(*modified_ms)),
            );
            S3ErrorCode::NotModified
        }
        StoreError::InvalidRange(size) => {
            insert(&mut headers, "content-range", &format!("bytes */{size}"));
            S3ErrorCode::InvalidRange
        }
        StoreError::BadDigest(_) => S3ErrorCode::BadDigest,
        StoreError::TooLarge(_) => S3ErrorCode::EntityTooLarge,
        StoreError::Invalid(_) => S3ErrorCode::InvalidArgument,
        StoreError::InvalidTag(_) => S3ErrorCode::InvalidTag,
        StoreError::MetadataTooLarge { .. } => S3ErrorCode::MetadataTooLarge,
        StoreError::InvalidBucketName(_) => S3ErrorCode::InvalidBucketName,
        StoreError::Archived(_) | StoreError::NotArchived(_) => S3ErrorCode::InvalidObjectState,
        StoreError::RestoreInProgress(_) => S3ErrorCode::RestoreAlreadyInProgress,
        StoreError::CopyOntoItself => S3ErrorCode::InvalidRequest,
        StoreError::WrongPosition(length) => {
            let mut refused = custom("PositionNotEqualToLength", StatusCode::CONFLICT, message);
            insert(&mut headers, "content-type", "application/xml");
            insert(
                &mut headers,
                "x-cos-next-append-position",
                &length.to_string(),
            );
            refused.set_headers(headers);
            return refused;
        }
        StoreError::NotAppendable(_) => {
            return custom("ObjectNotAppendable", StatusCode::CONFLICT, message);
        }
        StoreError::TooManyUploads(_) | StoreError::OutboxFull(_) => S3ErrorCode::SlowDown,
        StoreError::Malformed(_) => S3ErrorCode::MalformedXML,
        StoreError::Full { .. } | StoreError::NoSpace => {
            return custom(
                "InsufficientStorage",
                StatusCode::INSUFFICIENT_STORAGE,
                message,
            );
        }
        StoreError::Body(why) => return broken(why, message),
        StoreError::ExternalStorage(why) => {
            warn!(error = %why, "a bucket request failed: the external storage is unavailable");
            let message = "the S3 that holds the objects cannot be reached, or failed. Try again";
            return S3Error::with_message(S3ErrorCode::ServiceUnavailable, message);
        }
        StoreError::Unavailable(why) => {
            error!(error = %why, "a bucket request failed: the object store is unavailable");
            let message = "the object store could not do this; its log says why. Try again";
            return S3Error::with_message(S3ErrorCode::InternalError, message);
        }
    };
    let mut refused = S3Error::with_message(code, message);
    if !headers.is_empty() {
        insert(&mut headers, "content-type", "application/xml");
        refused.set_headers(headers);
    }
    refused
}

fn custom(code: &'static str, status: StatusCode, message: String) -> S3Error {
    let mut refused = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    refused.set_status_code(status);
    refused
}

/// Recognizes errors of `s3s` from verifying a body while it is read.
fn broken(why: &str, message: String) -> S3Error {
    if why.contains("Sha256Mismatch") {
        let message = "x-amz-content-sha256 does not match the bytes that arrived; send them again"
            .to_owned();
        return custom(
            "XAmzContentSHA256Mismatch",
            StatusCode::BAD_REQUEST,
            message,
        );
    }
    if why.contains("SignatureMismatch") {
        let message = "the signature of a chunk of the body is wrong";
        return S3Error::with_message(S3ErrorCode::SignatureDoesNotMatch, message);
    }
    S3Error::with_message(S3ErrorCode::IncompleteBody, message)
}

fn marker(headers: &mut HeaderMap, version: &str) {
    insert(headers, "x-amz-delete-marker", "true");
    insert(headers, "x-amz-version-id", version);
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn http_date(at: &Timestamp) -> String {
    let mut text = Vec::new();
    // Writing to a buffer cannot fail.
    let _ = at.format(TimestampFormat::HttpDate, &mut text);
    String::from_utf8(text).unwrap_or_default()
}
