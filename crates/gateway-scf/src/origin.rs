//! Where a request comes from.

use std::net::IpAddr;

use axum::http::request::Parts;
use traffic::Peer;

/// The origin of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestOrigin {
    pub(super) address: Option<IpAddr>,
    /// Whether the address is a function's.
    pub(super) from_function: bool,
    /// Whether the request came over TLS.
    pub(super) secure: bool,
}

impl RequestOrigin {
    pub(super) fn of(parts: &Parts) -> Self {
        let peer = parts.extensions.get::<Peer>();
        Self {
            address: peer.map(|peer| peer.address),
            from_function: parts.extensions.get::<FromFunction>().is_some(),
            secure: parts.extensions.get::<OverTls>().is_some(),
        }
    }
}

/// Marks requests that came over TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct OverTls;

/// Marks requests from functions.
#[derive(Clone, Copy, Debug)]
pub(super) struct FromFunction;
