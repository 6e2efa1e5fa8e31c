//! Node.js on this host.

use std::path::{Path, PathBuf};

use model::Runtime;

use super::found::{Interpreter, query};

/// Lists `node` in the system directories and those of its version manager.
pub(super) fn candidates() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = ["/usr/bin/node", "/usr/local/bin/node"]
        .iter()
        .map(PathBuf::from)
        .collect();
    let home = std::env::var_os("NVM_DIR").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".nvm")));
    let listed = home.and_then(|home| std::fs::read_dir(home.join("versions/node")).ok());
    let mut managed: Vec<_> = listed
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/node"))
        .collect();
    managed.sort();
    places.extend(managed);
    places
}

/// Runs a program to determine its version.
pub(super) fn examine(program: &Path) -> Result<Interpreter, String> {
    let (program, text) = query(program, &["--version"])?;
    let version = text.trim().trim_start_matches('v');
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    let runtime = Runtime::parse(&format!("Nodejs{minor}"))
        .map_err(|_| format!("its version is {version:?}, which is not supported"))?;
    let prefix = program.parent().and_then(Path::parent);
    let prefix = prefix.ok_or("it has no installation prefix")?.to_owned();
    Ok(Interpreter {
        runtime,
        program,
        prefix,
    })
}
