//! Claims of host resources, by which several instances of virga on one host stay apart: the name of the control groups,
//! the user ids of instances, and for outbound network their addresses and interface.
//!
//! Each running virga has a claim file with a lock on it, which the kernel releases when the process ends for any
//! reason. A starting virga reads and changes the claim files under one common lock.

mod choice;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sandbox::Isolation;
use sandbox::network::{self, AddressPlan};
use sandbox::user::{self, Privileges};
use thiserror::Error;

pub(crate) use self::choice::Choice;
use self::choice::{ClaimConflict, ClaimRecord, ClaimRequest};
use crate::config::{Config, NetworkReach};

/// First user id for instances of root's virga.
const FIRST_ID: u32 = 2_000_000;

/// Why a claim failed.
#[derive(Debug, Error)]
pub(crate) enum ClaimError {
    #[error(transparent)]
    Conflict(#[from] ClaimConflict),
    #[error("uid_base: an ordinary user's instances have the ids of /etc/subuid; leave it out")]
    IdsOfUser,
    #[error(
        "cannot use the claim directory {path}: {source}; it must belong to this user and be writable by nobody else"
    )]
    Registry { path: String, source: io::Error },
    #[error(transparent)]
    Host(#[from] sandbox::Error),
}

/// The host resources of this virga, released on drop.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Name of its control groups.
    pub(crate) cgroup: String,
    /// First user id of its instances, and their number.
    pub(crate) users: (u32, u32),
    /// Addresses of its functions.
    pub(crate) plan: AddressPlan,
    /// `None` with `--isolation=process`.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    registry: PathBuf,
    path: PathBuf,
    /// Keeps the lock.
    _file: File,
}

impl Claim {
    /// Claims the configured resources, or free ones where the configuration leaves the choice.
    ///
    /// # Errors
    /// The resource that another virga holds, with the option that asked for it.
    pub(crate) fn take(config: &Config, privileges: &Privileges) -> Result<Self, ClaimError> {
        let (first, count, end) = ids(config, privileges)?;
        if config.sandbox.isolation == Isolation::Process {
            return Ok(Self {
                cgroup: config.cgroup.value.clone(),
                users: (first.value, count),
                plan: config.network_plan.value,
                held: None,
            });
        }
        let directory = registry(privileges)?;
        let failed = |source| ClaimError::Registry {
            path: directory.display().to_string(),
            source,
        };
        let registry = directory.join("lock");
        let lock = File::options().create(true).append(true).open(&registry);
        let lock = lock.map_err(failed)?;
        lock.lock().map_err(failed)?;
        let known = Registry::read(&directory).map_err(failed)?;
        // In user namespaces, several host users may have the same ids; the claim has the ids of the host.
        let shift = user::on_host(first.value) - first.value;
        let request = ClaimRequest {
            process: std::process::id(),
            data: config.api.data.clone(),
            cgroup: config.cgroup.clone(),
            cgroup_parent: sandbox::cgroup::place_of_trees()?,
            first_user: first.map(|id| id + shift),
            users: count,
            users_end: end.saturating_add(shift),
            outlet: outlet(config)?,
        };
        let record = request.choose(&known.active)?;
        let name = format!("{}.json", record.process);
        for stale in &known.stale {
            let same = stale.record.as_ref();
            let same = same.is_some_and(|other| other.shares_cgroups_with(&record));
            // Its control groups are removed when the new ones are made.
            if same || stale.path.ends_with(&name) {
                let _ = fs::remove_file(&stale.path);
            }
        }
        let path = directory.join(name);
        let file = write(&path, &record).map_err(failed)?;
        let plan = match &record.outlet {
            Some(outlet) => {
                AddressPlan::new(outlet.range, count).unwrap_or(config.network_plan.value)
            }
            None => config.network_plan.value,
        };
        Ok(Self {
            cgroup: record.cgroup,
            users: (record.first_user - shift, count),
            plan,
            held: Some(Held {
                registry,
                path,
                _file: file,
            }),
        })
    }

