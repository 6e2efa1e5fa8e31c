//! What is particular to Python: the zygote's root and command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sandbox::launch::{Program, ZygoteSpec};
use sandbox::{Bind, Names, RootSpec};
use tokio::process::Command;
use tracing::warn;

use crate::Interpreter;
use crate::assignment::{LOCALE, PATH};

/// The shim that an interpreter runs.
pub(crate) const SHIM: &str = include_str!("../../../runtimes/python/shim.py");
/// What makes certifi's list of authorities the sandbox's.
pub(crate) const SITE: &str = include_str!("../../../runtimes/python/site/sitecustomize.py");
/// Its directory, beside the shim.
pub(crate) const SITE_DIRECTORY: &str = "site";
/// The function that each new process loads before it waits for a real one.
pub(crate) const WARM_UP: &str = include_str!("../../../runtimes/python/warmup.py");
/// The sandbox's library.
pub(crate) const LIBRARY: &[u8] = include_bytes!(env!("VIRGA_GUEST_LIBRARY"));

/// Where shim and library show inside.
pub(crate) const RUNTIME: &str = "/var/runtime/virga";

/// The root for some interpreters: the system, their prefixes where those are elsewhere, and `extra`.
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
        // The paths that SCF documents. Of several versions the newest comes last.
        for link in interpreter.runtime_paths() {
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

/// Compiles the function that each new process loads, which is virga's own, so that none does. One that comes before it
/// has ended compiles for itself. Must be called within a tokio runtime.
pub(crate) fn compile_warm_up(interpreter: &Interpreter, runtime: &Path) {
    let started = Command::new(&interpreter.program)
        .args(["-I", "-S", "-m", "py_compile"])
        .arg(runtime.join("warmup.py"))
        .env_clear()
        .stdin(Stdio::null())
        .spawn();
    match started {
        Ok(mut child) => drop(tokio::spawn(async move { child.wait().await })),
        Err(error) => warn!(%error, "a function of virga's own cannot be compiled"),
    }
}

/// A zygote of this interpreter. It has what a function's environment has by default, as far as that is read at a start
/// alone: see [`crate::start`]. `runtime` is the directory that holds the shim and the library. A root of its own is put
/// together in a directory.
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
    // On the host these would be directories of the host's.
    let libraries = own
        .is_some()
        .then(|| format!("LD_LIBRARY_PATH={}", sandbox::LIBRARIES.join(":")));
    let env = [
        format!("PATH={PATH}"),
        // Python 3.6 would take names as ASCII without it.
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
