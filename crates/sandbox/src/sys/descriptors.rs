//! Descriptors: numbers, pipes, and whether they are readable.

use std::ffi::{c_int, c_uint};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Instant;

use super::check::{check, check_long, owned};

/// Duplicates a descriptor to a fixed number, without close-on-exec.
pub(crate) fn dup_to(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: takes no memory. A descriptor open at `to` is closed, as the callers intend.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }).map(drop)
}

/// Sets or clears close-on-exec.
pub(crate) fn set_close_on_exec(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: takes no memory.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) }).map(drop)
}

/// Moves a descriptor to a fixed number and marks it close-on-exec.
pub(crate) fn place(fd: OwnedFd, to: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == to {
        // It stays open at that number.
        let _ = fd.into_raw_fd();
    } else {
        dup_to(fd.as_fd(), to)?;
    }
    set_close_on_exec(borrow(to), true)
}

/// Takes ownership of a descriptor that the caller has placed at a number.
pub(crate) fn placed(fd: RawFd) -> OwnedFd {
    // SAFETY: it is open, and nothing else owns it: the caller has put it there.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Borrows a descriptor by its number.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: used for the fixed numbers that the launcher sets up and that stay open for good.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Closes one of the fixed descriptors.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: nothing owns the fixed numbers.
    unsafe { libc::close(fd) };
}

/// Closes all descriptors from `first` on.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the callers hold no object that owns a descriptor at or above `first`.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, c_uint::MAX, 0) })
        .map(drop)
}

/// Makes a pipe with both ends close-on-exec: (read, write).
///
/// # Errors
/// The system's error, for example because no descriptor is free.
pub fn close_on_exec_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` holds two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((owned(fds[0]), owned(fds[1])))
}

/// Reads from a non-blocking descriptor, regardless of readiness cached by a reactor.
///
/// # Errors
/// `WouldBlock` if there is no data; otherwise the system's error.
pub fn read_now(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one live slice.
    let read = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Returns whether a read would not block: there is data, or the other end is closed.
pub fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live `pollfd` is passed, and its count.
    unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
}

/// Waits until one of two descriptors is readable or closed at its other end. Returns which.
pub(crate) fn wait_for_either(fds: [BorrowedFd<'_>; 2]) -> io::Result<[bool; 2]> {
    let mut polls = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        // SAFETY: the array lives through the call and its true length is passed.
        match check(unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) }) {
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            other => return other.map(|_| polls.map(|poll| poll.revents != 0)),
        }
    }
}

/// Waits as [`wait_for_either`] does, and returns `None` at a timeout.
pub(crate) fn wait_for_either_until(
    fds: [BorrowedFd<'_>; 2],
    until: Instant,
) -> io::Result<Option<[bool; 2]>> {
    let mut polls = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = c_int::try_from(left.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the array lives through the call and its true length is passed.
        match check(unsafe { libc::poll(polls.as_mut_ptr(), 2, left) }) {
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            Ok(0) => return Ok(None),
            other => return other.map(|_| Some(polls.map(|poll| poll.revents != 0))),
        }
    }
}

/// Reads everything from a non-blocking descriptor.
pub(crate) fn drain(fd: BorrowedFd<'_>) {
    let mut bytes = [0; 1024];
    while read_now(fd, &mut bytes).is_ok_and(|read| read > 0) {}
}

/// Makes an in-memory file with this content, positioned at its start.
pub(crate) fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends in a NUL.
    let fd = check(unsafe { libc::memfd_create(c"configuration".as_ptr(), libc::MFD_CLOEXEC) })?;
    let mut file = std::fs::File::from(owned(fd));
    io::Write::write_all(&mut file, content)?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

/// Makes a start mark (see [`crate::wire`]): a zeroed file in memory whose size is fixed, so that a guest cannot use it
/// to hold memory.
///
/// # Errors
/// The system's error, for example because no descriptor is free.
pub fn start_mark() -> io::Result<std::fs::File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mark = memfd_create(c"start mark", flags)?;
    ftruncate(&mark, crate::wire::MARK as u64)?;
    fcntl_add_seals(&mark, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(mark.into())
}

/// Allows processes of any user that hold a pipe to reopen it by `/proc/self/fd`, as programs do with `/dev/stdout`.
/// Nobody else has a path to it.
pub(crate) fn let_reopen(pipe: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fchmod(
        pipe,
        rustix::fs::Mode::from_raw_mode(0o666),
    )?)
}
