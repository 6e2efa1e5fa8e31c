//! S3's API over a store: XML, signatures and checksums of bodies are those of `s3s`; what is here says what each action does.
//!
//! `s3s` has a hook that sees each request before its body is read (`access`); an action then finds who asks in the request's
//! extensions. A request that was verified before it came here has its `Principal` there from the start, and no signature.

mod access;
mod api;
mod buckets;
mod context;
mod convert;
mod errors;
mod listing;
mod multipart;
mod objects;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Request, Response, Uri};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};

pub use self::access::actions;
pub use self::context::{Call, Dialect};

pub(crate) use self::errors::refuse;

use self::access::{Keys, TOKEN};
use crate::gate::Gate;
use crate::host::Hosts;
use crate::store::Store;

/// Bytes of a request's XML document: a thousand keys to be removed, or ten thousand parts.
const XML: usize = 4 << 20;
/// Bytes of an object that comes with a form, which is held in memory; larger ones are for whoever stands before this.
const FORM: u64 = 8 << 20;

/// S3's service. Clones are handles to the same.
#[derive(Clone)]
pub struct Service {
    inner: S3Service,
}

/// What answers a request.
#[derive(Debug)]
struct Door {
    store: Store,
    gate: Arc<dyn Gate>,
}

/// S3's service over a store. `gate` says who may.
pub fn service(store: Store, gate: Arc<dyn Gate>, hosts: Hosts) -> Service {
    let door = Arc::new(Door { store, gate });
    let mut config = S3Config::default();
    config.xml_max_body_size = XML;
    config.post_object_max_file_size = FORM;
    let mut builder = S3ServiceBuilder::new(api::Api(door.clone()));
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(Keys(door.clone()));
    builder.set_access(access::Hook(door));
    builder.set_host(hosts);
    Service {
        inner: builder.build(),
    }
}

impl Service {
    /// Answers a request whose path begins with its bucket's name. Its extensions may have a `Call`, and a `Principal` where it
    /// was verified already.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub async fn call(&self, request: Request<Body>) -> Result<Response<Body>, HttpError> {
        let token = token(request.headers(), request.uri());
        TOKEN.scope(token, self.inner.call(request)).await
    }
}

/// The session token that came with a request's key.
fn token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    const NAME: &str = "x-amz-security-token";
    if let Some(token) = headers.get(NAME) {
        return token.to_str().ok().map(str::to_owned);
    }
    let query = uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let token = pairs.find(|(name, _)| name.eq_ignore_ascii_case(NAME));
    token.map(|(_, token)| token.into_owned())
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}
