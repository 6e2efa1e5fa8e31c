//! Namespaces, and what a process sets in its own.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check::check;

/// Moves this process into new namespaces.
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Joins the namespace behind a descriptor.
pub(crate) fn setns(fd: BorrowedFd<'_>, kind: c_int) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::setns(fd.as_raw_fd(), kind) }).map(drop)
}

/// Changes to the directory behind a descriptor.
pub(crate) fn change_directory(directory: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::fchdir(directory.as_raw_fd()) }).map(drop)
}

/// Sets the host name of this UTS namespace.
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one live slice.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}
