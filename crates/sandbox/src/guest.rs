//! The library that an interpreter loads in the zygote to fork sandboxed copies of itself.
//!
//! The interpreter's shim calls four functions. `virga_serve` returns when a copy is requested. The shim then forks, so
//! that the interpreter's own fork hooks run, and calls `virga_forked` in the parent, which continues to serve. In the
//! child it calls `virga_enter_sandbox`, which enters the sandbox's namespaces and limits, and `virga_wait`, which waits for
//! an assignment and returns confined. All code up to that return is trusted; no byte of the user has been read.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::descriptors::{EXITS_PIPE, ZYGOTE_SOCKET};
use crate::landlock_rules::LandlockRules;
use crate::privileges::confine;
use crate::{Result, Step, netlink, network, root, seccomp, sys, wire};

/// Parameters of a handler process. Sent to the zygote with its descriptors: the guest's socket, the log, and, with
/// namespaces, the pidfd of the sandbox init and the files of its cgroups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForkRequest {
    /// Identifies the process in [`Ended`].
    pub number: u64,
    /// User and group id, unique to the instance; `None` = virga's own.
    pub uid: Option<u32>,
    /// Maximum number of open files per process.
    pub open_files: u64,
    /// Maximum number of processes and threads of the user.
    pub processes: u64,
    /// Kind of confinement.
    pub confinement: Confinement,
    /// Whether it does a warm-up run before it is assigned a function. Skipped if a request waits for it.
    pub warm_up: bool,
}

/// Confinement of a handler process, in addition to its filters and limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confinement {
    /// Namespaces and control groups.
    Namespaces,
    /// Landlock alone: it reads these paths and its code, and writes in one directory.
    Landlock {
        /// Files and directories of the host.
        readable: Vec<PathBuf>,
        /// Its directory for temporary files.
        writable: PathBuf,
    },
}

/// Reply of the zygote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ForkReply {
    /// Ready to fork; sent once at the start.
    Ready,
    /// The handler process waits for an assignment. Without namespaces its pidfd is sent along.
    Forked,
    /// The step that failed.
    Failed(String),
}

/// Exit of a handler process, reported by its zygote. Other processes of its sandbox continue to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// See [`ForkRequest::number`].
    pub number: u64,
    /// Exit status.
    pub status: ExitStatus,
}

/// Exit status of a handler process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with a code.
    Exited(i32),
    /// It was killed by a signal.
    Signaled(i32),
    /// Setup of the sandbox failed.
    Failed(String),
}

/// Request and descriptors of the process to be forked, kept between the calls of the shim.
struct PendingFork {
    request: ForkRequest,
    socket: OwnedFd,
    log: OwnedFd,
    init: Option<OwnedFd>,
    cgroups: Vec<OwnedFd>,
}

/// A handler process to be reaped by the zygote. The zygote keeps no descriptor of it, since every later fork would
/// copy and close all of them.
struct HandlerProcess {
    number: u64,
    /// Whether it has no namespaces of its own.
    without_namespaces: bool,
}

static PENDING_FORK: Mutex<Option<PendingFork>> = Mutex::new(None);
static HANDLERS: Mutex<BTreeMap<libc::pid_t, HandlerProcess>> = Mutex::new(BTreeMap::new());
/// Signal descriptor for exited processes.
static ENDED: OnceLock<OwnedFd> = OnceLock::new();
static FILTERS: OnceLock<seccomp::Filters> = OnceLock::new();
/// Remaining setup, kept between `virga_enter_sandbox` and `virga_wait`.
static PENDING_GUEST: Mutex<Option<PendingGuest>> = Mutex::new(None);

/// Remaining setup of a handler process.
struct PendingGuest {
    uid: Option<u32>,
    confinement: PreparedConfinement,
}

/// [`Confinement`], prepared as far as possible before the code is known.
enum PreparedConfinement {
    Namespaces(LandlockRules),
    Landlock {
        readable: Vec<PathBuf>,
        writable: PathBuf,
    },
}

