//! Bodies in the `aws-chunked` encoding, with signed chunks and trailing headers.
//!
//! `s3s` buffers a chunk until it is verified, although it may have gigabytes. It does not compare signatures in
//! constant time, and accepts a truncated body. So they are decoded here. Bytes are passed on as they arrive; a body
//! that ends with an error is discarded. Source: S3's pages "Signature calculations for trailing headers" and
//! "Transferring payload in multiple chunks".

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::StdError;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::signed::v4;

/// Maximum size of a chunk's header, and of the trailer.
const HEAD: usize = 1024;
const TRAILERS: usize = 16 << 10;
/// Trailing header that signs the others.
const SIGNATURE: &str = "x-amz-trailer-signature";

/// Trailing headers, available after the end of the body.
#[derive(Clone, Default)]
pub(super) struct Trailers(Arc<Mutex<Option<HeaderMap>>>);

impl Trailers {
    pub(super) fn read<T>(&self, read: impl FnOnce(&HeaderMap) -> T) -> Option<T> {
        let headers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        headers.as_ref().map(read)
    }
}

/// Reason why a chunked body is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum ChunkError {
    #[error("SignatureMismatch: the signature of a chunk, or of the trailers, is wrong")]
    Mismatch,
    #[error("the body is not in chunks as x-amz-content-sha256 says: {0}")]
    Malformed(&'static str),
    #[error("the body ends before its last chunk")]
    Incomplete,
    #[error("the body is not as long as x-amz-decoded-content-length says")]
    Length,
}

/// Verifies the chain of chunk signatures.
#[derive(Debug)]
pub(super) struct ChunkSigner {
    key: Vec<u8>,
    /// Time of the request, and scope of the key.
    time: String,
    scope: String,
    /// Previous signature in the chain; the first is the request's.
    previous: String,
}

impl ChunkSigner {
    /// Reads the signing parameters from a verified request.
    pub(super) fn read(authorization: &str, time: &str, secret: &str) -> Option<Self> {
        let part = |name: &str| {
            let (_, rest) = authorization.split_once(name)?;
            rest.split([',', ' ']).next()
        };
        let scope: Vec<_> = part("Credential=")?.rsplitn(5, '/').collect();
        let [last, service, region, day, _] = scope[..] else {
            return None;
        };
        let scope = [day, region, service, last];
        Some(Self {
            key: v4::key(secret, scope),
            time: time.to_owned(),
            scope: scope.join("/"),
            previous: part("Signature=")?.to_owned(),
        })
    }

    /// Verifies a chunk's signature in constant time.
    fn check_chunk(&mut self, hash: &[u8], claimed: &[u8]) -> Result<(), ChunkError> {
        let nothing = hex::encode(Sha256::digest(b""));
        let hashes = format!("{nothing}\n{}", hex::encode(hash));
        self.check("AWS4-HMAC-SHA256-PAYLOAD", &hashes, claimed)
    }

    fn check_trailers(&mut self, canonical: &str, claimed: &[u8]) -> Result<(), ChunkError> {
        let hash = hex::encode(Sha256::digest(canonical));
        self.check("AWS4-HMAC-SHA256-TRAILER", &hash, claimed)
    }

    fn check(&mut self, kind: &str, hashes: &str, claimed: &[u8]) -> Result<(), ChunkError> {
        let Self { time, scope, .. } = self;
        let text = format!("{kind}\n{time}\n{scope}\n{}\n{hashes}", self.previous);
        let made = hex::encode(v4::mac(&self.key, text.as_bytes()));
        if !bool::from(made.as_bytes().ct_eq(claimed)) {
            return Err(ChunkError::Mismatch);
        }
        self.previous = made;
        Ok(())
    }
}

/// State of the parser.
#[derive(Debug)]
enum ParseState {
    /// In a chunk's header, with the bytes so far.
    Head(Vec<u8>),
    /// In a chunk's data, with the bytes left. A line end follows.
    Data(u64),
    Line(&'static [u8]),
    /// In the trailer, after the last chunk.
    TrailerSection(Vec<u8>),
}

/// A decoder of chunked bodies.
#[derive(Debug)]
pub(super) struct Chunks {
    signing: ChunkSigner,
    /// Whether every chunk must be signed.
    signed: bool,
    next: ParseState,
    hash: Sha256,
    /// Claimed signature of the current chunk.
    claimed: Option<Vec<u8>>,
    /// Announced bytes still missing.
    left: u64,
}

impl Chunks {
    /// Creates a decoder for an announced length.
    pub(super) fn new(signing: ChunkSigner, signed: bool, length: u64) -> Self {
        Self {
            signing,
            signed,
            next: ParseState::Head(Vec::new()),
            hash: Sha256::new(),
            claimed: None,
            left: length,
        }
    }

