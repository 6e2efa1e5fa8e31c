//! The network of functions, built from the configuration.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use sandbox::Isolation;
use sandbox::network::{API_NAME, Network, Outbound, Reach, Resolving};
use tracing::warn;

use crate::claims::Claim;
use crate::config::{Config, NetworkReach};

/// Files with the host's resolvers. If the first names only systemd-resolved's stub on the loopback, the second has the real
/// ones.
const RESOLVERS: &[&str] = &["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Creates the network; `None` if functions have none of their own.
pub(crate) fn open(config: &Config, claim: &Claim) -> sandbox::Result<Option<Network>> {
    if config.sandbox.isolation == Isolation::Process {
        return Ok(None);
    }
    let reach = match config.sandbox.network {
        NetworkReach::Nothing => return Ok(None),
        NetworkReach::Internal => Reach::Api,
        NetworkReach::Outbound => Reach::Outbound(Outbound {
            resolvers: resolvers(&config.sandbox.dns, true),
            allowed: config.sandbox.network_allow.clone(),
            refused: config.sandbox.network_deny.clone(),
        }),
    };
    let resolving = match config.sandbox.cloud_names {
        true => Resolving::Router,
        false => Resolving::Beyond,
    };
    Network::open(&claim.cgroup, claim.plan, &reach, resolving).map(Some)
}

/// Returns the upstream resolvers for names that virga does not answer itself, in the order of the name servers that functions
/// see.
pub(crate) fn upstream(config: &Config) -> Vec<Ipv4Addr> {
    match config.sandbox.network {
        NetworkReach::Nothing | NetworkReach::Internal => Vec::new(),
        NetworkReach::Outbound => resolvers(&config.sandbox.dns, false),
    }
}

/// Returns the URL by which functions reach a service of virga that listens on `address`, or on `port` of the functions'
/// network.
pub(crate) fn endpoint(config: &Config, address: SocketAddr, port: u16) -> Option<String> {
    if config.sandbox.isolation == Isolation::Process {
        return Some(format!("http://{address}"));
    }
    (config.sandbox.network != NetworkReach::Nothing).then(|| format!("http://{API_NAME}:{port}"))
}

fn resolvers(configured: &[Ipv4Addr], warn_if_empty: bool) -> Vec<Ipv4Addr> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let found = RESOLVERS
        .iter()
        .map(|path| parse_resolv_conf(&fs::read_to_string(path).unwrap_or_default()));
    let found = found
        .into_iter()
        .find(|list| !list.is_empty())
        .unwrap_or_default();
    if found.is_empty() && warn_if_empty {
        warn!(
            "functions cannot resolve names: this host has no resolver except on its loopback; set one with --dns"
        );
    }
    found
}

/// Returns the resolvers in a `resolv.conf` that are reachable from other network namespaces: IPv4, not on the loopback.
fn parse_resolv_conf(text: &str) -> Vec<Ipv4Addr> {
    let addresses = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    addresses
        .filter(|address: &Ipv4Addr| !address.is_loopback())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_ipv6_resolvers_are_ignored() {
        let text = "search x\nnameserver 127.0.0.53\n nameserver 10.1.1.1\nnameserver ::1\n# nameserver 9.9.9.9\n";
        assert_eq!(parse_resolv_conf(text), [Ipv4Addr::new(10, 1, 1, 1)]);
    }
}
