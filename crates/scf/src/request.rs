//! Parsing and verification of API requests: the caller, the action and its parameters.
//!
//! Clients differ in how they build and sign a request. Each tolerance here is for one of them:
//! * tccli and the Python SDK, if the endpoint includes a scheme, send and sign `Host: http://…`;
//! * the Node.js SDK signs the host without the port, and derives the service in the credential scope from the host;
//! * older clients use signature version 1 in a query, a form, or a form with a JSON content type.

use std::borrow::Cow;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::bounds::{self, Bounds, Failed};
use crate::flat::{self, Flat};
use crate::tc3::{self, Canonical, Claim};
use crate::{Action, Code, Error, SecretKey, v1};

/// The parts of an HTTP request, as received.
#[derive(Clone, Copy, Debug)]
pub struct RawRequest<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Path.
    pub path: &'a str,
    /// Query string without `?`.
    pub query: &'a str,
    /// Headers: names in any case, with their values.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body.
    pub body: &'a [u8],
}

impl<'a> RawRequest<'a> {
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// A parsed but unverified API call.
#[derive(Debug)]
pub struct Call<'a> {
    raw: RawRequest<'a>,
    /// Action name.
    pub action: Cow<'a, str>,
    /// API version.
    pub version: Cow<'a, str>,
    /// Region, if given.
    pub region: Option<Cow<'a, str>>,
    /// Session token of temporary credentials, if any.
    pub token: Option<Cow<'a, str>>,
    /// Unix time of the signature (s).
    pub timestamp: i64,
    signature: Signature<'a>,
    parameters: Parameters<'a>,
    /// Whether the signature covers method, path, query and body regardless of the method.
    whole: bool,
    /// SHA-256 of the body, if `raw` does not contain it.
    digest: Option<[u8; 32]>,
}

#[derive(Debug)]
enum Signature<'a> {
    Tc3(Claim<'a>),
    V1 {
        secret_id: String,
        method: v1::Method,
        signature: Vec<u8>,
    },
}

#[derive(Debug)]
enum Parameters<'a> {
    Json(&'a [u8]),
    Flat(Form),
}

/// The parameters of a query or form. The tree is built on first use, which is after the signature was verified.
#[derive(Debug)]
struct Form {
    pairs: Vec<(String, String)>,
    tree: OnceLock<Flat>,
}

impl Form {
    fn parse(text: &str) -> Result<Self, Error> {
        if text.bytes().filter(|byte| *byte == b'&').count() >= PAIRS_MAX {
            let message = format!("too many parameters; up to {PAIRS_MAX} are allowed");
            return Err(Error::new(Code::InvalidParameter, message));
        }
        Ok(Self {
            pairs: flat::parse_form(text)?,
            tree: OnceLock::new(),
        })
    }

    fn tree(&self, common: bool) -> Result<&Flat, Error> {
        if let Some(tree) = self.tree.get() {
            return Ok(tree);
        }
        let own = |name: &str| !common || !COMMON.contains(&name);
        let own = self.pairs.iter().filter(|(name, _)| own(name));
        let tree = flat::unflatten(own.map(|(name, value)| (name.as_str(), value.as_str())))?;
        Ok(self.tree.get_or_init(|| tree))
    }
}

/// Maximum size of a form with signature version 1 (bytes). Source: the published description of the signature.
pub const FORM_MAX: usize = 1 << 20;
/// Maximum number of parameters in a query or form.
const PAIRS_MAX: usize = 10_000;

/// Action with which requests to function URLs are signed.
pub const FUNCTION_URL: &str = "InvokeFunctionUrl";

/// Parses the header `Authorization` and the timestamp of the signature.
fn claimed<'a>(raw: RawRequest<'a>, header: &'a str) -> Result<(Claim<'a>, i64), Error> {
    let claim = Claim::parse(header).ok_or_else(|| {
        let form = "TC3-HMAC-SHA256 Credential=<id>/<date>/<service>/tc3_request, SignedHeaders=…, Signature=…";
        Error::new(
            Code::InvalidAuthorization,
            format!("header Authorization is malformed; it should read {form}"),
        )
    })?;
    let timestamp = needed(raw, "X-TC-Timestamp")?;
    let timestamp = timestamp.parse().map_err(|_| {
        let message =
            format!("header X-TC-Timestamp: {timestamp:?} is not allowed; Unix time in seconds is");
        Error::new(Code::InvalidParameter, message)
    })?;
    Ok((claim, timestamp))
}

