//! Checks of the host's support for isolation, with instructions for missing parts.

use std::fs;

use crate::user::Privileges;
use crate::{cgroup, network, sys};

/// The result of checking one requirement.
#[derive(Clone, Debug)]
pub struct HostCheck {
    /// The requirement.
    pub name: &'static str,
    /// The finding, or the problem and its fix.
    pub result: std::result::Result<String, String>,
}

/// Checks everything that a sandbox needs, in addition to the result of [`crate::user::enter`]. Leaves nothing behind.
pub fn host(privileges: &std::result::Result<Privileges, String>) -> Vec<HostCheck> {
    let privilege = HostCheck {
        name: "privilege",
        result: privileges
            .as_ref()
            .map(Privileges::describe)
            .map_err(Clone::clone),
    };
    vec![
        privilege,
        kernel(),
        namespaces(),
        control_groups(),
        landlock(),
    ]
}

/// Checks what process isolation needs.
pub fn process() -> Vec<HostCheck> {
    vec![kernel(), landlock()]
}

/// The mount system calls in use need Linux 5.12.
fn kernel() -> HostCheck {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let result = if version >= (5, 12) {
        Ok(format!("Linux {release}"))
    } else {
        Err(format!(
            "Linux {release} is too old; 5.12 or newer is needed"
        ))
    };
    HostCheck {
        name: "kernel",
        result,
    }
}

fn namespaces() -> HostCheck {
    let missing: Vec<_> = ["mnt", "pid", "net", "ipc", "uts"]
        .into_iter()
        .filter(|kind| !fs::exists(format!("/proc/self/ns/{kind}")).unwrap_or(false))
        .collect();
    let result = if missing.is_empty() {
        Ok("mnt, pid, net, ipc, uts".to_owned())
    } else {
        Err(format!(
            "this kernel lacks the namespaces {missing:?}; use a kernel built with them"
        ))
    };
    HostCheck {
        name: "namespaces",
        result,
    }
}

fn control_groups() -> HostCheck {
    let name = format!("virga-probe-{}", std::process::id());
    let result = match cgroup::CgroupTree::open(&name) {
        Ok(tree) => Ok(match tree.version() {
            cgroup::Version::V1 => "version 1: memory, cpu, pids, freezer".to_owned(),
            cgroup::Version::V2 => "version 2: memory, cpu, pids".to_owned(),
        }),
        Err(e) => Err(e.to_string()),
    };
    HostCheck {
        name: "control groups",
        result,
    }
}

fn landlock() -> HostCheck {
    let result = match sys::landlock_version() {
        Some(version) => Ok(format!("version {version}")),
        None => Err(
            "this kernel lacks landlock; boot with lsm=landlock,… or a kernel built with it"
                .to_owned(),
        ),
    };
    HostCheck {
        name: "landlock",
        result,
    }
}

/// Checks whether functions can have a network beyond loopback.
pub fn network() -> HostCheck {
    HostCheck {
        name: "network",
        result: network::probe(),
    }
}

/// Checks whether functions can reach the internet. Returns `None` if they can.
pub fn outbound(privileges: &Privileges) -> Option<HostCheck> {
    let why = "functions go out through an interface of the host's, which only root may make; \
               start virga with --network internal (its API alone) or --network none, or as root";
    matches!(privileges, Privileges::Namespace { .. }).then(|| HostCheck {
        name: "network outbound",
        result: Err(why.to_owned()),
    })
}
