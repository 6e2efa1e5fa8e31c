//! The limits on traffic whose caller is not authenticated yet.

use std::time::Duration;

use super::{Opt, RawConfig, opt};
use crate::traffic::TrustedProxy;

/// The options.
pub(super) const OPTIONS: &[Opt] = &[
    opt(
        "connections",
        "NUMBER",
        "8192",
        "Maximum number of connections on all listeners, and as many again from functions; one IP address may have half of them",
    ),
    opt(
        "traffic_memory_mb",
        "MB",
        "96",
        "Memory for requests and responses of unauthenticated callers (MB); one IP address may use half of it",
    ),
    opt(
        "spool_mb",
        "MB",
        "1024",
        "Disk space for request bodies over 64 KB until their signature is verified (MB); one IP address may use a quarter of it",
    ),
    opt(
        "stall_timeout",
        "SECONDS",
        "20",
        "Time that a peer may send or read slower than min_rate before its connection is closed (s)",
    ),
    opt(
        "min_rate",
        "BYTES",
        "500",
        "Minimum transfer rate of a peer (bytes/s); 0 = any, without a pause of stall_timeout",
    ),
    opt(
        "trusted_proxies",
        "NETWORKS",
        "",
        "Reverse proxies whose X-Forwarded-For or PROXY header is trusted, as 10.0.0.0/8 or ::1, separated by commas; empty = none",
    ),
];

/// The validated settings.
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
