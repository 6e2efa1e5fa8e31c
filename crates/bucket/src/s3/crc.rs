//! COS's CRC-64 in answers, and digests in requests.

use http::{HeaderName, HeaderValue};
use s3s::{S3Response, s3_error};

use super::errors::to_s3_error;
use crate::error::StoreError;
use crate::store::{Object, ObjectKind};

/// COS's CRC-64, sent in both dialects.
pub(super) const CRC64: HeaderName = HeaderName::from_static("x-cos-hash-crc64ecma");
const OBJECT_TYPE: HeaderName = HeaderName::from_static("x-cos-object-type");
const NEXT_POSITION: HeaderName = HeaderName::from_static("x-cos-next-append-position");

pub(super) fn digest(why: StoreError) -> s3s::S3Error {
    match why {
        StoreError::Invalid(message) => s3_error!(InvalidDigest, "{message}"),
        other => to_s3_error(other),
    }
}

/// Adds COS's headers of an object, which are harmless in S3's dialect.
pub(super) fn with_crc<T>(mut response: S3Response<T>, object: &Object) -> S3Response<T> {
    response
        .headers
        .insert(CRC64, HeaderValue::from(object.crc64));
    let kind = match object.kind {
        ObjectKind::Appendable => "appendable",
        _ => "normal",
    };
    let headers = &mut response.headers;
    headers.insert(OBJECT_TYPE, HeaderValue::from_static(kind));
    if object.kind == ObjectKind::Appendable {
        headers.insert(NEXT_POSITION, HeaderValue::from(object.size));
    }
    response
}
