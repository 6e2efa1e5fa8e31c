//! Python on this host.

use std::path::{Path, PathBuf};

use model::Runtime;

use super::found::{Interpreter, query};

/// Lists `python3.N` in the system directories and those of version managers.
pub(super) fn candidates() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = ["/usr/bin", "/usr/local/bin"]
        .iter()
        .map(PathBuf::from)
        .collect();
    let homes = [
        std::env::var_os("PYENV_ROOT"),
        std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv").into()),
    ];
    for home in homes.into_iter().flatten() {
        let versions = Path::new(&home).join("versions");
        let listed = std::fs::read_dir(versions).into_iter().flatten().flatten();
        let mut bins: Vec<_> = listed.map(|entry| entry.path().join("bin")).collect();
        bins.sort();
        directories.extend(bins);
    }
    let mut places = Vec::new();
    for directory in directories {
        let listed = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten();
        let is_python = |name: &str| {
            name.strip_prefix("python3.")
                .is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut names: Vec<_> = listed
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name()
                    .and_then(|n| n.to_str())
                    .is_some_and(is_python)
            })
            .collect();
        names.sort();
        places.extend(names);
    }
    places
}

/// Runs a program to determine its version.
pub(super) fn examine(program: &Path) -> Result<Interpreter, String> {
    const QUESTION: &str =
        "import sys; print(sys.version_info[0], sys.version_info[1]); print(sys.base_prefix)";
    let (program, text) = query(program, &["-I", "-S", "-c", QUESTION])?;
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default().replace(' ', ".");
    let runtime = Runtime::parse(&format!("Python{version}"))
        .map_err(|_| format!("its version is {version:?}, which is not supported"))?;
    let prefix = lines
        .next()
        .map(PathBuf::from)
        .ok_or("it does not report its prefix")?;
    Ok(Interpreter {
        runtime,
        program,
        prefix,
    })
}
