//! Parsing and verification of API requests: the caller, the action and its parameters.
//!
//! Clients differ in how they build and sign a request. Each tolerance here is for one of them:
//! * tccli and the Python SDK, if the endpoint includes a scheme, send and sign `Host: http://…`;
//! * the Node.js SDK signs the host without the port, and derives the service in the credential scope from the host;
//! * older clients use signature version 1 in a query, a form, or a form with a JSON content type.

mod decode;
mod verify;

use std::borrow::Cow;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::flat::Flat;
use crate::tc3::Claim;
use crate::{Code, Error, flat, tc3, v1};

pub use self::decode::decode_json;

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

/// Returns the session token of temporary credentials, if there is one.
fn token(raw: RawRequest<'_>) -> Option<Cow<'_, str>> {
    let token = raw.header("X-TC-Token");
    token.filter(|token| !token.is_empty()).map(Cow::from)
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
            token: token(raw),
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
            token: token(raw),
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

    /// Returns the length of the request's body, in bytes.
    pub fn body_length(&self) -> usize {
        self.raw.body.len()
    }

    /// Sets the digest of a body that `raw` does not contain.
    #[must_use]
    pub fn with_digest(mut self, digest: [u8; 32]) -> Self {
        self.digest = Some(digest);
        self
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

#[cfg(test)]
mod tests;
