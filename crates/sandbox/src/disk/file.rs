//! Files without a name, each the content of a disk.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

/// Opens a directory.
pub(super) fn open(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}

/// Makes an unnamed file.
pub(super) fn unnamed_file(directory: &OwnedFd) -> io::Result<File> {
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
    match rustix::fs::openat(directory, ".", flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {}
        Err(e) => return Err(e.into()),
    }
    let name = "new";
    let fresh = flags | OFlags::CREATE | OFlags::EXCL;
    let file = rustix::fs::openat(directory, name, fresh, mode)?;
    rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    Ok(file.into())
}
