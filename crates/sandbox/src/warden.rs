//! The warden: a small process next to virga that cleans up after a virga that was killed.
//!
//! When virga ends, the kernel kills its zygotes and all instances. Under cgroup v1, however, a frozen process dies
//! only after it is thawed, and nobody would be left to thaw it. The warden notices the end of virga by the end of its
//! standard input, whatever the cause. It then kills all processes in virga's control groups and removes the groups,
//! unless another virga owns them by then.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::launch::SPEC_MAX;
use crate::{Result, Step, cgroup, sys};

/// The hidden subcommand that becomes a warden.
pub const WARDEN: &str = "__warden";

/// How long a warden waits until the kernel has released the locks of an ended virga.
const LET_GO: Duration = Duration::from_secs(10);

/// Proves that control groups still belong to the same virga.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CgroupClaim {
    /// Lock file for reading and changing claims.
    pub registry: PathBuf,
    /// File that virga locks while it runs. Removed on orderly shutdown.
    pub file: PathBuf,
}

/// Task of a warden.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WardenTask {
    groups: Vec<PathBuf>,
    claim: CgroupClaim,
}

/// Starts a warden for virga's control groups. `virga` is the path of virga's own binary. The warden watches while the
/// child's standard input is open.
///
/// # Errors
/// The step that failed.
pub fn start(virga: &Path, groups: &[PathBuf], claim: &CgroupClaim) -> Result<Child> {
    let post = WardenTask {
        groups: groups.to_vec(),
        claim: claim.clone(),
    };
    let mut line = serde_json::to_vec(&post)
        .map_err(io::Error::other)
        .step("write the warden's task")?;
    line.push(b'\n');
    let mut child = Command::new(virga)
        .arg(WARDEN)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .step("start the warden")?;
    let told = child.stdin.as_mut().map(|input| input.write_all(&line));
    told.transpose().step("send the warden its task")?;
    Ok(child)
}

/// Runs the warden: waits for the end of virga, then cleans up.
///
/// # Errors
/// The step that failed.
pub fn run() -> Result<()> {
    // 1. A session of its own, so that signals to virga's process group, terminal or service do not end it first.
    sys::new_session();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        sys::signal_action(signal, true);
    }
    sys::close_from(3).step("close descriptors")?;
    // 2. The task.
    let mut input = io::stdin().lock();
    let mut line = String::new();
    (&mut input)
        .take(SPEC_MAX as u64)
        .read_line(&mut line)
        .step("receive the task")?;
    let WardenTask { groups, claim } = serde_json::from_str(&line)
        .map_err(io::Error::other)
        .step("read the task")?;
    let number = number_of(&claim.file).step("stat the claim")?;
    // 3. The end of virga.
    io::copy(&mut input, &mut io::sink()).step("wait for virga")?;
    // 4. The kernel may close virga's last files a moment after the first.
    let until = Instant::now() + LET_GO;
    while Instant::now() < until {
        let registry = File::open(&claim.registry).step("open the claims")?;
        registry.lock().step("lock the claims")?;
        // An orderly shutdown removes the claim. Another virga's claim is another file.
        if number_of(&claim.file).ok() != Some(number) {
            return Ok(());
        }
        let file = File::open(&claim.file).step("open the claim")?;
        if file.try_lock().is_ok() {
            // The registry lock keeps others from claiming the name before this is done.
            cgroup::end(&groups)?;
            return fs::remove_file(&claim.file).step("remove the claim");
        }
        drop(registry);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn number_of(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|file| file.ino())
}
