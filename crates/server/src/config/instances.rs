//! Instances: their interpreters, their number, their memory and how long they live.

use std::path::PathBuf;
use std::time::Duration;

use super::option::options;
use super::parse::{milliseconds, number, optional, or_host, parsed, paths, seconds};
use super::raw::RawConfig;

options! {
    /// Options of instances and their interpreters.
    InstanceOptions {
        /// Python interpreters, as paths separated by commas; empty = those found on the host
        python: Vec<PathBuf> = "PATHS", "" => paths;

        /// Node.js interpreters, as paths separated by commas; empty = those found on the host
        node: Vec<PathBuf> = "PATHS", "" => paths;

        /// Run a function on the nearest newer interpreter if its runtime is not installed
        runtime_fallback: bool = "BOOL", "true" => parsed("true or false");

        /// Idle time before an instance is evicted (s)
        keep_alive: Duration = "SECONDS", "300" => seconds;

        /// Idle time before an instance is frozen (ms)
        freeze_after_ms: Duration = "MILLISECONDS", "100" => milliseconds(0);

        /// Maximum time that a request waits for an instance when limits prevent starting another (s)
        wait: Duration = "SECONDS", "10" => seconds;

        /// Maximum number of requests that wait for one function; more are rejected
        max_waiting: usize = "NUMBER", "10000" => number(1..=1_000_000);

        /// Pre-warmed sandboxes per interpreter; under load up to four times as many; 0 = none
        prewarm: usize = "NUMBER", "4", earlier "blanks" => number(0..=1000);

        /// Memory of all instances together (MB); empty = four fifths of the host's
        node_memory_mb: u64 = "MB", "" => or_host(host_memory_mb, number(128..=1 << 30));

        /// Memory kept free for the first instance of accounts that have none (MB); empty = 128 per such account, at least 10 %
        /// and at most 25 % of node_memory_mb
        headroom_mb: Option<u64> = "MB", "" => optional(number(0..=1 << 30));

        /// Maximum number of concurrent cold starts; empty = two per processor
        max_starting: u32 = "NUMBER", "" => or_host(|| 2 * processors(), number(1..=10_000));

        /// Maximum number of instances that run one function's short, CPU-bound requests; empty = four per processor, 0 =
        /// unlimited
        short_request_concurrency: usize = "NUMBER", "", earlier "brief_at_once" => or_host(|| 4 * processors() as usize, number(0..=10_000));

        /// Number of sandboxes forked from one interpreter process before it is restarted; they share its address-space layout
        zygote_forks: u32 = "NUMBER", "10000" => number(1..=u64::from(u32::MAX));

        /// Age at which an interpreter process is restarted (s)
        zygote_age: Duration = "SECONDS", "3600" => seconds;
    }
}

/// Default memory of a function, MB.
const DEFAULT_FUNCTION_MB: u64 = 128;

/// Memory kept free for the first instances of accounts that have none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headroom {
    /// For all accounts together, MB.
    pub(crate) total_mb: u64,
    /// Per account, MB; applies where the sum is larger.
    pub(crate) per_account_mb: u64,
}

impl InstanceOptions {
    /// Returns the headroom, by default a part of the node's memory.
    pub(crate) fn headroom(&self) -> Headroom {
        let node = self.node_memory_mb;
        match self.headroom_mb {
            Some(total_mb) => Headroom {
                total_mb,
                per_account_mb: 0,
            },
            None => Headroom {
                total_mb: (node / 10).max(DEFAULT_FUNCTION_MB).min(node / 2),
                per_account_mb: DEFAULT_FUNCTION_MB,
            },
        }
    }

    pub(super) fn check(&self, raw: &mut RawConfig) {
        let node = self.node_memory_mb;
        if self.headroom_mb.is_some_and(|headroom| headroom > node) {
            raw.refuse_value("headroom_mb", &format!("a number from 0 to {node}"));
        }
    }
}

/// Returns four fifths of the host's memory, MB.
fn host_memory_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kb: u64 = total
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(1 << 20);
    (kb / 1024 * 4 / 5).max(128)
}

fn processors() -> u32 {
    let found = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(found).unwrap_or(1).min(2500)
}
