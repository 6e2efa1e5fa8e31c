//! Running one program to its end in a sandbox of its own: a build, which runs strangers' code.
//!
//! Three processes. The *supervisor* is virga's child, outside and privileged; it waits, and takes the result when nobody
//! is left who could change it. The *sandbox init* is the first process of the program's namespaces; it keeps no
//! capability and never changes its user, so that the kernel's word that its parent has ended is not lost. The *program*
//! gives up every privilege before a byte of a stranger's is read. The end of virga, of the supervisor or of the init is
//! the end of all of them, and of whatever the program has started.
//!
//! The program writes in a file system of its own, in memory, whose size and number of files the kernel bounds, and which
//! counts as the program's memory. Nothing of the host's is writable.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::beneath::{self, Directory, TreeBounds, TreeError};
use crate::landlock_rules::LandlockRules;
use crate::launch::{Program, SPEC_MAX, become_program, confine};
use crate::{InitRequest, Result, RootSpec, Step, root, seccomp, sys};

/// The hidden subcommand that runs one program in a sandbox.
pub const RUN: &str = "__run";

/// A program to run to its end in a sandbox, as a tool of the platform that touches the user's files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    /// Virga's process id: a supervisor whose parent is another has lost virga.
    pub virga: u32,
    /// What it sees.
    pub view: RunView,
    /// What to run.
    pub program: Program,
    /// The user and group that it runs as; none where it stays virga's own.
    pub uid: Option<u32>,
    /// Where it works, and what becomes of that.
    pub work: WorkDirectory,
    /// Files into which its first process writes `0` to enter its control groups.
    pub cgroups: Vec<PathBuf>,
    /// Size of its `/tmp`, bytes.
    pub tmp_bytes: u64,
    /// Files and directories in its `/tmp`.
    pub tmp_inodes: u64,
    /// Largest address space of one of its processes, bytes, where no control group bounds its memory.
    pub address_bytes: Option<u64>,
    /// Open files of a process.
    pub open_files: u64,
    /// Processes and threads of its user.
    pub processes: u64,
    /// Longest run, seconds.
    pub seconds: u32,
}

/// A program's working directory, the one place beside `/tmp` where it writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkDirectory {
    /// Where it shows: a directory of the root's, over which a file system is mounted, or without a root one of the host's.
    pub inside: PathBuf,
    /// A directory of the host's whose content it begins with.
    pub seed: Option<PathBuf>,
    /// An empty directory of the host's for what it holds at the end.
    pub result: PathBuf,
    /// Whether the result is taken although the program has failed.
    pub always: bool,
    /// How large it may be.
    pub bounds: TreeBounds,
}

/// What a program that runs to its end sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RunView {
    /// A root and namespaces of its own, and a network.
    Own(RootSpec, RunNetwork),
    /// The host, of whose files it reads those named and its directory.
    Host(Vec<PathBuf>),
}

/// The network of a program that runs to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RunNetwork {
    /// None.
    Nothing,
    /// The host's own, and all that it reaches.
    Host,
    /// The namespace behind this path.
    Namespace(PathBuf),
}

/// How a supervisor ends that has more to say than its program's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RunFailure {
    /// The program ran for too long.
    Timeout = 200,
    /// Its result holds too much, or what is not allowed; standard error says what.
    Refused = 201,
    /// The sandbox could not be made, or the result not be taken; standard error says why.
    Fault = 202,
}

impl RunFailure {
    /// Reads a supervisor's exit code.
    pub fn of(code: Option<i32>) -> Option<Self> {
        let all = [Self::Timeout, Self::Refused, Self::Fault];
        all.into_iter().find(|one| Some(*one as i32) == code)
    }
}

/// Runs one program in a sandbox and ends with its exit code, or a [`RunFailure`]. The specification is the first line of
/// standard input; the program runs for as long as that stays open.
///
/// # Errors
/// The step that failed. Does not return otherwise.
pub fn run() -> Result<Infallible> {
    // 1. What to run. Where virga has no namespaces to lean on, the end of standard input is how its end is known.
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
    // 2. End with virga: the kernel tells of its end from now on; and it has not ended before.
    if let RunView::Own(..) = spec.view {
        sys::die_with_parent().step("follow the parent")?;
    }
    if std::os::unix::process::parent_id() != spec.virga {
        sys::exit_now(1);
    }
    sys::new_session();
    sys::make_readable_files();
    // 3. What of the host is needed later, while its files are there.
    let open = |path: &Path| Directory::open(path).step(format!("open {}", path.display()));
    let held = HostFiles {
        seed: spec.work.seed.as_deref().map(open).transpose()?,
        cgroups: spec
            .cgroups
            .iter()
            .map(|path| beneath::open_to_write(path).step("open a control group"))
            .collect::<Result<_>>()?,
    };
    let result = open(&spec.work.result)?;
    // 4. Namespaces, a root, and where it works.
    let private = match &spec.view {
        RunView::Own(root, network) => go_inside(&spec, root, network)?,
        RunView::Host(_) => {
            // What is left of it by its parents comes here.
            sys::adopt_orphans().step("adopt orphans")?;
            Vec::new()
        }
    };
    // 5. The first process inside. Whoever ends before the other knows of it is noticed by this pipe.
    let (alive, own) = sys::close_on_exec_pipe().step("make a pipe")?;
    let child = match sys::fork().step("fork")? {
        sys::Fork::Child => {
            drop(own);
            fail(match spec.view {
                RunView::Own(..) => sandbox_init(&spec, held, &private, &alive),
                RunView::Host(_) => program(&spec, Some(held)),
            })
        }
        sys::Fork::Parent(child) => child,
    };
    drop((alive, held));
    let code = supervise(child, until)?;
    drop(own);
    if let RunView::Host(_) = spec.view {
        sys::end_children();
    }
    // 6. Nobody is left who could change it.
    match code {
        Some(code) if code == 0 || spec.work.always => take(&spec.work, &result, code),
        Some(code) => sys::exit_now(code),
        None => sys::exit_now(RunFailure::Timeout as i32),
    }
}

