//! Destinations that instances can reach, and virga's own names and ports inside.

use std::net::Ipv4Addr;

use super::AddressBlock;

/// Port of virga's API inside.
pub const API_PORT: u16 = 9400;

/// Port of virga's buckets inside.
pub const BUCKET_PORT: u16 = 9401;

/// Port of the package index for builds; virga adds its credentials.
pub const INDEX_PORT: u16 = 9402;

/// Host name of virga's API inside.
pub const API_NAME: &str = "virga.internal";

/// Ports on which cloud clients expect the APIs and the object storage.
pub const CLOUD_PORTS: [u16; 2] = [80, 443];

/// DNS port.
pub const NAMES_PORT: u16 = 53;

/// Destinations that instances can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Virga's API only.
    Api,
    /// Virga's API and the outside.
    Outbound(Outbound),
}

/// Access to the outside, and its exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// DNS resolvers on the host's side; the first three are used.
    pub resolvers: Vec<Ipv4Addr>,
    /// Private destinations that are allowed.
    pub allowed: Vec<AddressBlock>,
    /// Public destinations that are refused.
    pub refused: Vec<AddressBlock>,
}

/// Which DNS server answers instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolving {
    /// The resolvers of [`Outbound`], by address translation. Without any, no name is resolved.
    Beyond,
    /// A DNS server in the router, listening at [`super::Network::name_servers`].
    Router,
}
