//! Inside the zygote: the library that an interpreter loads to make sandboxed copies of itself.
//!
//! The interpreter's shim calls four functions, in this order:
//! `virga_serve` returns once in each new instance's *init*, the first process of its pid namespace;
//! the shim forks there, so that its interpreter's own fork hooks run, and calls `virga_init` in the parent,
//! which only waits and reaps. In the child it calls `virga_settle`, which puts the process into its limits,
//! and `virga_wait`, which waits for an assignment and returns confined. All code up to that return is
//! trusted; no byte of the user has been read.

use std::ffi::c_int;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::launch::{OWN_PID_NAMESPACE, ZYGOTE_SOCKET, confine};
use crate::{Result, Step, network, root, seccomp, sys, wire};

/// What an instance is made with; sent to the zygote with its descriptors: the guest's socket, the log, the
/// status pipe, its network namespace if it has one, and the files of its cgroups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForkRequest {
    /// The user and group of the instance, its alone.
    pub uid: u32,
    /// Name of the host inside.
    pub hostname: String,
    /// Whether a network namespace comes with the request.
    pub network: bool,
    /// Size of `/tmp`, bytes.
    pub tmp_bytes: u64,
    /// Files and directories in `/tmp`.
    pub tmp_inodes: u64,
    /// Open files of a process.
    pub open_files: u64,
    /// Processes and threads of the user.
    pub processes: u64,
}

/// The zygote's answer; on success a pidfd of the instance's init comes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ForkReply {
    /// Ready to fork; sent once at the start.
    Ready,
    /// The init's process number.
    Forked(i32),
    /// The step that failed.
    Failed(String),
}

/// What an init leaves in its status pipe when the instance ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// The handler's process ended with a code.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// The sandbox could not be made.
    Failed(String),
}

/// Descriptors and settings of the instance being made, between the three calls.
struct Cell {
    request: ForkRequest,
    socket: OwnedFd,
    log: OwnedFd,
    status: OwnedFd,
    network: Option<OwnedFd>,
    cgroups: Vec<OwnedFd>,
}

static CELL: Mutex<Option<Cell>> = Mutex::new(None);
static FILTERS: OnceLock<seccomp::Filters> = OnceLock::new();
/// The instance's user, between the two halves of becoming a guest.
static USER: OnceLock<u32> = OnceLock::new();

/// Serves fork requests until virga closes the socket. Returns 0 in an instance's init, never in the zygote.
#[unsafe(no_mangle)]
pub extern "C" fn virga_serve() -> c_int {
    match serve() {
        Ok(()) => 0,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "zygote: {e}");
            sys::exit_now(1)
        }
    }
}

/// In an instance's init: waits for the handler's process, reaps all others, reports and ends. With the
/// init the kernel ends every process of the instance.
#[unsafe(no_mangle)]
pub extern "C" fn virga_init(handler: c_int) -> c_int {
    let Some(cell) = take_cell() else {
        sys::exit_now(1)
    };
    let status = report_to(&cell);
    if let Some(mut status) = status {
        let ended = loop {
            match sys::wait_any() {
                Ok(Some((pid, status))) if pid == handler => break exit_status(status),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    break ExitStatus::Failed("the handler's process was lost".into());
                }
            }
        };
        report(&mut status, &ended);
    }
    sys::exit_now(0)
}

/// In the handler's process: into its control groups, its descriptors and its limits.
#[unsafe(no_mangle)]
pub extern "C" fn virga_settle() -> c_int {
    let Some(cell) = take_cell() else {
        sys::exit_now(1)
    };
    let settled = settle(cell).map(|uid| USER.set(uid));
    if settled.is_ok() {
        0
    } else {
        give_up(settled.err())
    }
}

/// In the handler's process: waits for an assignment, gives up every privilege, and leaves the
/// configuration in the buffer. Returns its length; ends the process on any failure.
///
/// # Safety
/// `buffer` must be valid for writing `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn virga_wait(buffer: *mut u8, capacity: usize) -> isize {
    // SAFETY: the caller's promise.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, capacity) };
    match become_guest(buffer) {
        Ok(length) => length as isize,
        Err(e) => give_up(Some(e)),
    }
}

/// Ends a handler's process that cannot be made safe; the init reports the exit code.
fn give_up(error: Option<crate::Error>) -> ! {
    if let Some(error) = error {
        let _ = writeln!(std::io::stderr(), "sandbox: {error}");
    }
    sys::exit_now(SETUP_FAILED)
}

/// Exit code of a handler's process that could not confine itself. No signal and no Python exit uses it.
const SETUP_FAILED: c_int = 213;