fn needed<'a>(raw: RawRequest<'a>, name: &str) -> Result<&'a str, Error> {
    raw.header(name)
        .ok_or_else(|| Error::new(Code::MissingParameter, format!("header {name} is missing")))
}

/// Parameters of signature version 1 that do not belong to the action.
const COMMON: &[&str] = &[
    "Action",
    "Version",
    "Region",
    "Nonce",
    "Timestamp",
    "SecretId",
    "Signature",
    "SignatureMethod",
    "Token",
    "RequestClient",
    "Language",
];

impl<'a> Call<'a> {
    /// Parses a request. Cheap; verifies nothing.
    ///
    /// # Errors
    /// If a part is missing or malformed.
    pub fn parse(raw: RawRequest<'a>) -> Result<Self, Error> {
        if !matches!(raw.method, "GET" | "POST") {
            let message = format!("method {} is not supported; use POST or GET", raw.method);
            return Err(Error::new(Code::UnsupportedProtocol, message));
        }
        match raw.header("Authorization") {
            Some(header) => Self::parse_tc3(raw, header),
            None => Self::parse_v1(raw),
        }
    }

    fn parse_tc3(raw: RawRequest<'a>, authorization: &'a str) -> Result<Self, Error> {
        let (claim, timestamp) = claimed(raw, authorization)?;
        let needed = |name: &str| needed(raw, name);
        let parameters = if raw.method == "GET" {
            Parameters::Flat(Form::parse(raw.query)?)
        } else {
            Parameters::Json(raw.body)
        };
        Ok(Self {
            action: needed("X-TC-Action")?.into(),
            version: needed("X-TC-Version")?.into(),
            region: raw.header("X-TC-Region").map(Cow::from),
            token: raw
                .header("X-TC-Token")
                .filter(|token| !token.is_empty())
                .map(Cow::from),
            timestamp,
            signature: Signature::Tc3(claim),
            parameters,
            whole: false,
            digest: None,
            raw,
        })
    }

    /// Parses a request to a function URL, which is signed as a call of [`FUNCTION_URL`]. Cheap; verifies nothing.
    ///
    /// # Errors
    /// If a part is missing or malformed.
    pub fn parse_url(raw: RawRequest<'a>) -> Result<Self, Error> {
        let header = raw.header("Authorization").ok_or_else(|| {
            let message = "this function URL requires signed requests: TC3-HMAC-SHA256 in the header Authorization, with the action InvokeFunctionUrl";
            Error::new(Code::InvalidAuthorization, message)
        })?;
        let action = raw.header("X-TC-Action").unwrap_or(FUNCTION_URL);
        if action != FUNCTION_URL {
            let shown: String = action.chars().take(60).collect();
            let message =
                format!("header X-TC-Action: {shown:?} is not allowed; {FUNCTION_URL} is");
            return Err(Error::new(Code::InvalidAction, message));
        }
        let (claim, timestamp) = claimed(raw, header)?;
        Ok(Self {
            action: action.into(),
            version: crate::VERSION.into(),
            region: raw.header("X-TC-Region").map(Cow::from),
            token: raw
                .header("X-TC-Token")
                .filter(|token| !token.is_empty())
                .map(Cow::from),
            timestamp,
            signature: Signature::Tc3(claim),
            parameters: Parameters::Json(raw.body),
            whole: true,
            digest: None,
            raw,
        })
    }

