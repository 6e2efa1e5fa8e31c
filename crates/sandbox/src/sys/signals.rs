//! Signals.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::ptr;

use super::check::{check, owned};

/// Blocks a signal and returns a descriptor that is readable when it arrives.
pub(crate) fn signal_descriptor(signal: c_int) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero sigset is valid for `sigemptyset`, and lives through all three calls.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            ptr::null_mut(),
        ))?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        check(libc::signalfd(-1, &raw const set, flags)).map(owned)
    }
}

/// Sets a signal's action to default or ignore.
pub(crate) fn signal_action(signal: c_int, ignore: bool) {
    let action = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither action is a function of ours.
    unsafe { libc::signal(signal, action) };
}

/// Resets all signals to their default action and unblocks them.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            signal_action(signal, false);
        }
    }
    unblock_signals();
}

/// Unblocks all signals.
pub(crate) fn unblock_signals() {
    // SAFETY: an all-zero sigset is what sigemptyset makes, and is valid for the call.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}
