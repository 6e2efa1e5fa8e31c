//! Runs one program to completion in a sandbox of its own: a build, which executes untrusted code.
//!
//! There are three processes. The *supervisor* is virga's child, outside the sandbox and privileged; it waits, and
//! collects the result when no process is left that could change it. The *sandbox init* is pid 1 of the program's
//! namespaces. It drops all capabilities but never changes its user, which would cancel the parent-death signal. The
//! *program* drops all privileges before a byte of user input is read. When virga, the supervisor or the sandbox init
//! ends, all of them end, and so does everything that the program has started.
//!
//! The program writes to an in-memory file system of its own. The kernel bounds its size and number of files, and
//! charges it to the program's memory. Nothing of the host is writable.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::beneath::{self, Directory, TreeBounds, TreeError};
use crate::landlock_rules::LandlockRules;
use crate::launch::SPEC_MAX;
use crate::privileges::confine;
use crate::program::{Program, become_program};
use crate::{InitRequest, Result, RootSpec, Step, root, seccomp, sys};

/// The hidden subcommand that runs one program in a sandbox.
pub const RUN: &str = "__run";

/// Specification of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    /// Virga's process id. A supervisor with another parent has lost virga.
    pub virga: u32,
    /// The program's view of the system.
    pub view: RunView,
    /// The program.
    pub program: Program,
    /// User and group id; `None` = virga's own.
    pub uid: Option<u32>,
    /// Working directory, and how it is filled and collected.
    pub work: WorkDirectory,
    /// Files into which the sandbox init writes `0` to enter its control groups.
    pub cgroups: Vec<PathBuf>,
    /// Size of its `/tmp`, bytes.
    pub tmp_bytes: u64,
    /// Maximum number of files and directories in its `/tmp`.
    pub tmp_inodes: u64,
    /// Maximum address space per process, bytes, where no control group limits memory.
    pub address_bytes: Option<u64>,
    /// Maximum number of open files per process.
    pub open_files: u64,
    /// Maximum number of processes and threads of the user.
    pub processes: u64,
    /// Timeout, seconds.
    pub seconds: u32,
}

/// Working directory of a program, and the only writable place besides `/tmp`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkDirectory {
    /// Its path: a directory of the root to mount a file system on, or without a root a directory of the host.
    pub inside: PathBuf,
    /// A directory of the host whose content is copied into it first.
    pub seed: Option<PathBuf>,
    /// An empty directory of the host for its content at the end.
    pub result: PathBuf,
    /// Whether the result is collected even if the program fails.
    pub always: bool,
    /// Maximum size.
    pub bounds: TreeBounds,
}

/// View of the system that a program gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RunView {
    /// A root, namespaces and a network of its own.
    Own(RootSpec, RunNetwork),
    /// The host. The program may read these paths and its working directory.
    Host(Vec<PathBuf>),
}

/// Network of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RunNetwork {
    /// None.
    Nothing,
    /// The host's network.
    Host,
    /// The namespace behind this path.
    Namespace(PathBuf),
}

/// Failures that a supervisor reports by its exit code, in place of the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RunFailure {
    /// The program exceeded its timeout.
    Timeout = 200,
    /// The result is too large or has files that are not allowed; standard error says which.
    Refused = 201,
    /// The sandbox could not be made or the result not be collected; standard error says why.
    Fault = 202,
}

impl RunFailure {
    /// Decodes a supervisor's exit code.
    pub fn of(code: Option<i32>) -> Option<Self> {
        let all = [Self::Timeout, Self::Refused, Self::Fault];
        all.into_iter().find(|one| Some(*one as i32) == code)
    }
}

