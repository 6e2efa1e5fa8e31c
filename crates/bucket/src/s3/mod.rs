//! S3's API over a store. `s3s` handles XML, signatures and checksums; this module implements the operations.
//!
//! A signed request is verified first (`verified`). Then an access hook authorizes each request before its body is
//! read (`access`). Operations find the caller in the request's extensions. A request that COS's dialect has verified
//! arrives with its `Principal` and without a signature.

mod access;
mod api;
mod buckets;
mod chunked;
mod context;
mod convert;
mod crc;
mod dates;
mod deferred_body;
mod document;
mod errors;
mod guard;
mod handler;
mod lenient;
mod listing;
mod multipart;
mod objects;
mod properties;
mod verified;

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, Uri};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};

pub use self::access::actions;
pub use self::context::{Dialect, RequestContext};

pub(crate) use self::convert::acl as canned;
pub(crate) use self::errors::to_s3_error;

use self::access::{Keys, TOKEN};
use self::handler::{S3Handler, XML};
use crate::authorizer::{Authorizer, Principal};
use crate::host::Hosts;
use crate::store::Store;

/// S3's service. Clones share it.
#[derive(Clone)]
pub struct Service {
    verifying: S3Service,
    acting: S3Service,
}

/// Creates S3's service over a store.
pub fn service(store: Store, authorizer: Arc<dyn Authorizer>, hosts: Hosts) -> Service {
    let handler = Arc::new(S3Handler { store, authorizer });
    let mut config = S3Config::default();
    config.xml_max_body_size = XML;
    let config = Arc::new(StaticConfigProvider::new(Arc::new(config)));
    let builder = || {
        let mut builder = S3ServiceBuilder::new(api::Api(handler.clone()));
        builder.set_config(config.clone());
        builder.set_auth(Keys(handler.clone()));
        builder.set_host(hosts.clone());
        builder
    };
    let mut acting = builder();
    acting.set_access(access::AuthorizationHook(handler.clone()));
    let acting = acting.build();
    let mut verifying = builder();
    verifying.set_route(verified::AfterVerification {
        handler: handler.clone(),
        acting: acting.clone(),
    });
    Service {
        verifying: verifying.build(),
        acting,
    }
}

impl Service {
    /// Handles a request whose path starts with the bucket's name. Its extensions may hold a `RequestContext`, and a
    /// `Principal` if it is already authenticated.
    ///
    /// # Errors
    /// The connection must be closed.
    pub async fn call(&self, request: Request<Body>) -> Result<Response<Body>, HttpError> {
        let signed = request.headers().contains_key(AUTHORIZATION)
            || parameter(request.uri(), "X-Amz-Signature").is_some();
        if signed && request.extensions().get::<Principal>().is_none() {
            let token = token(request.headers(), request.uri());
            let (mut parts, body) = request.into_parts();
            let body = deferred_body::defer(&mut parts, body);
            let request = Request::from_parts(parts, body);
            return TOKEN.scope(token, self.verifying.call(request)).await;
        }
        let (mut parts, body) = request.into_parts();
        lenient::fix_headers(&mut parts);
        self.acting.call(Request::from_parts(parts, body)).await
    }
}

/// Returns the session token of a request.
fn token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    const NAME: &str = "x-amz-security-token";
    if let Some(token) = headers.get(NAME) {
        return token.to_str().ok().map(str::to_owned);
    }
    parameter(uri, NAME)
}

/// Returns a query parameter.
fn parameter(uri: &Uri, wanted: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| value.into_owned())
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}
