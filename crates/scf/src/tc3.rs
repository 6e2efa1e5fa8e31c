//! TC3-HMAC-SHA256, the current signature scheme of the cloud's APIs, as pure functions.
//!
//! Sources: the published description of the scheme and the official SDKs.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{SecretKey, SecretKeyRef};

/// Name of the scheme, the first word of the `Authorization` header.
pub const ALGORITHM: &str = "TC3-HMAC-SHA256";
/// Value of `X-TC-Content-SHA256` if the client does not sign the body.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// Last part of the credential scope.
const TERMINATOR: &str = "tc3_request";

/// A request to be signed.
#[derive(Clone, Copy, Debug)]
pub struct ToSign<'a> {
    /// Secret id of the signer.
    pub secret_id: &'a str,
    /// Secret key of the signer.
    pub secret_key: &'a SecretKey,
    /// Service in the credential scope, such as `scf`.
    pub service: &'a str,
    /// `Host` header, including the port.
    pub host: &'a str,
    /// `Content-Type` header.
    pub content_type: &'a str,
    /// Further headers to sign: sorted lower-case names with their values.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body.
    pub payload: &'a [u8],
    /// Unix time (s), also sent in `X-TC-Timestamp`.
    pub timestamp: i64,
}

/// Computes the `Authorization` header of a POST to `/`.
pub fn authorization(request: &ToSign<'_>) -> String {
    let date = date(request.timestamp);
    let usual = [
        ("content-type", request.content_type),
        ("host", request.host),
    ];
    let (mut headers, mut names) = (String::new(), Vec::new());
    for (name, value) in usual.iter().chain(request.headers) {
        headers.extend([name, ":", value.trim(), "\n"]);
        names.push(*name);
    }
    let signed_headers = names.join(";");
    let canonical = Canonical {
        method: "POST",
        path: "/",
        query: "",
        headers: &headers,
        signed_headers: &signed_headers,
        payload_hash: &hex::encode(Sha256::digest(request.payload)),
    };
    let scope = Scope {
        date: &date,
        service: request.service,
    };
    let signature = sign(request.secret_key, request.timestamp, &scope, &canonical);
    format!(
        "{ALGORITHM} Credential={}/{date}/{}/{TERMINATOR}, SignedHeaders={signed_headers}, Signature={}",
        request.secret_id,
        request.service,
        hex::encode(signature)
    )
}

/// The canonical request: the signed parts of a request, as sent.
#[derive(Clone, Copy, Debug)]
pub struct Canonical<'a> {
    /// `POST` or `GET`.
    pub method: &'a str,
    /// Path.
    pub path: &'a str,
    /// Query string without `?`.
    pub query: &'a str,
    /// `name:value\n` for each signed header.
    pub headers: &'a str,
    /// Names of the signed headers, joined with `;`.
    pub signed_headers: &'a str,
    /// SHA-256 of the body in hex.
    pub payload_hash: &'a str,
}

/// The credential scope: the day and service for which a signature is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// `YYYY-MM-DD`, UTC.
    pub date: &'a str,
    /// Service name.
    pub service: &'a str,
}

/// Computes a signature.
pub fn sign<'a>(
    key: impl Into<SecretKeyRef<'a>>,
    timestamp: i64,
    scope: &Scope<'_>,
    canonical: &Canonical<'_>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [
        canonical.method,
        canonical.path,
        canonical.query,
        canonical.headers,
        canonical.signed_headers,
    ] {
        hash.update(part.as_bytes());
        hash.update(b"\n");
    }
    hash.update(canonical.payload_hash.as_bytes());
    let digest = hex::encode(hash.finalize());
    let Scope { date, service } = scope;
    let text = format!("{ALGORITHM}\n{timestamp}\n{date}/{service}/{TERMINATOR}\n{digest}");

    let first = format!("TC3{}", key.into().reveal());
    let mut chained = hmac(first.as_bytes(), date.as_bytes());
    for part in [service.as_bytes(), TERMINATOR.as_bytes(), text.as_bytes()] {
        chained = hmac(&chained, part);
    }
    chained
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC accepts keys of any length, so this never fails.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text).finalize().into_bytes().into())
        .unwrap_or_default()
}

