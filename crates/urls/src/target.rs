//! The function that a request is routed to, and the way on which it came.

use std::sync::LazyLock;

use axum::http::request::Parts;
use engine::invoke::FunctionLookup;
use model::{Cors, FunctionKey, FunctionUrl, GatewayApi, InvocationOrigin, Qualifier, UrlAuth};

use super::prefix::Prefix;

/// The function that a request is routed to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) function: FunctionKey,
    /// The function, if it was found by its URL.
    pub(super) found: Option<FunctionLookup>,
    pub(super) qualifier: Qualifier,
    /// The path for the function, if it differs from the request's.
    pub(super) path: Option<String>,
    pub(super) entry_point: EntryPoint,
    /// Whether the request came by the path form, which puts a prefix before the function's path.
    pub(super) by_path: bool,
    /// Whether the origin may be shared: a browser may have used the path form, where all functions have one origin.
    pub(super) shared_origin: bool,
}

/// The entry point through which a request came.
#[derive(Debug)]
pub(super) enum EntryPoint {
    Domain,
    Url(FunctionUrl),
    Api(Box<MatchedApi>),
}

impl Target {
    /// Returns the CORS settings, if the platform handles CORS instead of the function.
    pub(super) fn cors(&self) -> Option<&Cors> {
        match &self.entry_point {
            EntryPoint::Domain => None,
            EntryPoint::Url(url) => url.cors.as_ref(),
            EntryPoint::Api(matched) => matched.api.cors.then(|| &*ANY_ORIGIN),
        }
    }

    /// Returns the origin of its invocations.
    pub(super) fn origin(&self) -> InvocationOrigin {
        match &self.entry_point {
            EntryPoint::Domain => InvocationOrigin::Domain,
            EntryPoint::Url(_) => InvocationOrigin::Url,
            EntryPoint::Api(_) => InvocationOrigin::ApiGateway,
        }
    }

    /// Returns the prefix before the function's path, in the path form.
    pub(super) fn prefix<'a>(&self, parts: &'a Parts) -> Option<Prefix<'a>> {
        let path = self.path.as_deref().filter(|_| self.by_path)?;
        Prefix::of(parts, path)
    }

    /// Returns whether a signature over the whole request is required.
    pub(super) fn is_signed_whole(&self) -> bool {
        matches!(&self.entry_point, EntryPoint::Url(url) if url.auth == UrlAuth::Signed)
    }

    /// Returns whether callers are not authenticated.
    pub(super) fn is_anonymous(&self) -> bool {
        match &self.entry_point {
            EntryPoint::Domain => true,
            EntryPoint::Url(url) => url.auth != UrlAuth::Signed,
            EntryPoint::Api(matched) => !matched.api.signed,
        }
    }
}

/// The kind of listener that accepted a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// HTTP.
    Plain,
    /// HTTPS.
    Tls,
    /// For functions; their packets do not leave the host.
    Inside,
}

/// The API that matches a request.
#[derive(Clone, Debug)]
pub(super) struct MatchedApi {
    pub(super) api: GatewayApi,
    /// The values of the path parameters.
    pub(super) parameters: Vec<(String, String)>,
}

/// The CORS settings of an API that allows every origin.
pub(super) static ANY_ORIGIN: LazyLock<Cors> = LazyLock::new(|| Cors {
    origins: vec!["*".to_owned()],
    ..Cors::default()
});
