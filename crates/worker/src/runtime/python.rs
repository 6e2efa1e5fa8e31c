//! Python: an instance is a copy of a warm interpreter. If it needs its own environment at the start of the process, it is a
//! new interpreter (see [`crate::start`]). Both run the shim.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use model::{Language, Runtime};
use sandbox::Program;
use tokio::process::Command;
use tracing::warn;

use super::language_runtime::{Compiler, Discovery, Installer, LanguageRuntime, WarmInterpreter};
use crate::PackageError;
use crate::found::{Interpreter, query};
use crate::install_settings::{AUTHORITIES, InstallSettings};
use crate::launch_mode::LaunchMode;
use crate::layout::{LOCALE, PATH};

const SHIM: &str = "shim.py";
const LIBRARY: &str = "libsandbox.so";
/// The function that each new process loads as a warm-up run.
const WARM_UP: &str = "warmup.py";
/// First version whose bytecode can be compiled ahead and stored. Older ones write compiled files beside their sources only.
const BYTECODE_SINCE: (u8, u8) = (3, 8);
/// What its processes read.
const FILES: &[(&str, &[u8])] = &[
    (SHIM, include_bytes!("../../../../runtimes/python/shim.py")),
    // Points certifi to the sandbox's CA certificates.
    (
        "site/sitecustomize.py",
        include_bytes!("../../../../runtimes/python/site/sitecustomize.py"),
    ),
    (
        WARM_UP,
        include_bytes!("../../../../runtimes/python/warmup.py"),
    ),
    (LIBRARY, include_bytes!(env!("VIRGA_GUEST_LIBRARY"))),
];
/// pip's read timeout, seconds. The whole run has a timeout as well.
const PIP_TIMEOUT: &str = "60";

/// Python.
pub(super) struct Python;

impl LanguageRuntime for Python {
    /// Starts it without the host's site packages, as the warm interpreter.
    fn launch(&self, interpreter: &Interpreter, shims: &Path, _: Option<u64>) -> LaunchMode {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        LaunchMode::Interpreter {
            command: vec![
                text(&interpreter.program),
                "-S".to_owned(),
                text(&shims.join(SHIM)),
            ],
        }
    }

    fn files(&self) -> &'static [(&'static str, &'static [u8])] {
        FILES
    }

    fn discovery(&self) -> Option<&'static dyn Discovery> {
        Some(&Self)
    }

    fn warm_interpreter(&self) -> Option<&'static dyn WarmInterpreter> {
        Some(&Self)
    }

    fn installer(&self) -> Option<&'static dyn Installer> {
        Some(&Self)
    }

    fn compiler(&self, interpreter: &Interpreter) -> Option<Compiler> {
        let (major, minor) = interpreter.runtime.version();
        ((major, minor) >= BYTECODE_SINCE).then(|| Compiler {
            source: "py",
            compiled: "pyc",
            tag: format!(".cpython-{major}{minor}.pyc"),
            directory: "__pycache__",
            program: compile,
        })
    }
}

impl Discovery for Python {
    /// Lists `python3.N` in the system directories and those of version managers.
    fn candidates(&self) -> Vec<PathBuf> {
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
            let mut names: Vec<_> = listed
                .map(|entry| entry.path())
                .filter(|path| {
                    path.file_name()
                        .and_then(|name| name.to_str())
                        .is_some_and(is_python)
                })
                .collect();
            names.sort();
            places.extend(names);
        }
        places
    }

    fn host_package(&self) -> &'static str {
        "python3"
    }

    fn examine(&self, program: &Path) -> Result<Interpreter, String> {
        const QUESTION: &str =
            "import sys; print(sys.version_info[0], sys.version_info[1]); print(sys.base_prefix)";
        let (program, text) = query(program, &["-I", "-S", "-c", QUESTION])?;
        let mut lines = text.lines();
        let version = lines.next().unwrap_or_default().replace(' ', ".");
        let runtime = Runtime::of_version(Language::Python, &version)
            .ok_or_else(|| format!("its version is {version:?}, which is not supported"))?;
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
}

fn is_python(name: &str) -> bool {
    name.strip_prefix("python3.")
        .is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()))
}

