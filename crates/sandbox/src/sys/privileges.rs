//! Users, capabilities and limits of a process. Each can only be lowered, except the limit of open files.

use std::ffi::{c_int, c_uint, c_ulong};
use std::io;
use std::ptr;

use super::check::{check, check_long};

/// Changes the user, irrevocably: groups, gid and uid, real, effective and saved.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: an empty list needs no memory; the others take none.
    unsafe {
        check(libc::setgroups(0, ptr::null()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    Ok(())
}

/// Empties the bounding and the ambient capability sets, so that no later `exec` can gain capabilities.
pub(crate) fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: takes no memory.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => {}
            // Beyond the last capability of this kernel.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) => return Err(e),
        }
    }
    // SAFETY: takes no memory.
    check(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    })
    .map(drop)
}

/// Empties the effective, permitted and inheritable capability sets.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let none = [Sets {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: header and sets have the kernel's layout for version 3 and live through the call.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })
        .map(drop)
}

/// Prevents this process and its children from gaining privileges by `exec`.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Sets whether core dumps and `/proc/self` work as for an ordinary process; a change of user disables them.
pub(crate) fn set_dumpable(dumpable: bool) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, c_ulong::from(dumpable), 0, 0, 0) }).map(drop)
}

/// Sets both the soft and the hard limit.
pub(crate) fn set_limit(resource: c_uint, value: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: `limit` lives through the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// Raises this process' limit of open files as far as allowed, and returns the new limit.
///
/// # Errors
/// The system's error if the limit cannot be read.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writing.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    // Without the privilege to raise the hard limit, the soft limit can still reach it.
    for most in [wanted.max(limit.rlim_max), limit.rlim_max] {
        let raised = libc::rlimit {
            rlim_cur: most,
            rlim_max: most.max(limit.rlim_max),
        };
        // SAFETY: `raised` lives through the call.
        if check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) }).is_ok() {
            return Ok(most);
        }
    }
    Ok(limit.rlim_cur)
}

/// Makes new files readable for other users, whatever umask virga was started with: sandboxes run as other users.
pub(crate) fn make_readable_files() {
    // SAFETY: takes no memory, and cannot fail.
    unsafe { libc::umask(0o022) };
}

/// Returns the effective user id.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: takes no memory and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns the effective group id.
pub(crate) fn effective_group() -> u32 {
    // SAFETY: takes no memory and cannot fail.
    unsafe { libc::getegid() }
}

/// Returns the Landlock ABI version of the kernel, if any.
pub(crate) fn landlock_version() -> Option<c_int> {
    const VERSION: c_uint = 1;
    // SAFETY: with this flag the kernel takes no attributes and reads no memory.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0usize,
            VERSION,
        )
    };
    check_long(version).ok()
}
