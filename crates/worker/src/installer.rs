//! The package managers that install dependencies, and how each is run: pip for Python, npm for Node.js.
//!
//! Neither reads anything of the operator's: no variable of virga's environment, and no configuration file. What they
//! need is in their arguments.

use std::fs;
use std::path::{Path, PathBuf};

use model::Runtime;
use sandbox::launch::Program;

use crate::install::InstallSettings;
use crate::{Interpreter, PackageError};

/// The authorities that the host trusts, by which an index of the operator's may be certified. pip and npm bring their own.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Longest wait of pip's for the next bytes, seconds. The whole run is bounded besides.
const PIP_TIMEOUT: &str = "60";

/// The package manager of a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installer {
    Pip,
    Npm,
}

impl Installer {
    /// The one for an interpreter's packages; `None` for programs of a user's own.
    pub(crate) fn of(runtime: Runtime) -> Option<Self> {
        match runtime {
            Runtime::Python { .. } => Some(Self::Pip),
            Runtime::Node { .. } => Some(Self::Npm),
            Runtime::Custom => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Npm => "npm",
        }
    }

    /// The file of a package that lists what is to be installed.
    pub(crate) fn list(self) -> &'static str {
        match self {
            Self::Pip => "requirements.txt",
            Self::Npm => "package.json",
        }
    }

    /// The command that installs what the list in a directory asks for, into this directory.
    ///
    /// # Errors
    /// [`PackageError::Refused`] where the host lacks the package manager.
    pub(crate) fn program(
        self,
        code: &Path,
        isolated: bool,
        interpreter: &Interpreter,
        settings: &InstallSettings,
    ) -> Result<Program, PackageError> {
        let tmp = if isolated { Path::new("/tmp") } else { code };
        let tmp = tmp.to_string_lossy();
        let mut program = match self {
            Self::Pip => pip(code, interpreter, settings),
            Self::Npm => npm(code, &tmp, interpreter, settings)?,
        };
        program.env.extend([
            format!("HOME={tmp}"),
            "LANG=C.UTF-8".to_owned(),
            format!("TMPDIR={tmp}"),
        ]);
        Ok(program)
    }
}

fn pip(code: &Path, interpreter: &Interpreter, settings: &InstallSettings) -> Program {
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
        // Virga compiles what is published.
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
        // The operator named it so.
        if let Some(host) = plain_host(index) {
            args.extend(["--trusted-host", host]);
        }
    }
    let directories = settings.directories.iter();
    let directories: Vec<_> = directories.map(|path| path.to_string_lossy()).collect();
    for directory in &directories {
        args.extend(["--find-links", directory]);
    }
    // Nothing of virga's own environment: what the operator has told pip there may be a secret.
    let env = [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        // No file is read for pip's settings, either.
        "PIP_CONFIG_FILE=/dev/null",
        // A tree with some of it compiled is taken to be compiled.
        "PYTHONDONTWRITEBYTECODE=1",
    ];
    Program {
        args: args.into_iter().map(str::to_owned).collect(),
        env: env.map(str::to_owned).to_vec(),
    }
}

fn npm(
    code: &Path,
    tmp: &str,
    interpreter: &Interpreter,
    settings: &InstallSettings,
) -> Result<Program, PackageError> {
    let script = npm_script(interpreter)?;
    let node = interpreter.program.to_string_lossy();
    let (code, script) = (code.to_string_lossy(), script.to_string_lossy());
    let mut args = vec![
        node.as_ref(),
        &script,
        "install",
        "--prefix",
        &code,
        "--omit=dev",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--no-progress",
    ];
    if Path::new(AUTHORITIES).exists() {
        args.extend(["--cafile", AUTHORITIES]);
    }
    if let Some(registry) = &settings.registry {
        args.extend(["--registry", registry]);
    }
    // Scripts of packages find the interpreter that will serve them.
    let bin = interpreter
        .program
        .parent()
        .unwrap_or(Path::new("/usr/bin"));
    let env = vec![
        format!("PATH={}:/usr/local/bin:/usr/bin:/bin", bin.display()),
        format!("npm_config_cache={tmp}/.npm"),
        // npm wants two files, and finds none.
        format!("npm_config_userconfig={tmp}/.npm/user"),
        format!("npm_config_globalconfig={tmp}/.npm/global"),
    ];
    Ok(Program {
        args: args.into_iter().map(str::to_owned).collect(),
        env,
    })
}

/// Where npm is, which is beside its Node.js.
fn npm_script(interpreter: &Interpreter) -> Result<PathBuf, PackageError> {
    let beside = interpreter.program.with_file_name("npm");
    fs::canonicalize(&beside).map_err(|e| {
        PackageError::Refused(format!(
            "{}: {e}; this interpreter has no npm: install it on the host (apt install npm)",
            beside.display()
        ))
    })
}

/// The host and port of an index that is reached without TLS.
fn plain_host(index: &str) -> Option<&str> {
    let rest = index.strip_prefix("http://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Some(authority.rsplit('@').next().unwrap_or(authority))
}
