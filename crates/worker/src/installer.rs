//! Command lines of the package managers: pip for Python, npm for Node.js.
//!
//! Neither sees virga's environment or a configuration file of the operator. All settings are in the arguments.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::PackageManager;
use sandbox::Program;

use crate::{Interpreter, PackageError};

/// The host's CA certificates, for an index with a certificate of the operator's own CA. pip and npm have built-in
/// lists.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// pip's read timeout, seconds. The whole run has a timeout as well.
const PIP_TIMEOUT: &str = "60";

/// Settings for installing dependencies.
#[derive(Clone, Debug)]
pub struct InstallSettings {
    /// Timeout of an installation.
    pub timeout: Duration,
    /// URL of the package index for Python; `None` is pip's default.
    pub index: Option<String>,
    /// URL of the registry for Node.js; `None` is npm's default.
    pub registry: Option<String>,
    /// Host directories with packages for pip, which it may read.
    pub directories: Vec<PathBuf>,
    /// Whether the installation uses the host's network instead of the functions'.
    pub host_network: bool,
}

/// Builds the command that installs the dependencies of the package at `code` into that directory.
///
/// # Errors
/// [`PackageError::Refused`] if the host lacks the package manager.
pub(crate) fn program(
    manager: PackageManager,
    code: &Path,
    isolated: bool,
    interpreter: &Interpreter,
    settings: &InstallSettings,
) -> Result<Program, PackageError> {
    let tmp = if isolated { Path::new("/tmp") } else { code };
    let tmp = tmp.to_string_lossy();
    let mut program = match manager {
        PackageManager::Pip => pip(code, interpreter, settings),
        PackageManager::Npm => npm(code, &tmp, interpreter, settings)?,
    };
    program.env.extend([
        format!("HOME={tmp}"),
        "LANG=C.UTF-8".to_owned(),
        format!("TMPDIR={tmp}"),
    ]);
    Ok(program)
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
    // Package scripts run with the interpreter that will serve the function.
    let bin = interpreter
        .program
        .parent()
        .unwrap_or(Path::new("/usr/bin"));
    let env = vec![
        format!("PATH={}:/usr/local/bin:/usr/bin:/bin", bin.display()),
        format!("npm_config_cache={tmp}/.npm"),
        // npm requires two configuration files; these do not exist.
        format!("npm_config_userconfig={tmp}/.npm/user"),
        format!("npm_config_globalconfig={tmp}/.npm/global"),
    ];
    Ok(Program {
        args: args.into_iter().map(str::to_owned).collect(),
        env,
    })
}

/// Returns the path of npm, which lies beside its Node.js.
fn npm_script(interpreter: &Interpreter) -> Result<PathBuf, PackageError> {
    let beside = interpreter.program.with_file_name("npm");
    fs::canonicalize(&beside).map_err(|e| {
        PackageError::Refused(format!(
            "{}: {e}; this interpreter has no npm: install it on the host (apt install npm)",
            beside.display()
        ))
    })
}

/// Returns host and port of an index URL without TLS.
fn plain_host(index: &str) -> Option<&str> {
    let rest = index.strip_prefix("http://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Some(authority.rsplit('@').next().unwrap_or(authority))
}
