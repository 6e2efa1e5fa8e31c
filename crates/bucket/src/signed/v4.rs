//! Signing keys and MACs of version 4, where `s3s` does not offer them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Derives the signing key of a scope: day, region, service and `aws4_request`.
pub(crate) fn key<'a>(secret: &str, scope: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let first = format!("AWS4{secret}").into_bytes();
    let parts = scope.into_iter();
    parts.fold(first, |key, part| mac(&key, part.as_bytes()))
}

/// Returns the HMAC-SHA256 of a text.
pub(crate) fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC accepts keys of any length, so this cannot fail.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}
