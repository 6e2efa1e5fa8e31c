//! Rejects what a request asks for and the operation would silently ignore: preconditions, versions, owners, repeated
//! values.
//!
//! A client that says "only if" relies on it. So everything unsupported is rejected by name, for all operations alike.

use http::{HeaderMap, HeaderName, Method, Uri};
use s3s::{S3Result, s3_error};

use super::context::Dialect;
use crate::authorizer::Authorizer;

/// Returns the preconditions of writes that an operation supports.
fn supported_conditions(operation: &str) -> &'static [&'static str] {
    match operation {
        "PutObject" | "CreateMultipartUpload" | "CompleteMultipartUpload" => {
            &["if-match", "if-none-match"]
        }
        "CopyObject" => &[
            "if-match",
            "if-none-match",
            "x-amz-copy-source-if-match",
            "x-amz-copy-source-if-none-match",
            "x-amz-copy-source-if-modified-since",
            "x-amz-copy-source-if-unmodified-since",
        ],
        "UploadPartCopy" => &[
            "x-amz-copy-source-if-match",
            "x-amz-copy-source-if-none-match",
            "x-amz-copy-source-if-modified-since",
            "x-amz-copy-source-if-unmodified-since",
        ],
        "DeleteObject" => &[
            "if-match",
            "x-amz-if-match-last-modified-time",
            "x-amz-if-match-size",
        ],
        _ => &[],
    }
}

/// Headers of features that are not implemented, for any operation.
const NOT_SERVED: [&str; 6] = [
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-object-ownership",
    "x-amz-mfa",
    "x-amz-write-offset-bytes",
];
/// Headers that may be repeated.
const LISTS: [&str; 3] = [
    "x-amz-meta-",
    "x-amz-object-attributes",
    "x-amz-optional-object-attributes",
];

/// Operations that accept a version id.
const VERSIONED: [&str; 11] = [
    "DeleteObject",
    "DeleteObjectTagging",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectTagging",
    "HeadObject",
    "PutObjectAcl",
    "PutObjectTagging",
    "RestoreObject",
    "SelectObjectContent",
];

/// Checks a request before its operation.
///
/// # Errors
/// The first header or parameter that the operation would ignore.
pub(super) fn check(
    operation: &str,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    dialect: Dialect,
) -> S3Result<()> {
    let writes = method != Method::GET && method != Method::HEAD;
    let shown = |name: &HeaderName| match name.as_str().strip_prefix("x-amz-") {
        Some(rest) if dialect == Dialect::Cos => format!("x-cos-{rest}"),
        _ => name.as_str().to_owned(),
    };
    for name in headers.keys() {
        let is = |prefixes: &[&str]| prefixes.iter().any(|one| name.as_str().starts_with(one));
        if is(&NOT_SERVED) {
            return Err(s3_error!(
                NotImplemented,
                "{} is not implemented, and would not be kept; leave it out",
                shown(name)
            ));
        }
        let condition = is_condition(name.as_str());
        if writes && condition && !supported_conditions(operation).contains(&name.as_str()) {
            return Err(s3_error!(
                NotImplemented,
                "condition {} is not implemented for {operation}, and would not be held; leave it out",
                shown(name)
            ));
        }
        if !condition && (!is(&["x-amz-"]) || is(&LISTS)) {
            continue;
        }
        let mut values = headers.get_all(name).iter();
        let one = values.next().and_then(|value| value.to_str().ok());
        if one.is_none() || values.next().is_some() || (condition && one == Some("")) {
            return Err(s3_error!(
                InvalidArgument,
                "{} must be there once, as text",
                shown(name)
            ));
        }
    }
    let query = uri.query().unwrap_or_default();
    let mut names: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name)
        .collect();
    if names.iter().any(|name| name == "versionId") && !VERSIONED.contains(&operation) {
        return Err(s3_error!(
            InvalidArgument,
            "{operation} does not accept a version id"
        ));
    }
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(s3_error!(
            InvalidArgument,
            "parameter {} is there twice; send it once",
            pair[0]
        )),
        None => Ok(()),
    }
}

fn is_condition(name: &str) -> bool {
    name.starts_with("if-")
        || name.starts_with("x-amz-if-")
        || (name.starts_with("x-amz-") && name.contains("-source-if-"))
}

