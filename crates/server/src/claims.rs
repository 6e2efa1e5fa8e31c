//! What of the host a virga has to itself, so that several keep apart: the name of its control groups, the user ids of its instances,
//! and, where functions go out, their addresses and the interface of the way out.
//!
//! Each running virga has a file that says what it holds, and a lock on that file, which the kernel lets go of when virga ends, however
//! it does. Whoever starts looks at all of them, and changes them, under one lock for all.

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

/// The first id for instances of root's virga.
const FIRST_ID: u32 = 2_000_000;

/// Why a virga cannot have what it needs.
#[derive(Debug, Error)]
pub(crate) enum ClaimError {
    #[error(transparent)]
    Conflict(#[from] ClaimConflict),
    #[error("uid_base: an ordinary user's instances have the ids of /etc/subuid; leave it out")]
    IdsOfUser,
    #[error(
        "{path}: {source}; virgas on one host keep apart by files in it, so it must be this user's own"
    )]
    Registry { path: String, source: io::Error },
    #[error(transparent)]
    Host(#[from] sandbox::Error),
}

/// What this virga has to itself for as long as it keeps this.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Name of its control groups.
    pub(crate) cgroup: String,
    /// First of its instances' users, and how many there are.
    pub(crate) users: (u32, u32),
    /// Addresses of its functions.
    pub(crate) plan: AddressPlan,
    /// None where functions are processes of the host and nothing more.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    registry: PathBuf,
    path: PathBuf,
    /// Locked.
    _file: File,
}

impl Claim {
    /// Takes what the configuration names, or else what is free.
    ///
    /// # Errors
    /// What another virga has, and by which option it was asked for.
    pub(crate) fn take(config: &Config, privileges: &Privileges) -> Result<Self, ClaimError> {
        let (first, count, end) = ids(config, privileges)?;
        if config.isolation == Isolation::Process {
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
        // Several users of the host may have the same ids in namespaces of their own.
        let shift = user::on_host(first.value) - first.value;
        let request = ClaimRequest {
            process: std::process::id(),
            data: config.data.clone(),
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
            // What it left is cleaned when the new groups are made.
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

    /// How the warden knows whether virga's control groups are still this virga's.
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

/// The first id of instances, how many there are, and the end of those that this virga may have.
fn ids(config: &Config, privileges: &Privileges) -> Result<(Choice<u32>, u32, u32), ClaimError> {
    match (privileges, config.uid_base) {
        (Privileges::Namespace { .. }, Some(_)) => Err(ClaimError::IdsOfUser),
        (Privileges::Namespace { ids, .. }, None) => {
            let count = config.uid_count.min(*ids);
            Ok((Choice::free(user::FIRST), count, user::FIRST + ids))
        }
        (_, configured) => {
            let first = Choice {
                value: configured.unwrap_or(FIRST_ID),
                configured: configured.is_some(),
            };
            Ok((first, config.uid_count, u32::MAX))
        }
    }
}

/// Only a way out shows on the host; without one, addresses are known inside alone.
fn outlet(config: &Config) -> Result<Option<(Choice<network::AddressBlock>, u64)>, ClaimError> {
    if config.network != NetworkReach::Outbound {
        return Ok(None);
    }
    let range = config.network_plan.clone().map(|plan| plan.range());
    Ok(Some((range, network::namespace_number()?)))
}

/// A directory of this host that every virga of the user finds.
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

/// Makes a directory that is this user's alone, if it is not there.
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
            "it is another user's, or others may write in it",
        ))
    }
}

/// What the files say.
#[derive(Default)]
struct Registry {
    active: Vec<ClaimRecord>,
    stale: Vec<StaleClaim>,
}

/// The file of a virga that has ended.
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
