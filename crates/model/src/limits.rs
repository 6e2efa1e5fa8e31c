//! Quotas: what SCF allows, each adjustable by the operator.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Memory of one instance, in MB: 64, or a multiple of 128 up to the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemoryMb(u32);

impl MemoryMb {
    /// Checks a memory size against the configured maximum.
    ///
    /// # Errors
    /// [`Invalid`] for the field `MemorySize`.
    pub fn parse(mb: i64, limits: &Limits) -> Result<Self, Invalid> {
        match u32::try_from(mb) {
            Ok(mb) if mb == 64 || (mb > 0 && mb % 128 == 0 && mb <= limits.memory_max_mb) => {
                Ok(Self(mb))
            }
            _ => Err(Invalid::new(
                "MemorySize",
                mb,
                format!(
                    "64, or a multiple of 128 from 128 to {} (MB)",
                    limits.memory_max_mb
                ),
            )),
        }
    }

    /// The size in MB.
    pub fn mb(self) -> u32 {
        self.0
    }

    /// The size in bytes.
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

/// The quotas of an account and of one function. The defaults are SCF's published ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Namespaces in an account, `default` included.
    pub namespaces: u32,
    /// Functions in a namespace.
    pub functions_per_namespace: u32,
    /// Published versions of a function.
    pub versions_per_function: u32,
    /// Aliases of a function, beside `$DEFAULT`.
    pub aliases_per_function: u32,
    /// Triggers of one type of a function.
    pub triggers_per_type: u32,
    /// What a timer says in each of its events, bytes.
    pub timer_message_bytes: u32,
    /// Layers in an account.
    pub layers: u32,
    /// Versions of a layer.
    pub versions_per_layer: u32,
    /// Layers of a function.
    pub layers_per_function: u32,
    /// Custom domains in an account.
    pub domains: u32,
    /// Routes of a custom domain.
    pub routes_per_domain: u32,
    /// Largest MemorySize, MB.
    pub memory_max_mb: u32,
    /// Largest Timeout, seconds.
    pub timeout_max_s: u32,
    /// Largest Timeout of a function that always runs asynchronously, seconds.
    pub async_timeout_max_s: u32,
    /// Largest InitTimeout, seconds.
    pub init_timeout_max_s: u32,
    /// Zipped package sent with the API, bytes.
    pub package_bytes: u64,
    /// Unzipped package, bytes.
    pub unpacked_bytes: u64,
    /// Files, directories and links that a package makes, those counted that its paths only imply.
    pub unpacked_entries: u64,
    /// All environment variables of a function together, bytes of keys and values.
    pub environment_bytes: u32,
    /// Description, characters.
    pub description_chars: u32,
    /// Event of a synchronous invocation, bytes.
    pub sync_event_bytes: u64,
    /// Event of an asynchronous invocation, bytes.
    pub async_event_bytes: u64,
    /// Answer of a function, bytes.
    pub response_bytes: u64,
    /// Reply of a web function, bytes; 0 is no bound.
    pub web_response_bytes: u64,
    /// Names and values of its headers together, bytes; 0 is no bound.
    pub web_header_bytes: u64,
    /// Largest RetryNum of asynchronous events.
    pub retry_num_max: u32,
    /// Smallest MsgTTL of asynchronous events, seconds.
    pub msg_ttl_min_s: u32,
    /// Largest MsgTTL, and what holds where none is set, seconds.
    pub msg_ttl_max_s: u32,
    /// RoutingKey, bytes.
    pub routing_key_bytes: u32,
    /// Memory of all running instances of an account, MB, unless the account sets less; divided by a function's
    /// MemorySize it is the number of instances.
    pub concurrency_mb: u32,
    /// Of it, what can never be set aside for single functions, MB.
    pub unreservable_mb: u32,
    /// Scheduled actions of the provisioned concurrency of a version.
    pub scheduled_actions_per_version: u32,
    /// Instances that an account may start for requests in a minute, once it has started as many at once; 0 is no bound.
    pub scale_out_per_minute: u32,
    /// Log of one invocation, bytes; what is beyond is counted and dropped.
    pub log_bytes: u64,
    /// `/tmp` of an instance, MB.
    pub tmp_mb: u32,
    /// Processes and threads in an instance.
    pub pids: u32,
    /// Open files of a process.
    pub open_files: u32,
    /// All records of an account in the catalog together, bytes; 0 is no bound.
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
    fn memory_sizes() {
        let limits = Limits::default();
        for good in [64, 128, 256, 3072] {
            assert!(MemoryMb::parse(good, &limits).is_ok(), "{good}");
        }
        for bad in [-128, 0, 1, 96, 192, 3200, i64::MAX] {
            assert!(MemoryMb::parse(bad, &limits).is_err(), "{bad}");
        }
    }
}
