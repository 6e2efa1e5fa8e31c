//! Bodies whose length nobody says, which `s3s` does not take: they go around it, and are compared with their hash here.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{Extensions, Method};
use http_body_util::StreamBody;
use hyper::body::Frame;
use s3s::{Body, StdError};
use sha2::{Digest, Sha256};

const HASH: &str = "x-amz-content-sha256";

/// A body that waits until its request is verified.
#[derive(Clone)]
struct Aside(Arc<Mutex<Option<Waiting>>>);

struct Waiting {
    body: Body,
    /// What it is to be compared with.
    hash: Option<String>,
}

/// Puts a body aside if its length is not known and it is an object's, in plain. Returns what `s3s` is to see.
pub(super) fn put_aside(parts: &mut Parts, body: Body) -> Body {
    let said = parts.headers.get(HASH).and_then(|hash| hash.to_str().ok());
    let hash = match said {
        Some("UNSIGNED-PAYLOAD") => None,
        Some(hash) if hash.len() == 64 => Some(hash.to_owned()),
        // Those in chunks say their length otherwise.
        _ => return body,
    };
    if parts.method != Method::PUT || parts.headers.contains_key(CONTENT_LENGTH) {
        return body;
    }
    let aside = Aside(Arc::new(Mutex::new(Some(Waiting { body, hash }))));
    parts.extensions.insert(aside);
    Body::empty()
}

/// The body of a verified request, if it was put aside.
pub(super) fn take_back(extensions: &mut Extensions) -> Option<Body> {
    let aside = extensions.remove::<Aside>()?;
    let mut kept = aside.0.lock().unwrap_or_else(PoisonError::into_inner);
    let Waiting { body, hash } = kept.take()?;
    let Some(hash) = hash else { return Some(body) };
    let frames = compared(body, hash).map_ok(Frame::data);
    Some(Body::http_body_unsync(StreamBody::new(frames)))
}

/// Bytes, and an error behind them if their hash is another.
fn compared(body: Body, hash: String) -> impl futures_util::Stream<Item = Result<Bytes, StdError>> {
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
