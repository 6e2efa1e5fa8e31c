//! An interpreter, and its own report of its version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::Runtime;

/// An interpreter whose version was determined by running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its runtime.
    pub runtime: Runtime,
    /// The program, with links resolved.
    pub program: PathBuf,
    /// Installation prefix, which holds its library.
    pub prefix: PathBuf,
}

/// Runs a program, and returns its path with links resolved and its output.
pub(crate) fn query(program: &Path, args: &[&str]) -> Result<(PathBuf, String), String> {
    let program = program.canonicalize().map_err(|e| e.to_string())?;
    let output = Command::new(&program)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((program, text))
}