/// In the zygote: returns 0 when the interpreter is to fork into the namespaces that wait for it. Exits when virga
/// closes the socket.
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

/// In the zygote, after the fork: reports the handler process to virga, or with -1 that the fork failed.
#[unsafe(no_mangle)]
pub extern "C" fn virga_forked(handler: c_int) -> c_int {
    let Some(pending) = take_pending() else {
        sys::exit_now(1)
    };
    let reply = if handler > 0 {
        // Its pid cannot be reused before it is reaped.
        let without_namespaces = pending.init.is_none();
        let pidfd = without_namespaces.then(|| sys::Pidfd::open(handler));
        let number = pending.request.number;
        lock(&HANDLERS).insert(
            handler,
            HandlerProcess {
                number,
                without_namespaces,
            },
        );
        match pidfd.transpose() {
            Ok(pidfd) => answer_with(&ForkReply::Forked, pidfd.as_ref().map(AsFd::as_fd)),
            Err(e) => answer(&ForkReply::Failed(e.to_string())),
        }
    } else {
        answer(&ForkReply::Failed("the interpreter could not fork".into()))
    };
    if reply.is_err() {
        sys::exit_now(1)
    }
    0
}

/// In the handler process: enters its namespaces and control groups, and sets up descriptors and limits. Returns 1 if
/// there is time for a warm-up run, else 0.
#[unsafe(no_mangle)]
pub extern "C" fn virga_enter_sandbox() -> c_int {
    let Some(pending) = take_pending() else {
        sys::exit_now(1)
    };
    let warm_up = pending.request.warm_up;
    match enter_sandbox(pending) {
        Ok(pending_guest) => {
            *lock(&PENDING_GUEST) = Some(pending_guest);
            c_int::from(warm_up)
        }
        Err(e) => exit_unconfined(Some(e)),
    }
}

/// In the handler process: waits for an assignment, drops all privileges, and writes the configuration into the buffer.
/// Returns its length; exits on any failure.
///
/// # Safety
/// `buffer` must be valid for writing `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn virga_wait(buffer: *mut u8, capacity: usize) -> isize {
    // SAFETY: the caller's promise.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, capacity) };
    match become_guest(buffer) {
        Ok(length) => length as isize,
        Err(e) => exit_unconfined(Some(e)),
    }
}

/// Exits a handler process that could not be confined. The exit code reports it to virga.
pub(crate) fn exit_unconfined(error: Option<crate::Error>) -> ! {
    if let Some(error) = error {
        let _ = writeln!(std::io::stderr(), "sandbox: {error}");
    }
    sys::exit_now(SETUP_FAILED)
}

/// Exit code of a handler process that could not confine itself. Neither signals nor Python use it.
const SETUP_FAILED: c_int = 213;

pub(crate) fn serve() -> Result<()> {
    let ended = match ENDED.get() {
        Some(ended) => ended,
        None => begin()?,
    };
    let socket = sys::borrow(ZYGOTE_SOCKET);
    let mut bytes = vec![0; 4096];
    loop {
        let [asked, ended] = sys::wait_for_either([socket, ended.as_fd()]).step("wait")?;
        if ended {
            reap()?;
        }
        if !asked {
            continue;
        }
        let (length, fds) = sys::receive(socket, &mut bytes).step("receive a request")?;
        if length == 0 {
            sys::exit_now(0);
        }
        let entered = read_request(&bytes[..length], fds).and_then(|pending| {
            if let Some(init) = &pending.init {
                // The next fork will be a process of that pid namespace.
                sys::setns(init.as_fd(), libc::CLONE_NEWPID).step("enter the pid namespace")?;
            }
            Ok(pending)
        });
        match entered {
            Ok(pending) => {
                *lock(&PENDING_FORK) = Some(pending);
                return Ok(());
            }
            Err(e) => answer(&ForkReply::Failed(e.to_string()))?,
        }
    }
}