impl WarmInterpreter for Python {
    /// Its environment has the defaults of a function's variables that are read only at process start (see
    /// [`crate::start`]).
    fn program(&self, interpreter: &Interpreter, shims: &Path) -> Program {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut args = vec![text(&interpreter.program)];
        args.extend(["-I", "-S", "-B"].map(str::to_owned));
        args.extend([SHIM, LIBRARY].map(|file| text(&shims.join(file))));
        Program {
            args,
            env: vec![
                format!("PATH={PATH}"),
                // Without it, Python 3.6 decodes file names as ASCII.
                format!("LANG={LOCALE}"),
                format!("LC_ALL={LOCALE}"),
            ],
        }
    }

    /// Compiles the warm-up function, so that new processes do not. Those that start earlier compile for themselves.
    fn prepare(&self, interpreter: &Interpreter, shims: &Path) {
        let started = Command::new(&interpreter.program)
            .args(["-I", "-S", "-m", "py_compile"])
            .arg(shims.join(WARM_UP))
            .env_clear()
            .stdin(Stdio::null())
            .spawn();
        match started {
            Ok(mut child) => drop(tokio::spawn(async move { child.wait().await })),
            Err(error) => warn!(%error, "failed to compile the warm-up function"),
        }
    }

    fn start_variables(&self) -> &'static [&'static str] {
        &["PYTHON"]
    }
}

fn compile(interpreter: &Interpreter, code: &Path, compiled: &Path) -> Program {
    let program = interpreter.program.to_string_lossy();
    let prefix = format!("pycache_prefix={}", compiled.display());
    let code = code.to_string_lossy();
    let args = [
        &*program,
        "-I",
        "-S",
        "-X",
        &prefix,
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        &code,
    ];
    Program {
        args: args.map(str::to_owned).to_vec(),
        env: vec!["LANG=C.UTF-8".into()],
    }
}

impl Installer for Python {
    fn program(
        &self,
        code: &Path,
        _: &Path,
        interpreter: &Interpreter,
        settings: &InstallSettings,
    ) -> Result<Program, PackageError> {
        let code = code.to_string_lossy();
        let list = format!("{code}/requirements.txt");
        let program = interpreter.program.to_string_lossy();
        let mut args = vec![
            program.as_ref(),
            "-m",
            "pip",
            "install",
            "--no-input",
            "--no-cache-dir",
            // Virga compiles published code itself.
            "--no-compile",
            "--disable-pip-version-check",
            "--no-warn-script-location",
            "--progress-bar",
            "off",
            "--timeout",
            PIP_TIMEOUT,
            "--target",
            &code,
            "--upgrade",
            "-r",
            &list,
        ];
        if Path::new(AUTHORITIES).exists() {
            args.extend(["--cert", AUTHORITIES]);
        }
        if let Some(index) = &settings.index {
            args.extend(["--index-url", index]);
            // The operator configured a URL without TLS.
            if let Some(host) = plain_host(index) {
                args.extend(["--trusted-host", host]);
            }
        }
        let directories = settings.directories.iter();
        let directories: Vec<_> = directories.map(|path| path.to_string_lossy()).collect();
        for directory in &directories {
            args.extend(["--find-links", directory]);
        }
        // Virga's environment is not passed on: pip settings in it may contain secrets.
        let env = [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            // No configuration files, either.
            "PIP_CONFIG_FILE=/dev/null",
            // virga treats a tree with any compiled file as compiled.
            "PYTHONDONTWRITEBYTECODE=1",
        ];
        Ok(Program {
            args: args.into_iter().map(str::to_owned).collect(),
            env: env.map(str::to_owned).to_vec(),
        })
    }

    fn advice(&self, output: &str) -> Option<&'static str> {
        output.contains("No module named pip").then_some(
            "this interpreter has no pip: install it on the host (apt install python3-pip)",
        )
    }
}

/// Returns host and port of an index URL without TLS.
fn plain_host(index: &str) -> Option<&str> {
    let rest = index.strip_prefix("http://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Some(authority.rsplit('@').next().unwrap_or(authority))
}
