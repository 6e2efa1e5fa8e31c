//! COS's signature: HMAC-SHA1 over the method, the path, and the headers and parameters that the signer lists.
//!
//! It is in the `Authorization` header or in the query, with the same fields. COS applies headers and parameters that
//! are not listed and thus not signed. Here everything with an effect must be listed: `host`, every `x-cos-` and
//! `x-amz-` header, and every query parameter. The official clients do so. Source: COS's page "Request Signature".

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::percent;

/// Reason why a signature is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SignatureError {
    #[error("the signature cannot be read: {0}")]
    Malformed(&'static str),
    #[error("the signature is not valid yet; set the client's clock")]
    NotYetValid,
    #[error("Request has expired")]
    Expired,
    #[error(
        "the signature we calculated does not match the one you provided; check the key and the string to sign"
    )]
    Mismatch,
    #[error(
        "the request has {0}, which change what it does and are not signed; name them in q-header-list or q-url-param-list, or leave them out"
    )]
    Unsigned(String),
    #[error("{0} is there twice; send it once")]
    Repeated(String),
}

/// A parsed authorization string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Authorization {
    /// Id of the access key.
    pub(crate) key_id: String,
    sign_time: String,
    key_time: String,
    headers: Vec<String>,
    params: Vec<String>,
    signature: String,
}

/// The signed parts of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a Method,
    /// Host of the request, with its port.
    pub(crate) host: &'a str,
    /// Whether the request lists the account's buckets.
    pub(crate) service: bool,
    /// Path as sent.
    pub(crate) path: &'a str,
    pub(crate) query: &'a [(String, String)],
    pub(crate) headers: &'a HeaderMap,
}

/// First parameter of every authorization string.
pub(crate) const ALGORITHM: &str = "q-sign-algorithm";
/// Parameters of a signature.
const PARAMETERS: [&str; 7] = [
    ALGORITHM,
    "q-ak",
    "q-sign-time",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
    "q-signature",
];
/// Prefixes of headers that must be signed.
const COVERED_PREFIXES: [&str; 3] = ["x-cos-", "x-amz-", "x-ci-"];
/// Filters of the bucket list, which COS's Python client does not sign.
const OF_SERVICE: [&str; 7] = [
    "create-time",
    "marker",
    "max-keys",
    "range",
    "region",
    "tagkey",
    "tagvalue",
];
/// Verified together with the key, so it need not be signed.
const TOKEN: &str = "x-cos-security-token";
/// Maximum clock skew of a client whose clock is ahead (s).
const AHEAD: i64 = 900;

/// Returns whether a query parameter belongs to the signature.
pub(crate) fn is_parameter(name: &str) -> bool {
    PARAMETERS.contains(&name)
}

