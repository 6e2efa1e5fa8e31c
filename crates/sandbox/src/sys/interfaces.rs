//! Network interfaces of this network namespace.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use super::check::{check, owned};

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let mut request = interface("lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    configure(libc::SIOCSIFFLAGS, &request)
}

fn interface(name: &str) -> libc::ifreq {
    // SAFETY: zero is a valid value of every field of this plain C struct.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn configure(what: libc::Ioctl, request: &libc::ifreq) -> io::Result<()> {
    // SAFETY: takes no memory.
    let socket = owned(check(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    })?);
    // SAFETY: the request reads a live `ifreq`.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw const *request) }).map(drop)
}
