//! Chooses the resources of a starting virga beside the claims of others.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use sandbox::network::{self, AddressBlock};
use serde::{Deserialize, Serialize};

/// A value, and whether it was configured. A configured value is not replaced by a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice<T> {
    pub(crate) value: T,
    pub(crate) configured: bool,
}

impl<T> Choice<T> {
    pub(crate) fn free(value: T) -> Self {
        Self {
            value,
            configured: false,
        }
    }

    pub(crate) fn map<U>(self, of: impl FnOnce(T) -> U) -> Choice<U> {
        Choice {
            value: of(self.value),
            configured: self.configured,
        }
    }
}

/// The content of a claim file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimRecord {
    pub(super) process: u32,
    data: PathBuf,
    pub(super) cgroup: String,
    /// Parent of the control groups.
    #[serde(rename = "below")]
    cgroup_parent: PathBuf,
    /// User id on the host.
    pub(super) first_user: u32,
    users: u32,
    pub(super) outlet: Option<Outlet>,
}

/// The outbound network of functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outlet {
    /// Name of the interface and of the rules' table.
    link: String,
    pub(super) range: AddressBlock,
    /// The network namespace of the host.
    namespace: u64,
}

impl ClaimRecord {
    /// Returns whether both have the same control groups.
    pub(super) fn shares_cgroups_with(&self, other: &Self) -> bool {
        self.cgroup == other.cgroup && self.cgroup_parent == other.cgroup_parent
    }

    /// Returns whether it has a user id in a range.
    fn overlaps_users(&self, first: u32, count: u32) -> bool {
        let end = |first: u32, count: u32| u64::from(first) + u64::from(count);
        u64::from(first) < end(self.first_user, self.users)
            && u64::from(self.first_user) < end(first, count)
    }

    fn outlet_in(&self, namespace: u64) -> Option<&Outlet> {
        self.outlet
            .as_ref()
            .filter(|outlet| outlet.namespace == namespace)
    }
}

/// The resources that a starting virga requests.
#[derive(Clone, Debug)]
pub(super) struct ClaimRequest {
    pub(super) process: u32,
    pub(super) data: PathBuf,
    pub(super) cgroup: Choice<String>,
    pub(super) cgroup_parent: PathBuf,
    /// User id on the host, like the end of the allowed range.
    pub(super) first_user: Choice<u32>,
    pub(super) users: u32,
    pub(super) users_end: u32,
    /// The address range, and the network namespace of the host.
    pub(super) outlet: Option<(Choice<AddressBlock>, u64)>,
}

/// A requested resource is claimed by another virga.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClaimConflict {
    option: &'static str,
    given: String,
    /// Advice, if another value of the option would not help.
    advice: Option<&'static str>,
    process: u32,
    data: PathBuf,
}

impl fmt::Display for ClaimConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            option,
            given,
            process,
            data,
            ..
        } = self;
        let advice = self
            .advice
            .unwrap_or("choose another value, or omit the option: virga then takes a free one");
        let data = data.display();
        write!(
            f,
            "--{option} {given}: another virga on this host has that (process {process}, data {data}); {advice}"
        )
    }
}

impl std::error::Error for ClaimConflict {}

impl ClaimRequest {
    /// Chooses resources that none of the active claims has.
    pub(super) fn choose(&self, active: &[ClaimRecord]) -> Result<ClaimRecord, ClaimConflict> {
        let cgroup = self.choose_name(active)?;
        let outlet = match &self.outlet {
            Some((range, namespace)) => Some(Outlet {
                link: network::link_name(&cgroup),
                range: choose_addresses(range, *namespace, active)?,
                namespace: *namespace,
            }),
            None => None,
        };
        Ok(ClaimRecord {
            process: self.process,
            data: self.data.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
            first_user: self.choose_first_user(active)?,
            users: self.users,
            cgroup,
            outlet,
        })
    }

    /// Chooses a name for the control groups and, with outbound network, for the interface named after it.
    fn choose_name(&self, active: &[ClaimRecord]) -> Result<String, ClaimConflict> {
        let holder = |name: &str| {
            active.iter().find(|other| {
                let link = self.outlet.as_ref().and_then(|(_, namespace)| {
                    let theirs = other.outlet_in(*namespace)?;
                    Some(theirs.link == network::link_name(name))
                });
                (other.cgroup == name && other.cgroup_parent == self.cgroup_parent)
                    || link == Some(true)
            })
        };
        let preferred = &self.cgroup.value;
        match holder(preferred) {
            None => Ok(preferred.clone()),
            Some(other) if self.cgroup.configured => Err(other.conflict("cgroup", preferred)),
            Some(_) => {
                let mut names = (2..).map(|number: u32| format!("{preferred}-{number}"));
                let free = names.find(|name| holder(name).is_none());
                Ok(free.unwrap_or_default())
            }
        }
    }