/// Prepares what all instances share, and reports to virga that the zygote is ready.
fn begin() -> Result<&'static OwnedFd> {
    let filters = seccomp::compile().step("compile the filter")?;
    filters.allow_known().step("system call filter")?;
    let _ = FILTERS.set(filters);
    // Neither this process nor any copy can regain capabilities by `exec`.
    if sys::effective_user() == 0 {
        sys::drop_bounding_set().step("drop the bounding set")?;
    }
    for own in [ZYGOTE_SOCKET, EXITS_PIPE] {
        sys::set_close_on_exec(sys::borrow(own), true).step("mark a descriptor")?;
    }
    let ended = sys::signal_descriptor(libc::SIGCHLD).step("watch for exited processes")?;
    let ended = ENDED.get_or_init(|| ended);
    answer(&ForkReply::Ready)?;
    Ok(ended)
}

/// Reaps handler processes and reports their exit status to virga, which kills the rest of their sandboxes.
fn reap() -> Result<()> {
    if let Some(ended) = ENDED.get() {
        sys::drain(ended.as_fd());
    }
    let mut running = lock(&HANDLERS);
    while let Some((pid, status)) = sys::reap_any().step("reap")? {
        let Some(HandlerProcess {
            number,
            without_namespaces,
        }) = running.remove(&pid)
        else {
            continue;
        };
        if without_namespaces {
            sys::kill_group(pid);
        }
        // If virga does not read it, virga has ended.
        let _ = fixed(EXITS_PIPE).write_all(&Ended::bytes(number, status));
    }
    Ok(())
}

fn read_request(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<PendingFork> {
    let request: ForkRequest = serde_json::from_slice(bytes)
        .map_err(std::io::Error::other)
        .step("read a request")?;
    let mut fds = fds.into_iter();
    let (first, init) = ((fds.next(), fds.next()), fds.next());
    match first {
        (Some(socket), Some(log))
            if init.is_some() == (request.confinement == Confinement::Namespaces) =>
        {
            Ok(PendingFork {
                request,
                socket,
                log,
                init,
                cgroups: fds.collect(),
            })
        }
        _ => Err(crate::Error::new(
            "read a request",
            std::io::Error::other("descriptors are missing"),
        )),
    }
}

fn answer(reply: &ForkReply) -> Result<()> {
    answer_with(reply, None)
}

fn answer_with(reply: &ForkReply, fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let bytes = serde_json::to_vec(reply)
        .map_err(std::io::Error::other)
        .step("write a reply")?;
    sys::send(sys::borrow(ZYGOTE_SOCKET), &bytes, fd.as_slice())
        .step("send a reply")
        .map(drop)
}

/// Borrows the file at a fixed descriptor.
fn fixed(number: i32) -> ManuallyDrop<File> {
    // SAFETY: it stays open at this number for as long as this is used; the object is forgotten, not dropped.
    ManuallyDrop::new(unsafe { File::from_raw_fd(number) })
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_pending() -> Option<PendingFork> {
    lock(&PENDING_FORK).take()
}

impl Ended {
    /// Size of a message in the pipe: the number, and the status as `wait` returns it.
    pub const BYTES: usize = 12;

    fn bytes(number: u64, status: c_int) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..].copy_from_slice(&status.to_le_bytes());
        bytes
    }

    /// Decodes a message from the pipe.
    pub fn read(bytes: [u8; Self::BYTES]) -> Self {
        let [number @ .., a, b, c, d] = bytes;
        let status = c_int::from_le_bytes([a, b, c, d]);
        Self {
            number: u64::from_le_bytes(number),
            status: if libc::WIFSIGNALED(status) {
                ExitStatus::Signaled(libc::WTERMSIG(status))
            } else if libc::WEXITSTATUS(status) == SETUP_FAILED {
                ExitStatus::Failed(
                    "the sandbox could not be closed; the log says which step".into(),
                )
            } else {
                ExitStatus::Exited(libc::WEXITSTATUS(status))
            },
        }
    }
}