    fn parse_v1(raw: RawRequest<'a>) -> Result<Self, Error> {
        let unsigned = || {
            let message = "the request carries no signature; sign it with TC3-HMAC-SHA256 in the header Authorization";
            Error::new(Code::InvalidAuthorization, message)
        };
        let form = if raw.method == "GET" {
            raw.query
        } else {
            // Some clients post a form with a JSON content type, so the body decides.
            if raw.body.len() > FORM_MAX {
                return Err(form_too_long());
            }
            let text = std::str::from_utf8(raw.body).map_err(|_| unsigned())?;
            if text.trim_start().starts_with(['{', '[']) || text.is_empty() {
                return Err(unsigned());
            }
            text
        };
        let form = Form::parse(form)?;
        let find = |name: &str| {
            form.pairs
                .iter()
                .find(|(have, _)| have == name)
                .map(|(_, value)| value.clone())
        };
        let needed = |name: &str| {
            find(name)
                .ok_or_else(|| Error::new(Code::MissingParameter, format!("{name} is missing")))
        };
        let signature = find("Signature").ok_or_else(unsigned)?;
        let method =
            find("SignatureMethod").map_or(Some(v1::Method::Sha1), |text| v1::Method::parse(&text));
        let method = method.ok_or_else(|| {
            Error::new(
                Code::InvalidParameter,
                "SignatureMethod: HmacSHA1 and HmacSHA256 are allowed",
            )
        })?;
        needed("Nonce")?;
        let timestamp = needed("Timestamp")?.parse().map_err(|_| {
            Error::new(
                Code::InvalidParameter,
                "Timestamp: Unix time in seconds is allowed",
            )
        })?;
        Ok(Self {
            action: needed("Action")?.into(),
            version: needed("Version")?.into(),
            region: find("Region").map(Cow::from),
            token: find("Token")
                .filter(|token| !token.is_empty())
                .map(Cow::from),
            timestamp,
            signature: Signature::V1 {
                secret_id: needed("SecretId")?,
                method,
                signature: STANDARD.decode(signature).unwrap_or_default(),
            },
            parameters: Parameters::Flat(form),
            whole: false,
            digest: None,
            raw,
        })
    }

    /// Returns the secret id of the claimed caller.
    pub fn secret_id(&self) -> &str {
        match &self.signature {
            Signature::Tc3(claim) => claim.secret_id,
            Signature::V1 { secret_id, .. } => secret_id,
        }
    }

    /// Returns the service in the credential scope; `None` with signature version 1, which has no scope.
    pub fn service(&self) -> Option<&str> {
        match &self.signature {
            Signature::Tc3(claim) => Some(claim.scope.service),
            Signature::V1 { .. } => None,
        }
    }

    /// Returns whether it is signed with version 1.
    pub fn is_version_1(&self) -> bool {
        matches!(self.signature, Signature::V1 { .. })
    }

    /// Returns whether the head contains everything except the parameters. A form with signature version 1 is in the body.
    pub fn is_in_head(&self) -> bool {
        !self.is_version_1() || self.raw.method == "GET"
    }

