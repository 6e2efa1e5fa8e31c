//! Who may call, how often, and how requests are signed; and the quotas.

use std::time::Duration;

use access::{RateLimits, Signatures, parse_rates};
use model::Limits;

use super::option::options;
use super::parse::{Parsed, number, one_of, refused, seconds, switch, words};
use super::raw::RawConfig;

options! {
    /// Options of authentication, rate limits and quotas.
    AccessOptions {
        /// Requests per second and account, as ACTION=NUMBER separated by commas, * for all other actions; 0 or not listed =
        /// unlimited
        rate_limits: RateLimits = "LIST", "" => rate_limits;

        /// Failed authentications per second from one IP address before it is blocked for a moment; 0 = unlimited
        auth_failures: u32 = "NUMBER", "20" => number(0..=1_000_000);

        /// Maximum difference between a request's timestamp and the server's clock (s); bounds how long a captured request can be
        /// replayed
        signature_window: i64 = "SECONDS", "300" => number(10..=86_400);

        /// Accept requests signed with version 1 (HmacSHA1, HmacSHA256): on, or off
        signature_v1: bool = "STATE", "on" => switch;

        /// Keys whose requests must sign action, version, time and region: marked = those created so, all = every permanent key
        /// (official SDKs then fail)
        sign_action: bool = "KEYS", "marked" => one_of([("marked", false), ("all", true)]);

        /// Peers from which root keys are accepted over plain HTTP: loopback, or all = any, for a TLS-terminating proxy on another
        /// host
        root_http: bool = "PEERS", "loopback" => one_of([("loopback", false), ("all", true)]);

        /// Lifetime of a function's role credentials (s); an instance is replaced well before they expire
        role_session: Duration = "SECONDS", "43200" => seconds;

        /// Quotas as name=value, separated by commas; a table [limits] in the file
        limits: toml::Table = "LIST", "" => quotas;
    }
}

impl AccessOptions {
    /// Returns the requirements for signatures.
    pub(crate) fn signatures(&self) -> Signatures {
        Signatures {
            window: self.signature_window,
            sign_action: self.sign_action,
            root_from_anywhere: self.root_http,
        }
    }

    /// Returns all quotas: the option's over the file's table over the defaults, at most the node's memory.
    pub(super) fn quotas(&self, raw: &mut RawConfig, node_memory_mb: u64) -> Limits {
        let mut table = std::mem::take(&mut raw.limits);
        table.extend(self.limits.clone());
        let limits = table.try_into().unwrap_or_else(|e: toml::de::Error| {
            raw.problems.push(format!("limits: {}", e.message()));
            Limits::default()
        });
        clamp_to_node(limits, node_memory_mb)
    }
}

fn rate_limits(list: &str) -> Parsed<RateLimits> {
    parse_rates(words(list), gateway_scf::is_action)
        .or_else(|(given, allowed)| refused(given, allowed))
}

fn quotas(list: &str) -> Parsed<toml::Table> {
    super::parse::items(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match value.parse() {
            Ok(value) => Ok((name.trim().to_owned(), toml::Value::Integer(value))),
            Err(_) => refused(pair, "name=value with a number"),
        }
    })(list)
    .map(toml::Table::from_iter)
}

/// Lowers memory quotas to the memory of the node.
fn clamp_to_node(mut limits: Limits, node_memory_mb: u64) -> Limits {
    let node = u32::try_from(node_memory_mb).unwrap_or(u32::MAX);
    if limits.concurrency_mb > node {
        limits.concurrency_mb = node;
        // The same fraction of the quota as in SCF.
        limits.unreservable_mb = limits.unreservable_mb.min(node / 10);
    }
    let largest = node / 128 * 128;
    limits.memory_max_mb = limits.memory_max_mb.min(largest);
    limits
}