/// Sets up a handler process, first half.
fn enter_sandbox(pending: PendingFork) -> Result<PendingGuest> {
    // 1. Enter its cgroups from inside: attaching another process costs milliseconds under cgroup v1.
    for cgroup in &pending.cgroups {
        File::from(cgroup.try_clone().step("cgroup")?)
            .write_all(b"0")
            .step("enter a cgroup")?;
    }
    // 2. Enter the namespaces of the sandbox init. The fork is in its pid namespace already.
    if let Some(init) = &pending.init {
        let rest = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        sys::setns(init.as_fd(), rest).step("enter the namespaces")?;
    }
    // 3. Its own descriptors and no other: no input, the log twice, the socket.
    let null = File::options()
        .read(true)
        .open("/dev/null")
        .step("open /dev/null")?;
    if pending.request.uid.is_some() {
        sys::let_reopen(pending.log.as_fd()).step("share the log")?;
    }
    sys::dup_to(null.as_fd(), 0).step("place standard input")?;
    sys::dup_to(pending.log.as_fd(), 1).step("place standard output")?;
    sys::dup_to(pending.log.as_fd(), 2).step("place standard error")?;
    let PendingFork {
        request,
        socket,
        log,
        init,
        cgroups,
    } = pending;
    sys::dup_to(socket.as_fd(), ZYGOTE_SOCKET).step("place the socket")?;
    // All are above the fixed numbers, which were in use when they were opened; the next call closes them.
    std::mem::forget((null, socket, log, init, cgroups));
    sys::close_from(ZYGOTE_SOCKET + 1).step("close descriptors")?;
    sys::set_close_on_exec(sys::borrow(ZYGOTE_SOCKET), true).step("mark the socket")?;
    // 4. No blocked signals, a session without a terminal, ordinary limits.
    sys::unblock_signals();
    sys::new_session();
    // The kernel counts all processes of a user together, so the limit needs a user of the instance's own.
    let processes = request.uid.map(|_| (libc::RLIMIT_NPROC, request.processes));
    let others = [
        (libc::RLIMIT_NOFILE, request.open_files),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, 64 << 10),
    ];
    for (resource, value) in others.into_iter().chain(processes) {
        sys::set_limit(resource, value).step("set a limit")?;
    }
    // 5. The filter of refused system calls. Installing it takes time, so do it before a request waits.
    let missing = || std::io::Error::other("functions called out of order");
    let filters = FILTERS.get().ok_or_else(missing).step("filter")?;
    filters.refuse().step("system call filter")?;
    if request.confinement == Confinement::Namespaces {
        netlink::watch().step("limit netlink sockets")?;
    }
    // 6. Landlock rules, complete but not in force.
    let confinement = match request.confinement {
        Confinement::Namespaces => PreparedConfinement::Namespaces(
            LandlockRules::for_own_root(&[Path::new("/tmp")]).step("landlock")?,
        ),
        Confinement::Landlock { readable, writable } => {
            PreparedConfinement::Landlock { readable, writable }
        }
    };
    Ok(PendingGuest {
        uid: request.uid,
        confinement,
    })
}

