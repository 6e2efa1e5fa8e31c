//! Version 2 of S3's signature: HMAC-SHA1 over the method, `x-amz-` headers, the path and some query parameters.
//!
//! It is accepted where it expires: in URLs (`Expires`) and in forms (the policy's expiration). boto3 uses it by
//! default in `us-east-1`. Source: S3's page "Signing and authenticating REST requests (Signature Version 2)".

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{StatusCode, Uri};
use s3s::S3ErrorCode;
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::{PREFIX, not_signed};
use crate::error_response::ErrorResponse;

const KEY: &str = "AWSAccessKeyId";
const EXPIRES: &str = "Expires";
const SIGNATURE: &str = "Signature";
const TOKEN: &str = "x-amz-security-token";
/// Signed headers without the prefix. boto3 puts them into a URL's query.
const STANDARD_HEADERS: [&str; 2] = ["content-md5", "content-type"];

/// Signed query parameters.
const SIGNED: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// A parsed presigned URL.
#[derive(Debug)]
pub(crate) struct SignedUrl {
    /// Id of the access key.
    pub(crate) key_id: String,
    /// Session token.
    pub(crate) token: Option<String>,
    expires: String,
    signature: String,
    /// Signed parameters, decoded; `None` for those without a value.
    resource: BTreeMap<String, Option<String>>,
    /// Signed headers, from the request and the query.
    headers: BTreeMap<String, String>,
}

impl SignedUrl {
    /// Parses a request.
    ///
    /// # Errors
    /// A part is missing, repeated, or not covered by the signature.
    pub(crate) fn read(parts: &Parts) -> Result<Self, ErrorResponse> {
        let mut headers = signed_headers(&parts.headers)?;
        let (mut own, mut resource, mut unsigned) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for pair in pairs(&parts.uri) {
            let (name, value) = pair;
            let twice = if [KEY, EXPIRES, SIGNATURE].contains(&name.as_str()) {
                own.insert(name.clone(), value.unwrap_or_default())
                    .is_some()
            } else if is_header(&name) {
                // boto3 puts it into the query; S3 requires a header.
                let value = value.unwrap_or_default();
                let before = headers.insert(name.clone(), value.clone());
                before.is_some_and(|before| before != value)
            } else if SIGNED.contains(&name.as_str()) {
                resource.insert(name.clone(), value).is_some()
            } else {
                unsigned.push(name.clone());
                false
            };
            if twice {
                return Err(invalid(&format!("{name} is there twice; send it once")));
            }
        }
        if !unsigned.is_empty() {
            return Err(not_signed(
                "parameters (of which version 2 signs few; make the URL with version 4)",
                &unsigned.join(", "),
            ));
        }
        let mut take = |name: &str| {
            own.remove(name).filter(|value| !value.is_empty()).ok_or_else(|| {
                invalid(&format!("the URL has no {name}; a signature of version 2 has {KEY}, {EXPIRES} and {SIGNATURE}"))
            })
        };
        Ok(Self {
            key_id: take(KEY)?,
            expires: take(EXPIRES)?,
            signature: take(SIGNATURE)?,
            token: headers.get(TOKEN).cloned(),
            resource,
            headers,
        })
    }

    /// Verifies the signature. `bucket` is the one in the host name.
    pub(crate) fn verify(
        &self,
        secret: &str,
        parts: &Parts,
        bucket: Option<&str>,
        now: i64,
    ) -> Result<(), ErrorResponse> {
        let until: i64 = self.expires.parse().map_err(|_| {
            invalid(&format!(
                "{EXPIRES} is {:?}; it is a time in seconds",
                self.expires
            ))
        })?;
        if now > until {
            let message = "Request has expired";
            return Err(ErrorResponse::new(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                message,
            ));
        }
        let text = self.text(parts, bucket);
        if matches(secret, &text, &self.signature) {
            Ok(())
        } else {
            Err(S3ErrorCode::SignatureDoesNotMatch.into())
        }
    }

    /// Returns the string to sign.
    fn text(&self, parts: &Parts, bucket: Option<&str>) -> String {
        let standard = |name: &str| self.headers.get(name).map_or("", String::as_str);
        let [md5, kind] = STANDARD_HEADERS.map(standard);
        let mut text = format!("{}\n{md5}\n{kind}\n{}\n", parts.method, self.expires);
        for (name, value) in &self.headers {
            if name.starts_with(PREFIX) {
                text.push_str(&format!("{name}:{value}\n"));
            }
        }
        if let Some(bucket) = bucket {
            text.push_str(&format!("/{bucket}"));
        }
        text.push_str(parts.uri.path());
        let mut separator = '?';
        for (name, value) in &self.resource {
            text.push(separator);
            text.push_str(name);
            if let Some(value) = value {
                text.push_str(&format!("={value}"));
            }
            separator = '&';
        }
        text
    }

    /// Copies the signed headers out of the query, and removes the signature.
    pub(crate) fn strip(&self, parts: &mut Parts) -> Result<(), http::Error> {
        let query = parts.uri.query().unwrap_or_default();
        let remaining: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.is_empty() && SIGNED.contains(&pair_of(pair).0.as_str()))
            .collect();
        let text = if remaining.is_empty() {
            parts.uri.path().to_owned()
        } else {
            format!("{}?{}", parts.uri.path(), remaining.join("&"))
        };
        parts.uri = Uri::from(PathAndQuery::try_from(text)?);
        for (name, value) in &self.headers {
            if name == TOKEN {
                continue;
            }
            let name = HeaderName::try_from(name)?;
            // A repeated header of the request stays as it is.
            if !parts.headers.contains_key(&name) {
                parts.headers.insert(name, HeaderValue::try_from(value)?);
            }
        }
        Ok(())
    }
}

