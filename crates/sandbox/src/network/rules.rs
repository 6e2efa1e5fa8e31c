//! Firewall rules of the router and the host, in nftables syntax, so that `nft list ruleset` shows the same text.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use super::{
    API_PORT, AddressBlock, AddressPlan, BUCKET_PORT, CLOUD_PORTS, INDEX_PORT, NAMES_PORT, Reach,
    Resolving,
};
use crate::{Result, Step};

/// Name of the router's end of the uplink.
pub(super) const UPLINK: &str = "up";
/// Interface group of the links of instances without a public network, in the router.
pub(super) const INTERNAL_GROUP: u32 = 1;
/// Maximum number of connections per instance, as tracked by the router.
const CONNECTIONS: u32 = 1024;
/// DNS queries per second and instance, and the burst: all instances share the server's socket.
const QUESTIONS: (u32, u32) = (2000, 4000);

/// Destinations that are never public, and those of cloud metadata services.
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",        // this host
    "10.0.0.0/8",       // private
    "100.64.0.0/10",    // between a provider and its customers; a cloud's metadata
    "127.0.0.0/8",      // loopback
    "168.63.129.16/32", // a cloud's metadata under a public address
    "169.254.0.0/16",   // link-local; most clouds' metadata
    "172.16.0.0/12",    // private
    "192.0.0.0/24",     // protocol assignments; a cloud's metadata
    "192.168.0.0/16",   // private
    "198.18.0.0/15",    // benchmarks; instances' own
    "224.0.0.0/4",      // multicast
    "240.0.0.0/4",      // reserved, and broadcast
];

/// Refused packets are answered, so that programs fail fast.
const REFUSE: &str = "reject with icmpx admin-prohibited";

/// Returns the router's rules. Everything else is dropped.
pub(super) fn router(
    plan: &AddressPlan,
    reach: &Reach,
    resolvers: &[Ipv4Addr],
    resolving: Resolving,
) -> String {
    let mut text = String::from("table inet virga {\n");
    let world = match reach {
        Reach::Api => None,
        Reach::Outbound(world) => Some(world),
    };
    if let Some(world) = world {
        let refused = PRIVATE
            .iter()
            .map(ToString::to_string)
            .chain(world.refused.iter().map(AddressBlock::to_string));
        let _ = writeln!(text, "{}", set("refused", refused));
        let _ = writeln!(
            text,
            "{}",
            set("allowed", world.allowed.iter().map(AddressBlock::to_string))
        );
    }
    let gateway = plan.gateway();
    let own = match resolving {
        Resolving::Beyond => String::new(),
        Resolving::Router => cloud(plan),
    };
    let _ = write!(
        text,
        "  set connections {{ type ipv4_addr; size 65535; flags dynamic; }}
  set questions {{ type ipv4_addr; size 65535; flags dynamic; timeout 10s; }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname \"lo\" accept
    ip daddr {gateway} tcp dport {{ {API_PORT}, {BUCKET_PORT}, {INDEX_PORT} }} accept
{own}    {REFUSE}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    iifgroup {INTERNAL_GROUP} {REFUSE}
    ct state established,related accept
    ct state invalid drop
    iifname \"{UPLINK}\" drop
    oifname != \"{UPLINK}\" {REFUSE}
    ct state new add @connections {{ ip saddr ct count over {CONNECTIONS} }} {REFUSE}
"
    );
    if world.is_some() {
        let _ = write!(
            text,
            "    ct status dnat accept
    ip daddr @allowed accept
    ip daddr @refused {REFUSE}
    meta nfproto ipv4 accept
"
        );
    }
    text.push_str("  }\n");
    if world.is_some() {
        if resolving == Resolving::Beyond {
            text.push_str("  chain names {\n    type nat hook prerouting priority dstnat;\n");
            for (inside, real) in plan.resolvers().zip(resolvers) {
                let _ = writeln!(
                    text,
                    "    ip daddr {inside} meta l4proto {{ tcp, udp }} th dport {NAMES_PORT} dnat ip to {real}"
                );
            }
            text.push_str("  }\n");
        }
        let _ = writeln!(
            text,
            "  chain translate {{\n    type nat hook postrouting priority srcnat;\n    oifname \"{UPLINK}\" masquerade\n  }}"
        );
    }
    text.push_str("}\n");
    text
}

/// Returns the rules that allow the DNS server and the services behind its names.
fn cloud(plan: &AddressPlan) -> String {
    let [http, https] = CLOUD_PORTS;
    let (gateway, storage) = (plan.gateway(), plan.storage());
    let servers: Vec<_> = plan.resolvers().map(|one| one.to_string()).collect();
    let (servers, (rate, burst)) = (servers.join(", "), QUESTIONS);
    format!(
        "    ip daddr {{ {gateway}, {storage} }} tcp dport {{ {http}, {https} }} accept
    ip daddr {{ {servers} }} udp dport {NAMES_PORT} update @questions {{ ip saddr limit rate over {rate}/second burst {burst} packets }} drop
    ip daddr {{ {servers} }} meta l4proto {{ tcp, udp }} th dport {NAMES_PORT} accept
"
    )
}

/// Returns the host's rules for the uplink: no access to the host itself, and no unsolicited traffic.
pub(super) fn host(name: &str, plan: &AddressPlan) -> String {
    let (_, router) = plan.uplink();
    format!(
        "{}table inet {name} {{
  chain input {{
    type filter hook input priority filter - 10;
    iifname \"{name}\" {REFUSE}
  }}
  chain forward {{
    type filter hook forward priority filter - 10;
    iifname \"{name}\" tcp flags syn tcp option maxseg size set rt mtu
    oifname \"{name}\" ct state != {{ established, related }} drop
  }}
  chain translate {{
    type nat hook postrouting priority srcnat;
    ip saddr {router} oifname != \"{name}\" masquerade
  }}
}}
",
        gone(name)
    )
}

/// Returns the command that removes the host's rules, whether or not they exist.
pub(super) fn gone(name: &str) -> String {
    format!("table inet {name}\ndelete table inet {name}\n")
}

/// Returns the name of the host's end of the uplink. Interface names have at most 15 characters.
pub(super) fn uplink_name(name: &str) -> String {
    let kept: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(12)
        .collect();
    format!("{kept}-up")
}

fn set(name: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<_> = elements.collect();
    let elements = match elements.is_empty() {
        true => String::new(),
        false => format!(" elements = {{ {} }}", elements.join(", ")),
    };
    format!("  set {name} {{ type ipv4_addr; flags interval; auto-merge;{elements} }}")
}

/// Applies rules atomically.
pub(super) fn apply(rules: &str) -> Result<()> {
    run(rules).step("set the network's rules with nft")
}

fn run(rules: &str) -> io::Result<()> {
    let mut child = nft(&["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(
        said.lines().next().unwrap_or("it failed").to_owned(),
    ))
}

/// Returns the version of `nft`.
pub(super) fn version() -> std::result::Result<String, String> {
    match nft(&["--version"]).stderr(Stdio::null()).output() {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Err(e) => Err(format!(
            "nft: {e}; install it (apt install nftables), or start virga with --network none"
        )),
    }
}

fn nft(args: &[&str]) -> Command {
    let mut command = Command::new("nft");
    // It is usually in a directory that only root has on its path.
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(args);
    command
}
