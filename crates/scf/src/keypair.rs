//! The API gateway's key-pair signature: an HMAC over selected headers, one of which is a date.
//!
//! It covers neither method nor path nor body, so an eavesdropper can forge other requests until the date expires. The error
//! messages are the gateway's own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use thiserror::Error;

use crate::v1::signatures_equal;
use crate::{RawRequest, SecretKeyRef};

/// Maximum difference between a request's date and the server's clock (s). Source: the gateway's documentation.
const SKEW_S: i64 = 15 * 60;
/// Maximum number of signed headers.
const HEADERS_MAX: usize = 32;

/// The reason why a signature is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// There is no signature.
    #[error("HMAC signature cannot be verified, a validate authorization header is required.")]
    Missing,
    /// The header is malformed.
    #[error("HMAC authorization format error.")]
    Form,
    /// The id or the signature is missing.
    #[error("HMAC id or signature missing.")]
    Part,
    /// The hash algorithm is not supported.
    #[error("HMAC algorithm {0} not supported.")]
    Algorithm(String),
    /// A signed header is missing from the request.
    #[error("HMAC signature cannot be verified, a valid {0} header is required.")]
    Header(String),
    /// A signed header occurs more than once.
    #[error("HMAC do not support multiple HTTP header.")]
    Several,
    /// No date is signed, or it is invalid.
    #[error("HMAC signature cannot be verified, a valid date or x-date header is required.")]
    Date,
    /// The date differs too much from the server's clock.
    #[error(
        "HMAC signature cannot be verified, the {0} header is out of date for HMAC Authentication."
    )]
    Old(&'static str),
    /// The key does not exist or is disabled.
    #[error("HMAC signature cannot be verified.")]
    Unknown,
    /// The key is not valid for this API.
    #[error("HMAC apikey is invalid for API.")]
    Key,
    /// The signature does not match the key.
    #[error("HMAC signature does not match.")]
    Different,
}

/// The unverified signature of a request.
#[derive(Debug)]
pub struct KeyPair<'a> {
    /// Key id.
    pub id: &'a str,
    hash: Hash,
    text: String,
    signature: Vec<u8>,
    date: &'static str,
    signed_at: i64,
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl<'a> KeyPair<'a> {
    /// Parses the signature of a request.
    ///
    /// # Errors
    /// If a part is missing or malformed.
    pub fn parse(request: RawRequest<'a>) -> Result<Self, Refused> {
        let header = request.header("authorization").ok_or(Refused::Missing)?;
        let fields = header
            .trim()
            .strip_prefix("hmac ")
            .ok_or(Refused::Form)?
            .split(',')
            .map(|field| {
                let (name, value) = field.trim().split_once('=')?;
                Some((name, value.strip_prefix('"')?.strip_suffix('"')?))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(Refused::Form)?;
        let field = |name: &str| {
            let found = fields.iter().find(|(have, _)| *have == name);
            found
                .map(|(_, value)| *value)
                .filter(|value| !value.is_empty())
        };
        let (Some(id), Some(signature)) = (field("id"), field("signature")) else {
            return Err(Refused::Part);
        };
        let hash = match field("algorithm").unwrap_or("hmac-sha1") {
            "hmac-sha1" => Hash::Sha1,
            "hmac-sha256" => Hash::Sha256,
            "hmac-sha384" => Hash::Sha384,
            "hmac-sha512" => Hash::Sha512,
            other => return Err(Refused::Algorithm(other.chars().take(40).collect())),
        };
        let names: Vec<_> = field("headers")
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        if names.len() > HEADERS_MAX {
            return Err(Refused::Form);
        }
        let date = ["x-date", "date"]
            .into_iter()
            .find(|date| names.iter().any(|name| name.eq_ignore_ascii_case(date)));
        let date = date.ok_or(Refused::Date)?;
        let mut lines = Vec::with_capacity(names.len());
        for name in names {
            let name = name.to_ascii_lowercase();
            let value = only(request, &name)?;
            lines.push(format!("{name}: {value}"));
        }
        Ok(Self {
            id,
            hash,
            text: lines.join("\n"),
            signature: STANDARD.decode(signature).map_err(|_| Refused::Different)?,
            date,
            signed_at: seconds(only(request, date)?).ok_or(Refused::Date)?,
        })
    }

    /// Verifies the signature and its age.
    ///
    /// # Errors
    /// [`Refused::Old`] or [`Refused::Different`].
    pub fn verify<'k>(&self, key: impl Into<SecretKeyRef<'k>>, now: i64) -> Result<(), Refused> {
        if (now - self.signed_at).abs() > SKEW_S {
            return Err(Refused::Old(self.date));
        }
        let (key, text) = (key.into().reveal().as_bytes(), self.text.as_bytes());
        let computed = match self.hash {
            Hash::Sha1 => mac::<Hmac<Sha1>>(key, text),
            Hash::Sha256 => mac::<Hmac<Sha256>>(key, text),
            Hash::Sha384 => mac::<Hmac<Sha384>>(key, text),
            Hash::Sha512 => mac::<Hmac<Sha512>>(key, text),
        };
        if signatures_equal(&self.signature, &computed) {
            Ok(())
        } else {
            Err(Refused::Different)
        }
    }
}

/// Returns the value of a header that must occur exactly once.
fn only<'a>(request: RawRequest<'a>, name: &str) -> Result<&'a str, Refused> {
    let mut values = request
        .headers
        .iter()
        .filter(|(have, _)| have.eq_ignore_ascii_case(name));
    let first = values
        .next()
        .ok_or_else(|| Refused::Header(name.to_owned()))?;
    match values.next() {
        Some(_) => Err(Refused::Several),
        None => Ok(first.1),
    }
}

