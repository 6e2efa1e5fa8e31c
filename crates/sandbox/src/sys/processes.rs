//! Forks, programs, and the ends of processes.

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::ptr;

use super::check::check;
use super::signals::signal_action;

/// The side of a fork.
pub(crate) enum Fork {
    Parent(libc::pid_t),
    Child,
}

/// Forks. The caller must be single-threaded.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: every caller is single-threaded (the launcher and the zygote are, by construction), so the
    // child may use everything that the parent could.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Executes a program. Returns only on failure.
pub(crate) fn exec(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        let mut pointers: Vec<_> = list.iter().map(|text| text.as_ptr()).collect();
        pointers.push(ptr::null());
        pointers
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end in a null pointer and their strings live in the callers' slices.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Exits at once, without running exit handlers of the interpreter it was forked from.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: takes no memory and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends this process by a signal with its default action.
pub(crate) fn end_by(signal: c_int) -> ! {
    // SAFETY: takes no memory. The default action replaces whatever a library has put there.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    exit_now(128 + signal)
}

/// Waits for any child. Returns its pid and wait status, or `None` if there are no children.
pub(crate) fn wait_any() -> io::Result<Option<(libc::pid_t, c_int)>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for writing.
        match check(unsafe { libc::waitpid(-1, &raw mut status, 0) }) {
            Ok(pid) => return Ok(Some((pid, status))),
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Reaps an exited child without waiting. Returns its pid and wait status.
pub(crate) fn reap_any() -> io::Result<Option<(libc::pid_t, c_int)>> {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    match check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some((pid, status))),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes this process the subreaper of its descendants.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Kills and reaps all children, including orphans that are reparented meanwhile.
pub(crate) fn end_children() {
    loop {
        let listed = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for child in listed.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // SAFETY: takes no memory. A child's number is not another's before it is waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        match wait_any() {
            Ok(Some(_)) => {}
            _ => return,
        }
    }
}

/// Kills all remaining processes of a process group.
pub(crate) fn kill_group(leader: libc::pid_t) {
    // SAFETY: takes no memory. There may be nobody left.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

/// Sleeps until it is killed. The kernel reaps orphans of this process.
pub(crate) fn wait_for_the_end() -> ! {
    signal_action(libc::SIGCHLD, true);
    loop {
        // SAFETY: takes no memory.
        unsafe { libc::pause() };
    }
}

/// Asks the kernel to kill this process when its parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Starts a new session, with a process group and without a controlling terminal.
pub(crate) fn new_session() {
    // SAFETY: takes no memory. It fails only where the process leads a group already, which is as good.
    unsafe { libc::setsid() };
}
