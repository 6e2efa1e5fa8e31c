//! Landlock rules: which files a process may read and write, whatever the mounts allow.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::private::DEVICES;

const VERSION: ABI = ABI::V4;

/// Complete rules that are not in force yet.
pub(crate) struct LandlockRules(RulesetCreated);

impl LandlockRules {
    /// Returns rules for a process in a root of its own, as a second line of defence behind the mounts: it may read and
    /// execute everything and write only below `writable`.
    pub(crate) fn for_own_root(writable: &[&Path]) -> io::Result<Self> {
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

    /// Allows writing in a file system mounted after the rules were made. A rule for a path does not apply to a file
    /// system mounted over it later.
    pub(crate) fn allow_writing(self, writable: &Path) -> io::Result<Self> {
        let rules = allow(self.0, writable, AccessFs::from_all(VERSION));
        rules.map(Self).map_err(io::Error::other)
    }

    /// Returns rules for a process on the host itself, where they are the only barrier: it may read the files in
    /// `readable` and `code`, and write in one directory. It cannot signal other processes, if the kernel supports that
    /// (Linux 6.12).
    pub(crate) fn for_host(
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

    /// Puts the rules in force, irrevocably.
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
        // A path that cannot be opened is not allowed either.
        Err(_) => Ok(rules),
    }
}
