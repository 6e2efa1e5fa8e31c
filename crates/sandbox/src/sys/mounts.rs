//! Mounts.

use std::ffi::{CStr, c_uint, c_ulong};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use super::check::{check, check_long, cstr, owned};

/// Mounts a file system. `data` is the comma-separated option string.
pub(crate) fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: c_ulong,
    data: &str,
) -> io::Result<()> {
    let (source, target, kind, data) = (cstr(source)?, cstr(target)?, cstr(kind)?, cstr(data)?);
    // SAFETY: all four are NUL-terminated and outlive the call.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    })
    .map(drop)
}

/// Stops mount events from propagating into and out of this mount namespace.
pub(crate) fn make_mounts_private() -> io::Result<()> {
    mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// Makes a detached mount of a new file system, with settings and attributes (`MOUNT_ATTR_*`).
pub(crate) fn new_file_system(
    kind: &str,
    settings: &[(&str, Option<&str>)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    // Source: linux/mount.h.
    const SET_FLAG: c_uint = 0;
    const SET_STRING: c_uint = 1;
    const CREATE: c_uint = 6;
    const CLOSE_ON_EXEC: c_uint = 1;
    let kind = cstr(kind)?;
    // SAFETY: `kind` is NUL-terminated and outlives the call.
    let context = owned(check_long(unsafe {
        libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOSE_ON_EXEC)
    })?);
    let configure = |command: c_uint, key: Option<&CStr>, value: Option<&CStr>| {
        let of = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are null or NUL-terminated, and outlive the call.
        check_long(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                command,
                of(key),
                of(value),
                0,
            )
        })
    };
    for (key, value) in settings {
        let (key, value) = (cstr(key)?, value.map(cstr).transpose()?);
        let command = if value.is_some() {
            SET_STRING
        } else {
            SET_FLAG
        };
        configure(command, Some(&key), value.as_deref())?;
    }
    configure(CREATE, None, None)?;
    // SAFETY: takes no memory.
    let mount = check_long(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            CLOSE_ON_EXEC,
            attributes,
        )
    })?;
    Ok(owned(mount))
}

/// Makes a character device that everybody may read and write.
pub(crate) fn make_device(path: &Path, number: u64) -> io::Result<()> {
    let name = cstr(path)?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check(unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o666, number) })?;
    // `mknod` applies the umask.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
}

/// Sets attributes (`MOUNT_ATTR_*`) on a mount and all mounts below it.
pub(crate) fn set_mount_attributes(tree: &OwnedFd, set: u64) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a valid empty string, `attr` lives through the call and its size is passed.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attr,
            mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Makes a detached, `nosuid` and `nodev` copy of the mounts at `path`, recursively.
///
/// # Errors
/// The system's error, for example because the path does not exist.
pub fn clone_tree(path: &Path, read_only: bool) -> io::Result<OwnedFd> {
    let read_only = if read_only {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    clone_tree_with(
        path,
        libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only,
    )
}

/// Makes a detached, recursive copy with the given attributes (`MOUNT_ATTR_*`).
pub(crate) fn clone_tree_with(path: &Path, attributes: u64) -> io::Result<OwnedFd> {
    let name = cstr(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as c_uint;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let fd = check_long(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, name.as_ptr(), flags)
    })?;
    let tree = owned(fd);
    set_mount_attributes(&tree, attributes)?;
    Ok(tree)
}

/// Copies a detached mount.
///
/// # Errors
/// The system's error. Linux before 6.15 cannot copy a detached mount.
pub fn copy_mount(tree: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as c_uint;
    // SAFETY: the path is empty and NUL-terminated, and outlives the call.
    let fd = check_long(unsafe {
        libc::syscall(libc::SYS_open_tree, tree.as_raw_fd(), c"".as_ptr(), flags)
    })?;
    Ok(owned(fd))
}

/// Attaches a detached mount at `target`.
pub(crate) fn attach_tree(tree: &OwnedFd, target: &str) -> io::Result<()> {
    let target = cstr(target)?;
    // SAFETY: both paths are NUL-terminated and outlive the call.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Makes `new_root` the root of this mount namespace and detaches the old one.
pub(crate) fn pivot_into(new_root: &str) -> io::Result<()> {
    std::env::set_current_dir(new_root)?;
    // SAFETY: both are valid C strings. "." twice stacks the old root over the new one.
    check_long(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: a valid C string; detaches the old root, which is now on top.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })?;
    std::env::set_current_dir("/")
}

/// Detaches the mount at a path and all mounts below it.
pub(crate) fn unmount(path: &str) -> io::Result<()> {
    let path = cstr(path)?;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }).map(drop)
}