    /// Decodes input and returns the next data. `None` if the input is used up.
    fn read(&mut self, bytes: &mut Bytes) -> Result<Option<Bytes>, ChunkError> {
        while !bytes.is_empty() {
            match &mut self.next {
                ParseState::Head(head) => {
                    let line = bytes.iter().position(|byte| *byte == b'\n');
                    let piece = bytes.split_to(line.map_or(bytes.len(), |at| at + 1));
                    if head.len() + piece.len() > HEAD {
                        return Err(ChunkError::Malformed("a chunk's head is too long"));
                    }
                    head.extend_from_slice(&piece);
                    if line.is_some() {
                        let head = std::mem::take(head);
                        self.begin(&head)?;
                    }
                }
                ParseState::Data(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let data = bytes.split_to(most.min(bytes.len()));
                    *left -= data.len() as u64;
                    self.hash.update(&data);
                    if *left == 0 {
                        self.next = ParseState::Line(b"\r\n");
                        self.check()?;
                    }
                    return Ok(Some(data));
                }
                ParseState::Line(rest) => {
                    if bytes.first() != rest.first() {
                        return Err(ChunkError::Malformed("a chunk is longer than it says"));
                    }
                    bytes.advance(1);
                    self.next = match rest.get(1..) {
                        Some(rest) if !rest.is_empty() => ParseState::Line(rest),
                        _ => ParseState::Head(Vec::new()),
                    };
                }
                ParseState::TrailerSection(buffered) => {
                    if buffered.len() + bytes.len() > TRAILERS {
                        return Err(ChunkError::Malformed(
                            "the trailers behind the chunks are too long",
                        ));
                    }
                    buffered.extend_from_slice(bytes);
                    bytes.clear();
                }
            }
        }
        Ok(None)
    }

    /// Parses a chunk's header.
    fn begin(&mut self, head: &[u8]) -> Result<(), ChunkError> {
        let (size, claimed) = chunk_head(head).ok_or(ChunkError::Malformed("a chunk's head"))?;
        if self.signed && claimed.is_none() {
            return Err(ChunkError::Malformed("a chunk is not signed"));
        }
        self.claimed = claimed.map(<[u8]>::to_vec);
        self.left = self.left.checked_sub(size).ok_or(ChunkError::Length)?;
        self.hash = Sha256::new();
        if size > 0 {
            self.next = ParseState::Data(size);
            return Ok(());
        }
        self.next = ParseState::TrailerSection(Vec::new());
        self.check()
    }

    /// Verifies the finished chunk.
    fn check(&mut self) -> Result<(), ChunkError> {
        let hash = std::mem::take(&mut self.hash).finalize();
        match self.claimed.take() {
            Some(claimed) => self.signing.check_chunk(&hash, &claimed),
            None => Ok(()),
        }
    }