/// Parses an HTTP date into Unix time (s).
fn seconds(date: &str) -> Option<i64> {
    let date = jiff::fmt::rfc2822::parse(date.trim()).ok()?;
    Some(date.timestamp().as_second())
}

/// Computes an HMAC. It accepts keys of any length, so it does not fail.
fn mac<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mac = <M as KeyInit>::new_from_slice(key);
    let done = mac.map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec());
    done.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    const DATE: &str = "Mon, 19 Mar 2018 12:08:40 GMT";
    const AT: i64 = 1_521_461_320;
    // Computed with openssl: printf 'x-date: %s\nsource: %s' … | openssl dgst -sha1 -hmac KEY -binary | base64
    const SIGNED: &str = "M+oOCMJyaH8QvRYDqyL6ObdUaLg=";

    type Headers<'a> = &'a [(&'a str, &'a str)];

    fn attempt(authorization: &str, headers: Headers<'_>, now: i64) -> Result<(), Refused> {
        let mut headers = headers.to_vec();
        headers.push(("Authorization", authorization));
        let request = RawRequest {
            method: "GET",
            path: "/release/a",
            query: "",
            headers: &headers,
            body: b"",
        };
        let claim = KeyPair::parse(request)?;
        assert_eq!(claim.id, "AKID");
        claim.verify(&SecretKey::new("ZxF2whO0RhuwnVCj5JMMAuqcDcN2oPrC"), now)
    }

    fn written(fields: &str, signature: &str) -> String {
        format!("hmac id=\"AKID\", {fields}, signature=\"{signature}\"")
    }

    #[test]
    fn documented_signature_verifies_and_others_are_rejected() {
        let usual = "algorithm=\"hmac-sha1\", headers=\"x-date source\"";
        let sent = [("Source", "xxxxxx"), ("X-Date", DATE)];
        let good = written(usual, SIGNED);
        assert_eq!(attempt(&good, &sent, AT + 899), Ok(()));
        let sha256 = written(
            "algorithm=\"hmac-sha256\", headers=\"date\"",
            "Rgj3+WOW/vBm5QU1Q0jTfHv8bkDBVXCF+/nmfP8tUko=",
        );
        assert_eq!(attempt(&sha256, &[("Date", DATE)], AT - 899), Ok(()));
        assert_eq!(attempt(&good, &sent, AT + 901), Err(Refused::Old("x-date")));
        let rows: [(&str, Headers<'_>, Refused); 9] = [
            (&good, &[("X-Date", DATE)], Refused::Header("source".into())),
            (
                &good,
                &[("Source", "other"), ("X-Date", DATE)],
                Refused::Different,
            ),
            (
                &good,
                &[("Source", "xxxxxx"), ("Source", "b"), ("X-Date", DATE)],
                Refused::Several,
            ),
            (
                &good,
                &[("Source", "xxxxxx"), ("X-Date", "now")],
                Refused::Date,
            ),
            (&written("headers=\"source\"", SIGNED), &sent, Refused::Date),
            (
                &written("algorithm=\"md5\", headers=\"x-date\"", SIGNED),
                &sent,
                Refused::Algorithm("md5".into()),
            ),
            (&written(usual, ""), &sent, Refused::Part),
            (&written(usual, "?"), &sent, Refused::Different),
            ("Bearer x", &sent, Refused::Form),
        ];
        for (authorization, headers, expected) in rows {
            assert_eq!(
                attempt(authorization, headers, AT),
                Err(expected),
                "{authorization}"
            );
        }
    }
}
