//! COS's append operation, which S3 does not have.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use s3s::Body;

use crate::authorizer::Principal;
use crate::core::Core;
use crate::error::StoreError;
use crate::error_response::ErrorResponse;
use crate::names::ObjectKey;
use crate::request_head::RequestHead;
use crate::store::{Acl, Meta, Object, ObjectKind, Put, StorageClass};

const NEXT: HeaderName = HeaderName::from_static("x-cos-next-append-position");

/// Appends the body at the requested position. Source: COS's page "APPEND Object".
pub(crate) async fn append(
    core: &Core,
    head: &RequestHead,
    parts: &Parts,
    principal: Option<&Principal>,
    body: Body,
) -> Result<Response<Body>, ErrorResponse> {
    check(&parts.headers)?;
    let bucket = core.bucket(head, principal)?;
    let (_, key) = head.target();
    let key = ObjectKey::parse(&key).map_err(|why| invalid(&why.to_string()))?;
    let position = head.get("position").and_then(|text| text.parse().ok());
    let position =
        position.ok_or_else(|| invalid("position must be the object's length, in bytes"))?;
    core.authorize_write(principal, "AppendObject", &bucket, &key)?;
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    core.store
        .check_capacity(length.unwrap_or_default())
        .map_err(refused)?;
    let staged = core.store.stage(body, &[]).await.map_err(refused)?;
    if let Some(md5) = parts
        .headers
        .get("content-md5")
        .and_then(|value| value.to_str().ok())
    {
        staged.check_md5(md5).map_err(refused)?;
    }
    let text = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let tags = text("x-cos-tagging").unwrap_or_default();
    let put = Put {
        meta: meta(&parts.headers, &key),
        tags: form_urlencoded::parse(tags.as_bytes())
            .into_owned()
            .collect(),
        acl: acl(text("x-cos-acl"))?,
        class: StorageClass::parse(text("x-cos-storage-class").unwrap_or_default())
            .map_err(refused)?,
        ..Put::default()
    };
    let change = head.change(principal);
    let appended = core
        .store
        .append(&bucket, &key, position, staged, put, change)
        .await;
    let appended = appended.map_err(refused)?;
    let object = appended.object;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.extend(object_headers(&object));
    headers.insert(NEXT, HeaderValue::from(appended.next_position));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", object.etag)) {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Beginnings of the headers that have a meaning in COS or S3 and that an append does not hold, without `x-cos-`. A header
/// without a meaning is ignored, as COS does.
const NOT_HELD: [&str; 18] = [
    "bucket-",
    "callback",
    "checksum-",
    "content-sha1",
    "copy-source",
    "expected-bucket-owner",
    "forbid-overwrite",
    "grant-",
    "if-",
    "metadata-directive",
    "mfa",
    "object-",
    "request-payer",
    "sdk-checksum-",
    "server-side-encryption",
    "source-",
    "website-redirect-location",
    "write-offset-bytes",
];

/// Rejects headers that an append would drop, such as conditions.
fn check(headers: &HeaderMap) -> Result<(), ErrorResponse> {
    let dropped = headers.keys().map(HeaderName::as_str).find(|name| {
        let is_dropped = |rest: &str| NOT_HELD.iter().any(|one| rest.starts_with(one));
        name.starts_with("if-")
            || name.starts_with("x-amz-")
            || *name == "pic-operations"
            || name.strip_prefix("x-cos-").is_some_and(is_dropped)
    });
    match dropped {
        Some(name) => Err(ErrorResponse::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!("{name} is not implemented for an append, and would not be held; leave it out"),
        )),
        None => Ok(()),
    }
}

/// Parses a canned ACL in either dialect. `None` inherits the bucket's.
pub(crate) fn acl(name: Option<&str>) -> Result<Option<Acl>, ErrorResponse> {
    crate::s3::canned(name).map_err(ErrorResponse::from)
}

/// Returns the headers that COS adds to every object.
pub(crate) fn object_headers(object: &Object) -> HeaderMap {
    let kind = match object.kind {
        ObjectKind::Appendable => "appendable",
        ObjectKind::Normal | ObjectKind::Multipart(_) => "normal",
    };
    HeaderMap::from_iter([
        (
            HeaderName::from_static("x-cos-hash-crc64ecma"),
            HeaderValue::from(object.crc64),
        ),
        (
            HeaderName::from_static("x-cos-object-type"),
            HeaderValue::from_static(kind),
        ),
    ])
}

/// Builds the metadata from a request's headers.
fn meta(headers: &HeaderMap, key: &ObjectKey) -> Meta {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let user = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-cos-meta-")?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    Meta {
        content_type: text("content-type").or_else(|| Some(super::content_type(key.as_str()))),
        cache_control: text("cache-control"),
        content_disposition: text("content-disposition"),
        content_encoding: text("content-encoding"),
        content_language: text("content-language"),
        expires: text("expires"),
        redirect: None,
        user: user.collect(),
    }
}

fn invalid(message: &str) -> ErrorResponse {
    ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
}

fn refused(error: StoreError) -> ErrorResponse {
    crate::s3::to_s3_error(error).into()
}