/// Sets up a handler process, second half. The numbers continue because the order is what makes it safe.
pub(crate) fn become_guest(buffer: &mut [u8]) -> Result<usize> {
    let missing = || std::io::Error::other("functions called out of order");
    let pending_guest = lock(&PENDING_GUEST)
        .take()
        .ok_or_else(missing)
        .step("user")?;
    // 7. Wait, pre-warmed, for the assignment of a function.
    let Assignment {
        length,
        pipes,
        trees,
        tmp,
        public_net,
    } = receive_assignment(buffer)?;
    let confinement = match pending_guest.confinement {
        PreparedConfinement::Namespaces(confinement) => confinement,
        PreparedConfinement::Landlock { readable, writable } => {
            // 8. Without namespaces the code is a directory of the host.
            let code = trees.first().ok_or_else(missing).step("code")?;
            sys::change_directory(code.as_fd()).step("enter the code")?;
            let confinement =
                LandlockRules::for_host(&readable, &trees, &writable).step("landlock")?;
            drop(trees);
            confine(pending_guest.uid, confinement)?;
            place(pipes)?;
            // Without a sandbox init nobody else kills it with virga.
            sys::die_with_parent().step("set the parent-death signal")?;
            return Ok(length);
        }
    };
    // 8. Code and layers, which are read-only mounts made by virga, and a disk of its own over the previous /tmp.
    for (tree, target) in trees.iter().zip([root::CODE, root::LAYERS]) {
        sys::attach_tree(tree, target).step(format!("mount {target}"))?;
    }
    let confinement = match &tmp {
        Some(tmp) => {
            sys::attach_tree(tmp, root::TMP).step("mount /tmp")?;
            confinement
                .allow_writing(Path::new(root::TMP))
                .step("landlock")?
        }
        None => confinement,
    };
    drop((trees, tmp));
    std::env::set_current_dir(root::CODE).step("enter the code")?;
    // 9. Without a default route only virga's services are reachable. The router enforces it as well.
    if !public_net {
        network::remove_default_route()?;
    }
    // 10. No privileges from here on.
    confine(pending_guest.uid, confinement)?;
    // 11. The pipes and the start mark at the fixed numbers. The descriptors of the Landlock rules are closed by now.
    place(pipes)?;
    Ok(length)
}

/// Moves the pipes and the start mark to the numbers that the runtime expects; the first one replaces the socket. They
/// were received in this order while the socket was open, so none of them is at the number of one before it.
fn place([requests, answers, start_mark]: [OwnedFd; 3]) -> Result<()> {
    sys::place(requests, wire::REQUESTS).step("place the pipe of requests")?;
    sys::place(answers, wire::ANSWERS).step("place the pipe of answers")?;
    sys::place(start_mark, wire::START_MARK).step("place the start mark")
}

/// An assignment. Its configuration is in the buffer.
struct Assignment {
    length: usize,
    /// Pipes of requests and of answers, and the start mark.
    pipes: [OwnedFd; 3],
    trees: Vec<OwnedFd>,
    tmp: Option<OwnedFd>,
    public_net: bool,
}

fn receive_assignment(buffer: &mut [u8]) -> Result<Assignment> {
    let refused =
        |why: &str| crate::Error::new("receive an assignment", std::io::Error::other(why));
    let mut header = [0; wire::HEADER];
    let (mut have, fds) =
        sys::receive(sys::borrow(ZYGOTE_SOCKET), &mut header).step("receive an assignment")?;
    if have == 0 {
        // Never assigned: virga has closed this pre-warmed sandbox.
        sys::exit_now(0);
    }
    let mut socket = fixed(ZYGOTE_SOCKET);
    if have < header.len() {
        socket
            .read_exact(&mut header[have..])
            .step("receive an assignment")?;
        have = header.len();
    }
    debug_assert_eq!(have, header.len());
    let (kind, length) = wire::parse_header(&header);
    let public_net = match kind {
        Some(wire::Kind::Assign) => true,
        Some(wire::Kind::AssignInternal) => false,
        _ => return Err(refused("unexpected frame")),
    };
    if length > buffer.len() {
        return Err(refused("it is too long"));
    }
    socket
        .read_exact(&mut buffer[..length])
        .step("receive an assignment")?;
    let mut fds = fds.into_iter();
    let (Some(requests), Some(answers), Some(start_mark)) = (fds.next(), fds.next(), fds.next())
    else {
        return Err(refused("it has no pipes"));
    };
    let mut trees: Vec<_> = fds.collect();
    let with_tmp = header[wire::WITH_TMP] == 1;
    let tmp = with_tmp.then(|| trees.pop()).flatten();
    Ok(Assignment {
        length,
        pipes: [requests, answers, start_mark],
        trees,
        tmp,
        public_net,
    })
}
