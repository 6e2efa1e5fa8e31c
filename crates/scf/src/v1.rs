//! Signature version 1: HmacSHA1 or HmacSHA256 over sorted parameters. Some tools still use it.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::SecretKeyRef;

/// The hash of a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// `HmacSHA1`, the default.
    #[default]
    Sha1,
    /// `HmacSHA256`.
    Sha256,
}

impl Method {
    /// Parses `SignatureMethod`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "HmacSHA1" => Some(Self::Sha1),
            "HmacSHA256" => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// Computes a signature over decoded parameters, excluding `Signature` itself.
pub fn sign<'a>(
    key: impl Into<SecretKeyRef<'a>>,
    method: Method,
    http_method: &str,
    host: &str,
    path: &str,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut sorted: Vec<_> = parameters
        .into_iter()
        .filter(|(name, _)| *name != "Signature")
        .collect();
    sorted.sort_unstable();
    let pairs: Vec<String> = sorted
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let text = format!("{http_method}{host}{path}?{}", pairs.join("&"));
    // HMAC accepts keys of any length, so neither fails.
    let key = key.into().reveal().as_bytes();
    match method {
        Method::Sha1 => Hmac::<Sha1>::new_from_slice(key).map(|mac| {
            mac.chain_update(text.as_bytes())
                .finalize()
                .into_bytes()
                .to_vec()
        }),
        Method::Sha256 => Hmac::<Sha256>::new_from_slice(key).map(|mac| {
            mac.chain_update(text.as_bytes())
                .finalize()
                .into_bytes()
                .to_vec()
        }),
    }
    .unwrap_or_default()
}

/// Compares two signatures in constant time.
pub fn signatures_equal(claimed: &[u8], computed: &[u8]) -> bool {
    !computed.is_empty() && bool::from(claimed.ct_eq(computed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn published_example_yields_published_signature() {
        // Example in the documentation of signature version 1: DescribeInstances, HmacSHA1.
        let key = SecretKey::new("Gu5t9xGARNpq86cd98joQYCN3EXAMPLE");
        let parameters = [
            ("Action", "DescribeInstances"),
            ("InstanceIds.0", "ins-09dx96dg"),
            ("Limit", "20"),
            ("Nonce", "11886"),
            ("Offset", "0"),
            ("Region", "ap-guangzhou"),
            ("SecretId", "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"),
            ("Timestamp", "1465185768"),
            ("Version", "2017-03-12"),
        ];
        let signature = sign(
            &key,
            Method::Sha1,
            "GET",
            "cvm.tencentcloudapi.com",
            "/",
            parameters,
        );
        assert_eq!(STANDARD.encode(signature), "EliP9YW3pW28FpsEdkXt/+WcGeI=");
    }
}
