//! A pool of pre-warmed sandboxes that are forked from one zygote. No user code has run in them.
//!
//! Each zygote has a thread of its own: the kernel ties a zygote's life to the thread that started it, and forking is
//! serial anyway. A cold start takes a ready sandbox, and the thread makes a replacement a moment later. A start that
//! finds none goes before replacements and makes the pool grow for a while.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandbox::InitRequest;
use sandbox::cgroup::{CgroupSlot, Limits};
use sandbox::guest::{Confinement, ForkRequest};
use sandbox::launch::ZygoteSpec;
use sandbox::zygote::{GuestEnds, Zygote};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use crate::Error;
use crate::exit_statuses::ExitStatuses;
use crate::host_resources::HostResources;
use crate::identity::{IdentityPool, InstanceIdentity};
use crate::process::{self, Process};
use crate::work_directory::WorkDirectory;

/// Largest factor by which the pool grows over its configured size.
const GROWTH_FACTOR_MAX: usize = 4;
/// Pause after a sandbox was taken before its replacement is made, while at least half of the pool is ready. Making one
/// takes more processor time than the start itself, which would be slowed down.
const REFILL_DELAY: Duration = Duration::from_millis(8);
/// How long the pool keeps its increased size after it was last short.
const SHRINK_AFTER: Duration = Duration::from_secs(5);

/// Limits of a sandbox before its assignment. The low CPU weight keeps pre-warming from slowing down requests. The
/// values are those of most functions, since every limit that differs is written while a start waits.
fn initial_limits(processes: u32) -> Limits {
    Limits {
        memory_bytes: 128 << 20,
        pids: processes,
        cpu_weight: 125,
        cpu_milli: 1000,
    }
}

/// A sandboxed process that waits for the assignment of a function.
#[derive(Debug)]
pub(crate) struct PrewarmedSandbox {
    pub(crate) process: Arc<Process>,
    /// The socket over which the sandbox receives its assignment.
    pub(crate) socket: UnixStream,
    pub(crate) log: OwnedFd,
    pub(crate) hostname: String,
    /// Path of the runtime shims inside.
    pub(crate) shims: PathBuf,
    /// An empty directory of the host, if the sandbox has a root of its own.
    pub(crate) empty: Option<PathBuf>,
    /// Whether the process is a copy of a warm interpreter.
    pub(crate) is_copy: bool,
}

impl PrewarmedSandbox {
    /// Returns whether the sandbox is usable. A waiting one writes nothing, so a readable socket means that its process
    /// has ended, even if the sandbox init has not yet.
    fn is_alive(&self) -> bool {
        self.process.ended().is_none() && !sandbox::is_readable(self.socket.as_fd())
    }
}

/// Configuration of a pool.
#[derive(Clone, Debug)]
pub(crate) struct PoolSettings {
    /// Virga's own binary.
    pub(crate) virga: PathBuf,
    pub(crate) zygote: ZygoteSpec,
    /// The account whose functions use the sandboxes.
    pub(crate) account: u64,
    /// Path of the runtime shims inside.
    pub(crate) shims: PathBuf,
    /// Configured pool size.
    pub(crate) ready: usize,
    pub(crate) tmp_bytes: u64,
    pub(crate) tmp_inodes: u64,
    pub(crate) open_files: u64,
    pub(crate) processes: u32,
    pub(crate) renewal: ZygoteRenewal,
    pub(crate) sandbox_kind: SandboxKind,
}

/// The kind of sandboxes that a pool makes.
#[derive(Clone, Debug)]
pub(crate) enum SandboxKind {
    /// With namespaces and control groups.
    Namespaces,
    /// Processes of the host, confined by Landlock.
    Host {
        /// Host paths that they may read.
        readable: Vec<PathBuf>,
        /// Parent of their work directories.
        work_directories: PathBuf,
    },
}

/// When a zygote is replaced by a fresh one. All instances of a zygote share its memory layout (ASLR), so it is renewed.
#[derive(Clone, Copy, Debug)]
pub struct ZygoteRenewal {
    /// Forks after which the zygote is replaced.
    pub forks: u32,
    /// Age at which the zygote is replaced, checked when a sandbox is made.
    pub age: Duration,
}

enum PoolRequest {
    Make(oneshot::Sender<Result<PrewarmedSandbox, Error>>),
    /// A ready sandbox was taken.
    Refill,
}

type Ready = Arc<Mutex<VecDeque<PrewarmedSandbox>>>;