/// The unverified content of an `Authorization` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Secret id of the claimed signer.
    pub secret_id: &'a str,
    /// Credential scope.
    pub scope: Scope<'a>,
    /// Names of the signed headers, joined with `;`.
    pub signed_headers: &'a str,
    /// Signature (hex).
    pub signature: &'a str,
}

impl<'a> Claim<'a> {
    /// Parses an `Authorization` header. Returns `None` if it does not follow this scheme.
    pub fn parse(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return None,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        let mut credential = credential?.splitn(4, '/');
        let (secret_id, date, service) =
            (credential.next()?, credential.next()?, credential.next()?);
        let whole = credential.next()? == TERMINATOR && !secret_id.is_empty();
        let scope = Scope { date, service };
        whole.then_some(Self {
            secret_id,
            scope,
            signed_headers: signed_headers?,
            signature: signature?,
        })
    }

    /// Compares the claimed signature with `signature` in constant time.
    pub fn matches(&self, signature: &[u8; 32]) -> bool {
        let mut claimed = [0; 32];
        hex::decode_to_slice(self.signature, &mut claimed).is_ok()
            && bool::from(claimed.ct_eq(signature))
    }
}

/// Formats the UTC date of a Unix time as `YYYY-MM-DD`.
pub fn date(timestamp: i64) -> String {
    // Howard Hinnant's published algorithm for the civil date from days.
    let days = timestamp.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc() {
        let rows = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_551_113_065, "2019-02-25"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ];
        for (time, expected) in rows {
            assert_eq!(date(time), expected);
        }
    }

    #[test]
    fn published_example_yields_published_digests() {
        // The documentation of the scheme prints the digests of the body and of the canonical request.
        let payload = r#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#;
        let digest = hex::encode(Sha256::digest(payload));
        assert_eq!(
            digest,
            "35e9c5b0e3ae67532d3c9f17ead6c90222632e5b1ff7f6e89887f1398934f064"
        );
        let canonical = format!(
            "POST\n/\n\ncontent-type:application/json; charset=utf-8\nhost:cvm.tencentcloudapi.com\n\n\
             content-type;host\n{digest}"
        );
        assert_eq!(
            hex::encode(Sha256::digest(canonical)),
            "5ffe6a04c0664d6b969fab9a13bdab201d63ee709638e2749d62a09ca18d7031"
        );
    }

    #[test]
    fn authorization_header_round_trips() {
        let key = SecretKey::new("key");
        let request = ToSign {
            secret_id: "id",
            secret_key: &key,
            service: "scf",
            host: "127.0.0.1:9400",
            content_type: "application/json",
            headers: &[],
            payload: b"{}",
            timestamp: 1_551_113_065,
        };
        let header = authorization(&request);
        let claim = Claim::parse(&header).expect("a header of this scheme");
        assert_eq!(
            (claim.secret_id, claim.scope.date, claim.scope.service),
            ("id", "2019-02-25", "scf")
        );
        assert_eq!(claim.signed_headers, "content-type;host");
        let more = ToSign {
            headers: &[("x-tc-action", "Invoke"), ("x-tc-nonce", "n")],
            ..request
        };
        let header = authorization(&more);
        let claim = Claim::parse(&header).expect("a header of this scheme");
        assert_eq!(
            claim.signed_headers,
            "content-type;host;x-tc-action;x-tc-nonce"
        );
    }

    #[test]
    fn malformed_authorization_headers_are_rejected() {
        for bad in [
            "",
            "TC3-HMAC-SHA256",
            "TC3-HMAC-SHA256 Credential=a/b/c/tc3_request, SignedHeaders=host",
            "TC3-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00",
            "TC3-HMAC-SHA256 Credential=/b/c/tc3_request, SignedHeaders=host, Signature=00",
            "TC3-HMAC-SHA256 Credential=a/b/c/tc3_request, SignedHeaders=host, Signature=00, Signature=01",
            "Basic YTpi",
        ] {
            assert_eq!(Claim::parse(bad), None, "{bad}");
        }
    }
}
