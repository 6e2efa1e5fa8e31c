//! The warden: a small process beside virga that ends what a virga leaves that was killed.
//!
//! The end of virga is the end of its zygotes, and theirs that of every instance, by the kernel's own means. Under control groups of
//! version 1 a frozen process does not die before it is thawed, and nobody would be left to do that. The warden knows of virga's end
//! by the end of its standard input, however that came, and then ends all in virga's control groups and removes them. It leaves them
//! alone where another virga has them by then.

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

/// For how long a warden waits until the kernel has let go of what a virga held that has ended.
const LET_GO: Duration = Duration::from_secs(10);

/// How a warden knows whether virga's control groups are still that virga's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CgroupClaim {
    /// Locked by whoever looks at claims, or changes them.
    pub registry: PathBuf,
    /// Locked by virga while it lives. Gone where there is nothing to do.
    pub file: PathBuf,
}

/// What a warden is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WardenTask {
    groups: Vec<PathBuf>,
    claim: CgroupClaim,
}

/// Starts a warden for virga's control groups. `virga` is virga's own binary. It watches for as long as the child's standard input
/// is open.
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
    told.transpose().step("tell the warden its task")?;
    Ok(child)
}

/// Watches, and does what is to be done at the end.
///
/// # Errors
/// The step that failed.
pub fn run() -> Result<()> {
    // 1. Whoever ends virga by its group, its terminal or its service ends it first.
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
    let number = number_of(&claim.file).step("look at the claim")?;
    // 3. The end of virga.
    io::copy(&mut input, &mut io::sink()).step("wait for virga")?;
    // 4. Its last files are closed a moment later than the first ones.
    let until = Instant::now() + LET_GO;
    while Instant::now() < until {
        let registry = File::open(&claim.registry).step("open the claims")?;
        registry.lock().step("lock the claims")?;
        // An orderly end leaves no claim. One that another has made lies in another file.
        if number_of(&claim.file).ok() != Some(number) {
            return Ok(());
        }
        let file = File::open(&claim.file).step("open the claim")?;
        if file.try_lock().is_ok() {
            // Nobody takes the name before this is done.
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
