//! The limits on traffic that nobody has signed yet.

use std::time::Duration;

use super::{Opt, RawConfig, opt};
use crate::traffic::TrustedProxy;

/// The options.
pub(super) const OPTIONS: &[Opt] = &[
    opt(
        "connections",
        "NUMBER",
        "8192",
        "Connections at a time on all listeners together, and as many again of functions; one address has up to half of them",
    ),
    opt(
        "traffic_memory_mb",
        "MB",
        "96",
        "Memory for requests and replies of callers who are not verified; one address has up to half of it",
    ),
    opt(
        "spool_mb",
        "MB",
        "1024",
        "Disk for request bodies beyond 64 KB until their signature is verified; one address has up to a quarter of it",
    ),
    opt(
        "stall_timeout",
        "SECONDS",
        "20",
        "How long a peer may send a request, or read a reply, at less than min_rate before its connection is closed",
    ),
    opt(
        "min_rate",
        "BYTES",
        "500",
        "Slowest rate at which a peer may send or read, bytes a second; 0 is any rate, without a pause of stall_timeout",
    ),
    opt(
        "trusted_proxies",
        "NETWORKS",
        "",
        "Proxies in front, as 10.0.0.0/8 or ::1, separated by commas, that may name the client: in X-Forwarded-For, or by the PROXY protocol",
    ),
];

/// What was told, checked.
#[derive(Clone, Debug)]
pub(crate) struct TrafficSettings {
    pub(crate) connections: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) spool_bytes: u64,
    pub(crate) stall_timeout: Duration,
    pub(crate) min_rate: u64,
    pub(crate) proxies: Vec<TrustedProxy>,
}

impl RawConfig {
    pub(super) fn traffic(&mut self) -> TrafficSettings {
        TrafficSettings {
            connections: self.number("connections", 64, 1_000_000) as usize,
            memory_bytes: self.number("traffic_memory_mb", 16, 1 << 20) << 20,
            spool_bytes: self.number("spool_mb", 512, 1 << 30) << 20,
            stall_timeout: self.seconds("stall_timeout"),
            min_rate: self.number("min_rate", 0, 1 << 30),
            proxies: self.list("trusted_proxies", "networks such as 10.0.0.0/8 or ::1"),
        }
    }
}
