//! Runs code in another network namespace, on a thread that ends with it.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::{Result, Step, sys};

/// Makes a namespace and runs a closure in it.
pub(super) fn make<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<(OwnedFd, T)> {
    on_thread(|| {
        sys::unshare(libc::CLONE_NEWNET).step("new network namespace")?;
        let namespace = current()?;
        Ok((namespace, run()?))
    })
}

/// Runs a closure in a namespace.
pub(super) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    run: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    on_thread(|| {
        sys::setns(namespace, libc::CLONE_NEWNET).step("enter a network namespace")?;
        run()
    })
}

/// Returns the namespace of this thread.
pub(super) fn current() -> Result<OwnedFd> {
    let file = File::open("/proc/thread-self/ns/net").step("open a network namespace")?;
    Ok(file.into())
}

/// Runs a closure on a thread of its own, so that no other thread stays in a foreign namespace.
fn on_thread<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let lost = |_| Err(io::Error::other("its thread ended")).step("network namespace");
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(lost))
}
