//! Landlock: what a process may read and write, whatever the mounts say.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::root::DEVICES;

const VERSION: ABI = ABI::V4;

/// Rules that are complete, and not yet in force.
pub(crate) struct LandlockRules(RulesetCreated);

impl LandlockRules {
    /// A second wall behind the mounts of a root of one's own: reading and executing anywhere in it, writing only where
    /// allowed.
    pub(crate) fn inside(writable: &[&Path]) -> io::Result<Self> {
        let rules = || {
            let mut rules = handled()?.create()?;
            rules = allow(rules, Path::new("/"), AccessFs::from_read(VERSION))?;
            rules = allow(rules, Path::new("/dev"), AccessFs::from_file(VERSION))?;
            for path in writable {
                rules = allow(rules, path, AccessFs::from_all(VERSION))?;
            }
            Ok(Self(rules))
        };
        rules().map_err(io::Error::other::<RulesetError>)
    }

    /// Writing in what is mounted at one more place. A rule for the place holds no more when it is covered.
    pub(crate) fn and_in(self, writable: &Path) -> io::Result<Self> {
        let rules = allow(self.0, writable, AccessFs::from_all(VERSION));
        rules.map(Self).map_err(io::Error::other)
    }

    /// The only wall on the host itself: of its files those named are seen, and `code`, and one directory can be written.
    /// Other processes cannot be signalled, where the kernel knows how (Linux 6.12).
    pub(crate) fn around(
        readable: &[PathBuf],
        code: &[OwnedFd],
        writable: &Path,
    ) -> io::Result<Self> {
        let rules = || {
            let scoped = handled()?.scope(Scope::AbstractUnixSocket | Scope::Signal)?;
            let mut rules = scoped.create()?;
            for path in readable.iter().filter(|path| path.exists()) {
                let access = if path.is_dir() {
                    AccessFs::from_read(VERSION)
                } else {
                    AccessFs::ReadFile.into()
                };
                rules = allow(rules, path, access)?;
            }
            for tree in code {
                rules = rules.add_rule(PathBeneath::new(tree, AccessFs::from_read(VERSION)))?;
            }
            for name in DEVICES {
                let device = Path::new("/dev").join(name);
                rules = allow(rules, &device, AccessFs::ReadFile | AccessFs::WriteFile)?;
            }
            Ok(Self(allow(rules, writable, AccessFs::from_all(VERSION))?))
        };
        rules().map_err(io::Error::other::<RulesetError>)
    }

    /// Puts them in force, for good.
    pub(crate) fn enforce(self) -> io::Result<()> {
        self.0.restrict_self().map(drop).map_err(io::Error::other)
    }
}

fn handled() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(path) => rules.add_rule(PathBeneath::new(path, access)),
        // What cannot be opened is not allowed either.
        Err(_) => Ok(rules),
    }
}