    /// Ends the body. Returns the trailing headers, if any.
    fn end(mut self) -> Result<Option<HeaderMap>, ChunkError> {
        let ParseState::TrailerSection(buffered) =
            std::mem::replace(&mut self.next, ParseState::Line(b""))
        else {
            return Err(ChunkError::Incomplete);
        };
        if self.left > 0 {
            return Err(ChunkError::Length);
        }
        if buffered.is_empty() || buffered == b"\r\n" {
            return Ok(None);
        }
        let trailer = TrailerSection::read(&buffered)
            .ok_or(ChunkError::Malformed("a header behind the chunks"))?;
        match trailer.claimed {
            Some(claimed) => self
                .signing
                .check_trailers(&trailer.canonical, claimed.as_bytes())?,
            None if self.signed => {
                return Err(ChunkError::Malformed(
                    "the headers behind the chunks are not signed",
                ));
            }
            None => {}
        }
        Ok(Some(trailer.headers))
    }
}

/// Parses a chunk's header into size and signature.
fn chunk_head(head: &[u8]) -> Option<(u64, Option<&[u8]>)> {
    let line = head.strip_suffix(b"\r\n")?;
    let end = line.iter().position(|byte| *byte == b';');
    let (size, rest) = line.split_at(end.unwrap_or(line.len()));
    let plain = !size.is_empty() && size.len() <= 16 && size.iter().all(u8::is_ascii_hexdigit);
    let size = std::str::from_utf8(size).ok().filter(|_| plain)?;
    let size = u64::from_str_radix(size, 16).ok()?;
    if rest.is_empty() {
        return Some((size, None));
    }
    let signature = rest.strip_prefix(b";chunk-signature=")?;
    (signature.len() == 64).then_some((size, Some(signature)))
}

/// Parsed trailing headers.
struct TrailerSection {
    headers: HeaderMap,
    /// Canonical form, as signed.
    canonical: String,
    claimed: Option<String>,
}

impl TrailerSection {
    fn read(buffered: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(buffered).ok()?;
        let (mut pairs, mut claimed) = (Vec::new(), None);
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':')?;
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            if name == SIGNATURE {
                claimed = Some(value);
            } else {
                pairs.push((name, value));
            }
        }
        pairs.sort_by(|one, other| one.0.cmp(&other.0));
        let lines = pairs
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"));
        let canonical = lines.collect();
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::try_from(name).ok()?;
            headers.append(name, HeaderValue::try_from(value).ok()?);
        }
        Some(Self {
            headers,
            canonical,
            claimed,
        })
    }
}

