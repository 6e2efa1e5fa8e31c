//! Handling of signed requests: `s3s` verifies the request, and only then it is parsed and handled, without its
//! signature.
//!
//! So the signed form stays unchanged, and [`lenient`](super::lenient) may then change headers.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, Method, Request, Uri};
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, StdError, s3_error};

use super::access::token;
use super::context::Context;
use super::handler::S3Handler;
use super::{deferred_body, document, lenient};

/// Passes verified requests on to the acting service.
pub(super) struct AfterVerification {
    pub(super) handler: Arc<S3Handler>,
    pub(super) acting: S3Service,
}

#[async_trait::async_trait]
impl S3Route for AfterVerification {
    fn is_match(&self, _: &Method, _: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        true
    }

    async fn call(&self, mut request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let signer = request.credentials.take().map(|one| one.access_key);
        let key = signer.and_then(|id| self.handler.authorizer.key(&id, token().as_deref()));
        let key =
            key.ok_or_else(|| s3_error!(InvalidAccessKeyId, "the key was disabled this moment"))?;
        let call = Context::of(&request.extensions).call;
        let creates = call.may_create;
        let accepted = call.connection.verified(&key.principal);
        accepted.map_err(|why| s3_error!(AccessDenied, "{why}"))?;
        let (mut parts, body) = Request::new(request.input).into_parts();
        parts.method = request.method;
        parts.uri = unsigned(&request.uri)?;
        parts.headers = request.headers;
        parts.extensions = request.extensions;
        let deferred = deferred_body::resume(&mut parts.extensions, &parts.headers, &key.secret)?;
        let body = deferred.unwrap_or(body);
        parts.headers.remove(AUTHORIZATION);
        parts.extensions.insert(key.principal);
        let body = if creates {
            document::capture(&mut parts.extensions, body)
        } else {
            body
        };
        lenient::fix_headers(&mut parts);
        let answered = self.acting.call(Request::from_parts(parts, body)).await;
        let answered = answered.map_err(|error| {
            S3Error::with_source(S3ErrorCode::InternalError, StdError::from(error))
        })?;
        let (parts, body) = answered.into_parts();
        let mut response = S3Response::with_status(body, parts.status);
        response.headers = parts.headers;
        response.extensions = parts.extensions;
        Ok(response)
    }
}

/// Removes the signature from a URI.
fn unsigned(uri: &Uri) -> S3Result<Uri> {
    let own = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        !name.starts_with("X-Amz-")
    };
    let query = uri.query().unwrap_or_default();
    let remaining: Vec<_> = query.split('&').filter(own).collect();
    let text = if remaining.is_empty() || query.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), remaining.join("&"))
    };
    let path = PathAndQuery::try_from(text).map_err(|error| s3_error!(error, InvalidURI))?;
    Ok(Uri::from(path))
}
