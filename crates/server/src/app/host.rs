//! Requirements on the host: its isolation features, a data directory of virga's own, open files, and signals.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use sandbox::Isolation;
use sandbox::user::Privileges;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use super::error::StartError;
use crate::config::{Config, NetworkReach};

/// Logged at each start without full isolation.
const ISOLATION_WARNING: &str = "--isolation=process: functions are processes of this host, with its network and virga's own user, \
    and without limits on processors or, but for each process' own data, memory; run no code here that you do not trust";

/// Checks the host, so that isolation never degrades silently. Returns a summary of the findings for the log.
pub(super) fn check(
    config: &Config,
    privileges: &Result<Privileges, String>,
) -> Result<String, StartError> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let networked = config.sandbox.isolation == Isolation::Full;
    let network = (networked && config.sandbox.network != NetworkReach::Nothing)
        .then(sandbox::probe::network);
    let outbound = (networked && config.sandbox.network == NetworkReach::Outbound)
        .then(|| sandbox::probe::outbound(privileges.as_ref().ok()?))
        .flatten();
    let checks = match config.sandbox.isolation {
        Isolation::Full => sandbox::probe::host(privileges),
        Isolation::Process => sandbox::probe::process(),
    };
    for check in checks.into_iter().chain(network).chain(outbound) {
        match check.result {
            Ok(what) => found.push(what),
            Err(why) => missing.push(format!("  {}: {why}", check.name)),
        }
    }
    if !missing.is_empty() {
        return Err(StartError::Host(missing.join("\n")));
    }
    if config.sandbox.isolation == Isolation::Process {
        warn!("{ISOLATION_WARNING}");
    }
    Ok(found.join("; "))
}

/// Creates the data directory and locks it. The lock is held until the file is closed.
pub(super) fn lock_data_directory(data: &Path) -> Result<File, StartError> {
    let path = data.display().to_string();
    let failed = |source| StartError::Data {
        path: path.clone(),
        source,
    };
    // Functions' settings contain their users' secrets.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(failed)?;
    let lock = File::options()
        .create(true)
        .append(true)
        .open(data.join("lock"))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            restrict_permissions(data).map_err(failed)?;
            Ok(lock)
        }
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::InUse(path)),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes other users' permissions on the data directory: it contains packages, logs and events.
fn restrict_permissions(data: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(data)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let closed = mode & 0o700;
        std::fs::set_permissions(data, Permissions::from_mode(closed))?;
        let (data, mode) = (data.display(), format!("{mode:04o}"));
        warn!(%data, was = mode, "the data directory was open to other users; their permissions were removed");
    }
    Ok(())
}

/// Raises the limit on open files of this process and returns it.
pub(super) fn open_files() -> u64 {
    sandbox::raise_open_files(1 << 20).unwrap_or(1024)
}

/// Returns the number of instances for which this process can hold open files.
pub(super) fn max_instances_by_open_files() -> u32 {
    /// Per instance: three pipes, two control group files, two for its disk, and one pidfd.
    const FILES_PER_INSTANCE: u64 = 8;
    /// For connections, packages and stores.
    const RESERVED_FILES: u64 = 16_384;
    let files = open_files();
    let instances = files.saturating_sub(RESERVED_FILES.min(files / 2)) / FILES_PER_INSTANCE;
    u32::try_from(instances).unwrap_or(u32::MAX)
}

/// The signals that stop virga.
pub(super) struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the first signal since [`Signals::install`].
    pub(super) async fn wait(mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