fn serve() -> Result<()> {
    let filters = seccomp::compile().step("compile the filter")?;
    filters.allow_known().step("system call filter")?;
    let _ = FILTERS.set(filters);
    let socket = sys::borrow(ZYGOTE_SOCKET);
    for fd in [ZYGOTE_SOCKET, OWN_PID_NAMESPACE] {
        sys::set_close_on_exec(sys::borrow(fd), true).step("mark a descriptor")?;
    }
    // The kernel reaps inits; virga watches them through their pidfds.
    sys::signal_action(libc::SIGCHLD, true);
    answer(&ForkReply::Ready, &[])?;
    let mut bytes = vec![0; 4096];
    loop {
        let (length, fds) = sys::receive(socket, &mut bytes).step("receive a request")?;
        if length == 0 {
            sys::exit_now(0);
        }
        let made = read_request(&bytes[..length], fds).and_then(|cell| Ok((fork_init()?, cell)));
        match made {
            Ok((sys::Fork::Parent(pid), _)) => {
                let reply = sys::Pidfd::open(pid).step("open a pidfd");
                match reply {
                    Ok(pidfd) => answer(&ForkReply::Forked(pid), &[pidfd.as_fd()])?,
                    Err(e) => answer(&ForkReply::Failed(e.to_string()), &[])?,
                }
            }
            Ok((sys::Fork::Child, cell)) => {
                make_cell(cell);
                return Ok(());
            }
            Err(e) => answer(&ForkReply::Failed(e.to_string()), &[])?,
        }
    }
}

fn read_request(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<Cell> {
    let request: ForkRequest = serde_json::from_slice(bytes)
        .map_err(std::io::Error::other)
        .step("read a request")?;
    let mut fds = fds.into_iter();
    match (fds.next(), fds.next(), fds.next()) {
        (Some(socket), Some(log), Some(status)) => Ok(Cell {
            socket,
            log,
            status,
            network: if request.network { fds.next() } else { None },
            cgroups: fds.collect(),
            request,
        }),
        _ => Err(crate::Error::new(
            "read a request",
            std::io::Error::other("descriptors are missing"),
        )),
    }
}

fn answer(reply: &ForkReply, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<()> {
    let bytes = serde_json::to_vec(reply)
        .map_err(std::io::Error::other)
        .step("write a reply")?;
    sys::send(sys::borrow(ZYGOTE_SOCKET), &bytes, fds)
        .step("send a reply")
        .map(drop)
}

/// Forks a child that is the first process of a new pid namespace.
fn fork_init() -> Result<sys::Fork> {
    // A process can leave for a new pid namespace only from its own, hence the way back first.
    sys::setns(sys::borrow(OWN_PID_NAMESPACE), libc::CLONE_NEWPID).step("own pid namespace")?;
    sys::unshare(libc::CLONE_NEWPID).step("new pid namespace")?;
    sys::fork().step("fork")
}

/// The init's first half: the instance's namespaces and private file systems.
fn make_cell(cell: Cell) {
    sys::signal_action(libc::SIGCHLD, false);
    let built = (|| {
        sys::die_with_parent().step("follow the zygote")?;
        let all = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        match &cell.network {
            Some(made) => {
                sys::unshare(all).step("new namespaces")?;
                sys::setns(made.as_fd(), libc::CLONE_NEWNET).step("enter the network")?;
            }
            None => {
                sys::unshare(all | libc::CLONE_NEWNET).step("new namespaces")?;
                sys::loopback_up().step("loopback")?;
            }
        }
        sys::set_hostname(&cell.request.hostname).step("set the host's name")?;
        let request = &cell.request;
        root::mount_private(
            request.uid,
            request.uid,
            request.tmp_bytes,
            request.tmp_inodes,
        )
    })();
    if let Err(e) = built {
        let mut status = File::from(cell.status);
        report(&mut status, &ExitStatus::Failed(e.to_string()));
        sys::exit_now(1);
    }
    *CELL.lock().unwrap_or_else(PoisonError::into_inner) = Some(cell);
}

fn take_cell() -> Option<Cell> {
    CELL.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Keeps the status pipe alone, so that the instance's socket and log close with the handler.
fn report_to(cell: &Cell) -> Option<File> {
    sys::dup_to(cell.status.as_fd(), ZYGOTE_SOCKET).ok()?;
    sys::close_from(ZYGOTE_SOCKET + 1).ok()?;
    sys::set_close_on_exec(sys::borrow(ZYGOTE_SOCKET), true).ok()?;
    // SAFETY: the descriptor was placed there two lines above and nothing else owns it. The cell's own
    // objects own closed numbers now; this process ends by `_exit`, which drops none of them.
    Some(unsafe { File::from_raw_fd(ZYGOTE_SOCKET) })
}

fn report(status: &mut File, exit: &ExitStatus) {
    if let Ok(text) = serde_json::to_vec(exit) {
        // Nobody is left to tell when virga has closed its end.
        let _ = status.write_all(&text);
    }
}

fn exit_status(status: c_int) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        ExitStatus::Signaled(libc::WTERMSIG(status))
    } else if libc::WEXITSTATUS(status) == SETUP_FAILED {
        ExitStatus::Failed("the sandbox could not be closed; the log says which step".into())
    } else {
        ExitStatus::Exited(libc::WEXITSTATUS(status))
    }
}

/// The handler's process, first half. Returns its user.
fn settle(cell: Cell) -> Result<u32> {
    // 1. Into its cgroups, from inside: an outsider's attach costs milliseconds under cgroup v1.
    for cgroup in &cell.cgroups {
        File::from(cgroup.try_clone().step("cgroup")?)
            .write_all(b"0")
            .step("enter a cgroup")?;
    }
    // 2. Its own descriptors and no other: no input, the log twice, the socket.
    let null = File::options()
        .read(true)
        .open("/dev/null")
        .step("open /dev/null")?;
    sys::dup_to(null.as_fd(), 0).step("place standard input")?;
    sys::dup_to(cell.log.as_fd(), 1).step("place standard output")?;
    sys::dup_to(cell.log.as_fd(), 2).step("place standard error")?;
    let Cell {
        request,
        socket,
        log,
        status,
        network,
        cgroups,
    } = cell;
    sys::dup_to(socket.as_fd(), ZYGOTE_SOCKET).step("place the socket")?;
    // All lie above the fixed numbers, which were taken when they came; the next call closes them.
    std::mem::forget((null, socket, log, status, network, cgroups));
    sys::close_from(ZYGOTE_SOCKET + 1).step("close descriptors")?;
    sys::set_close_on_exec(sys::borrow(ZYGOTE_SOCKET), true).step("mark the socket")?;
    // 3. A session without a terminal, ordinary limits.
    sys::new_session();
    for (resource, value) in [
        (libc::RLIMIT_NOFILE, request.open_files),
        (libc::RLIMIT_NPROC, request.processes),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, 64 << 10),
    ] {
        sys::set_limit(resource, value).step("set a limit")?;
    }
    // 4. What no `exec` may ever gain again; this needs a privilege, and takes time better spent now.
    sys::drop_bounding_set().step("drop the bounding set")?;
    // 5. What is refused of the known system calls; making the filter, too, takes time better spent now.
    let missing = || std::io::Error::other("called out of order");
    let filters = FILTERS.get().ok_or_else(missing).step("filter")?;
    filters.refuse().step("system call filter")?;
    Ok(request.uid)
}

