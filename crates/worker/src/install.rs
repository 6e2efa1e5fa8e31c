//! Installing what a package's `requirements.txt` asks for, as its publisher wishes, in a sandbox.
//!
//! Building a dependency runs code of strangers, so pip gets no more than an instance: a user of its own, a
//! read-only root, limits, and the network that functions have, unless the operator lends it the host's.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{chown, lchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use model::Sha256;
use sandbox::launch::{Program, RunNetwork, RunSpec, View};
use sandbox::{Bind, Names};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::identity::Identity;
use crate::package::{self, PackageError, PackageStore};
use crate::{Interpreter, Worker, python, tool};

/// Where the code shows inside.
const CODE: &str = "/var/user";
/// The authorities that the host trusts, by which an index of the operator's may be certified. pip brings its own.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Longest wait of pip's for the next bytes, seconds. The whole run is bounded besides.
const PIP_TIMEOUT: &str = "60";
/// How often the size of what was installed is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of pip's output that are kept: its end says what came of it.
const LOG_KEPT: usize = 16 << 10;

/// How dependencies are installed.
#[derive(Clone, Debug)]
pub struct InstallSettings {
    /// Longest run.
    pub timeout: Duration,
    /// The index that packages come from; pip's own where there is none.
    pub index: Option<String>,
    /// Directories of the host in which pip finds packages, and which it may read.
    pub directories: Vec<PathBuf>,
    /// Whether pip has the host's own network, and all that it reaches, instead of functions'.
    pub host_network: bool,
}

/// A tree with its dependencies, and what pip said.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The tree.
    pub tree: Sha256,
    /// The end of pip's output.
    pub log: String,
}

impl Worker {
    /// Installs a package's dependencies next to its code. Without a `requirements.txt` there is nothing to do, and
    /// the tree is the package's own.
    ///
    /// # Errors
    /// [`PackageError::Refused`] with pip's output when it fails.
    pub async fn install(
        &self,
        store: &PackageStore,
        package: &Sha256,
        interpreter: &Interpreter,
        settings: &InstallSettings,
    ) -> Result<Installed, PackageError> {
        let source = store.tree(package);
        if !source.join("requirements.txt").is_file() {
            let log = "the package has no requirements.txt; nothing was installed".to_owned();
            return Ok(Installed {
                tree: package.clone(),
                log,
            });
        }
        // It goes back when nothing of it is left: after the tree is another's, or gone.
        let identity = self
            .identity(!settings.host_network)
            .map_err(io::Error::other);
        let identity = identity.map_err(PackageError::io("take a user"))?;
        let aside = store.make_aside()?;
        let result = self
            .install_into(&aside, &source, &identity, interpreter, settings)
            .await;
        let adopted = match result {
            Ok(log) => blocking({
                let (store, aside) = (store.clone(), aside.clone());
                move || {
                    give_to(&aside, sandbox::user::is_root().then_some(0))
                        .map_err(PackageError::io("take over the tree"))?;
                    store.adopt(&aside)
                }
            })
            .await
            .map(|tree| Installed { tree, log }),
            Err(e) => Err(e),
        };
        adopted.inspect_err(|_| {
            let _ = fs::remove_dir_all(&aside);
        })
    }

    async fn install_into(
        &self,
        aside: &Path,
        source: &Path,
        identity: &Identity,
        interpreter: &Interpreter,
        settings: &InstallSettings,
    ) -> Result<String, PackageError> {
        let owner = self.own_user(identity);
        blocking({
            let (from, to) = (source.to_owned(), aside.to_owned());
            move || {
                let copied = package::copy(&from, &to).and_then(|()| give_to(&to, owner));
                copied.map_err(PackageError::io("copy the package"))
            }
        })
        .await?;
        let user = self.own_user(identity);
        let (network, names) = match (identity.network(), settings.host_network) {
            (Some(namespace), _) => (RunNetwork::Namespace(reachable(namespace)), self.names()),
            (None, true) => (RunNetwork::Host, Names::AsHost),
            (None, false) => (RunNetwork::Nothing, Names::Nowhere),
        };
        let mut spec = self.run_spec(aside, user, interpreter, settings);
        if let View::Own(root, its) = &mut spec.view {
            (root.names, *its) = (names, network);
        }
        let limit = self.limits().unpacked_bytes;
        run_pip(self.virga(), &spec, aside, limit).await
    }