    fn choose_first_user(&self, active: &[ClaimRecord]) -> Result<u32, ClaimConflict> {
        let mut first = self.first_user.value;
        while let Some(other) = active
            .iter()
            .find(|other| other.overlaps_users(first, self.users))
        {
            if self.first_user.configured {
                return Err(other.conflict("uid-base", first));
            }
            first = other.first_user.saturating_add(other.users);
            if self.users_end.saturating_sub(first) < self.users {
                return Err(ClaimConflict {
                    advice: Some(
                        "not enough user ids are left; start each virga with a smaller --uid-count",
                    ),
                    ..other.conflict("uid-count", self.users)
                });
            }
        }
        Ok(first)
    }
}

/// Fallback ranges if the default one is claimed: in 240.0.0.0/4, which is reserved and used by nobody.
const FALLBACK_BASE: u32 = Ipv4Addr::new(240, 0, 0, 0).to_bits();
/// Addresses of each fallback range, as many as in the default one.
const FALLBACK_SIZE: u32 = 1 << 17;

/// Chooses an address range that no other virga on this host uses.
fn choose_addresses(
    preferred: &Choice<AddressBlock>,
    namespace: u64,
    active: &[ClaimRecord],
) -> Result<AddressBlock, ClaimConflict> {
    let holder = |range: AddressBlock| {
        active.iter().find(|other| {
            let theirs = other.outlet_in(namespace);
            theirs.is_some_and(|theirs| theirs.range.overlaps(range))
        })
    };
    let Some(other) = holder(preferred.value) else {
        return Ok(preferred.value);
    };
    let more = (0..1024).map(|number| Ipv4Addr::from_bits(FALLBACK_BASE + number * FALLBACK_SIZE));
    let more = more.filter_map(|base| format!("{base}/15").parse().ok());
    more.into_iter()
        .filter(|_| !preferred.configured)
        .find(|range| holder(*range).is_none())
        .ok_or_else(|| other.conflict("network-range", preferred.value))
}

impl ClaimRecord {
    fn conflict(&self, option: &'static str, given: impl fmt::Display) -> ClaimConflict {
        ClaimConflict {
            option,
            given: given.to_string(),
            advice: None,
            process: self.process,
            data: self.data.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> AddressBlock {
        text.parse().expect("a block")
    }

    fn request() -> ClaimRequest {
        ClaimRequest {
            process: 1,
            data: "/data".into(),
            cgroup: Choice::free("virga".into()),
            cgroup_parent: "/sys/fs/cgroup".into(),
            first_user: Choice::free(2_000_000),
            users: 65_536,
            users_end: u32::MAX,
            outlet: Some((Choice::free(block("198.18.0.0/15")), 7)),
        }
    }

    fn configured<T>(value: T) -> Choice<T> {
        Choice {
            value,
            configured: true,
        }
    }

    #[test]
    fn instances_with_defaults_share_nothing() {
        let mut active: Vec<ClaimRecord> = Vec::new();
        for _ in 0..50 {
            let next = request().choose(&active).expect("something is free");
            for other in &active {
                assert!(!next.shares_cgroups_with(other));
                assert!(!other.overlaps_users(next.first_user, next.users));
                let (ours, theirs) = (next.outlet.as_ref(), other.outlet.as_ref());
                let (ours, theirs) = (ours.expect("a way out"), theirs.expect("a way out"));
                assert_ne!(ours.link, theirs.link);
                assert!(!ours.range.overlaps(theirs.range));
            }
            active.push(next);
        }
        // A released claim can be reused.
        let first = active.remove(0);
        assert_eq!(request().choose(&active), Ok(first));
    }

    #[test]
    fn conflicting_explicit_options_are_refused() {
        let active = [request().choose(&[]).expect("all is free")];
        let refused = |request: ClaimRequest| request.choose(&active).expect_err("taken").option;
        let mut name = request();
        name.cgroup = configured("virga".into());
        assert_eq!(refused(name), "cgroup");
        // Another name that gives the same interface name.
        let mut link = request();
        link.cgroup = configured("vir-ga".into());
        assert_eq!(refused(link.clone()), "cgroup");
        let mut ids = request();
        ids.first_user = configured(2_065_535);
        assert_eq!(refused(ids), "uid-base");
        let mut range = request();
        range.outlet = Some((configured(block("198.19.255.0/24")), 7));
        assert_eq!(refused(range.clone()), "network-range");
        // In another network namespace, interface and range are free.
        link.outlet = Some((Choice::free(block("198.18.0.0/15")), 8));
        assert!(link.choose(&active).is_ok());
        range.outlet = Some((configured(block("198.19.255.0/24")), 8));
        assert!(range.choose(&active).is_ok());
        let mut few = request();
        few.users_end = 2_100_000;
        let taken = few.choose(&active).expect_err("too few").to_string();
        assert!(
            taken.starts_with("--uid-count 65536: ") && taken.contains("/data"),
            "{taken}"
        );
    }

    #[test]
    fn free_explicit_options_are_granted() {
        let active = [request().choose(&[]).expect("all is free")];
        let mut other = request();
        other.cgroup = configured("other".into());
        other.first_user = configured(2_065_536);
        other.outlet = Some((configured(block("10.0.0.0/15")), 7));
        let had = other.choose(&active).expect("free");
        assert_eq!((had.cgroup.as_str(), had.first_user), ("other", 2_065_536));
        assert_eq!(
            had.outlet.map(|outlet| outlet.range),
            Some(block("10.0.0.0/15"))
        );
    }
}
