//! Installs the dependencies in a package's `requirements.txt` or `package.json` in a sandbox.
//!
//! Installing runs code of third parties. So pip and npm are isolated like an instance: a user id, control groups and a
//! network namespace of their own, a read-only root, and the network of functions unless the operator allows the host's.
//! They work on a copy of the package in a file system of its own. The result is adopted after all their processes have
//! ended.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use model::{AccountId, Sha256};
use sandbox::beneath::{Directory, TreeBounds};
use sandbox::run::{RunFailure, RunNetwork, RunSpec, RunView, WorkDirectory};
use sandbox::{Names, Program};

use crate::identity::InstanceIdentity;
use crate::install_settings::InstallSettings;
use crate::layout::CODE;
use crate::package::{PackageError, PackageStore};
use crate::runtime::{self, Installer};
use crate::tool::{RunningTool, ToolExit, ToolSandbox};
use crate::{Interpreter, Worker, root};

/// How often the size of the tree is checked if no file system limits it.
const SIZE_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Address space of a process if no control group limits its memory, bytes.
const ADDRESS_SPACE: u64 = 4 << 30;

/// An installation of dependencies.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// The account whose build it is.
    pub account: AccountId,
    /// The unpacked package that lists the dependencies.
    pub package: &'a Sha256,
    /// The interpreter that will run the code.
    pub interpreter: &'a Interpreter,
    /// How the result is stored.
    pub stored_as: StoredAs,
}

/// How an installed tree is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// As an archive, for a function's code.
    Archive,
    /// As a package, for a layer, which can be downloaded.
    Package,
}

/// The result of an installation.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The tree with its dependencies: the digest of its archive or package.
    pub tree: Sha256,
    /// The end of the package manager's output.
    pub log: String,
}

impl Worker {
    /// Returns whether a package lists dependencies that can be installed for an interpreter.
    pub fn has_requirements(&self, installation: &Installation<'_>) -> bool {
        let tree = self.packages().tree(installation.package);
        let manager = installation.interpreter.runtime.description().packages;
        manager.is_some_and(|manager| tree.join(manager.list).is_file())
    }

    /// Installs a package's dependencies next to its code, with a memory limit. A package without a list of dependencies
    /// is returned unchanged. Dropping the future ends all processes of the installation.
    ///
    /// # Errors
    /// [`PackageError::Refused`] with the package manager's output if it fails.
    pub async fn install(
        &self,
        installation: &Installation<'_>,
        settings: &InstallSettings,
        memory_bytes: u64,
    ) -> Result<Installed, PackageError> {
        let Installation {
            account,
            package,
            interpreter,
            stored_as,
        } = *installation;
        let store = self.packages();
        let source = store.tree(package);
        let nothing = |log: String| Installed {
            tree: package.clone(),
            log,
        };
        let manager = interpreter.runtime.description().packages;
        let installer = runtime::served_by(interpreter).installer();
        let Some((manager, installer)) = manager.zip(installer) else {
            return Ok(nothing(
                "custom runtimes have no package manager; nothing was installed".into(),
            ));
        };
        let list = manager.list;
        // A symbolic link is followed only inside the sandbox, by the installer.
        let there = fs::symlink_metadata(source.join(list));
        if !there.is_ok_and(|list| list.is_file() || list.is_symlink()) {
            return Ok(nothing(format!(
                "the package has no {list}; nothing was installed"
            )));
        }
        let result = StagingDirectory::make(store)?;
        let host = (!self.isolated())
            .then(|| StagingDirectory::make(store))
            .transpose()?;
        let tool_sandbox = ToolSandbox::take(self, account, !settings.host_network, memory_bytes);
        let tool_sandbox = tool_sandbox.map_err(PackageError::sandbox)?;
        let work = WorkDirectory {
            inside: host
                .as_ref()
                .map_or(CODE.into(), |host| host.path().to_owned()),
            seed: Some(source),
            result: result.path().to_owned(),
            always: false,
            bounds: self.tree_bounds(),
        };
        let view = self.install_view(&tool_sandbox.identity, interpreter, settings);
        let tmp = match self.isolated() {
            true => Path::new("/tmp"),
            false => work.inside.as_path(),
        };
        let mut program = installer.program(&work.inside, tmp, interpreter, settings)?;
        program.env.extend([
            format!("HOME={}", tmp.display()),
            "LANG=C.UTF-8".to_owned(),
            format!("TMPDIR={}", tmp.display()),
        ]);
        let spec = RunSpec {
            // The package manager assembles the installation there, and then moves it.
            tmp_bytes: (u64::from(self.limits().tmp_mb) << 20).max(self.limits().unpacked_bytes),
            ..self.run_spec(view, program, work, &tool_sandbox, settings.timeout)
        };
        let ended = self.run_bounded(&spec, tool_sandbox, host.as_ref()).await?;
        let log = self.tool_output(manager.name, installer, &spec, ended)?;
        let adopting = (store.clone(), result);
        blocking(move || {
            let (store, result) = adopting;
            let tree = match stored_as {
                StoredAs::Archive => store.adopt(result.path())?,
                StoredAs::Package => store.adopt_as_package(result.path())?,
            };
            Ok(Installed { tree, log })
        })
        .await
    }

    /// Returns the largest allowed size of a tree that a build makes.
    pub(crate) fn tree_bounds(&self) -> TreeBounds {
        TreeBounds {
            bytes: self.limits().unpacked_bytes,
            inodes: self.limits().unpacked_entries,
        }
    }

