//! Doing things in another network namespace, on a thread that ends with them.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::{Result, Step, sys};

/// Makes a namespace and does something in it.
pub(super) fn make<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<(OwnedFd, T)> {
    on_thread(|| {
        sys::unshare(libc::CLONE_NEWNET).step("new network namespace")?;
        let namespace = current()?;
        Ok((namespace, run()?))
    })
}

/// Does something in a namespace.
pub(super) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    run: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    on_thread(|| {
        sys::setns(namespace, libc::CLONE_NEWNET).step("enter a network namespace")?;
        run()
    })
}

/// The namespace that this thread is in.
pub(super) fn current() -> Result<OwnedFd> {
    let file = File::open("/proc/thread-self/ns/net").step("open a network namespace")?;
    Ok(file.into())
}

/// A thread of its own, so that none ever goes on in a namespace where it does not belong.
fn on_thread<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let lost = |_| Err(io::Error::other("its thread ended")).step("network namespace");
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(lost))
}
