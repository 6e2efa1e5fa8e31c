//! AWS signature version 4 for S3 requests without a query.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use operator::credentials::Credentials;
use sha2::{Digest, Sha256};

/// The signature requires a region; virga's buckets accept any.
const REGION: &str = "us-east-1";
const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";

/// A request to sign.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToSign<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    /// The path in encoded form, as it is sent.
    pub(super) path: &'a str,
    pub(super) body: &'a [u8],
}

/// Returns the signature headers of a request, in addition to `host`.
pub(super) fn headers(
    to_sign: &ToSign<'_>,
    keys: &Credentials,
    now: Timestamp,
) -> [(&'static str, String); 3] {
    let ToSign {
        method,
        host,
        path,
        body,
    } = to_sign;
    let (time, day) = (
        now.strftime("%Y%m%dT%H%M%SZ").to_string(),
        now.strftime("%Y%m%d").to_string(),
    );
    let digest = hex::encode(Sha256::digest(body));
    let request = format!(
        "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{time}\n\n{SIGNED}\n{digest}"
    );
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let request = hex::encode(Sha256::digest(request));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}");
    let first = format!("AWS4{}", keys.key.reveal()).into_bytes();
    let steps = [day.as_str(), REGION, "s3", "aws4_request", &text];
    let signature = steps
        .iter()
        .fold(first, |key: Vec<u8>, step| mac(&key, step));
    let signature = hex::encode(signature);
    let id = &keys.id;
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
    );
    [
        ("authorization", authorization),
        ("x-amz-content-sha256", digest),
        ("x-amz-date", time),
    ]
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC accepts keys of any length, so this never fails.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}