impl Authorization {
    /// Parses an `Authorization` header.
    pub(crate) fn parse(text: &str) -> Result<Self, SignatureError> {
        let words = text.split('&').map(|word| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            (name.trim(), Cow::from(value.trim()))
        });
        Self::of(words)
    }

    /// Parses the signature in a query, if there is one.
    pub(crate) fn from_query(query: &[(String, String)]) -> Option<Result<Self, SignatureError>> {
        if !query.iter().any(|(name, _)| name == ALGORITHM) {
            return None;
        }
        let words = query
            .iter()
            .map(|(name, value)| (name.as_str(), Cow::from(value)));
        Some(Self::of(words))
    }

    fn of<'a>(
        words: impl Iterator<Item = (&'a str, Cow<'a, str>)>,
    ) -> Result<Self, SignatureError> {
        let mut read = Self::default();
        let mut algorithm = None;
        let list = |text: &str| -> Vec<String> {
            let names = text.split(';').filter(|name| !name.is_empty());
            names.map(decoded).collect()
        };
        for (name, value) in words {
            match name {
                ALGORITHM => algorithm = Some(value),
                "q-ak" => read.key_id = value.into(),
                "q-sign-time" => read.sign_time = value.into(),
                "q-key-time" => read.key_time = value.into(),
                "q-header-list" => read.headers = list(&value),
                "q-url-param-list" => read.params = list(&value),
                "q-signature" => read.signature = value.into(),
                _ => {}
            }
        }
        if algorithm.as_deref() != Some("sha1") {
            return Err(SignatureError::Malformed("q-sign-algorithm must be sha1"));
        }
        if read.key_id.is_empty() || read.signature.is_empty() {
            return Err(SignatureError::Malformed(
                "q-ak and q-signature must be there",
            ));
        }
        Ok(read)
    }

    /// Verifies a request's signature at a time (s since 1970).
    pub(crate) fn verify(
        &self,
        secret: &str,
        signed: &Signed<'_>,
        now: i64,
    ) -> Result<(), SignatureError> {
        self.check_validity(now)?;
        let key = signing_key(secret, &self.key_time);
        // Some clients sign the host without its port.
        let bare = signed.host.rsplit_once(':').map(|(bare, _)| bare);
        let mut hosts = std::iter::once(signed.host).chain(bare);
        let matches = hosts.any(|host| {
            let request = self.canonical(signed, host);
            let text = format!(
                "sha1\n{}\n{}\n",
                self.sign_time,
                hex::encode(Sha1::digest(request))
            );
            same(&mac(key.as_bytes(), text.as_bytes()), &self.signature)
        });
        if matches {
            self.covers(signed)
        } else {
            Err(SignatureError::Mismatch)
        }
    }

    /// Checks that everything with an effect is signed and occurs once. A second value could be applied instead of the
    /// signed one.
    fn covers(&self, signed: &Signed<'_>) -> Result<(), SignatureError> {
        let lists =
            |list: &[String], name: &str| list.iter().any(|one| one.eq_ignore_ascii_case(name));
        let mut unsigned = Vec::new();
        if !lists(&self.headers, "host") {
            unsigned.push("header host".to_owned());
        }
        for name in signed.headers.keys() {
            let name = name.as_str();
            let obeyed = COVERED_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
                && name != TOKEN;
            let listed = lists(&self.headers, name);
            if obeyed && !listed {
                unsigned.push(format!("header {name}"));
            }
            if (obeyed || listed) && signed.headers.get_all(name).iter().count() > 1 {
                return Err(SignatureError::Repeated(format!("header {name}")));
            }
        }
        let given = || signed.query.iter().map(|(name, _)| name);
        for name in given().filter(|name| !is_parameter(name) && *name != TOKEN) {
            let narrows = signed.service && OF_SERVICE.contains(&name.as_str());
            if !lists(&self.params, name) && !narrows {
                unsigned.push(format!("parameter {name}"));
            }
            if given()
                .filter(|other| other.eq_ignore_ascii_case(name))
                .count()
                > 1
            {
                return Err(SignatureError::Repeated(format!("parameter {name}")));
            }
        }
        if unsigned.is_empty() {
            Ok(())
        } else {
            Err(SignatureError::Unsigned(unsigned.join(", ")))
        }
    }

    /// Verifies the signature of a form's policy.
    pub(crate) fn verify_policy(
        &self,
        secret: &str,
        policy: &[u8],
        now: i64,
    ) -> Result<(), SignatureError> {
        self.check_validity(now)?;
        let key = signing_key(secret, &self.key_time);
        let text = hex::encode(Sha1::digest(policy));
        if same(&mac(key.as_bytes(), text.as_bytes()), &self.signature) {
            Ok(())
        } else {
            Err(SignatureError::Mismatch)
        }
    }

    /// Checks both time spans. In a form, the time of signing is optional.
    fn check_validity(&self, now: i64) -> Result<(), SignatureError> {
        let spans = [&self.key_time, &self.sign_time];
        for (at, span) in spans.into_iter().enumerate() {
            if at == 1 && span.is_empty() {
                continue;
            }
            let (start, end) = parse_time_span(span)?;
            if now > end {
                return Err(SignatureError::Expired);
            }
            if now + AHEAD < start {
                return Err(SignatureError::NotYetValid);
            }
        }
        Ok(())
    }

    fn canonical(&self, signed: &Signed<'_>, host: &str) -> String {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .map(|name| {
                let name = name.to_ascii_lowercase();
                let sent = signed.headers.get(&name).map(http::HeaderValue::as_bytes);
                let value = match name.as_str() {
                    "host" => Some(host.as_bytes()),
                    _ => sent,
                };
                pair(&name, value.unwrap_or_default())
            })
            .collect();
        headers.sort_unstable();
        let mut params: Vec<_> = self
            .params
            .iter()
            .map(|name| {
                let given = signed
                    .query
                    .iter()
                    .find(|(given, _)| given.eq_ignore_ascii_case(name));
                let value = given.map_or("", |(_, value)| value);
                pair(&name.to_lowercase(), value.as_bytes())
            })
            .collect();
        params.sort_unstable();
        format!(
            "{}\n{}\n{}\n{}\n",
            signed.method.as_str().to_ascii_lowercase(),
            decoded(signed.path),
            joined(&params),
            joined(&headers)
        )
    }
}

