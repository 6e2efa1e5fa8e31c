//! COS's signature: HMAC-SHA1 over the method, the path, and the headers and parameters that the signer lists.
//!
//! It is in the `Authorization` header or in the query, with the same fields. COS applies headers and parameters that
//! are not listed and thus not signed. Here everything with an effect must be listed: `host`, every `x-cos-` and
//! `x-amz-` header, and every query parameter. The official clients do so. Source: COS's page "Request Signature".

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Method};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::percent;

/// Header or query parameter with the session token of temporary credentials. Verified together with the key, so it need
/// not be signed.
pub(crate) const TOKEN: &str = "x-cos-security-token";
/// Beginning of the headers that name grantees.
pub(super) const GRANT_PREFIX: &str = "x-cos-grant-";

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
/// Maximum clock skew of a client whose clock is ahead (s).
const AHEAD: i64 = 900;

/// Returns whether a query parameter belongs to the signature.
pub(crate) fn is_parameter(name: &str) -> bool {
    PARAMETERS.contains(&name)
}

/// Returns whether a header names no grantees, and so has no effect. Clients send such headers and do not sign them.
fn grants_nobody(name: &str, headers: &HeaderMap) -> bool {
    name.starts_with(GRANT_PREFIX) && headers.get_all(name).iter().all(HeaderValue::is_empty)
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
                && name != TOKEN
                && !grants_nobody(name, signed.headers);
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
mod tests;
