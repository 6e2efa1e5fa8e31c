//! Node.js: each instance starts a new interpreter, which runs the shim.

use std::fs;
use std::path::{Path, PathBuf};

use model::{Language, Runtime};
use sandbox::Program;

use super::language_runtime::{Discovery, Installer, LanguageRuntime};
use crate::PackageError;
use crate::found::{Interpreter, query};
use crate::install_settings::{AUTHORITIES, InstallSettings};
use crate::launch_mode::LaunchMode;

const SHIM: &str = "shim.js";
/// What its processes read.
const FILES: &[(&str, &[u8])] = &[(SHIM, include_bytes!("../../../../runtimes/nodejs/shim.js"))];

/// Node.js.
pub(super) struct Node;

impl LanguageRuntime for Node {
    fn launch(
        &self,
        interpreter: &Interpreter,
        shims: &Path,
        memory_bytes: Option<u64>,
    ) -> LaunchMode {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut command = vec![text(&interpreter.program)];
        // Without a control group, this option limits the memory of Node.js.
        command.extend(memory_bytes.map(|bytes| format!("--max-old-space-size={}", bytes >> 20)));
        command.push(text(&shims.join(SHIM)));
        LaunchMode::Interpreter { command }
    }

    fn files(&self) -> &'static [(&'static str, &'static [u8])] {
        FILES
    }

    fn discovery(&self) -> Option<&'static dyn Discovery> {
        Some(&Self)
    }

    fn installer(&self) -> Option<&'static dyn Installer> {
        Some(&Self)
    }
}

impl Discovery for Node {
    /// Lists `node` in the system directories and those of its version manager.
    fn candidates(&self) -> Vec<PathBuf> {
        let mut places: Vec<PathBuf> = ["/usr/bin/node", "/usr/local/bin/node"]
            .iter()
            .map(PathBuf::from)
            .collect();
        let home = std::env::var_os("NVM_DIR").map(PathBuf::from);
        let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".nvm")));
        let listed = home.and_then(|home| fs::read_dir(home.join("versions/node")).ok());
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

    fn host_package(&self) -> &'static str {
        "nodejs"
    }

    fn examine(&self, program: &Path) -> Result<Interpreter, String> {
        let (program, text) = query(program, &["--version"])?;
        let version = text.trim().trim_start_matches('v');
        let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
        let runtime = Runtime::of_version(Language::Node, minor)
            .ok_or_else(|| format!("its version is {version:?}, which is not supported"))?;
        let prefix = program.parent().and_then(Path::parent);
        let prefix = prefix.ok_or("it has no installation prefix")?.to_owned();
        Ok(Interpreter {
            runtime,
            program,
            prefix,
        })
    }
}

impl Installer for Node {
    fn program(
        &self,
        code: &Path,
        tmp: &Path,
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
        let tmp = tmp.display();
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
