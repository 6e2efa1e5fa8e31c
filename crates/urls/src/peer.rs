//! The peer of a request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::http::request::Parts;
use traffic::{Connection, Peer};

/// Returns the caller's address.
pub(super) fn caller(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<Peer>();
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.address)
}

/// Returns the caller's connection.
pub(super) fn connection(parts: &Parts) -> Option<&Arc<Connection>> {
    let peer = parts.extensions.get::<Peer>();
    peer.map(|peer| &peer.connection)
}
