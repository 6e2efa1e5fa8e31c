//! Header names as COS spells them.
//!
//! HTTP does not tell `etag` from `ETag`, but users of COS's clients do: those hand the headers on as they came, and
//! `response["ETag"]` is how every example of theirs reads one. hyper writes names in small letters, or passes on the letters of
//! an answer that it has read. So it reads one.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::http::Extensions;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tracing::warn;

/// An answer with each name that has a capital. Source: what COS answers; those of its own are small.
const SAMPLE_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Accept-Ranges: x\r\nAccess-Control-Allow-Credentials: x\r\nAccess-Control-Allow-Headers: x\r\n\
    Access-Control-Allow-Methods: x\r\nAccess-Control-Allow-Origin: x\r\nAccess-Control-Expose-Headers: x\r\n\
    Access-Control-Max-Age: x\r\nCache-Control: x\r\nConnection: close\r\nContent-Disposition: x\r\nContent-Encoding: x\r\n\
    Content-Language: x\r\nContent-Length: 0\r\nContent-Range: x\r\nContent-Type: x\r\nDate: x\r\nETag: x\r\nExpires: x\r\n\
    Last-Modified: x\r\nLocation: x\r\nServer: x\r\nVary: x\r\n\r\n";

/// What makes hyper spell an answer's names like COS, where the answer has it among its extensions.
pub(super) async fn header_case() -> Extensions {
    match read().await {
        Ok(extensions) => extensions,
        Err(error) => {
            warn!(%error, "names of headers are in small letters; clients of COS may miss ETag");
            Extensions::new()
        }
    }
}

async fn read() -> Result<Extensions, Box<dyn std::error::Error + Send + Sync>> {
    let (near, mut far) = duplex(4096);
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(near))
        .await?;
    let asked = sender.send_request(Request::new(Empty::<Bytes>::new()));
    let answered = async move {
        // An answer is read once its request is on its way.
        far.read_u8().await?;
        far.write_all(SAMPLE_RESPONSE).await
    };
    let connection = async move {
        // It ends when the answer has been read.
        let _ = connection.await;
    };
    let (asked, answered, ()) = tokio::join!(asked, answered, connection);
    answered?;
    Ok(asked?.into_parts().0.extensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn response_headers_have_the_case_of_cos() {
        assert!(!read().await.expect("an answer").is_empty());
    }
}
