//! Conversions between the types of `s3s` and those of the store.

use http::HeaderMap;
use s3s::dto::{self, ETag, ETagCondition, StreamingBlob, Timestamp};
use s3s::{S3Request, S3Result, s3_error};

use super::dates::{http_date, seconds, timestamp};
use super::errors::to_s3_error;
use crate::names::VersionId;
use crate::store::{
    Acl, ByteRange, ChecksumKind, Checksums, Object, PutConditions, ReadConditions, Restore,
    StorageClass, Tags,
};

pub(super) fn etag(object: &Object) -> Option<ETag> {
    Some(ETag::Strong(object.etag.clone()))
}

pub(super) fn condition(condition: Option<ETagCondition>) -> Option<String> {
    condition.map(|condition| match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(etag) => etag.into_value(),
    })
}

/// Reads preconditions of a write that `s3s` does not parse for its operation.
pub(super) fn put_conditions(headers: &HeaderMap) -> PutConditions {
    let tag = |name: http::HeaderName| {
        let text = headers.get(name)?.to_str().ok()?.trim();
        Some(text.trim_matches('"').to_owned())
    };
    PutConditions {
        if_match: tag(http::header::IF_MATCH),
        if_none_match: tag(http::header::IF_NONE_MATCH),
    }
}

pub(super) fn conditions(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<&Timestamp>,
    if_unmodified_since: Option<&Timestamp>,
) -> ReadConditions {
    ReadConditions {
        if_match: condition(if_match).map(|tag| vec![tag]),
        if_none_match: condition(if_none_match).map(|tag| vec![tag]),
        if_modified_since: if_modified_since.and_then(seconds),
        if_unmodified_since: if_unmodified_since.and_then(seconds),
    }
}

pub(super) fn range(range: Option<dto::Range>) -> Option<ByteRange> {
    range.map(|range| match range {
        dto::Range::Int { first, last } => ByteRange::From(first, last),
        dto::Range::Suffix { length } => ByteRange::Last(length),
    })
}

pub(super) fn version(version: Option<&str>) -> S3Result<Option<VersionId>> {
    let Some(text) = version.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match VersionId::parse(text) {
        Some(version) => Ok(Some(version)),
        None => Err(s3_error!(
            InvalidArgument,
            "version id {text:?} is not one that a version can have"
        )),
    }
}

/// Returns the version id for a response. `None` if the bucket was never versioned.
pub(super) fn shown_version(
    object: &Object,
    versioning: crate::store::Versioning,
) -> Option<String> {
    (versioning != crate::store::Versioning::Off).then(|| object.version().to_string())
}

pub(super) fn class(class: Option<&str>) -> S3Result<StorageClass> {
    StorageClass::parse(class.unwrap_or_default())
        .map_err(|e| s3_error!(InvalidStorageClass, "{e}"))
}

/// Returns the storage class for a response. `None` for the standard class.
pub(super) fn shown_class(object: &Object) -> Option<dto::StorageClass> {
    (object.class != StorageClass::Standard).then(|| object.class.as_str().to_owned().into())
}

/// Parses a canned ACL.
pub(crate) fn acl(acl: Option<&str>) -> S3Result<Option<Acl>> {
    Ok(match acl {
        None | Some("" | "default") => None,
        Some("private" | "bucket-owner-full-control" | "bucket-owner-read") => Some(Acl::Private),
        Some("public-read") => Some(Acl::PublicRead),
        Some("public-read-write") => Some(Acl::PublicReadWrite),
        Some("authenticated-read") => Some(Acl::AuthenticatedRead),
        Some(other) => {
            return Err(s3_error!(
                InvalidArgument,
                "access list {other:?} is not known; use private, public-read, public-read-write, authenticated-read or, for \
                 objects, default"
            ));
        }
    })
}

/// Parses tags of the form `a=1&b=2`.
pub(super) fn tags(header: Option<&str>) -> Tags {
    let header = header.unwrap_or_default();
    form_urlencoded::parse(header.as_bytes())
        .into_owned()
        .collect()
}

