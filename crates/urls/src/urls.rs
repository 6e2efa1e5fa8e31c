//! The state that all requests to functions share.

use std::sync::Arc;

use access::{Access, CallChains};
use axum::http::request::Parts;
use catalog::Catalog;
use engine::invoke::Ingest;
use engine::invoke::web::ReplyDeadlines;
use hosts::{Addresses, ApiHosts, read_path};
use model::{Limits, RecursionDepth, TriggerName};
use ownership::Ownership;

use super::error_status::UrlErrors;
use super::peer::caller;

/// The settings for URLs.
#[derive(Clone, Debug)]
pub struct UrlSettings {
    /// The addresses of functions' URLs.
    pub addresses: Arc<Addresses>,
    /// The hosts of the API.
    pub hosts: Arc<ApiHosts>,
    /// The proofs of ownership of custom domains.
    pub ownership: Arc<Ownership>,
    /// The HTTP status of failed requests.
    pub errors: UrlErrors,
}

/// Routes and serves HTTP requests to functions.
pub struct Urls {
    pub(super) region: String,
    pub(super) addresses: Arc<Addresses>,
    pub(super) hosts: Arc<ApiHosts>,
    pub(super) ownership: Arc<Ownership>,
    pub(super) errors: UrlErrors,
    pub(super) limits: Arc<Limits>,
    pub(super) catalog: Catalog,
    pub(super) ingest: Ingest,
    pub(super) call_chains: CallChains,
    pub(super) access: Access,
    pub(super) reply_deadlines: Arc<ReplyDeadlines>,
}

impl std::fmt::Debug for Urls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Urls").finish_non_exhaustive()
    }
}

impl Urls {
    /// Creates the router to functions.
    pub fn new(
        settings: UrlSettings,
        limits: Arc<Limits>,
        catalog: Catalog,
        ingest: Ingest,
        access: Access,
    ) -> Self {
        let UrlSettings {
            addresses,
            hosts,
            ownership,
            errors,
        } = settings;
        Self {
            region: access.region().to_owned(),
            addresses,
            hosts,
            ownership,
            errors,
            limits,
            catalog,
            ingest,
            call_chains: access.call_chains().clone(),
            access,
            reply_deadlines: Arc::default(),
        }
    }

    /// Returns whether a path is of the path form and belongs to a function.
    pub(super) fn is_function_path(&self, path: &[u8]) -> bool {
        let end = path.iter().position(|byte| b"?#".contains(byte));
        let path = std::str::from_utf8(&path[..end.unwrap_or(path.len())]);
        let id = path.ok().and_then(read_path).map(|(id, _)| id);
        let id = id.and_then(|id| TriggerName::parse(id).ok());
        id.is_some_and(|id| self.catalog.function_of_url(&id).is_some())
    }

    /// Returns the recursion depth of a request in its call chain.
    pub(super) fn depth(&self, parts: &Parts) -> RecursionDepth {
        self.call_chains.depth_of_address(caller(parts))
    }
}