/// Rejects a request that expects another owner of the bucket.
pub(super) fn check_owner(
    authorizer: &dyn Authorizer,
    app_id: u64,
    expected: Option<&str>,
    name: &str,
) -> S3Result<()> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let owner = authorizer.owner(app_id);
    let uin = owner.rsplit('/').next().unwrap_or_default();
    if expected == app_id.to_string() || expected == owner || expected == uin {
        return Ok(());
    }
    Err(s3_error!(
        AccessDenied,
        "{name} is {expected:?}, and the bucket is another account's; an account is named by its AppId, or by its Uin"
    ))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use seeded::Random;

    use super::*;

    fn said(operation: &str, method: Method, uri: &str, headers: &[(&str, &str)]) -> String {
        let request = headers
            .iter()
            .fold(Request::builder().uri(uri), |request, (name, value)| {
                request.header(*name, *value)
            });
        let request = request.body(()).expect("a request");
        let checked = check(
            operation,
            &method,
            request.uri(),
            request.headers(),
            Dialect::S3,
        );
        checked.err().map_or(String::new(), |error| {
            error.message().unwrap_or_default().to_owned()
        })
    }

    #[test]
    fn conditions_are_applied_or_rejected_by_name() {
        let operations = [
            "PutObject",
            "CopyObject",
            "UploadPart",
            "UploadPartCopy",
            "DeleteObject",
            "DeleteObjects",
            "CreateMultipartUpload",
            "CompleteMultipartUpload",
            "AbortMultipartUpload",
            "PutObjectAcl",
            "PutObjectTagging",
            "DeleteObjectTagging",
            "RestoreObject",
            "CreateBucket",
            "DeleteBucket",
            "PutBucketAcl",
            "PutBucketCors",
            "PutBucketTagging",
            "PutBucketVersioning",
            "Another",
        ];
        let conditions = [
            "if-match",
            "if-none-match",
            "if-modified-since",
            "if-unmodified-since",
            "x-amz-if-match-size",
            "x-amz-copy-source-if-match",
            "x-amz-if-match-initiated-time",
            "x-amz-rename-source-if-match",
            "if-what-comes",
        ];
        for operation in operations {
            for condition in conditions {
                let found = said(operation, Method::PUT, "/b/k", &[(condition, "a")]);
                let expected = !supported_conditions(operation).contains(&condition);
                assert_eq!(
                    found.contains(condition),
                    expected,
                    "{operation} {condition}: {found}"
                );
                let twice = said(
                    operation,
                    Method::PUT,
                    "/b/k",
                    &[(condition, "a"), (condition, "b")],
                );
                assert!(
                    twice.contains(condition),
                    "{operation} {condition}: {twice}"
                );
            }
        }
        assert_eq!(
            said("GetObject", Method::GET, "/b/k", &[("if-match", "a")]),
            ""
        );
    }

    #[test]
    fn requests_with_ignored_headers_are_rejected() {
        for (operation, uri, headers, part) in [
            ("PutObject", "/b/k?versionId=1", vec![], "version id"),
            ("GetObject", "/b/k?versionId=1&versionId=2", vec![], "twice"),
            (
                "PutObject",
                "/b/k",
                vec![("x-amz-acl", "private"), ("x-amz-acl", "public-read")],
                "x-amz-acl",
            ),
            (
                "PutObject",
                "/b/k",
                vec![("x-amz-server-side-encryption", "AES256")],
                "server-side-encryption",
            ),
            (
                "PutObject",
                "/b/k",
                vec![("x-amz-server-side-encryption-aws-kms-key-id", "a")],
                "kms-key-id",
            ),
            (
                "CreateBucket",
                "/b",
                vec![("x-amz-object-ownership", "ObjectWriter")],
                "ownership",
            ),
            (
                "GetObject",
                "/b/k?versionId=1",
                vec![("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")],
                "",
            ),
        ] {
            let method = if operation == "GetObject" {
                Method::GET
            } else {
                Method::PUT
            };
            let found = said(operation, method, uri, &headers);
            assert_eq!(
                found.is_empty(),
                part.is_empty(),
                "{operation} {uri}: {found}"
            );
            assert!(found.contains(part), "{operation} {uri}: {found}");
        }
    }

    #[test]
    fn mutated_conditions_are_applied_or_rejected() {
        for seed in 1..5000 {
            let mut rng = Random::new(seed);
            let name = [
                "if-match",
                "if-none-match",
                "x-amz-if-match-size",
                "x-amz-copy-source-if-match",
            ][rng.index(4)];
            let name = rng.mutated_text(name);
            let value = rng.mutated(b"\"0123456789abcdef\"");
            let mut request = Request::put("/b/k?versionId=1");
            if let (Ok(name), Ok(value)) = (
                HeaderName::try_from(&name),
                http::HeaderValue::from_bytes(&value),
            ) {
                request = request.header(name, value);
            }
            let Ok(request) = request.body(()) else {
                continue;
            };
            for operation in ["PutObject", "DeleteObject", "PutObjectAcl"] {
                let taken = check(
                    operation,
                    request.method(),
                    request.uri(),
                    request.headers(),
                    Dialect::S3,
                );
                let conditions = request
                    .headers()
                    .keys()
                    .map(HeaderName::as_str)
                    .filter(|name| is_condition(name));
                let honours = conditions
                    .into_iter()
                    .all(|name| supported_conditions(operation).contains(&name));
                assert!(taken.is_err() || honours, "seed {seed}: {operation} {name}");
            }
        }
    }
}
