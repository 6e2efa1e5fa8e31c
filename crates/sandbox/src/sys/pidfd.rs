//! Processes by descriptor.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use super::check::{check_long, owned};

/// A handle on a process that is safe against reuse of its pid.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    pub(crate) fn open(pid: libc::pid_t) -> io::Result<Self> {
        // SAFETY: takes no memory.
        check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(|fd| Self(owned(fd)))
    }

    /// Opens this process, whichever pid namespace it is in.
    pub(crate) fn of_this() -> io::Result<Self> {
        // SAFETY: takes no memory and cannot fail.
        Self::open(unsafe { libc::getpid() })
    }

    /// Returns the peak resident memory of a running process, bytes.
    pub fn resident_peak(&self) -> Option<u64> {
        let number = |path: &str, field: &str| -> Option<u64> {
            let text = std::fs::read_to_string(path).ok()?;
            let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let pid = number(&format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()), "Pid:")?;
        number(&format!("/proc/{pid}/status"), "VmHWM:").map(|kb| kb << 10)
    }

    /// Kills the process. It is no error if it has ended already.
    ///
    /// # Errors
    /// The system's error.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Sends the process SIGTERM. It is no error if it has ended already.
    ///
    /// # Errors
    /// The system's error.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(libc::SIGTERM)
    }

    fn signal(&self, signal: c_int) -> io::Result<()> {
        // SAFETY: no signal information is passed, so no memory is read.
        let sent = check_long(unsafe {
            let info: *const libc::siginfo_t = ptr::null();
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                info,
                0,
            )
        });
        match sent {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
            _ => Ok(()),
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Pidfd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}
