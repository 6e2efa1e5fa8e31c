//! Header names in COS's spelling.
//!
//! HTTP does not distinguish `etag` from `ETag`, but users of COS's clients do: the clients expose headers as they
//! arrived, and the examples read `response["ETag"]`. hyper writes lower-case names, unless the response carries the
//! spelling of a parsed one. So a sample response is parsed once.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::http::Extensions;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tracing::warn;

/// A response with every capitalized header name. Source: COS's responses; its own headers are lower-case.
const SAMPLE_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Accept-Ranges: x\r\nAccess-Control-Allow-Credentials: x\r\nAccess-Control-Allow-Headers: x\r\n\
    Access-Control-Allow-Methods: x\r\nAccess-Control-Allow-Origin: x\r\nAccess-Control-Expose-Headers: x\r\n\
    Access-Control-Max-Age: x\r\nCache-Control: x\r\nConnection: close\r\nContent-Disposition: x\r\nContent-Encoding: x\r\n\
    Content-Language: x\r\nContent-Length: 0\r\nContent-Range: x\r\nContent-Type: x\r\nDate: x\r\nETag: x\r\nExpires: x\r\n\
    Last-Modified: x\r\nLocation: x\r\nServer: x\r\nVary: x\r\n\r\n";

/// Returns extensions that make hyper use COS's spelling in a response.
pub(super) async fn header_case() -> Extensions {
    match read().await {
        Ok(extensions) => extensions,
        Err(error) => {
            warn!(%error, "failed to set the case of header names; they are lower-case, and clients of COS may miss ETag");
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
        // hyper parses a response only after it has sent its request.
        far.read_u8().await?;
        far.write_all(SAMPLE_RESPONSE).await
    };
    let connection = async move {
        // The connection ends once the response is read.
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
