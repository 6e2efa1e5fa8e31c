//! The invocation for a request.

use axum::http::request::Parts;
use bytes::Bytes;
use engine::invoke::{FunctionLookup, Invocation};
use model::{Qualifier, RequestId, RoutingKey};
use telemetry::trace;

use super::target::Target;
use super::urls::Urls;

impl Urls {
    /// Returns the invocation for a request, without its event.
    pub(super) fn invocation(
        &self,
        id: RequestId,
        target: &Target,
        found: &FunctionLookup,
        parts: &Parts,
    ) -> Invocation {
        Invocation {
            request: id,
            function: target.function.clone(),
            qualifier: target.qualifier.clone(),
            routing_key: routing_key(found, target, parts),
            event: Bytes::new(),
            tail: false,
            retry: 0,
            depth: self.depth(parts),
            origin: target.origin(),
            trace: trace::of(&parts.headers),
        }
    }
}

/// Returns the headers that the rules of an alias refer to.
fn routing_key(found: &FunctionLookup, target: &Target, parts: &Parts) -> RoutingKey {
    let (Qualifier::Alias(alias), Some(function)) = (&target.qualifier, found.function()) else {
        return RoutingKey::new();
    };
    let named = function.aliases.get(alias).into_iter();
    let keys = named.flat_map(|alias| alias.routing.rules.iter().map(|rule| &rule.name));
    keys.filter_map(|key| {
        let value = parts.headers.get(key.as_str())?.to_str().ok()?;
        Some((key.clone(), value.to_owned()))
    })
    .collect()
}