    /// Builds the run specification with the settings that all tools share.
    pub(crate) fn run_spec(
        &self,
        view: RunView,
        program: Program,
        work: WorkDirectory,
        tool_sandbox: &ToolSandbox,
        timeout: Duration,
    ) -> RunSpec {
        let limits = self.limits();
        let tmp_bytes = u64::from(limits.tmp_mb) << 20;
        RunSpec {
            virga: std::process::id(),
            view,
            program,
            uid: self.own_user(&tool_sandbox.identity),
            work,
            cgroups: tool_sandbox.cgroups(),
            tmp_bytes,
            tmp_inodes: limits.unpacked_entries,
            address_bytes: (!self.isolated()).then_some(ADDRESS_SPACE),
            open_files: limits.open_files.into(),
            processes: limits.pids.into(),
            seconds: u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).max(1),
        }
    }

    /// Runs a tool until it ends. If it writes to a directory of the host, it is ended once that exceeds its limits.
    async fn run_bounded(
        &self,
        spec: &RunSpec,
        tool_sandbox: ToolSandbox,
        host: Option<&StagingDirectory>,
    ) -> Result<ToolExit, PackageError> {
        let running = RunningTool::start(self, spec, tool_sandbox).await;
        let running = running.map_err(PackageError::io("start a build"))?;
        let too_large = async {
            match host {
                Some(host) => wait_until_too_large(host.path().to_owned(), spec.work.bounds).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = running.wait() => ended.map_err(PackageError::io("run a build")),
            refused = too_large => Err(refused),
        }
    }

    /// Returns the tool's output, or the reason why it failed.
    fn tool_output(
        &self,
        tool: &str,
        installer: &dyn Installer,
        spec: &RunSpec,
        ended: ToolExit,
    ) -> Result<String, PackageError> {
        if ended.status.success() {
            return Ok(ended.log);
        }
        let log = &ended.log;
        let limits = self.limits();
        let why = match ended.failure() {
            Some(RunFailure::Timeout) => {
                format!("{tool} ran for over {} s, which is the limit", spec.seconds)
            }
            Some(RunFailure::Refused) => {
                "the package with its dependencies is not allowed".to_owned()
            }
            Some(RunFailure::Fault) => {
                return Err(PackageError::Io {
                    step: "run a build",
                    source: io::Error::other(ended.log),
                });
            }
            None if ended.out_of_memory => format!(
                "{tool} ran out of memory; a build may have {} MB, the files that it writes included",
                ended.memory_bytes >> 20
            ),
            None if log.contains("No space left on device") => format!(
                "{tool} failed; with its dependencies the package may have {} MB in {} files, directories and links",
                limits.unpacked_bytes >> 20,
                limits.unpacked_entries
            ),
            None => match installer.advice(log) {
                Some(advice) => format!("{tool} failed ({}); {advice}", ended.status),
                None => format!("{tool} failed ({})", ended.status),
            },
        };
        Err(PackageError::Refused(format!("{why}\n{log}")))
    }

    fn install_view(
        &self,
        identity: &InstanceIdentity,
        interpreter: &Interpreter,
        settings: &InstallSettings,
    ) -> RunView {
        let read: Vec<&Path> = settings.directories.iter().map(PathBuf::as_path).collect();
        if !self.isolated() {
            // pip reports the operating system to an index, and fails if it cannot read these files.
            let system = ["/etc/debian_version", "/etc/os-release"].map(Path::new);
            return RunView::Host(self.readable(&[interpreter], &[&read[..], &system].concat()));
        }
        let (network, names) = match (identity.network(), settings.host_network) {
            (Some(namespace), _) => (
                RunNetwork::Namespace(namespace_path(namespace)),
                self.names(),
            ),
            (None, true) => (RunNetwork::Host, Names::AsHost),
            (None, false) => (RunNetwork::Nothing, Names::Nowhere),
        };
        let binds = read.iter().map(|path| root::read_only(path, path));
        let directory = self.root_directory();
        let root = root::of(&[interpreter], directory, binds.collect(), names);
        RunView::Own(root, network)
    }
}

/// Returns an error once a directory exceeds its limits; otherwise waits forever.
async fn wait_until_too_large(directory: PathBuf, bounds: TreeBounds) -> PackageError {
    loop {
        tokio::time::sleep(SIZE_CHECK_INTERVAL).await;
        let path = directory.clone();
        let measured = blocking(move || {
            let opened = Directory::open(&path).map_err(PackageError::io("measure a tree"))?;
            opened.measure(bounds).map_err(PackageError::tree)
        });
        match measured.await {
            Ok(size) if size.bytes <= bounds.bytes && size.inodes <= bounds.inodes => {}
            Ok(_) => {
                return PackageError::Refused(format!(
                    "the package with its dependencies is too large; up to {} MB in {} files, directories and links are allowed",
                    bounds.bytes >> 20,
                    bounds.inodes
                ));
            }
            Err(e) => return e,
        }
    }
}

/// Returns a path under which child processes can open a namespace that virga holds open.
fn namespace_path(namespace: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()).into()
}

/// A staging directory. Dropping it removes it, unless it was moved.
#[derive(Debug)]
pub(crate) struct StagingDirectory(PathBuf);

impl StagingDirectory {
    pub(crate) fn make(store: &PackageStore) -> Result<Self, PackageError> {
        store.make_staging_directory().map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StagingDirectory {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        let remove = move || {
            let _ = fs::remove_dir_all(path);
        };
        // Without a runtime the directory is removed at the next start.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(remove);
        }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, PackageError> {
    tokio::task::spawn_blocking(run).await.unwrap_or_else(|e| {
        Err(PackageError::Io {
            step: "wait for the disk",
            source: io::Error::other(e),
        })
    })
}
