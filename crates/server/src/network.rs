//! The network of functions, as the operator wants it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use sandbox::Isolation;
use sandbox::network::{API_NAME, Network, Outbound, Reach, Resolving};
use tracing::warn;

use crate::claims::Claim;
use crate::config::{Config, NetworkReach};

/// Where the host's resolvers are listed; the second has the real ones where the first names a stub on the loopback.
const RESOLVERS: &[&str] = &["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Makes it.
pub(crate) fn open(config: &Config, claim: &Claim) -> sandbox::Result<Option<Network>> {
    if config.isolation == Isolation::Process {
        return Ok(None);
    }
    let reach = match config.network {
        NetworkReach::Nothing => return Ok(None),
        NetworkReach::Internal => Reach::Api,
        NetworkReach::Outbound => Reach::Outbound(Outbound {
            resolvers: resolvers(&config.dns, true),
            allowed: config.network_allow.clone(),
            refused: config.network_refuse.clone(),
        }),
    };
    let resolving = match config.cloud_names {
        true => Resolving::Router,
        false => Resolving::Beyond,
    };
    Network::open(&claim.cgroup, claim.plan, &reach, resolving).map(Some)
}

/// The resolvers that answer functions' questions for names which virga does not know itself, in the order of the name servers
/// inside.
pub(crate) fn upstream(config: &Config) -> Vec<Ipv4Addr> {
    match config.network {
        NetworkReach::Nothing | NetworkReach::Internal => Vec::new(),
        NetworkReach::Outbound => resolvers(&config.dns, false),
    }
}

/// Where functions find what virga serves at `address`, which is `port` for those in a network of their own.
pub(crate) fn endpoint(config: &Config, address: SocketAddr, port: u16) -> Option<String> {
    if config.isolation == Isolation::Process {
        return Some(format!("http://{address}"));
    }
    (config.network != NetworkReach::Nothing).then(|| format!("http://{API_NAME}:{port}"))
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
            "functions cannot resolve names: this host names no resolver beyond its loopback; name one with --dns"
        );
    }
    found
}

/// The resolvers in a `resolv.conf` that can be reached from elsewhere than the host itself.
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