/// Decodes a body into a stream, which ends with an error if the body is invalid.
pub(super) fn decoded<S>(
    body: S,
    chunks: Chunks,
    trailers: Trailers,
) -> impl Stream<Item = Result<Bytes, StdError>> + Send
where
    S: Stream<Item = Result<Bytes, StdError>> + Unpin + Send,
{
    let begun = Some((body, chunks, Bytes::new()));
    stream::try_unfold(begun, move |state| {
        let trailers = trailers.clone();
        async move {
            let Some((mut body, mut chunks, mut bytes)) = state else {
                return Ok(None);
            };
            loop {
                if let Some(data) = chunks.read(&mut bytes)? {
                    return Ok(Some((data, Some((body, chunks, bytes)))));
                }
                match body.next().await {
                    Some(more) => bytes = more?,
                    None => {
                        let headers = chunks.end()?;
                        *trailers.0.lock().unwrap_or_else(PoisonError::into_inner) = headers;
                        return Ok(None);
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use seeded::Random;

    use super::*;

    const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
         SignedHeaders=content-encoding;host, Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    /// Example key from S3's page.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    fn signing() -> ChunkSigner {
        ChunkSigner::read(AUTHORIZATION, "20130524T000000Z", SECRET).expect("what signs")
    }

    async fn read(
        body: Vec<Vec<u8>>,
        signed: bool,
        length: u64,
    ) -> (Result<Vec<u8>, String>, Trailers) {
        let trailers = Trailers::default();
        let body = stream::iter(body.into_iter().map(|piece| Ok(Bytes::from(piece))));
        let chunks = Chunks::new(signing(), signed, length);
        let read = decoded(body, chunks, trailers.clone());
        let read: Result<Vec<Bytes>, _> = Box::pin(read).try_collect().await;
        let read = read
            .map(|pieces| pieces.concat())
            .map_err(|fault| fault.to_string());
        (read, trailers)
    }

    /// Encodes a chunked body as a client does.
    fn chunked(chunks: &[&[u8]], trailers: &[(&str, &str)], signed: bool) -> Vec<u8> {
        let mut signing = signing();
        let mut sign = |kind: &str, hashes: &str| {
            let text = format!(
                "{kind}\n{}\n{}\n{}\n{hashes}",
                signing.time, signing.scope, signing.previous
            );
            signing.previous = hex::encode(v4::mac(&signing.key, text.as_bytes()));
            signing.previous.clone()
        };
        let mut body = Vec::new();
        for chunk in chunks.iter().copied().chain([&b""[..]]) {
            let hashes = [&b""[..], chunk]
                .map(|bytes| hex::encode(Sha256::digest(bytes)))
                .join("\n");
            let signature = format!(
                ";chunk-signature={}",
                sign("AWS4-HMAC-SHA256-PAYLOAD", &hashes)
            );
            let signature = if signed { signature } else { String::new() };
            body.extend_from_slice(format!("{:x}{signature}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            if !chunk.is_empty() {
                body.extend_from_slice(b"\r\n");
            }
        }
        let lines: String = trailers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\r\n"))
            .collect();
        body.extend_from_slice(lines.as_bytes());
        if !trailers.is_empty() && signed {
            let canonical = lines.replace('\r', "");
            let hash = hex::encode(Sha256::digest(canonical));
            let line = format!(
                "{SIGNATURE}:{}\r\n",
                sign("AWS4-HMAC-SHA256-TRAILER", &hash)
            );
            body.extend_from_slice(line.as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body
    }

    /// Source: the example on S3's page "Transferring payload in multiple chunks".
    #[tokio::test]
    async fn published_s3_example_verifies() {
        let signatures = [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ];
        let mut body = Vec::new();
        for (length, signature) in [65_536, 1024, 0].into_iter().zip(signatures) {
            body.extend_from_slice(
                format!("{length:x};chunk-signature={signature}\r\n").as_bytes(),
            );
            body.extend_from_slice(&vec![b'a'; length]);
            body.extend_from_slice(b"\r\n");
        }
        let (read, _) = read(vec![body], true, 66_560).await;
        assert_eq!(read.map(|bytes| bytes.len()), Ok(66_560));
    }

    #[tokio::test]
    async fn chunked_body_is_read_the_same_for_any_fragmentation() {
        for seed in 1..300 {
            let mut rng = Random::new(seed);
            let chunks: Vec<_> = (0..rng.index(4))
                .map(|_| [rng.bytes(3000), vec![b'x']].concat())
                .collect();
            let chunks: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
            let signed = rng.one_in(2);
            let trailers: &[_] = if rng.one_in(2) {
                &[("x-amz-checksum-crc32", "AAAAAA==")]
            } else {
                &[]
            };
            let body = chunked(&chunks, trailers, signed);
            let most = 1 + rng.index(500);
            let expected = chunks.concat();
            let (read, trailer) =
                read(rng.pieces(&body, most), signed, expected.len() as u64).await;
            assert_eq!(read, Ok(expected), "seed {seed}");
            let found = trailer.read(HeaderMap::len).unwrap_or(0);
            assert_eq!(found, trailers.len(), "seed {seed}");
        }
    }

    #[tokio::test]
    async fn mutated_chunked_bodies_are_rejected() {
        let trailers = [("x-amz-checksum-crc32", "AAAAAA==")];
        let content = [&b"rain"[..], b"and snow"];
        let whole = chunked(&content, &trailers, true);
        for seed in 1..5000 {
            let mut rng = Random::new(seed);
            let changed = rng.mutated(&whole);
            let (read, _) = read(rng.pieces(&changed, 64), true, 12).await;
            // The case of hex digits and header names, and white space, are not signed and change nothing.
            if let Ok(read) = read {
                assert_eq!(
                    read,
                    content.concat(),
                    "seed {seed}: {}",
                    String::from_utf8_lossy(&changed)
                );
            }
        }
        let end = whole.len();
        // A truncated body is rejected.
        let trailer = whole
            .windows(4)
            .position(|four| four == b"0;ch")
            .expect("the last");
        for cut in (0..trailer).chain([trailer + 10]) {
            let (read, _) = read(vec![whole[..cut].to_vec()], true, 12).await;
            assert!(read.is_err(), "{cut} of {end}");
        }
        // A body of another length than announced is rejected.
        for length in [11, 13] {
            assert!(read(vec![whole.clone()], true, length).await.0.is_err());
        }
        // A body without required signatures is rejected.
        let bare = chunked(&content, &trailers, false);
        assert!(read(vec![bare.clone()], false, 12).await.0.is_ok());
        assert!(read(vec![bare], true, 12).await.0.is_err());
    }

    #[tokio::test]
    async fn large_chunk_is_streamed_without_buffering() {
        let mut chunks = Chunks::new(signing(), false, u64::MAX);
        let mut head = Bytes::from_static(b"fffffffffff\r\n");
        assert_eq!(chunks.read(&mut head), Ok(None));
        for _ in 0..100 {
            let mut bytes = Bytes::from_static(&[b'x'; 1000]);
            let read = chunks.read(&mut bytes).expect("bytes");
            assert_eq!(read.map(|bytes| bytes.len()), Some(1000));
        }
        for head in [
            "",
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1\n",
            "fffffffffffffffff\r\n",
            "1;chunk-signature=\r\n",
            "1;other\r\n",
        ] {
            assert_eq!(chunk_head(head.as_bytes()), None, "{head:?}");
        }
    }
}