/// Runs one program in a sandbox and exits with its exit code or a [`RunFailure`]. The specification is the first line
/// of standard input. The program is killed when standard input ends.
///
/// # Errors
/// The step that failed. Does not return otherwise.
pub fn run() -> Result<Infallible> {
    // 1. The specification. Without namespaces, the end of standard input signals the end of virga.
    let mut line = String::new();
    io::stdin()
        .lock()
        .take(SPEC_MAX as u64)
        .read_line(&mut line)
        .step("receive the specification")?;
    let spec: RunSpec = serde_json::from_str(&line)
        .map_err(io::Error::other)
        .step("read the specification")?;
    let until = Instant::now() + Duration::from_secs(spec.seconds.into());
    // 2. Die with virga. The check rules out that it ended before the request took effect.
    if let RunView::Own(..) = spec.view {
        sys::die_with_parent().step("set the parent-death signal")?;
    }
    if std::os::unix::process::parent_id() != spec.virga {
        sys::exit_now(1);
    }
    sys::new_session();
    sys::make_readable_files();
    // 3. Files of the host that are needed later, opened while they are visible.
    let open = |path: &Path| Directory::open(path).step(format!("open {}", path.display()));
    let host_files = HostFiles {
        seed: spec.work.seed.as_deref().map(open).transpose()?,
        cgroups: spec
            .cgroups
            .iter()
            .map(|path| beneath::open_to_write(path).step("open a control group"))
            .collect::<Result<_>>()?,
    };
    let result = open(&spec.work.result)?;
    // 4. Namespaces, a root and the working directory.
    let private = match &spec.view {
        RunView::Own(root, network) => enter_sandbox(&spec, root, network)?,
        RunView::Host(_) => {
            // Descendants whose parents have ended become children of this process.
            sys::adopt_orphans().step("adopt orphans")?;
            Vec::new()
        }
    };
    // 5. The first process inside. The pipe is readable if the supervisor has ended already.
    let (alive, own) = sys::close_on_exec_pipe().step("make a pipe")?;
    let child = match sys::fork().step("fork")? {
        sys::Fork::Child => {
            drop(own);
            fail(match spec.view {
                RunView::Own(..) => sandbox_init(&spec, host_files, &private, &alive),
                RunView::Host(_) => program(&spec, Some(host_files)),
            })
        }
        sys::Fork::Parent(child) => child,
    };
    drop((alive, host_files));
    let code = supervise(child, until)?;
    drop(own);
    if let RunView::Host(_) = spec.view {
        sys::end_children();
    }
    // 6. No process is left that could change the result.
    match code {
        Some(code) if code == 0 || spec.work.always => take(&spec.work, &result, code),
        Some(code) => sys::exit_now(code),
        None => sys::exit_now(RunFailure::Timeout as i32),
    }
}

/// Open files of the host for the processes inside.
struct HostFiles {
    seed: Option<Directory>,
    cgroups: Vec<File>,
}

/// Waits for the first process, the timeout or the end of virga. Then kills it, and with it everything inside.
fn supervise(child: libc::pid_t, until: Instant) -> Result<Option<i32>> {
    let process = sys::Pidfd::open(child).step("open a pidfd")?;
    let stdin = io::stdin();
    let [ended, _] = sys::wait_for_either_until([process.as_fd(), stdin.as_fd()], until)
        .step("wait")?
        .unwrap_or([false, false]);
    if !ended {
        // Timeout, or virga has ended or has cancelled the run.
        process.kill().step("kill the program")?;
    }
    while let Some((pid, status)) = sys::wait_any().step("wait")? {
        if pid == child {
            return Ok(ended.then(|| exit_code(status)));
        }
    }
    Ok(None)
}

/// Collects the result and exits with the program's exit code.
fn take(work: &WorkDirectory, result: &Directory, code: i32) -> Result<Infallible> {
    let copied = Directory::open(&work.inside)
        .map_err(|source| TreeError::Io {
            path: work.inside.clone(),
            source,
        })
        .and_then(|from| from.copy_to(result, None, work.bounds));
    let verdict = match copied {
        Ok(()) => sys::exit_now(code),
        Err(TreeError::Refused(_)) => RunFailure::Refused,
        Err(TreeError::Io { .. }) => RunFailure::Fault,
    };
    if let Err(why) = copied {
        let _ = writeln!(io::stderr(), "{why}");
    }
    sys::exit_now(verdict as i32)
}

/// Makes namespaces, a root and the file system of the working directory.
///
/// Returns the paths of the root that have yet to get private files.
fn enter_sandbox(spec: &RunSpec, root: &RootSpec, network: &RunNetwork) -> Result<Vec<PathBuf>> {
    // The pid namespace takes effect at the next fork.
    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    sys::unshare(namespaces).step("new namespaces")?;
    match network {
        RunNetwork::Nothing => {
            sys::unshare(libc::CLONE_NEWNET).step("new network namespace")?;
        }
        RunNetwork::Host => {}
        RunNetwork::Namespace(path) => {
            let namespace: OwnedFd = File::open(path).step("open the network")?.into();
            sys::setns(namespace.as_fd(), libc::CLONE_NEWNET).step("enter the network")?;
        }
    }
    let private = root::enter(root)?;
    let user = spec.uid.unwrap_or_default();
    let TreeBounds { bytes, inodes } = spec.work.bounds;
    // Files occupy whole pages, and the root directory counts as an inode.
    let size = bytes.saturating_add(inodes.saturating_mul(4096));
    let options = format!(
        "mode=0755,uid={user},gid={user},size={size},nr_inodes={}",
        inodes.saturating_add(1)
    );
    let inside = spec.work.inside.to_string_lossy();
    sys::mount(
        "work",
        &inside,
        "tmpfs",
        libc::MS_NOSUID | libc::MS_NODEV,
        &options,
    )
    .step("mount the working directory")?;
    Ok(private)
}