/// Parses `START;END` in seconds.
fn parse_time_span(text: &str) -> Result<(i64, i64), SignatureError> {
    let read = || {
        let (start, end) = text.split_once(';')?;
        Some((start.trim().parse().ok()?, end.trim().parse().ok()?))
    };
    read().ok_or(SignatureError::Malformed(
        "q-sign-time and q-key-time must be START;END in seconds",
    ))
}

/// Returns an encoded name and value, which sort by name.
fn pair(name: &str, value: &[u8]) -> (String, String) {
    // COS lower-cases the encoded names before signing.
    let name = percent::encode(name.as_bytes()).to_lowercase();
    (name, percent::encode(value))
}

fn joined(pairs: &[(String, String)]) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn decoded(text: &str) -> String {
    percent::decode(text)
}

fn signing_key(secret: &str, span: &str) -> String {
    mac(secret.as_bytes(), span.as_bytes())
}

fn mac(key: &[u8], text: &[u8]) -> String {
    // HMAC accepts keys of any length, so this cannot fail.
    Hmac::<Sha1>::new_from_slice(key)
        .map(|mac| hex::encode(mac.chain_update(text).finalize().into_bytes()))
        .unwrap_or_default()
}

fn same(ours: &str, theirs: &str) -> bool {
    ours.as_bytes().ct_eq(theirs.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::rng::TestRng;

    /// Example key from COS's page.
    const SECRET: &str = "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz";
    const ID: &str = "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q";
    const HOST: &str = "examplebucket-1250000000.cos.ap-beijing.myqcloud.com";
    const PATH: &str = "/exampleobject(%E8%85%BE%E8%AE%AF%E4%BA%91)";

    fn headers(rows: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (
                HeaderName::try_from(*name).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            )
        };
        rows.iter().map(pair).collect()
    }

    fn query(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn put() -> HeaderMap {
        headers(&[
            ("date", "Thu, 16 May 2019 06:45:51 GMT"),
            ("host", HOST),
            ("content-type", "text/plain"),
            ("content-length", "13"),
            ("content-md5", "mQ/fVh815F3k6TAUm8m0eg=="),
            ("x-cos-acl", "private"),
            ("x-cos-grant-read", "uin=\"100000000011\""),
        ])
    }

    fn authorization(span: &str, headers: &str, params: &str, signature: &str) -> String {
        format!(
            "q-sign-algorithm=sha1&q-ak={ID}&q-sign-time={span}&q-key-time={span}\
             &q-header-list={headers}&q-url-param-list={params}&q-signature={signature}"
        )
    }

    const PUT_HEADERS: &str =
        "content-length;content-md5;content-type;date;host;x-cos-acl;x-cos-grant-read";

    /// Source: the two examples on COS's page "Request Signature".
    #[test]
    fn published_cos_examples_verify() {
        let upload = authorization(
            "1557989151;1557996351",
            PUT_HEADERS,
            "",
            "3b8851a11a569213c17ba8fa7dcf2abec6935172",
        );
        let signed = Signed {
            method: &Method::PUT,
            host: HOST,
            service: false,
            path: PATH,
            query: &[],
            headers: &put(),
        };
        let read = Authorization::parse(&upload).expect("words");
        assert_eq!(read.verify(SECRET, &signed, 1_557_989_200), Ok(()));
        let download = authorization(
            "1557989753;1557996953",
            "date;host",
            "response-cache-control;response-content-type",
            "01681b8c9d798a678e43b685a9f1bba0f6c0e012",
        );
        let signed = Signed {
            method: &Method::GET,
            query: &query(&[
                ("response-content-type", "application/octet-stream"),
                ("response-cache-control", "max-age=600"),
            ]),
            headers: &headers(&[("date", "Thu, 16 May 2019 06:55:53 GMT"), ("host", HOST)]),
            ..signed
        };
        let read = Authorization::parse(&download).expect("words");
        assert_eq!(read.verify(SECRET, &signed, 1_557_989_800), Ok(()));
        let words = download
            .split('&')
            .map(|word| word.split_once('=').expect("a pair"));
        let in_query = query(&words.collect::<Vec<_>>());
        let from_query = Authorization::from_query(&in_query)
            .expect("there")
            .expect("words");
        assert_eq!(from_query, read);
    }

    #[test]
    fn changed_signed_content_fails_verification() {
        let text = authorization(
            "1557989151;1557996351",
            PUT_HEADERS,
            "",
            "3b8851a11a569213c17ba8fa7dcf2abec6935172",
        );
        let read = Authorization::parse(&text).expect("words");
        let verify = |secret: &str, method: &Method, path: &str, headers: &HeaderMap, now: i64| {
            let signed = Signed {
                method,
                host: headers["host"].to_str().expect("a host"),
                service: false,
                path,
                query: &[],
                headers,
            };
            read.verify(secret, &signed, now)
        };
        let mut other = put();
        other.insert("x-cos-acl", HeaderValue::from_static("public-read"));
        let mut with_port = put();
        let host = format!("{HOST}:9401");
        with_port.insert("host", HeaderValue::from_str(&host).expect("a host"));
        let now = 1_557_989_200;
        let rows = [
            (verify(SECRET, &Method::PUT, PATH, &with_port, now), Ok(())),
            (
                verify("another", &Method::PUT, PATH, &put(), now),
                Err(SignatureError::Mismatch),
            ),
            (
                verify(SECRET, &Method::GET, PATH, &put(), now),
                Err(SignatureError::Mismatch),
            ),
            (
                verify(SECRET, &Method::PUT, "/other", &put(), now),
                Err(SignatureError::Mismatch),
            ),
            (
                verify(SECRET, &Method::PUT, PATH, &other, now),
                Err(SignatureError::Mismatch),
            ),
            (
                verify(SECRET, &Method::PUT, PATH, &put(), 1_557_996_352),
                Err(SignatureError::Expired),
            ),
            (
                verify(SECRET, &Method::PUT, PATH, &put(), 1_557_980_000),
                Err(SignatureError::NotYetValid),
            ),
        ];
        for (row, (found, expected)) in rows.into_iter().enumerate() {
            assert_eq!(found, expected, "row {row}");
        }
    }

    /// Signs the listed headers and parameters, and verifies a request that may contain more.
    fn signed_and_sent(
        listed: &str,
        params: &str,
        sent: &[(&str, &str)],
        pairs: &[(&str, &str)],
    ) -> Result<(), SignatureError> {
        let span = "1557989151;1557996351";
        let mut given = headers(&[("host", HOST)]);
        for (name, value) in sent {
            let name = HeaderName::try_from(*name).expect("a name");
            given.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let pairs = query(pairs);
        let signed = Signed {
            method: &Method::PUT,
            host: HOST,
            service: false,
            path: PATH,
            query: &pairs,
            headers: &given,
        };
        let mut read =
            Authorization::parse(&authorization(span, listed, params, "0")).expect("words");
        let request = read.canonical(&signed, HOST);
        let text = format!("sha1\n{span}\n{}\n", hex::encode(Sha1::digest(request)));
        read.signature = mac(signing_key(SECRET, span).as_bytes(), text.as_bytes());
        read.verify(SECRET, &signed, 1_557_989_200)
    }

    #[test]
    fn unsigned_headers_and_parameters_are_rejected() {
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let rows: [(&str, &str, Pairs<'_>, Pairs<'_>, &str); 16] = [
            ("host", "", &[], &[], ""),
            ("", "", &[], &[], "header host"),
            (
                "host",
                "",
                &[("x-cos-acl", "public-read")],
                &[],
                "header x-cos-acl",
            ),
            (
                "host;x-cos-acl",
                "",
                &[("x-cos-acl", "public-read")],
                &[],
                "",
            ),
            (
                "host",
                "",
                &[("x-cos-copy-source", "b/k")],
                &[],
                "header x-cos-copy-source",
            ),
            (
                "host",
                "",
                &[("x-amz-copy-source", "b/k")],
                &[],
                "header x-amz-copy-source",
            ),
            (
                "host",
                "",
                &[
                    ("x-cos-security-token", "t"),
                    ("content-type", "text/plain"),
                ],
                &[],
                "",
            ),
            ("host", "", &[], &[("acl", "")], "parameter acl"),
            ("host", "acl", &[], &[("acl", "")], ""),
            ("host", "", &[], &[("ACL", "")], "parameter ACL"),
            ("host", "", &[], &[("uploads", "")], "parameter uploads"),
            ("host", "versionid", &[], &[("versionId", "1")], ""),
            (
                "host",
                "",
                &[],
                &[("q-ak", "1"), ("x-cos-security-token", "t")],
                "",
            ),
            (
                "host",
                "versionid",
                &[],
                &[("VERSIONID", "1"), ("versionId", "2")],
                "VERSIONID is there twice",
            ),
            (
                "host;x-cos-acl",
                "",
                &[("x-cos-acl", "private"), ("x-cos-acl", "public-read")],
                &[],
                "x-cos-acl is there twice",
            ),
            (
                "content-type;host",
                "",
                &[("content-type", "a/b"), ("content-type", "c/d")],
                &[],
                "content-type is there twice",
            ),
        ];
        for (listed, params, sent, pairs, why) in rows {
            let found = signed_and_sent(listed, params, sent, pairs);
            let message = found.err().map_or(String::new(), |error| error.to_string());
            assert_eq!(
                message.is_empty(),
                why.is_empty(),
                "{sent:?} {pairs:?}: {message}"
            );
            assert!(message.contains(why), "{sent:?} {pairs:?}: {message}");
        }
    }

    #[test]
    fn missing_authorization_fields_are_named() {
        for (text, part) in [
            ("q-sign-algorithm=md5&q-ak=a&q-signature=b", "sha1"),
            ("q-sign-algorithm=sha1&q-ak=a", "q-signature"),
            ("", "sha1"),
        ] {
            let refused = Authorization::parse(text).expect_err("refused").to_string();
            assert!(refused.contains(part), "{text}: {refused}");
        }
        let text = "q-sign-algorithm=sha1&q-ak=a&q-sign-time=1&q-key-time=1;2&q-signature=b";
        let read = Authorization::parse(text).expect("words");
        let refused = read.verify_policy("k", b"{}", 1).expect_err("refused");
        assert!(refused.to_string().contains("START;END"), "{refused}");
        assert_eq!(Authorization::from_query(&query(&[("prefix", "a")])), None);
    }

    #[test]
    fn mutated_authorizations_never_verify() {
        let good = authorization(
            "1557989151;1557996351",
            PUT_HEADERS,
            "",
            "3b8851a11a569213c17ba8fa7dcf2abec6935172",
        );
        let sent = put();
        for seed in 1..5000 {
            let mut rng = TestRng::new(seed);
            let path = rng.mutated_text(PATH);
            let host = rng.mutated_text(HOST);
            let text = rng.mutated_text(&good);
            let words: Vec<_> = text
                .split('&')
                .map(|word| word.split_once('=').unwrap_or((word, "")))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let read = [
                Some(Authorization::parse(&text)),
                Authorization::from_query(&words),
            ];
            for read in read.into_iter().flatten().flatten() {
                let signed = |path, host| Signed {
                    method: &Method::PUT,
                    host,
                    service: false,
                    path,
                    query: &[],
                    headers: &sent,
                };
                let verify =
                    |signed: &Signed<'_>| read.verify(SECRET, signed, 1_557_989_200).is_ok();
                assert!(
                    !verify(&signed(&path, HOST)) || decoded(&path) == decoded(PATH),
                    "seed {seed}: {path}"
                );
                // The port need not be signed.
                let bare = host
                    .rsplit_once(':')
                    .map_or(host.as_str(), |(bare, _)| bare);
                assert!(
                    !verify(&signed(PATH, &host)) || host == HOST || bare == HOST,
                    "seed {seed}: {host}"
                );
                if verify(&signed(PATH, HOST)) {
                    // All signed parts are unchanged.
                    let whole = Authorization::parse(&good).expect("words");
                    assert_eq!(
                        (&read.signature, &read.sign_time, &read.key_time),
                        (&whole.signature, &whole.sign_time, &whole.key_time),
                        "seed {seed}"
                    );
                }
                let _ = read.verify_policy(SECRET, text.as_bytes(), 1_557_989_200);
            }
        }
    }
}