/// Verifies the signature of a form's policy.
pub(crate) fn matches(secret: &str, text: &str, signature: &str) -> bool {
    // HMAC accepts keys of any length, so this cannot fail.
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    let made = STANDARD.encode(mac.chain_update(text.as_bytes()).finalize().into_bytes());
    made.as_bytes().ct_eq(signature.as_bytes()).into()
}

fn is_header(name: &str) -> bool {
    name.starts_with(PREFIX) || STANDARD_HEADERS.contains(&name)
}

fn signed_headers(headers: &HeaderMap) -> Result<BTreeMap<String, String>, ErrorResponse> {
    let mut signed = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        if !is_header(name.as_str()) || (name == CONTENT_TYPE && value.is_empty()) {
            continue;
        }
        let text = value
            .to_str()
            .map_err(|_| invalid(&format!("header {name} is not text")))?
            .trim();
        signed
            .entry(name.as_str().to_owned())
            .and_modify(|before| *before = format!("{before},{text}"))
            .or_insert_with(|| text.to_owned());
    }
    Ok(signed)
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, Option<String>)> {
    let query = uri.query().unwrap_or_default();
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(pair_of)
}

fn pair_of(pair: &str) -> (String, Option<String>) {
    let decoded = |text: &str| crate::percent::decode(&text.replace('+', " "));
    match pair.split_once('=') {
        Some((name, value)) => (decoded(name), Some(decoded(value))),
        None => (decoded(pair), None),
    }
}

fn invalid(message: &str) -> ErrorResponse {
    ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use seeded::Random;

    use super::*;

    /// Example key from S3's page.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const NOW: i64 = 1_175_139_000;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers
            .iter()
            .fold(Request::builder().uri(uri), |request, (name, value)| {
                request.header(*name, *value)
            });
        request.body(()).expect("a request").into_parts().0
    }

    /// Source: the example URL on S3's page.
    #[test]
    fn published_s3_example_verifies() {
        let uri = "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1175139620&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D";
        let given = parts(uri, &[]);
        let url = SignedUrl::read(&given).expect("read");
        let verify = |now| url.verify(SECRET, &given, Some("johnsmith"), now);
        assert_eq!(verify(NOW), Ok(()));
        assert_eq!(
            verify(1_175_139_621).expect_err("refused").code,
            "AccessDenied"
        );
        let other = url.verify(SECRET, &given, Some("another"), NOW);
        assert_eq!(other.expect_err("refused").code, "SignatureDoesNotMatch");
    }

    #[test]
    fn uncovered_parameters_are_rejected() {
        let base = "/b/k?AWSAccessKeyId=a&Expires=1175139620&Signature=s";
        for (more, code, named) in [
            ("&prefix=a", "AccessDenied", "prefix"),
            ("&attributes", "AccessDenied", "attributes"),
            ("&Expires=9999999999", "InvalidArgument", "Expires"),
            ("&acl&acl=", "InvalidArgument", "acl"),
        ] {
            let refused =
                SignedUrl::read(&parts(&format!("{base}{more}"), &[])).expect_err("refused");
            assert_eq!(refused.code, code, "{more}");
            assert!(
                refused.message.contains(named),
                "{more}: {}",
                refused.message
            );
        }
        let missing = SignedUrl::read(&parts("/b/k?Signature=s", &[])).expect_err("refused");
        assert!(missing.message.contains("AWSAccessKeyId"));
        let twice = format!("{base}&x-amz-acl=private");
        let refused = SignedUrl::read(&parts(&twice, &[("x-amz-acl", "public-read")]));
        assert_eq!(refused.expect_err("refused").code, "InvalidArgument");
    }

    #[test]
    fn query_headers_become_headers() {
        let uri = "/b/k?acl&AWSAccessKeyId=a&Expires=1&Signature=s&x-amz-acl=private&content-type=text%2Fplain&x-amz-security-token=t";
        let mut given = parts(uri, &[]);
        let url = SignedUrl::read(&given).expect("read");
        assert_eq!(url.token.as_deref(), Some("t"));
        url.strip(&mut given).expect("stripped");
        assert_eq!(given.uri, "/b/k?acl");
        assert_eq!(given.headers["x-amz-acl"], "private");
        assert_eq!(given.headers["content-type"], "text/plain");
        assert_eq!(given.headers.len(), 2);
    }

    #[test]
    fn mutated_signed_urls_never_verify() {
        const GOOD: &str = "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1175139620&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D";
        let same = |uri: &Uri| {
            // Compares regardless of spelling and order, and of the key id.
            let pairs: Vec<_> = pairs(uri).filter(|(name, _)| name != KEY).collect();
            let good: Uri = GOOD.parse().expect("a URI");
            let mut words: Vec<_> = self::pairs(&good).filter(|(name, _)| name != KEY).collect();
            words.sort();
            let mut given = pairs;
            given.sort();
            uri.path() == good.path() && given == words
        };
        for seed in 1..10_000 {
            let mut rng = Random::new(seed);
            let text = rng.mutated_text(GOOD);
            let Ok(uri) = text.parse::<Uri>() else {
                continue;
            };
            let mut given = parts("/", &[]);
            given.uri = uri;
            let Ok(url) = SignedUrl::read(&given) else {
                continue;
            };
            let verified = url.verify(SECRET, &given, Some("johnsmith"), NOW).is_ok();
            assert!(!verified || same(&given.uri), "seed {seed}: {text}");
            let _ = url.strip(&mut given);
        }
    }
}