pub(super) fn tag_set(tags: Vec<dto::Tag>) -> Tags {
    let pairs = tags.into_iter();
    pairs
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))
        .collect()
}

/// Returns tags sorted by key.
pub(super) fn shown_tags(tags: &Tags) -> Vec<dto::Tag> {
    let mut pairs: Vec<_> = tags.iter().collect();
    pairs.sort();
    pairs
        .into_iter()
        .map(|(key, value)| dto::Tag {
            key: Some(key.clone()),
            value: Some(value.clone()),
        })
        .collect()
}

/// Formats `x-amz-restore`.
pub(super) fn restore(object: &Object) -> Option<String> {
    match object.restore? {
        Restore::Ongoing { .. } => Some("ongoing-request=\"true\"".to_owned()),
        Restore::Until(until) => {
            let date = http_date(&timestamp(until))?;
            Some(format!("ongoing-request=\"false\", expiry-date=\"{date}\""))
        }
    }
}

/// Returns the announced checksums, from headers and trailers.
pub(super) fn announced<T>(request: &S3Request<T>) -> Checksums {
    let mut sums = from_headers(&request.headers);
    let trailers = request.extensions.get::<super::chunked::Trailers>();
    if let Some(trailers) = trailers
        && let Some(trailing) = trailers.read(from_headers)
    {
        sums.crc32 = sums.crc32.or(trailing.crc32);
        sums.crc32c = sums.crc32c.or(trailing.crc32c);
        sums.crc64nvme = sums.crc64nvme.or(trailing.crc64nvme);
        sums.sha1 = sums.sha1.or(trailing.sha1);
        sums.sha256 = sums.sha256.or(trailing.sha256);
    }
    sums
}

fn from_headers(headers: &HeaderMap) -> Checksums {
    let get = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    Checksums {
        crc32: get("x-amz-checksum-crc32"),
        crc32c: get("x-amz-checksum-crc32c"),
        crc64nvme: get("x-amz-checksum-crc64nvme"),
        sha1: get("x-amz-checksum-sha1"),
        sha256: get("x-amz-checksum-sha256"),
        composite: false,
    }
}

/// Returns the checksums to compute: announced in headers or trailers, or requested.
pub(super) fn kinds(headers: &HeaderMap) -> S3Result<Vec<ChecksumKind>> {
    let mut kinds = Vec::new();
    let get = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let names = [
        ("x-amz-checksum-crc32", ChecksumKind::Crc32),
        ("x-amz-checksum-crc32c", ChecksumKind::Crc32c),
        ("x-amz-checksum-crc64nvme", ChecksumKind::Crc64Nvme),
        ("x-amz-checksum-sha1", ChecksumKind::Sha1),
        ("x-amz-checksum-sha256", ChecksumKind::Sha256),
    ];
    let trailers = get("x-amz-trailer");
    for (name, kind) in names {
        let trails = trailers
            .split(',')
            .any(|trailer| trailer.trim().eq_ignore_ascii_case(name));
        if headers.contains_key(name) || trails {
            kinds.push(kind);
        }
    }
    for asked in ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"] {
        if let Some(kind) = kind(get(asked))?
            && !kinds.contains(&kind)
        {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

pub(super) fn kind(name: &str) -> S3Result<Option<ChecksumKind>> {
    Ok(Some(match name {
        "" => return Ok(None),
        "CRC32" => ChecksumKind::Crc32,
        "CRC32C" => ChecksumKind::Crc32c,
        "CRC64NVME" => ChecksumKind::Crc64Nvme,
        "SHA1" => ChecksumKind::Sha1,
        "SHA256" => ChecksumKind::Sha256,
        other => {
            return Err(s3_error!(
                InvalidRequest,
                "checksum algorithm {other:?} is not known; use CRC32, CRC32C, CRC64NVME, SHA1 or SHA256"
            ));
        }
    }))
}

pub(super) fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Crc32 => "CRC32",
        ChecksumKind::Crc32c => "CRC32C",
        ChecksumKind::Crc64Nvme => "CRC64NVME",
        ChecksumKind::Sha1 => "SHA1",
        ChecksumKind::Sha256 => "SHA256",
    }
}

