//! Bodies that bypass `s3s` while it verifies a request, and are checked here: those without a known length, which
//! `s3s` does not accept, and chunked ones.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap};
use http::request::Parts;
use http::{Extensions, Method};
use http_body_util::StreamBody;
use hyper::body::Frame;
use s3s::{Body, S3Result, StdError, s3_error};
use sha2::{Digest, Sha256};

use super::chunked::{ChunkSigner, Chunks, Trailers, decoded};

const HASH: &str = "x-amz-content-sha256";
/// Placeholder hashes of chunked bodies with signed chunks.
const SIGNED: [&str; 2] = [
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
];
const UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const LENGTH: &str = "x-amz-decoded-content-length";

/// A body that waits for the verification of its request.
#[derive(Clone)]
struct DeferredBody(Arc<Mutex<Option<Deferred>>>);

struct Deferred {
    body: Body,
    kind: Kind,
}

/// Further processing of a body.
enum Kind {
    Plain,
    /// Compare with this hash.
    Hashed(String),
    /// Decode chunks, signed or unsigned.
    Chunked(bool),
}

/// Defers a chunked body, or an object's body of unknown length. Returns the body for `s3s`.
pub(super) fn defer(parts: &mut Parts, body: Body) -> Body {
    let said = parts.headers.get(HASH).and_then(|hash| hash.to_str().ok());
    let whole = parts.method == Method::PUT && !parts.headers.contains_key(CONTENT_LENGTH);
    let kind = match said {
        Some(kind) if SIGNED.contains(&kind) => Kind::Chunked(true),
        Some(UNSIGNED) => Kind::Chunked(false),
        Some("UNSIGNED-PAYLOAD") if whole => Kind::Plain,
        Some(hash) if whole && hash.len() == 64 => Kind::Hashed(hash.to_owned()),
        _ => return body,
    };
    let deferred = DeferredBody(Arc::new(Mutex::new(Some(Deferred { body, kind }))));
    parts.extensions.insert(deferred);
    Body::empty()
}

/// Resumes the deferred body of a verified request. `headers` are the original ones, `secret` is the signer's.
///
/// # Errors
/// A header that a chunked body needs is missing or invalid.
pub(super) fn resume(
    extensions: &mut Extensions,
    headers: &HeaderMap,
    secret: &str,
) -> S3Result<Option<Body>> {
    let Some(deferred) = extensions.remove::<DeferredBody>() else {
        return Ok(None);
    };
    let kept = {
        let mut kept = deferred.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take()
    };
    let Some(Deferred { body, kind }) = kept else {
        return Ok(None);
    };
    Ok(Some(match kind {
        Kind::Plain => body,
        Kind::Hashed(hash) => {
            let frames = hash_checked(body, hash).map_ok(Frame::data);
            Body::http_body_unsync(StreamBody::new(frames))
        }
        Kind::Chunked(signed) => {
            let text = |name: &str| headers.get(name)?.to_str().ok();
            let length = text(LENGTH).and_then(|length| length.parse().ok());
            let length =
                length.ok_or_else(|| s3_error!(MissingContentLength, "{LENGTH} is missing"))?;
            let signing = text(AUTHORIZATION.as_str())
                .zip(text("x-amz-date"))
                .and_then(|(authorization, time)| ChunkSigner::read(authorization, time, secret));
            let signing = signing.ok_or_else(|| {
                s3_error!(InvalidRequest, "the header Authorization cannot be read")
            })?;
            let trailers = Trailers::default();
            extensions.insert(trailers.clone());
            let chunks = Chunks::new(signing, signed, length);
            let frames = decoded(body, chunks, trailers).map_ok(Frame::data);
            Body::http_body_unsync(StreamBody::new(Box::pin(frames)))
        }
    }))
}

/// Passes bytes on, and ends with an error if their hash differs.
fn hash_checked(
    body: Body,
    hash: String,
) -> impl futures_util::Stream<Item = Result<Bytes, StdError>> {
    let begun = (body, Sha256::new(), Some(hash));
    stream::try_unfold(begun, |(mut body, mut seen, hash)| async move {
        match body.next().await {
            Some(bytes) => {
                let bytes = bytes?;
                seen.update(&bytes);
                Ok(Some((bytes, (body, seen, hash))))
            }
            // The sender computed this hash, so it is not secret and needs no constant-time comparison.
            None if hash.is_some_and(|hash| hash != hex::encode(seen.finalize())) => {
                Err("Sha256Mismatch".into())
            }
            None => Ok(None),
        }
    })
}
