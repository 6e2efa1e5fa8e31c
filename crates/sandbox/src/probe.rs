//! Whether this host can isolate, and how to mend what is missing.

use std::fs;

use crate::user::Standing;
use crate::{cgroup, network, sys};

/// One thing that isolation needs.
#[derive(Clone, Debug)]
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// What was found, or what is wrong and how to mend it.
    pub result: std::result::Result<String, String>,
}

/// Looks at everything that a sandbox needs, beside what [`crate::user::enter`] has found. Makes nothing that stays.
pub fn host(standing: &std::result::Result<Standing, String>) -> Vec<Check> {
    let privilege = Check {
        name: "privilege",
        result: standing
            .as_ref()
            .map(Standing::describe)
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

/// Looks at what a process needs to put walls around itself.
pub fn process() -> Vec<Check> {
    vec![kernel(), landlock()]
}

/// The mount calls in use came with Linux 5.12.
fn kernel() -> Check {
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
    Check {
        name: "kernel",
        result,
    }
}

fn namespaces() -> Check {
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
    Check {
        name: "namespaces",
        result,
    }
}

fn control_groups() -> Check {
    let name = format!("virga-probe-{}", std::process::id());
    let result = match cgroup::Tree::open(&name) {
        Ok(tree) => Ok(match tree.version() {
            cgroup::Version::V1 => "version 1: memory, cpu, pids, freezer".to_owned(),
            cgroup::Version::V2 => "version 2: memory, cpu, pids".to_owned(),
        }),
        Err(e) => Err(e.to_string()),
    };
    Check {
        name: "control groups",
        result,
    }
}

fn landlock() -> Check {
    let result = match sys::landlock_version() {
        Some(version) => Ok(format!("version {version}")),
        None => Err(
            "this kernel lacks landlock; boot with lsm=landlock,… or a kernel built with it"
                .to_owned(),
        ),
    };
    Check {
        name: "landlock",
        result,
    }
}

/// Whether functions can have a network of their own, beyond their loopback.
pub fn network() -> Check {
    Check {
        name: "network",
        result: network::probe(),
    }
}

/// Whether functions can go out into the world; nothing to say where they can.
pub fn outbound(standing: &Standing) -> Option<Check> {
    let why = "functions go out through an interface of the host's, which only root may make; \
               start virga with --network internal (its API alone) or --network none, or as root";
    matches!(standing, Standing::Namespace { .. }).then(|| Check {
        name: "network outbound",
        result: Err(why.to_owned()),
    })
}