    /// Returns the claim by which the warden checks that the control groups still belong to this virga.
    pub(crate) fn for_warden(&self) -> Option<sandbox::warden::CgroupClaim> {
        self.held.as_ref().map(|held| sandbox::warden::CgroupClaim {
            registry: held.registry.clone(),
            file: held.path.clone(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns the first user id of instances, their number, and the end of the allowed range.
fn ids(config: &Config, privileges: &Privileges) -> Result<(Choice<u32>, u32, u32), ClaimError> {
    match (privileges, config.sandbox.uid_base) {
        (Privileges::Namespace { .. }, Some(_)) => Err(ClaimError::IdsOfUser),
        (Privileges::Namespace { ids, .. }, None) => {
            let count = config.sandbox.uid_count.min(*ids);
            Ok((Choice::free(user::FIRST), count, user::FIRST + ids))
        }
        (_, configured) => {
            let first = Choice {
                value: configured.unwrap_or(FIRST_ID),
                configured: configured.is_some(),
            };
            Ok((first, config.sandbox.uid_count, u32::MAX))
        }
    }
}

/// Returns the address range to claim. Without outbound network, addresses are visible only inside.
fn outlet(config: &Config) -> Result<Option<(Choice<network::AddressBlock>, u64)>, ClaimError> {
    if config.sandbox.network != NetworkReach::Outbound {
        return Ok(None);
    }
    let range = config.network_plan.clone().map(|plan| plan.range());
    Ok(Some((range, network::namespace_number()?)))
}

/// Returns the claim directory that every virga of this user finds.
fn registry(privileges: &Privileges) -> Result<PathBuf, ClaimError> {
    let candidates = match privileges {
        Privileges::Root => vec!["/run/virga".into()],
        Privileges::Namespace { .. } | Privileges::User(_) => {
            let own =
                std::env::var_os("XDG_RUNTIME_DIR").map(|path| Path::new(&path).join("virga"));
            // By number: two users may have one name.
            let number = user::on_host(user::number());
            let last = PathBuf::from(format!("/tmp/virga-{number}"));
            own.into_iter().chain([last]).collect()
        }
    };
    let mut failure = (PathBuf::new(), io::Error::from(io::ErrorKind::NotFound));
    for path in candidates {
        match make_private(&path) {
            Ok(()) => return Ok(path),
            Err(error) => failure = (path, error),
        }
    }
    let (path, source) = failure;
    Err(ClaimError::Registry {
        path: path.display().to_string(),
        source,
    })
}

/// Creates a directory of this user alone, unless it exists.
fn make_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let found = fs::symlink_metadata(path)?;
    let own = found.is_dir() && found.uid() == user::number() && found.mode() & 0o022 == 0;
    if own {
        Ok(())
    } else {
        Err(io::Error::other(
            "it belongs to another user, or others can write to it",
        ))
    }
}

/// The claim files of this host.
#[derive(Default)]
struct Registry {
    active: Vec<ClaimRecord>,
    stale: Vec<StaleClaim>,
}

/// The claim file of a virga that has ended.
struct StaleClaim {
    path: PathBuf,
    record: Option<ClaimRecord>,
}

impl Registry {
    fn read(directory: &Path) -> io::Result<Self> {
        let mut known = Self::default();
        for entry in fs::read_dir(directory)?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|kind| kind != "json") {
                continue;
            }
            let Ok(file) = File::open(&path) else {
                continue; // Its virga has just ended in order.
            };
            let record = serde_json::from_reader(&file).ok();
            match (file.try_lock(), record) {
                (Ok(()), record) => known.stale.push(StaleClaim { path, record }),
                (Err(TryLockError::WouldBlock), Some(record)) => known.active.push(record),
                (Err(TryLockError::WouldBlock), None) => {
                    let why = format!("{} cannot be read", path.display());
                    return Err(io::Error::other(why));
                }
                (Err(TryLockError::Error(error)), _) => return Err(error),
            }
        }
        Ok(known)
    }
}

fn write(path: &Path, record: &ClaimRecord) -> io::Result<File> {
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)?;
    file.try_lock().map_err(io::Error::from)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_directory_must_belong_to_this_user() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("virga");
        make_private(&path).expect("made");
        make_private(&path).expect("found");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&path, open).expect("opened");
        assert!(make_private(&path).is_err());
        let link = place.path().join("link");
        std::os::unix::fs::symlink(place.path(), &link).expect("linked");
        assert!(make_private(&link).is_err());
    }
}