/// A handle on the pool's thread. Dropping the last one ends the zygote and all its instances.
#[derive(Debug)]
pub(crate) struct SandboxPool {
    requests: Sender<PoolRequest>,
    ready: Ready,
}

impl SandboxPool {
    /// Starts the thread, which starts the zygote. Must be called within a tokio runtime.
    pub(crate) fn start(
        name: &str,
        settings: PoolSettings,
        resources: Arc<HostResources>,
        identities: Arc<IdentityPool>,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::channel();
        let ready = Ready::default();
        let thread = PoolThread {
            target: settings.ready,
            settings,
            resources,
            identities,
            zygote: None,
            next: None,
            last_taken: None,
            ready: ready.clone(),
            inbox,
            failures: 0,
        };
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                thread.run();
            })?;
        Ok(Self { requests, ready })
    }

    /// Takes a ready sandbox, or waits until one is made.
    pub(crate) async fn take(&self) -> Result<PrewarmedSandbox, Error> {
        let waiting = pop_alive(&self.ready);
        if let Some(prewarmed) = waiting {
            let _ = self.requests.send(PoolRequest::Refill);
            return Ok(prewarmed);
        }
        let (sender, answer) = oneshot::channel();
        self.requests
            .send(PoolRequest::Make(sender))
            .map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl SandboxPool {
    /// Kills a ready sandbox to free its user id. Returns its process.
    pub(crate) fn kill_ready_sandbox(&self) -> Option<Arc<Process>> {
        let evicted = pop_alive(&self.ready)?;
        evicted.process.kill();
        Some(evicted.process.clone())
    }
}

fn pop_alive(ready: &Ready) -> Option<PrewarmedSandbox> {
    let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
    std::iter::from_fn(|| ready.pop_front()).find(PrewarmedSandbox::is_alive)
}

/// The state of the pool's thread.
struct PoolThread {
    settings: PoolSettings,
    /// Current target size of the pool.
    target: usize,
    resources: Arc<HostResources>,
    identities: Arc<IdentityPool>,
    zygote: Option<ActiveZygote>,
    /// The next zygote while it warms up.
    next: Option<(Zygote, OwnedFd)>,
    /// When a sandbox was last taken.
    last_taken: Option<Instant>,
    ready: Ready,
    inbox: Receiver<PoolRequest>,
    failures: u32,
}

/// A zygote in use. It lives until the last instance forked from it has ended.
struct ActiveZygote {
    zygote: Arc<Zygote>,
    /// Closed when the zygote has ended.
    alive: watch::Receiver<()>,
    exit_statuses: Arc<ExitStatuses>,
    forks: u32,
    born: Instant,
}

impl ActiveZygote {
    fn begin((zygote, ends): (Zygote, OwnedFd)) -> Result<Self, sandbox::Error> {
        zygote.wait_until_warm()?;
        info!(pid = zygote.pid(), "zygote started");
        let (living, alive) = watch::channel(());
        let watch = |source| sandbox::Error {
            step: "watch a zygote".into(),
            source,
        };
        let ended = process::wait_for_exit(zygote.watch()?).map_err(watch)?;
        let exit_statuses = ExitStatuses::receive(ends).map_err(watch)?;
        tokio::spawn(async move {
            ended.await;
            drop(living);
        });
        Ok(Self {
            zygote: Arc::new(zygote),
            alive,
            exit_statuses,
            forks: 0,
            born: Instant::now(),
        })
    }
}

/// The surroundings of an instance: namespaces of its own, or a directory of the host.
struct Surroundings {
    /// Request for its sandbox init, if it has namespaces.
    init: Option<InitRequest>,
    /// User id of its own.
    user: Option<u32>,
    work_directory: Option<WorkDirectory>,
    confinement: Confinement,
}

/// Why a sandbox could not be made.
enum MakeError {
    /// A local fault, for example no free descriptor. The zygote is unaffected.
    Local(Error),
    /// Communication with the zygote failed.
    Zygote(Error),
}

impl PoolThread {
    fn run(mut self) {
        let mut waiting_starts = VecDeque::new();
        loop {
            let pause = if waiting_starts.is_empty() {
                self.pause()
            } else {
                Some(Duration::ZERO)
            };
            match self.next_request(pause) {
                Ok(PoolRequest::Make(sender)) => {
                    self.target = (2 * self.target).min(GROWTH_FACTOR_MAX * self.settings.ready);
                    waiting_starts.push_back(sender);
                }
                Ok(PoolRequest::Refill) => self.last_taken = Some(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => match waiting_starts.pop_front() {
                    Some(sender) => {
                        if let Err(Ok(unclaimed)) = sender.send(self.make(false)) {
                            self.keep(unclaimed);
                        }
                    }
                    None if self.ready_count() < self.target => self.refill(),
                    None => self.shrink(),
                },
            }
        }
    }

    /// Receives the next request; waits no longer than `pause`.
    fn next_request(&self, pause: Option<Duration>) -> Result<PoolRequest, RecvTimeoutError> {
        match pause {
            Some(pause) => self.inbox.recv_timeout(pause),
            None => self.inbox.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// Returns the time until the thread has work without a request: sandboxes to make, or surplus ones to kill. `None`
    /// if the pool has its configured size.
    fn pause(&self) -> Option<Duration> {
        if self.ready_count() >= self.target {
            return (self.target > self.settings.ready).then_some(SHRINK_AFTER);
        }
        let since = self.last_taken.filter(|_| !self.is_half_empty());
        Some(since.map_or(Duration::ZERO, |last_taken| {
            REFILL_DELAY.saturating_sub(last_taken.elapsed())
        }))
    }

    /// Shrinks the pool after it has not been short for a while.
    fn shrink(&mut self) {
        self.target = (self.target / 2).max(self.settings.ready);
        while self.ready_count() > self.target {
            if let Some(unneeded) = pop_alive(&self.ready) {
                unneeded.process.kill();
            }
        }
    }

    fn refill(&mut self) {
        // At high demand, processor time is better spent on more sandboxes than on their warm-up runs.
        let demand_is_high = self
            .last_taken
            .is_some_and(|last_taken| last_taken.elapsed() < REFILL_DELAY);
        let skip_warm_up = demand_is_high && self.is_half_empty();
        match self.make(!skip_warm_up) {
            Ok(prewarmed) => self.keep(prewarmed),
            Err(e) => {
                // Exponential backoff from 100 ms to 12.8 s.
                let pause = Duration::from_millis(100 << self.failures.min(7));
                self.failures += 1;
                if !self.resources.is_closed() {
                    warn!(error = %e, ?pause, "failed to make a pre-warmed sandbox; retrying after the pause");
                }
                match self.inbox.recv_timeout(pause) {
                    Ok(PoolRequest::Make(sender)) => drop(sender.send(self.make(false))),
                    Ok(PoolRequest::Refill)
                    | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
            }
        }
    }

    /// Returns whether less than half of the target is ready.
    fn is_half_empty(&self) -> bool {
        2 * self.ready_count() < self.target
    }

    fn ready_count(&self) -> usize {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn keep(&self, prewarmed: PrewarmedSandbox) {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(prewarmed);
    }

    /// Makes a sandbox. With `warm_up`, its process does a warm-up run first, which no start waits for.
    fn make(&mut self, warm_up: bool) -> Result<PrewarmedSandbox, Error> {
        let identity = self.identities.take()?;
        match self.make_as(identity, warm_up) {
            Ok(prewarmed) => {
                self.failures = 0;
                Ok(prewarmed)
            }
            Err(MakeError::Local(error)) => Err(error),
            Err(MakeError::Zygote(error)) => {
                if !self.resources.is_closed() {
                    warn!(%error, "a zygote failed; starting another");
                }
                self.zygote = None;
                Err(error)
            }
        }
    }

    fn make_as(
        &mut self,
        identity: InstanceIdentity,
        warm_up: bool,
    ) -> Result<PrewarmedSandbox, MakeError> {
        if self.resources.is_closed() {
            return Err(MakeError::Local(Error::Closed));
        }
        let user = identity.user();
        let local = |error: sandbox::Error| MakeError::Local(error.into());
        let io = |step| move |e| MakeError::Local(Error::io(step)(e));
        let (slot, cgroups) = self.acquire_slot().map_err(local)?.unzip();
        let (socket, guest_socket) = UnixStream::pair().map_err(io("make an instance's socket"))?;
        let (log, guest_log) =
            sandbox::close_on_exec_pipe().map_err(io("make an instance's log"))?;
        let hostname = format!("scf-{user}");
        let Surroundings {
            init,
            user: own,
            work_directory,
            confinement,
        } = self
            .surroundings(user, &hostname)
            .map_err(io("make a directory for temporary files"))?;
        let zygote_failed = |e: sandbox::Error| MakeError::Zygote(e.into());
        let active_zygote = self.active_zygote().map_err(zygote_failed)?;
        active_zygote.forks += 1;
        let (zygote, alive) = (active_zygote.zygote.clone(), active_zygote.alive.clone());
        let (number, status) = active_zygote.exit_statuses.expect();
        let request = ForkRequest {
            number,
            uid: own,
            open_files: self.settings.open_files,
            processes: self.settings.processes.into(),
            confinement,
            warm_up,
        };
        let ends = GuestEnds {
            socket: guest_socket.as_fd(),
            log: guest_log.as_fd(),
            cgroups: cgroups.iter().flatten().map(AsFd::as_fd).collect(),
        };
        let network = identity.network().map(AsFd::as_fd);
        let init = init.map(|request| zygote.make_init(&request, network));
        let init = init.transpose().map_err(zygote_failed)?;
        let pidfd = zygote.fork(&request, init, &ends).map_err(zygote_failed)?;
        let process = Process::adopt(
            pidfd,
            (zygote, alive),
            status,
            slot,
            work_directory,
            identity,
            self.resources.clone(),
        )
        .map_err(io("watch an instance"))?;
        Ok(PrewarmedSandbox {
            process,
            socket,
            log,
            hostname,
            shims: self.settings.shims.clone(),
            empty: self
                .settings
                .zygote
                .root
                .as_ref()
                .map(|root| root.staging.clone()),
            is_copy: self.settings.zygote.program.is_some(),
        })
    }

    /// Acquires a slot with the limits of a pre-warmed sandbox, and the files by which a process enters it. `None` without
    /// control groups.
    fn acquire_slot(&self) -> Result<Option<(CgroupSlot, Vec<File>)>, sandbox::Error> {
        let Some(tree) = &self.resources.tree else {
            return Ok(None);
        };
        let mut slot = tree.acquire(Some(self.settings.account))?;
        slot.set(&initial_limits(self.settings.processes))?;
        slot.begin();
        let files = slot.attach_files()?;
        Ok(Some((slot, files)))
    }

    /// Prepares the surroundings of an instance.
    fn surroundings(&self, user: u32, hostname: &str) -> std::io::Result<Surroundings> {
        Ok(match &self.settings.sandbox_kind {
            SandboxKind::Namespaces => Surroundings {
                init: Some(InitRequest {
                    uid: user,
                    hostname: hostname.to_owned(),
                    tmp_bytes: self.settings.tmp_bytes,
                    tmp_inodes: self.settings.tmp_inodes,
                }),
                user: Some(user),
                work_directory: None,
                confinement: Confinement::Namespaces,
            },
            SandboxKind::Host {
                readable,
                work_directories,
            } => {
                let work_directory = WorkDirectory::make(work_directories, hostname)?;
                let confinement = Confinement::Landlock {
                    readable: readable.clone(),
                    writable: work_directory.0.clone(),
                };
                Surroundings {
                    init: None,
                    user: None,
                    work_directory: Some(work_directory),
                    confinement,
                }
            }
        })
    }

    /// Returns the zygote to fork from: the successor once it is warm, else the one in use, else a first one.
    fn active_zygote(&mut self) -> Result<&mut ActiveZygote, sandbox::Error> {
        if let Some(next) = self.next.take_if(|(next, _)| next.has_spoken()) {
            match ActiveZygote::begin(next) {
                Ok(fresh) => self.zygote = Some(fresh),
                Err(error) => {
                    warn!(%error, "the successor of a zygote failed; another is started later")
                }
            }
        }
        let ZygoteRenewal { forks, age } = self.settings.renewal;
        let (virga, spec) = (&self.settings.virga, &self.settings.zygote);
        match &mut self.zygote {
            Some(old) => {
                if self.next.is_none() && (old.forks >= forks || old.born.elapsed() >= age) {
                    // If the successor cannot be started, the old zygote stays in use and the next attempt comes after
                    // another full term.
                    (old.forks, old.born) = (0, Instant::now());
                    self.next = Zygote::start(virga, spec)
                        .inspect_err(
                            |error| warn!(%error, "failed to start the successor of a zygote"),
                        )
                        .ok();
                }
                Ok(old)
            }
            empty => Ok(empty.insert(ActiveZygote::begin(Zygote::start(virga, spec)?)?)),
        }
    }
}
