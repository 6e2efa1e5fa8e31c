//! The host's control groups: which version and controllers there are, and virga's own position in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Version;
use super::files::{open, write_text};
use super::removal::remove_tree;
use crate::processors::Processors;
use crate::{Result, Step};

/// Controllers required under version 1.
const V1: &[&str] = &["memory", "cpu", "pids", "freezer"];

/// Controllers required under version 2; freezing is built in.
const V2: &[&str] = &["memory", "cpu", "pids"];

/// An optional controller.
pub(super) const PROCESSORS: &str = "cpuset";

/// Virga's position in the host's control groups.
pub(super) struct Hierarchies {
    pub(super) version: Version,
    /// One directory per required controller, in the order of the list, or one for all.
    pub(super) parents: Vec<PathBuf>,
    /// The directory of [`PROCESSORS`], if present.
    pub(super) processors: Option<PathBuf>,
}

/// Finds the mounts of the controllers and virga's own position in them.
pub(super) fn hierarchies() -> Result<Hierarchies> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").step("read the mounts")?;
    let own = fs::read_to_string("/proc/self/cgroup").step("read own control groups")?;
    if let Some(parents) = V1
        .iter()
        .map(|controller| v1_place(&mounts, &own, controller))
        .collect()
    {
        return Ok(Hierarchies {
            version: Version::V1,
            parents,
            processors: v1_place(&mounts, &own, PROCESSORS),
        });
    }
    let unified = mounts
        .lines()
        .find_map(|line| mount_point(line, |kind, _| kind == "cgroup2"));
    let Some(mount) = unified else {
        return Err(unusable(
            "none are mounted; mount cgroup2 at /sys/fs/cgroup",
        ));
    };
    let place = if is_ours(&mount) {
        mount
    } else {
        delegated(&mount, &own)?
    };
    let offered = fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default();
    let offers = |controller: &str| offered.split_whitespace().any(|have| have == controller);
    let missing: Vec<_> = V2.iter().filter(|wanted| !offers(wanted)).collect();
    if missing.is_empty() {
        return Ok(Hierarchies {
            version: Version::V2,
            processors: offers(PROCESSORS).then(|| place.clone()),
            parents: vec![place],
        });
    }
    Err(unusable(&format!(
        "{} lacks the controllers {missing:?}; enable them at boot, or for users with \
         Delegate=cpu cpuset memory pids under [Service] in: sudo systemctl edit user@.service",
        place.display()
    )))
}

/// Returns the parent of trees. Trees of one name are distinct if it differs.
///
/// # Errors
/// The missing part of the host's control groups.
pub fn place_of_trees() -> Result<PathBuf> {
    let mut parents = hierarchies()?.parents;
    Ok(parents.swap_remove(0))
}

pub(super) fn unusable(why: &str) -> crate::Error {
    crate::Error::new("control groups", io::Error::other(why))
}

/// Returns whether this process may make groups and enable controllers below a directory.
fn is_ours(directory: &Path) -> bool {
    ["cgroup.procs", "cgroup.subtree_control"]
        .iter()
        .all(|name| open(&directory.join(name), false, true).is_ok())
}

/// Virga's own group below a delegated one: a group with subgroups must not hold processes.
const OWN: &str = "virga-itself";

/// Returns the group delegated to an ordinary user, after moving its processes into a subgroup.
fn delegated(mount: &Path, own: &str) -> Result<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.unwrap_or_default();
    // The shell that started this virga may have been moved by an earlier one.
    let path = path.strip_suffix(OWN).unwrap_or(path);
    let place = mount.join(path);
    if !is_ours(&place) {
        return Err(unusable(
            "none is this user's; start virga with \
             systemd-run --user --scope --property=Delegate=yes virga up …, or as root",
        ));
    }
    let below = place.join(OWN);
    match fs::create_dir(&below) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).step(format!("create {}", below.display()));
        }
        _ => {}
    }
    let listed = fs::read_to_string(place.join("cgroup.procs")).step("list own control group")?;
    for process in listed.lines() {
        match fs::write(below.join("cgroup.procs"), process) {
            // The process has ended meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            moved => moved.step(format!("move a process into {}", below.display()))?,
        }
    }
    Ok(place)
}

fn v1_place(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|one| one == controller);
    let mount = mounts
        .lines()
        .find_map(|line| mount_point(line, |kind, options| kind == "cgroup" && has(options)))?;
    let own = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        has(controllers).then(|| path.trim_start_matches('/').to_owned())
    })?;
    // In a container the path may be the host's and not exist here.
    let place = mount.join(own);
    Some(if place.is_dir() { place } else { mount })
}

/// Returns the mount point of a `mountinfo` line if its type and super options match.
fn mount_point(line: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
    wanted(kind, options).then(|| before.split(' ').nth(4).map(PathBuf::from))?
}

/// Returns the processors if instances can be confined to some of them: the controller must work in virga's directory
/// and its parent.
pub(super) fn processors(version: Version, parent: &Path, root: &Path) -> Option<Arc<Processors>> {
    let list = match version {
        Version::V1 => {
            remove_tree(root).ok()?;
            fs::create_dir(root).ok()?;
            let list = inherit_cpus(root).inspect_err(|_| {
                let _ = fs::remove_dir(root);
            });
            list.ok()?
        }
        Version::V2 => {
            enable(parent, &[PROCESSORS]).ok()?;
            enable(root, &[PROCESSORS]).ok()?;
            fs::read_to_string(root.join("cpuset.cpus.effective")).ok()?
        }
    };
    Processors::parse(&list)
}

/// Copies the parent's processors and memory nodes to a new [`PROCESSORS`] directory and its future children, which
/// start empty. Returns the processors.
fn inherit_cpus(directory: &Path) -> io::Result<String> {
    let take = |of: &str, own: &str| {
        let list = fs::read_to_string(directory.join("..").join(of))?;
        fs::write(directory.join(own), &list)?;
        Ok(list)
    };
    fs::write(directory.join("cgroup.clone_children"), "1")?;
    take("cpuset.effective_mems", "cpuset.mems")?;
    take("cpuset.effective_cpus", "cpuset.cpus")
}

pub(super) fn enable_controllers(directory: &Path) -> Result<()> {
    enable(directory, V2)
}

pub(super) fn enable(directory: &Path, controllers: &[&str]) -> Result<()> {
    let on: Vec<String> = controllers
        .iter()
        .map(|controller| format!("+{controller}"))
        .collect();
    write_text(&directory.join("cgroup.subtree_control"), &on.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/unified rw,relatime shared:11 - cgroup2 cgroup2 rw";

    #[test]
    fn co_mounted_v1_controller_is_found() {
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/x";
        assert_eq!(
            v1_place(MOUNTS, own, "cpu"),
            Some("/sys/fs/cgroup/cpu,cpuacct".into())
        );
        assert_eq!(v1_place(MOUNTS, own, "cpuset"), None);
    }

    #[test]
    fn cgroup2_mount_is_found_by_type() {
        let found = MOUNTS
            .lines()
            .find_map(|line| mount_point(line, |kind, _| kind == "cgroup2"));
        assert_eq!(found, Some("/sys/fs/cgroup/unified".into()));
    }
}
