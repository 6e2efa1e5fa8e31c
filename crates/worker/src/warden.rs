//! Keeps the warden running for as long as virga runs.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use sandbox::cgroup::CgroupTree;
use sandbox::warden::{self, CgroupClaim};
use tracing::warn;

use crate::Error;

/// Delay before an ended warden is restarted.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Starts the warden, and a thread that restarts it whenever it ends. It is never stopped: it waits for the end of
/// virga.
pub(crate) fn supervise(virga: &Path, tree: &CgroupTree, claim: CgroupClaim) -> Result<(), Error> {
    let (virga, groups) = (virga.to_owned(), tree.directories().to_vec());
    let first = warden::start(&virga, &groups, &claim)?;
    std::thread::Builder::new()
        .name("warden".into())
        .spawn(move || restart_on_exit(first, &virga, &groups, &claim))
        .map_err(Error::io("start the warden's thread"))?;
    Ok(())
}

fn restart_on_exit(mut child: Child, virga: &Path, groups: &[PathBuf], claim: &CgroupClaim) {
    loop {
        // The standard library closes its end of the input before it waits; the warden would take that for virga's end.
        let input = child.stdin.take();
        let ended = child.wait();
        drop(input);
        warn!(?ended, "the warden has ended; restarting it");
        child = restart(virga, groups, claim);
    }
}

fn restart(virga: &Path, groups: &[PathBuf], claim: &CgroupClaim) -> Child {
    loop {
        std::thread::sleep(RETRY_DELAY);
        match warden::start(virga, groups, claim) {
            Ok(child) => return child,
            Err(error) => warn!(%error, "failed to start the warden; retrying"),
        }
    }
}
