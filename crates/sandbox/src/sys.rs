//! Safe wrappers of system calls that the standard library lacks. Each reports `errno`.

use std::ffi::{CStr, CString, c_int, c_uint, c_ulong};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::Instant;

/// Converts a path to a C string; a NUL inside is an error.
pub(crate) fn cstr(path: impl AsRef<Path>) -> io::Result<CString> {
    CString::new(path.as_ref().as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL in a path"))
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_long(result: libc::c_long) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as c_int)
    }
}

fn owned(fd: c_int) -> OwnedFd {
    // SAFETY: every caller passes a descriptor that the kernel has just made for it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

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

/// Returns the number of an unused loop device. `control` is `/dev/loop-control`.
pub(crate) fn free_loop_device(control: impl AsFd) -> io::Result<c_int> {
    /// Source: linux/loop.h.
    const GET_FREE: libc::Ioctl = 0x4C82;
    // SAFETY: this request takes no memory.
    check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), GET_FREE) })
}

/// Attaches a loop device to a file, until it is neither open nor mounted.
pub(crate) fn configure_loop_device(device: impl AsFd, file: impl AsFd) -> io::Result<()> {
    // Source: linux/loop.h.
    const CONFIGURE: libc::Ioctl = 0x4C0A;
    const AUTOMATICALLY_CLEARED: u32 = 4;
    /// Direct I/O to the file: the file system above caches writes already.
    const DIRECT: u32 = 16;
    /// `struct loop_config`, with `struct loop_info64` in it.
    #[repr(C)]
    struct Configuration {
        descriptor: u32,
        block_size: u32,
        numbers: [u64; 5],
        number: u32,
        encryption: [u32; 2],
        flags: u32,
        names_and_key: [u8; 160],
        more: [u64; 2],
        reserved: [u64; 8],
    }
    const {
        assert!(mem::size_of::<Configuration>() == 304);
    }
    let configuration = Configuration {
        descriptor: file.as_fd().as_raw_fd().cast_unsigned(),
        block_size: 4096,
        numbers: [0; 5],
        number: 0,
        encryption: [0; 2],
        flags: AUTOMATICALLY_CLEARED | DIRECT,
        names_and_key: [0; 160],
        more: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads the structure, which has its layout and lives through the call.
    check(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            CONFIGURE,
            &raw const configuration,
        )
    })
    .map(drop)
}

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

/// Kills all remaining processes of a process group.
pub(crate) fn kill_group(leader: libc::pid_t) {
    // SAFETY: takes no memory. There may be nobody left.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

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

/// Reads everything from a non-blocking descriptor.
pub(crate) fn drain(fd: BorrowedFd<'_>) {
    let mut bytes = [0; 1024];
    while read_now(fd, &mut bytes).is_ok_and(|read| read > 0) {}
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

/// Sets the host name of this UTS namespace.
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one live slice.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

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
    // SAFETY: both callers ask for what reads a live `ifreq`.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw const *request) }).map(drop)
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

/// Starts a new session, with a process group and without a controlling terminal.
pub(crate) fn new_session() {
    // SAFETY: takes no memory. It fails only where the process leads a group already, which is as good.
    unsafe { libc::setsid() };
}

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

/// Borrows a descriptor by its number.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: used for the fixed numbers that the launcher sets up and that stay open for good.
    unsafe { BorrowedFd::borrow_raw(fd) }
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

/// Requests a short scheduling slice for this thread and its children, so that on busy processors they run soon after
/// waking. Their share of CPU time is unchanged. Needs Linux 6.12.
///
/// # Errors
/// The system's error.
pub fn short_turns() -> io::Result<()> {
    turns(libc::SCHED_OTHER, 100_000)
}

/// Requests a short scheduling slice without wakeup preemption. For instances, many of which wake when virga sends them
/// something: otherwise each would interrupt virga.
///
/// # Errors
/// The system's error.
pub(crate) fn patient_turns() -> io::Result<()> {
    turns(libc::SCHED_BATCH, 300_000)
}

fn turns(policy: libc::c_int, nanoseconds: u64) -> io::Result<()> {
    /// `struct sched_attr` of its first version, include/uapi/linux/sched/types.h.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let wish = Attributes {
        size: mem::size_of::<Attributes>() as u32,
        policy: policy.cast_unsigned(),
        runtime_ns: nanoseconds,
        ..Attributes::default()
    };
    // SAFETY: the kernel reads as many bytes of the live value as its first field says.
    check_long(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) }).map(drop)
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

/// Makes a pair of connected sockets that preserve message boundaries.
pub(crate) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` holds two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    Ok((owned(fds[0]), owned(fds[1])))
}

/// Makes a non-blocking TCP socket.
pub(crate) fn stream_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no memory.
    check(unsafe { libc::socket(libc::AF_INET, kind, 0) }).map(owned)
}

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

/// Maximum number of descriptors in one message.
pub(crate) const FDS_MAX: usize = 12;

#[repr(C)]
union Ancillary {
    header: libc::cmsghdr,
    bytes: [u8; 128],
}

/// Sends bytes and descriptors in one message. Returns the number of bytes sent.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if fds.len() > FDS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors in one message",
        ));
    }
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Ancillary { bytes: [0; 128] };
    // SAFETY: zero is a valid value of every field of `msghdr`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let size = mem::size_of_val(fds) as c_uint;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: computes sizes only; FDS_MAX descriptors fit into the buffer.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as usize;
        // SAFETY: the control buffer is aligned for a header and large enough for it and the descriptors.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (i, fd) in fds.iter().enumerate() {
                data.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    loop {
        // SAFETY: the message points at live buffers only.
        let sent =
            unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let e = io::Error::last_os_error();
                if e.raw_os_error() != Some(libc::EINTR) {
                    return Err(e);
                }
            }
        }
    }
}

/// Receives bytes and descriptors. Returns 0 bytes if the peer has closed.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Ancillary { bytes: [0; 128] };
    // SAFETY: zero is a valid value of every field of `msghdr`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = mem::size_of::<Ancillary>();
    let received = loop {
        // SAFETY: the message points at live buffers with their true lengths.
        let n =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(n) {
            Ok(n) => break n,
            Err(_) => {
                let e = io::Error::last_os_error();
                if e.raw_os_error() != Some(libc::EINTR) {
                    return Err(e);
                }
            }
        }
    };
    let mut fds = Vec::new();
    // SAFETY: walks the control messages that the kernel wrote, within the length it reported, and takes
    // over descriptors that it has just made for this process.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let size = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for i in 0..size / mem::size_of::<RawFd>() {
                    fds.push(owned(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::other("descriptors were lost in a message"));
    }
    Ok((received, fds))
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

/// Makes new files readable for other users, whatever umask virga was started with: sandboxes run as other users.
pub(crate) fn make_readable_files() {
    // SAFETY: takes no memory, and cannot fail.
    unsafe { libc::umask(0o022) };
}

/// Allows processes of any user that hold a pipe to reopen it by `/proc/self/fd`, as programs do with `/dev/stdout`.
/// Nobody else has a path to it.
pub(crate) fn let_reopen(pipe: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fchmod(
        pipe,
        rustix::fs::Mode::from_raw_mode(0o666),
    )?)
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

/// Takes ownership of a descriptor that the caller has placed at a number.
pub(crate) fn placed(fd: RawFd) -> OwnedFd {
    // SAFETY: it is open, and nothing else owns it: the caller has put it there.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

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