    /// Returns the value of a header, by name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.raw.header(name)
    }

    /// Returns whether the signature covers a header, by lower-case name. Version 1 covers every parameter but no header.
    pub fn signs(&self, name: &str) -> bool {
        match &self.signature {
            Signature::Tc3(claim) => claim.signed_headers.split(';').any(|have| have == name),
            Signature::V1 { .. } => false,
        }
    }

    /// Returns whether the signature covers the body.
    pub fn is_body_signed(&self) -> bool {
        self.raw.header("X-TC-Content-SHA256") != Some(tc3::UNSIGNED_PAYLOAD)
    }

    /// Returns whether the signature covers method, path, query and body, as for requests to function URLs.
    pub fn is_whole(&self) -> bool {
        self.whole && self.is_body_signed()
    }

    /// Sets the digest of a body that `raw` does not contain.
    #[must_use]
    pub fn with_digest(mut self, digest: [u8; 32]) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Verifies the signature and its age. `now` is Unix time (s), `window` the maximum clock skew (s).
    ///
    /// # Errors
    /// `AuthFailure.SignatureExpire` or `AuthFailure.SignatureFailure`.
    pub fn verify(&self, key: &SecretKey, now: i64, window: i64) -> Result<(), Error> {
        self.check_age(now, window)?;
        self.verify_signature(key)
    }

    /// Verifies only the age of the signature, which is possible before the body was received.
    ///
    /// # Errors
    /// `AuthFailure.SignatureExpire`.
    pub fn check_age(&self, now: i64, window: i64) -> Result<(), Error> {
        let age = now.saturating_sub(self.timestamp);
        if age.unsigned_abs() > window.unsigned_abs() {
            let message = format!(
                "the timestamp {} is {age} s off the server's clock; up to {window} s are allowed; correct the clock, \
                 or sign the request again",
                self.timestamp
            );
            return Err(Error::new(Code::SignatureExpire, message));
        }
        Ok(())
    }

    fn verify_signature(&self, key: &SecretKey) -> Result<(), Error> {
        let matches = match (&self.signature, &self.parameters) {
            (Signature::Tc3(claim), _) => self.verify_tc3(claim, key)?,
            (
                Signature::V1 {
                    method, signature, ..
                },
                Parameters::Flat(form),
            ) => self.verify_v1(key, *method, signature, &form.pairs),
            (Signature::V1 { .. }, Parameters::Json(_)) => false,
        };
        if matches {
            return Ok(());
        }
        let message = "the signature does not match; check the secret key, and that no proxy changes the Host header \
                       or the body of the request";
        Err(Error::new(Code::SignatureFailure, message))
    }

    fn verify_tc3(&self, claim: &Claim<'_>, key: &SecretKey) -> Result<bool, Error> {
        if claim.scope.date != tc3::date(self.timestamp) {
            let message = "the date in Credential is not the UTC date of X-TC-Timestamp";
            return Err(Error::new(Code::SignatureFailure, message));
        }
        let covered = |name: &str| self.signs(name);
        let typed = if self.whole {
            self.raw.header("Content-Type").is_some()
        } else {
            self.raw.method == "POST"
        };
        if !covered("host") || (typed && !covered("content-type")) {
            let message = "SignedHeaders must cover content-type and host";
            return Err(Error::new(Code::SignatureFailure, message));
        }
        let payload: &[u8] = if !self.is_body_signed() {
            tc3::UNSIGNED_PAYLOAD.as_bytes()
        } else if self.raw.method == "GET" && !self.whole {
            b""
        } else {
            self.raw.body
        };
        let of_body = self.is_body_signed() && (self.raw.method != "GET" || self.whole);
        let payload_hash = match self.digest {
            Some(digest) if of_body => hex::encode(digest),
            _ => hex::encode(Sha256::digest(payload)),
        };
        let matches = |lower: bool, with_port: bool| {
            let headers = self.canonical_headers(claim.signed_headers, lower, with_port)?;
            let canonical = Canonical {
                method: self.raw.method,
                path: self.raw.path,
                query: if self.raw.method == "GET" || self.whole {
                    self.raw.query
                } else {
                    ""
                },
                headers: &headers,
                signed_headers: claim.signed_headers,
                payload_hash: &payload_hash,
            };
            Some(claim.matches(&tc3::sign(key, self.timestamp, &claim.scope, &canonical)))
        };
        let ways = [(false, true), (false, false), (true, true), (true, false)];
        Ok(ways
            .into_iter()
            .any(|(lower, with_port)| matches(lower, with_port).unwrap_or(false)))
    }

    /// Returns `name:value\n` for each signed header; `None` if the request lacks one.
    fn canonical_headers(&self, names: &str, lower: bool, with_port: bool) -> Option<String> {
        let mut text = String::with_capacity(128);
        for name in names.split(';') {
            let mut value = Cow::from(self.raw.header(name)?.trim());
            if name == "host" && !with_port {
                value = without_port(&value).to_owned().into();
            }
            if lower {
                value = value.to_lowercase().into();
            }
            text.extend([name, ":", value.as_ref(), "\n"]);
        }
        Some(text)
    }

    fn verify_v1(
        &self,
        key: &SecretKey,
        method: v1::Method,
        claimed: &[u8],
        pairs: &[(String, String)],
    ) -> bool {
        let Some(host) = self.raw.header("Host") else {
            return false;
        };
        // Some clients replace `_` by `.` in names when they sign.
        let dotted: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.replace('_', "."), value.clone()))
            .collect();
        [pairs, &dotted].into_iter().any(|pairs| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            v1::signatures_equal(
                claimed,
                &v1::sign(key, method, self.raw.method, host, self.raw.path, pairs),
            )
        })
    }

    /// Returns the length of the request's body, in bytes.
    pub fn body_length(&self) -> usize {
        self.raw.body.len()
    }

    /// Decodes the parameters of an action within bounds. Ignores unknown fields, which some clients send.
    ///
    /// # Errors
    /// The error of a value that exceeds its bound; `MissingParameter` or `InvalidParameter`, naming the field.
    pub fn decode<A: Action>(&self, bounds: &Bounds) -> Result<A::Request, Error> {
        match &self.parameters {
            Parameters::Json(body) => decode_json(body, bounds),
            Parameters::Flat(form) => decode_flat(form.tree(self.is_version_1())?, bounds),
        }
    }
}

/// Creates the error for a form of signature version 1 that exceeds [`FORM_MAX`].
pub fn form_too_long() -> Error {
    let message = format!(
        "a request without the header Authorization uses signature version 1, whose forms are limited to {FORM_MAX} bytes; \
         sign it with TC3-HMAC-SHA256"
    );
    Error::new(Code::RequestSizeLimitExceeded, message)
}