    fn run_spec(
        &self,
        aside: &Path,
        user: Option<u32>,
        interpreter: &Interpreter,
        settings: &InstallSettings,
    ) -> RunSpec {
        let read: Vec<&Path> = settings.directories.iter().map(PathBuf::as_path).collect();
        let (code, tmp, view) = if self.isolated() {
            let mut binds = vec![Bind {
                source: aside.to_owned(),
                target: CODE.into(),
                writable: true,
            }];
            binds.extend(read.iter().map(|path| python::read_only(path, path)));
            let root = python::root(&[interpreter], self.root_directory(), binds, Names::Nowhere);
            let view = View::Own(root, RunNetwork::Nothing);
            (CODE.to_owned(), "/tmp".to_owned(), view)
        } else {
            let own = aside.to_string_lossy().into_owned();
            let view = View::Host(self.readable(&[interpreter], &read));
            (own.clone(), own, view)
        };
        let list = format!("{code}/requirements.txt");
        let program = interpreter.program.to_string_lossy();
        let mut args = vec![
            program.as_ref(),
            "-m",
            "pip",
            "install",
            "--no-input",
            "--no-cache-dir",
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
        }
        let directories: Vec<_> = settings
            .directories
            .iter()
            .map(|path| path.to_string_lossy())
            .collect();
        for directory in &directories {
            args.extend(["--find-links", directory]);
        }
        // Nothing of virga's own environment: what the operator has told pip there may be a secret.
        let env = [
            "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
            format!("HOME={tmp}"),
            "LANG=C.UTF-8".to_owned(),
            format!("TMPDIR={tmp}"),
            // No file is read for pip's settings, either.
            "PIP_CONFIG_FILE=/dev/null".to_owned(),
        ];
        RunSpec {
            view,
            program: Program {
                args: args.into_iter().map(str::to_owned).collect(),
                env: env.to_vec(),
            },
            directory: code.into(),
            uid: user,
            tmp_bytes: u64::from(self.limits().tmp_mb) << 20,
            memory_bytes: 4 << 30,
            file_bytes: self.limits().unpacked_bytes,
            seconds: u32::try_from(settings.timeout.as_secs())
                .unwrap_or(u32::MAX)
                .max(1),
        }
    }
}

/// Runs pip to its end and gives its output. Ends it when the tree grows over the limit.
async fn run_pip(
    virga: &Path,
    spec: &RunSpec,
    tree: &Path,
    limit: u64,
) -> Result<String, PackageError> {
    let mut child = tool::start(virga, spec, Stdio::piped)
        .await
        .map_err(PackageError::io("run pip"))?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let reading = async { tokio::join!(end_of(output), end_of(errors)) };
    tokio::pin!(reading);
    let (output, errors) = loop {
        tokio::select! {
            texts = &mut reading => break texts,
            () = tokio::time::sleep(LOOK) => {
                let path = tree.to_owned();
                let size = blocking(move || package::size(&path).map_err(PackageError::io("measure a tree"))).await?;
                if size.bytes > limit {
                    let message = format!("with its dependencies the package is over {} MB, which is the limit", limit >> 20);
                    return Err(PackageError::Refused(message));
                }
            }
        }
    };
    let status = child.wait().await.map_err(PackageError::io("run pip"))?;
    let log = [output, errors].concat();
    if status.success() {
        return Ok(log);
    }
    let hint = if errors_of_missing_pip(&log) {
        "; this interpreter has no pip: install it on the host (apt install python3-pip)"
    } else {
        ""
    };
    Err(PackageError::Refused(format!(
        "pip failed ({status}){hint}\n{log}"
    )))
}

/// A path by which a child of virga can open what virga holds open.
fn reachable(namespace: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()).into()
}

fn errors_of_missing_pip(log: &str) -> bool {
    log.contains("No module named pip")
}

/// The end of what comes, as text.
async fn end_of(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    if let Some(mut stream) = stream {
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..length]);
            if kept.len() > 2 * LOG_KEPT {
                kept.drain(..kept.len() - LOG_KEPT);
            }
        }
    }
    let from = kept.len().saturating_sub(LOG_KEPT);
    String::from_utf8_lossy(&kept[from..]).into_owned()
}

/// Makes a tree a user's; without one it stays virga's own.
fn give_to(root: &Path, user: Option<u32>) -> std::io::Result<()> {
    chown(root, user, user)?;
    for path in package::walk(root)? {
        lchown(root.join(path), user, user)?;
    }
    Ok(())
}

pub(crate) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, PackageError> {
    tokio::task::spawn_blocking(run).await.unwrap_or_else(|e| {
        Err(PackageError::Io {
            step: "wait for the disk",
            source: std::io::Error::other(e),
        })
    })
}
