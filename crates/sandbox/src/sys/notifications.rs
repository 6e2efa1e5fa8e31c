//! System calls that a filter reports to another process, which decides about them.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use super::check::{check, check_long, owned};

/// Decision about a system call reported by seccomp.
pub(crate) enum Decision {
    /// It continues.
    Go,
    /// It fails with this error.
    Refuse(c_int),
}

/// Installs a filter on this process and its children that asks the holder of the returned descriptor before each
/// netlink socket is made. Without a holder the call is refused.
pub(crate) fn notify_netlink_sockets() -> io::Result<OwnedFd> {
    #[cfg(target_arch = "x86_64")]
    const ARCHITECTURE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCHITECTURE: u32 = 0xc000_00b7;
    // Offsets in `seccomp_data`: the call, the architecture, the lower half of the first argument.
    let load = |offset| {
        filter(
            (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
            0,
            0,
            offset,
        )
    };
    let unless = |value, skipped| {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        filter(code, 0, skipped, value)
    };
    let end = |verdict| filter((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, verdict);
    let mut program = [
        load(4),
        unless(ARCHITECTURE, 5),
        load(0),
        unless(libc::SYS_socket as u32, 3),
        load(if cfg!(target_endian = "little") {
            16
        } else {
            20
        }),
        unless(libc::AF_NETLINK as u32, 1),
        end(libc::SECCOMP_RET_USER_NOTIF),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions live through the call, which copies them.
    let fd = check_long(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    })?;
    Ok(owned(fd))
}

fn filter(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Waits for the next reported system call. Returns its notification id.
pub(crate) fn next_notification(asked: &OwnedFd) -> io::Result<u64> {
    loop {
        // SAFETY: zero is a valid value of every field, and the one that the kernel requires here.
        let mut question: libc::seccomp_notif = unsafe { mem::zeroed() };
        // SAFETY: the request is of the type that this control takes, and lives through the call.
        let received = check(unsafe {
            libc::ioctl(
                asked.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut question,
            )
        });
        match received {
            Ok(_) => return Ok(question.id),
            // The caller has ended, or a signal arrived.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Sends the decision about a reported system call.
pub(crate) fn send_decision(asked: &OwnedFd, id: u64, answer: Decision) -> io::Result<()> {
    let (error, flags) = match answer {
        Decision::Go => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Decision::Refuse(error) => (-error, 0),
    };
    let mut reply = libc::seccomp_notif_resp {
        id,
        val: 0,
        error,
        flags,
    };
    // SAFETY: the reply is of the type that this control takes, and lives through the call.
    let sent = check(unsafe {
        libc::ioctl(
            asked.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut reply,
        )
    });
    match sent {
        // The caller has ended meanwhile.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        sent => sent.map(drop),
    }
}