/// What the processes inside need of the host.
struct HostFiles {
    seed: Option<Directory>,
    cgroups: Vec<File>,
}

/// Waits for the first process, for so long, and for virga. Ends it, and with it everything, when the time is up.
fn supervise(child: libc::pid_t, until: Instant) -> Result<Option<i32>> {
    let process = sys::Pidfd::open(child).step("open a pidfd")?;
    let stdin = io::stdin();
    let [ended, _] = sys::wait_for_either_until([process.as_fd(), stdin.as_fd()], until)
        .step("wait")?
        .unwrap_or([false, false]);
    if !ended {
        // Too long, or virga closed its end: it has ended, or wants this to end.
        process.kill().step("end a build")?;
    }
    while let Some((pid, status)) = sys::wait_any().step("wait")? {
        if pid == child {
            return Ok(ended.then(|| exit_code(status)));
        }
    }
    Ok(None)
}

/// Takes what the program has left, and ends with its exit code.
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

/// Makes namespaces, a root, and the file system in which the program works.
///
/// Returns the places of the root whose files are yet to be made its own.
fn go_inside(spec: &RunSpec, root: &RootSpec, network: &RunNetwork) -> Result<Vec<PathBuf>> {
    // The pid namespace holds from the next fork on.
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
    // Files take whole pages, and the directory itself counts.
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

/// The first process inside: everything ends with it.
fn sandbox_init(
    spec: &RunSpec,
    held: HostFiles,
    private: &[PathBuf],
    alive: &OwnedFd,
) -> Result<Infallible> {
    // 1. End with the supervisor, and so with virga.
    sys::die_with_parent().step("follow the supervisor")?;
    if sys::is_readable(alive.as_fd()) {
        sys::exit_now(1);
    }
    // 2. Into its limits; all that follows counts.
    for mut cgroup in held.cgroups {
        cgroup.write_all(b"0").step("enter a control group")?;
    }
    // 3. A private /proc and /tmp, names and files that are its own, and what it begins with.
    let uid = spec.uid.unwrap_or_default();
    let own = InitRequest {
        uid,
        hostname: format!("scf-{uid}"),
        tmp_bytes: spec.tmp_bytes,
        tmp_inodes: spec.tmp_inodes,
    };
    sys::set_hostname(&own.hostname).step("set the host's name")?;
    root::furnish(&own, private)?;
    seed(spec, held.seed.as_ref())?;
    // 4. The program.
    let child = match sys::fork().step("fork")? {
        sys::Fork::Child => fail(program(spec, None)),
        sys::Fork::Parent(child) => child,
    };
    // 5. What it does from now on needs no privilege. It never changes its user: that would end what 1. has begun.
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

/// The program's process: limits, then no privilege at all, then the program.
fn program(spec: &RunSpec, held: Option<HostFiles>) -> Result<Infallible> {
    if let Some(held) = &held {
        seed(spec, held.seed.as_ref())?;
        sys::new_session();
    }
    let null: OwnedFd = File::open("/dev/null").step("open /dev/null")?.into();
    sys::dup_to(null.as_fd(), 0).step("close standard input")?;
    std::env::set_current_dir(&spec.work.inside).step("enter the working directory")?;
    let address = spec.address_bytes.map(|bytes| (libc::RLIMIT_AS, bytes));
    // All that a user runs counts together, so a limit on processes is of no use without a user of one's own.
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
        RunView::Own(..) => LandlockRules::inside(&[Path::new("/tmp"), &spec.work.inside]),
        RunView::Host(readable) => {
            sys::no_new_privileges().step("no new privileges")?;
            LandlockRules::around(readable, &[], &spec.work.inside)
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

/// Ends a process inside that could not go on; the supervisor passes the code on.
fn fail(why: Result<Infallible>) -> ! {
    let Err(error) = why;
    let _ = writeln!(io::stderr(), "sandbox: {error}");
    sys::exit_now(RunFailure::Fault as i32)
}

/// A shell's exit code of a wait status.
fn exit_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    }
}
