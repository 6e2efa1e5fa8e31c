//! Sandboxes: their isolation, and the resources of the host that they use.

use std::net::Ipv4Addr;

use sandbox::Isolation;
use sandbox::network::{AddressBlock, AddressPlan};

use super::option::options;
use super::parse::{Parsed, list, number, one_of, optional, refused, switch};
use super::raw::RawConfig;
use crate::claims::Choice;

options! {
    /// Options of sandboxes and their network.
    SandboxOptions {
        /// Isolation of functions: full, or process = no namespaces, no cgroups, the host's network, for trusted code only
        isolation: Isolation = "LEVEL", "full" => one_of([("full", Isolation::Full), ("process", Isolation::Process)]);

        /// First of the user ids reserved for instances, which nothing else on the host may use; empty = a free range from
        /// 2000000, or from /etc/subuid for a user other than root
        uid_base: Option<u32> = "NUMBER", "" => optional(number(65_536..=u64::from(u32::MAX) - 10_000_000));

        /// Number of user ids reserved for instances
        uid_count: u32 = "NUMBER", "65536" => number(16..=10_000_000);

        /// Name of the control group and of the network interface; if another virga has the default, virga-2 and so on
        cgroup: String = "NAME", "virga" => cgroup;

        /// Disk space for the /tmp of all instances (MB); empty = half of the free space less 1 GB, 0 = in memory, counted as the
        /// function's
        tmp_total_mb: Option<u64> = "MB", "" => optional(number(0..=1 << 30));

        /// Network of functions: outbound = virga's API and public addresses, internal = virga's API only, none = loopback only
        network: NetworkReach = "REACH", "outbound" => one_of([
            ("outbound", NetworkReach::Outbound),
            ("internal", NetworkReach::Internal),
            ("none", NetworkReach::Nothing),
        ]);

        /// IP range for functions, virga and the link to the host, which must not contain destinations of functions; if another
        /// virga has the default, a part of 240.0.0.0/4
        network_range: AddressBlock = "BLOCK", "198.18.0.0/15" => block;

        /// Private addresses that functions may reach, as blocks separated by commas
        network_allow: Vec<AddressBlock> = "BLOCKS", "" => list("blocks such as 10.1.0.0/16");

        /// Public addresses that functions may not reach, as blocks separated by commas
        network_deny: Vec<AddressBlock> = "BLOCKS", "", earlier "network_refuse" => list("blocks such as 203.0.113.0/24");

        /// DNS resolvers of functions, separated by commas; empty = the host's
        dns: Vec<Ipv4Addr> = "ADDRESSES", "" => list("IPv4 addresses");

        /// Resolve the cloud's names (scf.tencentcloudapi.com, *.cos.<region>.myqcloud.com) to virga inside functions, which then
        /// trust its local authority: on, or off
        cloud_names: bool = "STATE", "on" => switch;
    }
}

/// The network that functions reach beyond their loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkReach {
    Outbound,
    Internal,
    Nothing,
}

impl SandboxOptions {
    /// Returns the addresses of functions. Another virga may have the default range.
    pub(super) fn network_plan(&self, raw: &mut RawConfig) -> Choice<AddressPlan> {
        let plan = AddressPlan::new(self.network_range, self.uid_count);
        let value = plan.unwrap_or_else(|why| {
            raw.refuse_value("network_range", &why);
            AddressPlan::default()
        });
        let configured = raw.is_configured("network_range");
        Choice { value, configured }
    }

    /// Returns the name of the control group. Another virga may have the default name.
    pub(super) fn cgroup_choice(&self, raw: &RawConfig) -> Choice<String> {
        Choice {
            value: self.cgroup.clone(),
            configured: raw.is_configured("cgroup"),
        }
    }
}

fn block(text: &str) -> Parsed<AddressBlock> {
    text.parse().or_else(|why: String| refused(text, why))
}

fn cgroup(name: &str) -> Parsed<String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || !name.bytes().all(fine) {
        return refused(name, "letters, digits, '-' and '_'");
    }
    Ok(name.to_owned())
}