fn decode_flat<T: DeserializeOwned>(flat: &Flat, bounds: &Bounds) -> Result<T, Error> {
    bounds::read(flat.clone(), bounds).map_err(|failed| match failed {
        Failed::Bound(refusal) => refusal,
        Failed::Read(error) => located(
            serde_path_to_error::deserialize::<_, T>(flat.clone()),
            &error,
        ),
    })
}

/// Decodes a JSON document within bounds.
///
/// # Errors
/// As [`Call::decode`].
pub fn decode_json<T: DeserializeOwned>(body: &[u8], bounds: &Bounds) -> Result<T, Error> {
    let body = if body.trim_ascii().is_empty() {
        b"{}"
    } else {
        body
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = bounds::read(&mut reader, bounds);
    let whole = read.and_then(|value| reader.end().map(|()| value).map_err(Failed::Read));
    whole.map_err(|failed| match failed {
        Failed::Bound(refusal) => refusal,
        Failed::Read(error) => {
            // Decode without tracking the path first. Only after a failure, decode again to locate it.
            let mut reader = serde_json::Deserializer::from_slice(body);
            located(
                serde_path_to_error::deserialize::<_, T>(&mut reader),
                &error,
            )
        }
    })
}

/// Creates the error of a failed decoding, with the field if the second attempt names it.
fn located<T>(
    again: Result<T, serde_path_to_error::Error<serde_json::Error>>,
    error: &serde_json::Error,
) -> Error {
    match again {
        Err(error) => field_error(&error),
        Ok(_) => Error::new(
            Code::InvalidParameter,
            format!("the body is not whole JSON: {error}"),
        ),
    }
}

fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let text = error.inner().to_string();
    if error.inner().is_syntax() || error.inner().is_eof() {
        return Error::new(
            Code::InvalidParameter,
            format!("the body is not whole JSON: {text}"),
        );
    }
    // Omit "… at line 1 column 20": users of an SDK do not see the JSON text.
    let text = text.split(" at line ").next().unwrap_or(&text);
    let path = error.path().to_string();
    if let Some(field) = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        let within = if path == "." {
            String::new()
        } else {
            format!(" in {path}")
        };
        return Error::new(
            Code::MissingParameter,
            format!("{field} is missing{within}"),
        );
    }
    Error::new(Code::InvalidParameter, format!("{path}: {text}"))
}