pub(super) fn checksum_type(sums: &Checksums) -> Option<dto::ChecksumType> {
    let name = if sums.composite {
        "COMPOSITE"
    } else {
        "FULL_OBJECT"
    };
    (!sums.is_empty()).then(|| name.to_owned().into())
}

/// Returns the algorithms of an object's checksums, for lists.
pub(super) fn checksum_algorithms(sums: &Checksums) -> Option<Vec<dto::ChecksumAlgorithm>> {
    let rows = [
        (&sums.crc32, ChecksumKind::Crc32),
        (&sums.crc32c, ChecksumKind::Crc32c),
        (&sums.crc64nvme, ChecksumKind::Crc64Nvme),
        (&sums.sha1, ChecksumKind::Sha1),
        (&sums.sha256, ChecksumKind::Sha256),
    ];
    let there = rows.iter().filter(|(sum, _)| sum.is_some());
    let names = there.map(|(_, kind)| kind_name(*kind).to_owned().into());
    (!sums.is_empty()).then(|| names.collect())
}

/// Sets the checksum fields of an output.
macro_rules! put_sums {
    ($output:expr, $sums:expr) => {{
        let sums = $sums.clone();
        $output.checksum_crc32 = sums.crc32;
        $output.checksum_crc32c = sums.crc32c;
        $output.checksum_crc64nvme = sums.crc64nvme;
        $output.checksum_sha1 = sums.sha1;
        $output.checksum_sha256 = sums.sha256;
    }};
}
pub(super) use put_sums;

/// Takes the metadata out of an input.
macro_rules! meta {
    ($input:expr, $extensions:expr) => {
        crate::store::Meta {
            content_type: $input
                .content_type
                .take()
                .map(|content_type| content_type.to_string())
                .filter(|content_type| !content_type.is_empty())
                .or_else(|| $crate::s3::context::default_type(&$extensions, &$input.key)),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $crate::s3::convert::encoding($input.content_encoding.take()),
            content_language: $input.content_language.take(),
            expires: $crate::s3::lenient::expires(&$extensions),
            redirect: $input.website_redirect_location.take(),
            user: $input
                .metadata
                .take()
                .unwrap_or_default()
                .into_iter()
                .collect(),
        }
    };
}
pub(super) use meta;

/// Removes `aws-chunked`, which only concerns the request, from a content encoding.
pub(super) fn encoding(encoding: Option<String>) -> Option<String> {
    let encoding = encoding?;
    let kept: Vec<_> = encoding
        .split(',')
        .map(str::trim)
        .filter(|one| *one != "aws-chunked")
        .collect();
    (!kept.is_empty() && encoding != "aws-chunked").then(|| kept.join(", "))
}

/// Returns the body as a stream, empty if there is none.
pub(super) fn body(body: Option<StreamingBlob>) -> StreamingBlob {
    body.unwrap_or_else(|| s3s::Body::empty().into())
}

pub(super) fn part_number(number: Option<i32>) -> S3Result<Option<u32>> {
    let Some(number) = number else {
        return Ok(None);
    };
    match u32::try_from(number) {
        Ok(number) if (1..=10_000).contains(&number) => Ok(Some(number)),
        _ => Err(to_s3_error(crate::StoreError::Invalid(format!(
            "partNumber is {number}; it may be 1 to 10000"
        )))),
    }
}

/// Returns the name of a checksum's coverage.
pub(super) fn type_name(full_object: bool) -> dto::ChecksumType {
    let name = if full_object {
        "FULL_OBJECT"
    } else {
        "COMPOSITE"
    };
    name.to_owned().into()
}
