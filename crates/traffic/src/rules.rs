//! The limits of each side, made from the configured ones.

use std::time::Duration;

use super::ledger::LedgerLimits;
use super::min_rate::MinRateRules;
use super::proxy::TrustedProxy;

/// The configured limits on traffic whose caller is not authenticated yet.
#[derive(Clone, Debug)]
pub struct TrafficSettings {
    /// Maximum number of connections of each side.
    pub connections: usize,
    /// Memory for requests and responses.
    pub memory_bytes: u64,
    /// Disk space for request bodies.
    pub spool_bytes: u64,
    /// Time that a peer may be slower than `min_rate`.
    pub stall_timeout: Duration,
    /// Minimum transfer rate, in bytes per second; 0 = any.
    pub min_rate: u64,
    /// Trusted reverse proxies.
    pub proxies: Vec<TrustedProxy>,
}

/// The limits for connections of one side.
#[derive(Clone, Copy, Debug)]
pub struct TrafficRules {
    /// The label of the metrics.
    pub side: &'static str,
    /// The limits on connections and bytes.
    pub limits: LedgerLimits,
    /// The minimum rates.
    pub min_rate: MinRateRules,
}

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Memory for verified callers, as a multiple of that for unverified ones, and the divisor for one account.
const VERIFIED: u64 = 4;
const ACCOUNT: u64 = 2;
/// The divisor for the connections reserved for recently verified sources.
const RESERVE: usize = 8;
/// The divisor for the connections of one instance.
const INSTANCE: usize = 32;

impl TrafficRules {
    /// Returns the limits for connections from outside. `files` is the process's limit of open files.
    pub fn outside(settings: &TrafficSettings, head: Duration, files: u64) -> Self {
        let connections = settings.connections.min(files as usize / 8).max(16);
        let memory = settings.memory_bytes;
        Self {
            side: "outside",
            limits: LedgerLimits {
                connections,
                reserve: connections / RESERVE,
                per_source: connections / 2,
                per_account: connections / 2,
                unverified: memory,
                unverified_per_source: memory / 2,
                verified: memory * VERIFIED,
                verified_per_account: memory * VERIFIED / ACCOUNT,
                spool: settings.spool_bytes,
                spool_per_source: settings.spool_bytes / 4,
            },
            min_rate: MinRateRules {
                head,
                handshake: HANDSHAKE.min(head),
                grace: settings.stall_timeout,
                rate: settings.min_rate,
            },
        }
    }

    /// Returns the memory for spooled bodies of verified callers, in bytes.
    pub fn bodies(settings: &TrafficSettings) -> u64 {
        settings.memory_bytes * VERIFIED
    }

    /// Returns the limits for connections of functions, where each instance is a source.
    pub fn inside(settings: &TrafficSettings, head: Duration, files: u64) -> Self {
        let outside = Self::outside(settings, head, files);
        let limits = outside.limits;
        Self {
            side: "inside",
            limits: LedgerLimits {
                per_source: (limits.connections / INSTANCE).max(8),
                unverified: limits.unverified / 2,
                unverified_per_source: limits.unverified / 4,
                ..limits
            },
            ..outside
        }
    }
}