/// Strips the port from a host. An IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CLOCK_SKEW_S;
    use crate::action::{GetFunction, Invoke, ListFunctions};
    use crate::tc3::ToSign;

    const NOW: i64 = 1_700_000_000;

    fn key() -> SecretKey {
        SecretKey::new("the key")
    }

    /// Returns the headers of a correctly signed POST.
    fn signed(host: &str, signed_host: &str, body: &[u8]) -> Vec<(&'static str, String)> {
        signed_with(host, signed_host, body, &[])
    }

    /// As [`signed`], with further signed headers.
    fn signed_with(
        host: &str,
        signed_host: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Vec<(&'static str, String)> {
        let key = key();
        let authorization = tc3::authorization(&ToSign {
            secret_id: "AKIDtest",
            secret_key: &key,
            service: "scf",
            host: signed_host,
            content_type: "application/json",
            headers,
            payload: body,
            timestamp: NOW,
        });
        vec![
            ("authorization", authorization),
            ("host", host.to_owned()),
            ("content-type", "application/json".to_owned()),
            ("x-tc-action", "GetFunction".to_owned()),
            ("x-tc-version", "2018-04-16".to_owned()),
            ("x-tc-timestamp", NOW.to_string()),
        ]
    }

    fn with<T>(
        headers: &[(&'static str, String)],
        body: &[u8],
        run: impl FnOnce(Result<Call<'_>, Error>) -> T,
    ) -> T {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        run(Call::parse(RawRequest {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            body,
        }))
    }

    fn verify(headers: &[(&'static str, String)], body: &[u8], now: i64) -> Result<(), Code> {
        with(headers, body, |call| {
            call.and_then(|call| call.verify(&key(), now, CLOCK_SKEW_S))
                .map_err(|e| e.code)
        })
    }

    #[test]
    fn signature_verifies_for_every_host_form_of_the_sdks() {
        for (host, signed_host) in [
            ("127.0.0.1:9400", "127.0.0.1:9400"),
            ("127.0.0.1:9400", "127.0.0.1"),
            ("http://127.0.0.1:9400", "http://127.0.0.1:9400"),
            ("LOCALHOST:9400", "localhost:9400"),
        ] {
            assert_eq!(
                verify(&signed(host, signed_host, b"{}"), b"{}", NOW),
                Ok(()),
                "{host} as {signed_host}"
            );
        }
    }

    #[test]
    fn modified_or_expired_request_is_rejected() {
        let good = signed("h", "h", b"{}");
        assert_eq!(
            verify(&good, b"{ }", NOW),
            Err(Code::SignatureFailure),
            "body"
        );
        assert_eq!(
            verify(&signed("h", "g", b"{}"), b"{}", NOW),
            Err(Code::SignatureFailure),
            "host"
        );
        assert_eq!(verify(&good, b"{}", NOW + 300), Ok(()));
        assert_eq!(verify(&good, b"{}", NOW + 301), Err(Code::SignatureExpire));
        assert_eq!(verify(&good, b"{}", NOW - 301), Err(Code::SignatureExpire));
        let mut moved = good.clone();
        moved[5].1 = (NOW - 86_400).to_string();
        assert_eq!(
            verify(&moved, b"{}", NOW - 86_400),
            Err(Code::SignatureFailure),
            "date"
        );
    }

    #[test]
    fn unsigned_payload_requires_its_header() {
        let mut headers = signed("h", "h", tc3::UNSIGNED_PAYLOAD.as_bytes());
        assert_eq!(verify(&headers, b"{}", NOW), Err(Code::SignatureFailure));
        headers.push(("x-tc-content-sha256", tc3::UNSIGNED_PAYLOAD.to_owned()));
        assert_eq!(verify(&headers, b"{}", NOW), Ok(()));
    }

    #[test]
    fn body_can_be_verified_by_digest() {
        let headers = signed("h", "h", b"a large body");
        for (body, right) in [("a large body", true), ("another", false)] {
            let verified = with(&headers, b"", |call| {
                let call = call
                    .expect("a call")
                    .with_digest(Sha256::digest(body).into());
                call.verify(&key(), NOW, 300)
            });
            assert_eq!(verified.is_ok(), right, "{body}");
        }
        let mut unsigned = signed("h", "h", tc3::UNSIGNED_PAYLOAD.as_bytes());
        unsigned.push(("x-tc-content-sha256", tc3::UNSIGNED_PAYLOAD.to_owned()));
        let verified = with(&unsigned, b"", |call| {
            let call = call.expect("a call").with_digest([7; 32]);
            call.verify(&key(), NOW, 300)
        });
        assert_eq!(verified, Ok(()));
    }

    #[test]
    fn oversized_version_1_forms_are_rejected_before_decoding() {
        let long = "a=1&".repeat(FORM_MAX / 4) + "b";
        let many = "a&".repeat(PAIRS_MAX + 1);
        for (body, code) in [
            (long, Code::RequestSizeLimitExceeded),
            (many, Code::InvalidParameter),
        ] {
            let error = with(&[("host", "h".into())], body.as_bytes(), |call| {
                call.map(drop).expect_err("refused")
            });
            assert_eq!(error.code, code, "{error}");
        }
    }

    #[test]
    fn missing_headers_are_named() {
        for (index, name) in [
            (3, "X-TC-Action"),
            (4, "X-TC-Version"),
            (5, "X-TC-Timestamp"),
        ] {
            let mut headers = signed("h", "h", b"{}");
            headers.remove(index);
            let error = with(&headers, b"{}", |call| {
                call.map(drop).expect_err("a part is missing")
            });
            assert_eq!(
                error,
                Error::new(Code::MissingParameter, format!("header {name} is missing"))
            );
        }
        let error = with(&[("host", "h".into())], b"{}", |call| {
            call.map(drop).expect_err("no signature")
        });
        assert_eq!(error.code, Code::InvalidAuthorization);
    }

    #[test]
    fn invalid_field_is_named_with_the_expected_type() {
        let rows: [(&[u8], Code, &str); 4] = [
            (
                br#"{"Namespace":"x"}"#,
                Code::MissingParameter,
                "FunctionName is missing",
            ),
            (
                br#"{"FunctionName":7}"#,
                Code::InvalidParameter,
                "FunctionName: invalid type: integer `7`, expected a string",
            ),
            (
                br#"{"FunctionName":"f""#,
                Code::InvalidParameter,
                "the body is not whole JSON",
            ),
            (br#"[]"#, Code::InvalidParameter, ".: invalid"),
        ];
        for (body, code, message) in rows {
            let error = with(&signed("h", "h", body), body, |call| {
                call.and_then(|call| call.decode::<Invoke>(&Bounds::default()))
                    .expect_err("a bad body")
            });
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.starts_with(message), "{error}");
        }
    }

    #[test]
    fn version_1_signature_verifies_as_query_and_as_form() {
        for (http_method, method) in [("GET", "HmacSHA1"), ("POST", "HmacSHA256")] {
            let nonce = "11886".to_owned();
            let now = NOW.to_string();
            let mut pairs = vec![
                ("Action", "ListFunctions"),
                ("Version", "2018-04-16"),
                ("Nonce", &nonce),
                ("Timestamp", &now),
                ("SecretId", "AKIDtest"),
                ("SignatureMethod", method),
                ("Limit", "5"),
                ("Filters.0.Name", "Status"),
                ("Filters.0.Values.0", "Active"),
            ];
            let hash = v1::Method::parse(method).expect("a method");
            let signature = STANDARD.encode(v1::sign(
                &key(),
                hash,
                http_method,
                "h:1",
                "/",
                pairs.clone(),
            ));
            pairs.push(("Signature", &signature));
            let form: Vec<String> = pairs
                .iter()
                .map(|(n, v)| {
                    format!(
                        "{n}={}",
                        v.replace('+', "%2B")
                            .replace('/', "%2F")
                            .replace('=', "%3D")
                    )
                })
                .collect();
            let form = form.join("&");
            let (query, body) = if http_method == "GET" {
                (form.as_str(), "")
            } else {
                ("", form.as_str())
            };
            let headers = [("host", "h:1"), ("content-type", "application/json")];
            let call = Call::parse(RawRequest {
                method: http_method,
                path: "/",
                query,
                headers: &headers,
                body: body.as_bytes(),
            })
            .expect("a call");
            assert_eq!(
                call.verify(&key(), NOW, CLOCK_SKEW_S),
                Ok(()),
                "{http_method}"
            );
            assert_eq!(
                call.verify(&SecretKey::new("other"), NOW, CLOCK_SKEW_S)
                    .map_err(|e| e.code),
                Err(Code::SignatureFailure)
            );
            let request = call
                .decode::<ListFunctions>(&Bounds::default())
                .expect("parameters");
            assert_eq!(request.limit, Some(5));
            assert_eq!(
                request.filters.map(|f| f[0].values.clone()),
                Some(vec!["Active".to_owned()])
            );
        }
    }

    #[test]
    fn mutated_requests_are_rejected_without_panic() {
        // Deterministic generator, so that a failure is reproducible.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let body = br#"{"FunctionName":"hello","Namespace":"default"}"#;
        let now = NOW.to_string();
        let more = [
            ("x-tc-action", "GetFunction"),
            ("x-tc-timestamp", &now),
            ("x-tc-version", "2018-04-16"),
        ];
        let plain = signed("h:1", "h:1", body);
        let whole = signed_with("h:1", "h:1", body, &more);
        for round in 0..20_000 {
            let is_whole = round % 2 == 0;
            let mut headers = if is_whole { &whole } else { &plain }.clone();
            let mut bytes = body.to_vec();
            let header = random(headers.len() + 1);
            let changed = if let Some((_, value)) = headers.get_mut(header) {
                let at = random(value.len());
                let letter = char::from(32 + random(95) as u8);
                let before = value.clone();
                value.replace_range(at..=at, &letter.to_string());
                // Case and port of the host are tolerated, and the action need not be signed.
                let open = header == 1 || (matches!(header, 3 | 4) && !is_whole);
                !before.eq_ignore_ascii_case(value) && !open
            } else {
                let at = random(bytes.len());
                let before = bytes[at];
                bytes[at] = random(256) as u8;
                before != bytes[at]
            };
            with(&headers, &bytes, |call| {
                if let Ok(call) = call {
                    let _ = call.decode::<GetFunction>(&Bounds::default());
                    // A different id selects a different key.
                    let known = call.secret_id() == "AKIDtest";
                    assert!(
                        !changed || !known || call.verify(&key(), NOW, CLOCK_SKEW_S).is_err(),
                        "{headers:?} {bytes:?}"
                    );
                }
            });
        }
    }
}
