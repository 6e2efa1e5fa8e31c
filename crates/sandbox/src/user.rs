//! Privileges of virga. An ordinary user gets the needed ones as root of a user namespace of its own.
//!
//! The namespace maps the user itself to 0, and the ids reserved for it in `/etc/subuid` and `/etc/subgid` from 1 on,
//! so that every instance has a user of its own there, too.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::sys;

/// First id for instances; those below stay free, as on any system.
pub const FIRST: u32 = 1000;
/// Minimum number of ids to give every instance its own.
const MIN_IDS: u32 = 4096;
/// The id that stands for all unmapped ids.
const NOBODY: u32 = 65_534;

/// Privileges that virga runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// Root of the host.
    Root,
    /// Root of a user namespace of its own.
    Namespace {
        /// The user on the host.
        user: String,
        /// Number of ids for instances, from [`FIRST`] on.
        ids: u32,
    },
    /// An ordinary user of the host.
    User(String),
}

impl Privileges {
    /// Describes the privileges in a few words.
    pub fn describe(&self) -> String {
        match self {
            Self::Root => "root".to_owned(),
            Self::User(user) => format!("user {user}"),
            Self::Namespace { user, ids } => {
                format!("user {user}, in a user namespace with {ids} users for instances")
            }
        }
    }
}

/// Returns whether this process is root, of the host or of a namespace.
pub fn is_root() -> bool {
    sys::effective_user() == 0
}

/// Returns the effective user id of this process.
pub fn number() -> u32 {
    sys::effective_user()
}

/// Translates an id of this namespace to the host's.
pub fn on_host(id: u32) -> u32 {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    mapped(&map, id).unwrap_or(id)
}

fn mapped(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        let (inside, outside, count) = (next()?, next()?, next()?);
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

/// Returns whether this process is in a user namespace of its own. Cached, because a half-made sandbox has no `/proc`;
/// first called after [`enter`].
pub(crate) fn in_namespace() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        !map.split_whitespace().eq(["0", "0", "4294967295"])
    })
}

/// Returns the privileges of this process without entering a namespace.
pub fn stay() -> Privileges {
    match sys::effective_user() {
        0 => Privileges::Root,
        number => Privileges::User(name_of(number)),
    }
}

/// Enters a user namespace unless this process is root. Call it before any thread is started.
///
/// # Errors
/// The missing part and its fix.
pub fn enter() -> Result<Privileges, String> {
    let number = sys::effective_user();
    if number == 0 {
        return Ok(Privileges::Root);
    }
    let user = name_of(number);
    let hint = "or start virga as root";
    let (users, groups) = (
        subid_range("/etc/subuid", &user, number),
        subid_range("/etc/subgid", &user, number),
    );
    let (Some(users), Some(groups)) = (users, groups) else {
        return Err(format!(
            "user {user} has too few ids for instances in /etc/subuid and /etc/subgid; give it some with \
             sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}, {hint}"
        ));
    };
    let map = Map {
        user: number,
        group: sys::effective_group(),
        users,
        groups,
    };
    map.enter()
        .map_err(|why| format!("user {user} cannot have a user namespace: {why}, {hint}"))?;
    let count = users.count.min(groups.count).min(NOBODY);
    Ok(Privileges::Namespace {
        user,
        ids: count - FIRST,
    })
}

/// A range of ids on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

struct Map {
    user: u32,
    group: u32,
    users: Range,
    groups: Range,
}

impl Map {
    fn enter(&self) -> Result<(), String> {
        // Only a process outside the namespace may write the map, through setuid programs that verify the ranges
        // themselves.
        const SCRIPT: &str =
            "read -r _ && newuidmap $1 0 $2 1 1 $4 $5 && newgidmap $1 0 $3 1 1 $6 $7";
        let numbers = [
            std::process::id(),
            self.user,
            self.group,
            self.users.first,
            self.users.count,
            self.groups.first,
            self.groups.count,
        ];
        let mut helper = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "map"])
            .args(numbers.map(|number| number.to_string()))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("/bin/sh cannot be run: {e}"))?;
        sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|e| refused(&e))?;
        if let Some(mut go) = helper.stdin.take() {
            // If the helper has exited already, its output says why.
            let _ = go.write_all(b"\n");
        }
        let output = helper.wait_with_output().map_err(|e| e.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(if text.contains("not found") {
            "newuidmap is missing; install it (apt install uidmap)".to_owned()
        } else {
            format!("newuidmap said {:?}", text.trim())
        })
    }
}

/// Host settings that forbid user namespaces: file, forbidding value, and the command to change it.
const USERNS_SETTINGS: &[(&str, &str, &str)] = &[
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sudo sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "sudo sysctl user.max_user_namespaces=10000",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

fn refused(error: &io::Error) -> String {
    let off = USERNS_SETTINGS
        .iter()
        .find(|(file, value, _)| fs::read_to_string(file).is_ok_and(|text| text.trim() == *value));
    match off {
        Some((file, value, fix)) => format!("{file} is {value}; {fix}"),
        None => format!("{error}; a container or a security module forbids it"),
    }
}

fn name_of(number: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    });
    // The name only selects a line; the programs that write the map verify it.
    named
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or(number.to_string())
}

/// Returns the longest range reserved for a user, if it is long enough.
fn subid_range(file: &str, user: &str, number: u32) -> Option<Range> {
    longest(&fs::read_to_string(file).ok()?, user, number)
}

fn longest(text: &str, user: &str, number: u32) -> Option<Range> {
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (whose == user || whose.parse() == Ok(number)).then_some(Range { first, count })
    });
    ranges
        .max_by_key(|range| range.count)
        .filter(|range| range.count >= MIN_IDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_map_translates_to_host_ids() {
        let map = "         0      29998          1\n         1     100000      65536\n";
        assert_eq!(mapped(map, 0), Some(29_998));
        assert_eq!(mapped(map, 1000), Some(100_999));
        assert_eq!(mapped(map, 65_537), None);
        assert_eq!(mapped("0 0 4294967295", 2_000_000), Some(2_000_000));
    }

    #[test]
    fn longest_sufficient_subid_range_wins() {
        let text = "other:1:100000\nme:100000:5000\nme:200000:65536\n1001:300000:70000\nfew:1:10\n";
        let range = |first, count| Some(Range { first, count });
        assert_eq!(longest(text, "me", 1000), range(200_000, 65_536));
        assert_eq!(longest(text, "nameless", 1001), range(300_000, 70_000));
        assert_eq!(longest(text, "few", 1002), None);
    }
}
