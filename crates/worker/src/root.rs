//! Roots of processes in a sandbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sandbox::{Bind, Names, RootSpec};

use crate::found::Interpreter;

/// Returns the root for some interpreters: system directories, interpreter prefixes outside of `/usr`, and `extra`.
pub(crate) fn of(
    interpreters: &[&Interpreter],
    staging: PathBuf,
    extra: Vec<Bind>,
    names: Names,
) -> RootSpec {
    let mut binds = extra;
    let mut links = BTreeMap::new();
    for interpreter in interpreters {
        let prefix = &interpreter.prefix;
        if !prefix.starts_with("/usr") && binds.iter().all(|bind| bind.target != *prefix) {
            binds.push(read_only(prefix, prefix));
        }
        // The paths that SCF documents. With several versions, the newest wins.
        for link in interpreter.runtime.paths() {
            links.insert(PathBuf::from(link), prefix.clone());
        }
    }
    RootSpec {
        staging,
        binds,
        links: links.into_iter().collect(),
        names,
    }
}

pub(crate) fn read_only(source: &Path, target: &Path) -> Bind {
    Bind {
        source: source.to_owned(),
        target: target.to_owned(),
        writable: false,
    }
}
