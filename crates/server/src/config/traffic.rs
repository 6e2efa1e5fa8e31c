//! The limits on traffic whose caller is not authenticated yet.

use std::time::Duration;

use traffic::TrustedProxy;

use super::option::options;
use super::parse::{list, number, seconds};

options! {
    /// Options of traffic control.
    TrafficOptions {
        /// Maximum number of connections on all listeners, and as many again from functions; one IP address may have half of them
        connections: usize = "NUMBER", "8192" => number(64..=1_000_000);

        /// Memory for requests and responses of unauthenticated callers (MB); one IP address may use half of it
        traffic_memory_mb: u64 = "MB", "96" => number(16..=1 << 20);

        /// Disk space for request bodies over 64 KB until their signature is verified (MB); one IP address may use a quarter of it
        spool_mb: u64 = "MB", "1024" => number(512..=1 << 30);

        /// Time that a peer may send or read slower than min_rate before its connection is closed (s)
        stall_timeout: Duration = "SECONDS", "20" => seconds;

        /// Minimum transfer rate of a peer (bytes/s); 0 = any, without a pause of stall_timeout
        min_rate: u64 = "BYTES", "500" => number(0..=1 << 30);

        /// Reverse proxies whose X-Forwarded-For or PROXY header is trusted, as 10.0.0.0/8 or ::1, separated by commas; empty =
        /// none
        trusted_proxies: Vec<TrustedProxy> = "NETWORKS", "" => list("networks such as 10.0.0.0/8 or ::1");
    }
}
