//! Quotas and limits. The defaults are SCF's, and the operator can change each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Field, Invalid};

/// Memory size of an instance (MB): 64, or a multiple of 128 up to the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemoryMb(u32);

impl MemoryMb {
    /// Parses a memory size and checks it against the configured maximum.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Memory`].
    pub fn parse(mb: i64, limits: &Limits) -> Result<Self, Invalid> {
        match u32::try_from(mb) {
            Ok(mb) if mb == 64 || (mb > 0 && mb % 128 == 0 && mb <= limits.memory_max_mb) => {
                Ok(Self(mb))
            }
            _ => Err(Invalid::new(
                Field::Memory,
                mb,
                format!(
                    "64, or a multiple of 128 from 128 to {} (MB)",
                    limits.memory_max_mb
                ),
            )),
        }
    }

    /// Returns the size in MB.
    pub fn mb(self) -> u32 {
        self.0
    }

    /// Returns the size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl Default for MemoryMb {
    fn default() -> Self {
        Self(128)
    }
}

impl fmt::Display for MemoryMb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}MB", self.0)
    }
}

/// Quotas per account and limits per function. The defaults are SCF's published values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Namespaces per account, including `default`.
    pub namespaces: u32,
    /// Functions per namespace.
    pub functions_per_namespace: u32,
    /// Published versions per function.
    pub versions_per_function: u32,
    /// Aliases per function, not counting `$DEFAULT`.
    pub aliases_per_function: u32,
    /// Triggers per function and trigger type.
    pub triggers_per_type: u32,
    /// Custom message of a timer (bytes).
    pub timer_message_bytes: u32,
    /// Layers per account.
    pub layers: u32,
    /// Versions per layer.
    pub versions_per_layer: u32,
    /// Layers per function.
    pub layers_per_function: u32,
    /// Custom domains per account.
    pub domains: u32,
    /// Routes per custom domain.
    pub routes_per_domain: u32,
    /// Maximum MemorySize (MB).
    pub memory_max_mb: u32,
    /// Maximum Timeout (s).
    pub timeout_max_s: u32,
    /// Maximum Timeout of a function with asynchronous execution (s).
    pub async_timeout_max_s: u32,
    /// Maximum InitTimeout (s).
    pub init_timeout_max_s: u32,
    /// Zipped package in a request (bytes).
    pub package_bytes: u64,
    /// Unzipped package, and a zipped one in a bucket (bytes).
    pub unpacked_bytes: u64,
    /// Files, directories and links in an unzipped package, including directories implied by paths.
    pub unpacked_entries: u64,
    /// Environment variables of a function: keys and values together (bytes).
    pub environment_bytes: u32,
    /// Description (characters).
    pub description_chars: u32,
    /// Event of a synchronous invocation (bytes).
    pub sync_event_bytes: u64,
    /// Event of an asynchronous invocation (bytes).
    pub async_event_bytes: u64,
    /// Response of an event function (bytes).
    pub response_bytes: u64,
    /// Response of a web function (bytes); 0 = unlimited.
    pub web_response_bytes: u64,
    /// Response headers of a web function: names and values together (bytes); 0 = unlimited.
    pub web_header_bytes: u64,
    /// Maximum RetryNum of asynchronous events.
    pub retry_num_max: u32,
    /// Minimum MsgTTL of asynchronous events (s).
    pub msg_ttl_min_s: u32,
    /// Maximum and default MsgTTL (s).
    pub msg_ttl_max_s: u32,
    /// RoutingKey (bytes).
    pub routing_key_bytes: u32,
    /// Concurrency quota: total memory of an account's instances (MB). The account can set less.
    pub concurrency_mb: u32,
    /// Part of the concurrency quota that cannot be reserved for single functions (MB).
    pub unreservable_mb: u32,
    /// Scheduled actions per version with provisioned concurrency.
    pub scheduled_actions_per_version: u32,
    /// Scale-out rate: instances per minute that an account may start, with a burst of as many; 0 = unlimited.
    pub scale_out_per_minute: u32,
    /// Log output of an invocation (bytes). The excess is counted and dropped.
    pub log_bytes: u64,
    /// Size of `/tmp` in an instance (MB).
    pub tmp_mb: u32,
    /// Processes and threads per instance.
    pub pids: u32,
    /// Open files per process.
    pub open_files: u32,
    /// Catalog records of an account (bytes); 0 = unlimited.
    pub catalog_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            namespaces: 5,
            functions_per_namespace: 50,
            versions_per_function: 100,
            aliases_per_function: 100,
            triggers_per_type: 10,
            timer_message_bytes: 4096,
            layers: 20,
            versions_per_layer: 200,
            layers_per_function: 5,
            domains: 50,
            routes_per_domain: 50,
            memory_max_mb: 3072,
            timeout_max_s: 900,
            async_timeout_max_s: 86_400,
            init_timeout_max_s: 300,
            package_bytes: 50 << 20,
            unpacked_bytes: 500 << 20,
            unpacked_entries: 100_000,
            environment_bytes: 4096,
            description_chars: 1000,
            sync_event_bytes: 6 << 20,
            async_event_bytes: 128 << 10,
            response_bytes: 6 << 20,
            web_response_bytes: 6 << 20,
            web_header_bytes: 4 << 10,
            retry_num_max: 2,
            msg_ttl_min_s: 60,
            msg_ttl_max_s: 21_600,
            routing_key_bytes: 1024,
            concurrency_mb: 128_000,
            unreservable_mb: 12_800,
            scheduled_actions_per_version: 10,
            scale_out_per_minute: 500,
            log_bytes: 1 << 20,
            tmp_mb: 512,
            pids: 1024,
            open_files: 1024,
            catalog_bytes: 32 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_size_outside_limits_is_rejected() {
        let limits = Limits::default();
        for good in [64, 128, 256, 3072] {
            assert!(MemoryMb::parse(good, &limits).is_ok(), "{good}");
        }
        for bad in [-128, 0, 1, 96, 192, 3200, i64::MAX] {
            assert!(MemoryMb::parse(bad, &limits).is_err(), "{bad}");
        }
    }
}