/// The handler's process, second half: numbered on, because the order is what makes it safe.
fn become_guest(buffer: &mut [u8]) -> Result<usize> {
    let missing = || std::io::Error::other("called out of order");
    let user = *USER.get().ok_or_else(missing).step("user")?;
    // 6. Wait, blank, until this process is given a function.
    let Assignment {
        length,
        trees,
        online,
    } = receive_assignment(buffer)?;
    // 7. The code and the layers, read-only mounts that virga made.
    for (tree, target) in trees.iter().zip([root::CODE, root::LAYERS]) {
        sys::attach_tree(tree, target).step(format!("mount {target}"))?;
    }
    drop(trees);
    std::env::set_current_dir(root::CODE).step("enter the code")?;
    // 8. Without an address there is no way out; virga has closed the router's side, too.
    if !online {
        sys::remove_address(network::GUEST_NAME).step("leave the network")?;
    }
    // 9. No privilege from here on.
    confine(user, user, &[])?;
    Ok(length)
}

/// What a blank was told to become; its configuration is in the buffer.
struct Assignment {
    length: usize,
    trees: Vec<OwnedFd>,
    online: bool,
}

fn receive_assignment(buffer: &mut [u8]) -> Result<Assignment> {
    let refused =
        |why: &str| crate::Error::new("receive an assignment", std::io::Error::other(why));
    let mut header = [0; wire::HEADER];
    let (mut have, trees) =
        sys::receive(sys::borrow(ZYGOTE_SOCKET), &mut header).step("receive an assignment")?;
    if have == 0 {
        // Never assigned: virga has closed this blank.
        sys::exit_now(0);
    }
    // SAFETY: the socket stays open at this number; the object is forgotten, not dropped.
    let mut socket = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(ZYGOTE_SOCKET) });
    if have < header.len() {
        socket
            .read_exact(&mut header[have..])
            .step("receive an assignment")?;
        have = header.len();
    }
    debug_assert_eq!(have, header.len());
    let (kind, length) = wire::parse_header(&header);
    let online = match kind {
        Some(wire::Kind::Assign) => true,
        Some(wire::Kind::AssignOffline) => false,
        _ => return Err(refused("something else came first")),
    };
    if length > buffer.len() {
        return Err(refused("it is too long"));
    }
    socket
        .read_exact(&mut buffer[..length])
        .step("receive an assignment")?;
    Ok(Assignment {
        length,
        trees,
        online,
    })
}
