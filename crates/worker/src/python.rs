//! Zygote, root and runtime files of Python.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sandbox::Program;
use sandbox::launch::ZygoteSpec;
use sandbox::{Bind, Names, RootSpec};
use tokio::process::Command;
use tracing::warn;

use crate::Interpreter;
use crate::layout::{LOCALE, PATH, RUNTIME};

/// The shim that an interpreter runs.
pub(crate) const SHIM: &str = include_str!("../../../runtimes/python/shim.py");
/// A `sitecustomize` module that points certifi to the sandbox's CA certificates.
pub(crate) const SITE: &str = include_str!("../../../runtimes/python/site/sitecustomize.py");
/// The function that each new process loads as a warm-up run.
pub(crate) const WARM_UP: &str = include_str!("../../../runtimes/python/warmup.py");
/// The sandbox's shared library.
pub(crate) const LIBRARY: &[u8] = include_bytes!(env!("VIRGA_GUEST_LIBRARY"));

/// Returns the root for some interpreters: system directories, interpreter prefixes outside of `/usr`, and `extra`.
pub(crate) fn root(
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

/// Compiles the warm-up function in the background, so that new processes do not. Those that start earlier compile for
/// themselves. Must be called within a tokio runtime.
pub(crate) fn compile_warm_up(interpreter: &Interpreter, runtime: &Path) {
    let started = Command::new(&interpreter.program)
        .args(["-I", "-S", "-m", "py_compile"])
        .arg(runtime.join("warmup.py"))
        .env_clear()
        .stdin(Stdio::null())
        .spawn();
    match started {
        Ok(mut child) => drop(tokio::spawn(async move { child.wait().await })),
        Err(error) => warn!(%error, "failed to compile the warm-up function"),
    }
}

/// Returns the zygote specification of an interpreter. Its environment has the defaults of a function's variables that
/// are read only at process start (see [`crate::start`]). `runtime` is the directory with the shim and the library.
/// `own` gives the staging directory and the name resolution, if it has a root of its own.
pub(crate) fn zygote(
    interpreter: &Interpreter,
    runtime: &Path,
    own: Option<(PathBuf, Names)>,
) -> ZygoteSpec {
    let shown = match own {
        Some(_) => Path::new(RUNTIME),
        None => runtime,
    };
    let shim = shown.join("shim.py").to_string_lossy().into_owned();
    let library = shown.join("libsandbox.so").to_string_lossy().into_owned();
    // Without a root of its own, these would be directories of the host.
    let libraries = own
        .is_some()
        .then(|| format!("LD_LIBRARY_PATH={}", sandbox::LIBRARIES.join(":")));
    let env = [
        format!("PATH={PATH}"),
        // Without it, Python 3.6 decodes file names as ASCII.
        format!("LANG={LOCALE}"),
        format!("LC_ALL={LOCALE}"),
    ];
    let args = [
        &interpreter.program.to_string_lossy(),
        "-I",
        "-S",
        "-B",
        shim.as_str(),
        library.as_str(),
    ];
    ZygoteSpec {
        root: own.map(|(staging, names)| {
            let runtime = read_only(runtime, Path::new(RUNTIME));
            root(&[interpreter], staging, vec![runtime], names)
        }),
        program: Some(Program {
            args: args.map(str::to_owned).to_vec(),
            env: env.into_iter().chain(libraries).collect(),
        }),
    }
}
