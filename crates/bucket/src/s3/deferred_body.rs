//! Bodies that go around `s3s` while it verifies a request, and are compared with what it says of them here: those whose length
//! nobody says, which `s3s` does not take, and those in chunks.

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
/// What the hash is of a body in chunks, each signed or none.
const SIGNED: [&str; 2] = [
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
];
const UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const LENGTH: &str = "x-amz-decoded-content-length";

/// A body that waits until its request is verified.
#[derive(Clone)]
struct DeferredBody(Arc<Mutex<Option<Deferred>>>);

struct Deferred {
    body: Body,
    kind: Kind,
}

/// What is to be done with a body.
enum Kind {
    Plain,
    /// It has this hash.
    Hashed(String),
    /// It is in chunks, which are signed or not.
    Chunked(bool),
}

/// Puts a body aside if it is in chunks, or if it is an object's and its length is not known. Returns what `s3s` is to see.
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

/// The body of a verified request, if it was put aside. `headers` are as they came, and `secret` is what they are signed with.
///
/// # Errors
/// The headers do not say what they must of a body in chunks.
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

/// Bytes, and an error behind them if their hash is another.
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
            // The hash is no secret: whoever sends the body has computed it.
            None if hash.is_some_and(|hash| hash != hex::encode(seen.finalize())) => {
                Err("Sha256Mismatch".into())
            }
            None => Ok(None),
        }
    })
}
