//! Package downloads by signed URLs that expire.

use std::io;
use std::path::Path;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::try_unfold;
use hmac::{Hmac, KeyInit, Mac};
use model::Sha256;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::{Caller, Gateway};

/// Lifetime of a URL, seconds.
const VALID_FOR_S: i64 = 600;
/// Bytes per read.
const CHUNK_BYTES: usize = 256 << 10;

/// Returns a signed URL of a package.
pub(super) fn url(gateway: &Gateway, caller: Caller<'_>, package: &Sha256) -> String {
    let base = match (&gateway.public_url, caller.host) {
        (Some(url), _) => url.clone(),
        // Some clients send their whole endpoint as the Host.
        (None, Some(host)) if host.contains("://") => host.trim_end_matches('/').to_owned(),
        (None, host) => {
            let scheme = if caller.secure { "https" } else { "http" };
            format!("{scheme}://{}", host.unwrap_or_default())
        }
    };
    let expires = clock::now_ms() / 1000 + VALID_FOR_S;
    let signature = hex::encode(
        mac(gateway, package.as_str(), expires)
            .finalize()
            .into_bytes(),
    );
    format!("{base}/packages/{package}.zip?expires={expires}&signature={signature}")
}

/// Serves a signed URL.
pub(super) async fn serve(gateway: &Gateway, name: &str, query: &str) -> Response {
    let refused = |why: &'static str| (StatusCode::FORBIDDEN, why).into_response();
    let field = |wanted: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    let digest = name.strip_suffix(".zip").unwrap_or_default();
    let expires = field("expires").and_then(|text| text.parse::<i64>().ok());
    let signature = field("signature").and_then(|text| hex::decode(text).ok());
    let (Some(expires), Some(signature)) = (expires, signature) else {
        return refused("the URL is incomplete; ask GetFunctionAddress for a new one\n");
    };
    if mac(gateway, digest, expires)
        .verify_slice(&signature)
        .is_err()
    {
        return refused("the URL's signature is invalid; ask GetFunctionAddress for a new one\n");
    }
    if expires < clock::now_ms() / 1000 {
        return refused("the URL has expired; ask GetFunctionAddress for a new one\n");
    }
    let Some(package) = Sha256::parse(digest) else {
        return refused(
            "the URL contains no package digest; ask GetFunctionAddress for a new one\n",
        );
    };
    let Ok((file, size)) = open(&gateway.packages.package(&package)).await else {
        return (StatusCode::NOT_FOUND, "the package is no longer there\n").into_response();
    };
    let headers = [
        (CONTENT_LENGTH, size.to_string()),
        (CONTENT_TYPE, "application/zip".to_owned()),
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{package}.zip\""),
        ),
        (CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    (headers, Body::from_stream(chunks(file))).into_response()
}

async fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path).await?;
    let size = file.metadata().await?.len();
    Ok((file, size))
}

/// Streams a file, since a package may have hundreds of megabytes.
fn chunks(file: File) -> impl Stream<Item = io::Result<Bytes>> {
    try_unfold(file, |mut file| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let read = file.read_buf(&mut chunk).await?;
        Ok((read > 0).then(|| (chunk.freeze(), file)))
    })
}

fn mac(gateway: &Gateway, digest: &str, expires: i64) -> Hmac<sha2::Sha256> {
    let key = gateway.access.url_key();
    let mut block = hmac::digest::Key::<Hmac<sha2::Sha256>>::default();
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<sha2::Sha256>::new(&block);
    mac.update(format!("virga package\n{digest}\n{expires}").as_bytes());
    mac
}