/// Runs the sandbox init. Everything inside ends with it.
fn sandbox_init(
    spec: &RunSpec,
    host_files: HostFiles,
    private: &[PathBuf],
    alive: &OwnedFd,
) -> Result<Infallible> {
    // 1. Die with the supervisor, and so with virga.
    sys::die_with_parent().step("set the parent-death signal")?;
    if sys::is_readable(alive.as_fd()) {
        sys::exit_now(1);
    }
    // 2. Enter the control groups first, so that everything else is charged.
    for mut cgroup in host_files.cgroups {
        cgroup.write_all(b"0").step("enter a control group")?;
    }
    // 3. A private /proc and /tmp, user names, private files, and the initial content.
    let uid = spec.uid.unwrap_or_default();
    let own = InitRequest {
        uid,
        hostname: format!("scf-{uid}"),
        tmp_bytes: spec.tmp_bytes,
        tmp_inodes: spec.tmp_inodes,
    };
    sys::set_hostname(&own.hostname).step("set the host's name")?;
    root::set_up_sandbox(&own, private)?;
    seed(spec, host_files.seed.as_ref())?;
    // 4. The program.
    let child = match sys::fork().step("fork")? {
        sys::Fork::Child => fail(program(spec, None)),
        sys::Fork::Parent(child) => child,
    };
    // 5. From here on no privilege is needed. It keeps its user: a change would cancel the parent-death signal of step
    //    1.
    sys::drop_bounding_set().step("drop the bounding set")?;
    sys::drop_capabilities().step("drop capabilities")?;
    sys::no_new_privileges().step("no new privileges")?;
    while let Some((pid, status)) = sys::wait_any().step("wait")? {
        if pid == child {
            sys::exit_now(exit_code(status));
        }
    }
    sys::exit_now(1)
}

fn seed(spec: &RunSpec, from: Option<&Directory>) -> Result<()> {
    let Some(from) = from else { return Ok(()) };
    let to = Directory::open(&spec.work.inside).step("open the working directory")?;
    match from.copy_to(&to, spec.uid, spec.work.bounds) {
        Ok(()) => Ok(()),
        Err(TreeError::Refused(why)) => {
            let _ = writeln!(io::stderr(), "{why}");
            sys::exit_now(RunFailure::Refused as i32)
        }
        Err(TreeError::Io { source, .. }) => Err(source).step("copy the package"),
    }
}

/// Runs the program: sets limits, drops all privileges and executes it.
fn program(spec: &RunSpec, host_files: Option<HostFiles>) -> Result<Infallible> {
    if let Some(host_files) = &host_files {
        seed(spec, host_files.seed.as_ref())?;
        sys::new_session();
    }
    let null: OwnedFd = File::open("/dev/null").step("open /dev/null")?.into();
    sys::dup_to(null.as_fd(), 0).step("close standard input")?;
    std::env::set_current_dir(&spec.work.inside).step("enter the working directory")?;
    let address = spec.address_bytes.map(|bytes| (libc::RLIMIT_AS, bytes));
    // The kernel counts all processes of a user together, so the limit needs a user of the program's own.
    let processes = spec.uid.map(|_| (libc::RLIMIT_NPROC, spec.processes));
    let others = [
        (libc::RLIMIT_FSIZE, spec.work.bounds.bytes),
        (libc::RLIMIT_NOFILE, spec.open_files),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, 64 << 10),
    ];
    for (resource, value) in others.into_iter().chain(address).chain(processes) {
        sys::set_limit(resource, value).step("set a limit")?;
    }
    let landlock_rules = match &spec.view {
        RunView::Own(..) => LandlockRules::for_own_root(&[Path::new("/tmp"), &spec.work.inside]),
        RunView::Host(readable) => {
            sys::no_new_privileges().step("no new privileges")?;
            LandlockRules::for_host(readable, &[], &spec.work.inside)
        }
    };
    let landlock_rules = landlock_rules.step("landlock")?;
    let filters = seccomp::compile().step("compile the filter")?;
    filters.allow_known().step("system call filter")?;
    filters.refuse().step("system call filter")?;
    if spec.uid.is_some() {
        sys::drop_bounding_set().step("drop the bounding set")?;
        for number in [1, 2] {
            sys::let_reopen(sys::borrow(number)).step("share the output")?;
        }
    }
    confine(spec.uid, landlock_rules)?;
    sys::reset_signals();
    Err(become_program(&spec.program))
}

/// Exits a process inside that failed. The supervisor passes the code on.
fn fail(why: Result<Infallible>) -> ! {
    let Err(error) = why;
    let _ = writeln!(io::stderr(), "sandbox: {error}");
    sys::exit_now(RunFailure::Fault as i32)
}

/// Converts a wait status to a shell's exit code.
fn exit_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    }
}
