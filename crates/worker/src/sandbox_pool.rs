//! Keeps a zygote and its blanks: sandboxes made ahead of need that no user's code has touched.
//!
//! One thread per zygote: the kernel ties a zygote's life to the thread that started it, and forking is
//! serial anyway. A cold start takes a blank and the thread makes the next one a moment later; a start
//! that finds none goes before such refills, and makes the thread keep more of them for a while.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandbox::InitRequest;
use sandbox::cgroup::Limits;
use sandbox::guest::{Confinement, ForkRequest};
use sandbox::launch::ZygoteSpec;
use sandbox::zygote::{GuestEnds, Zygote};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use crate::Error;
use crate::exit_statuses::ExitStatuses;
use crate::identity::{IdentityPool, InstanceIdentity};
use crate::process::{self, HostResources, Process, WorkDirectory};

/// How many times as many blanks as usual are kept where starts find none.
const GROWTH_FACTOR_MAX: usize = 4;
/// How long a start that took a blank is let alone before another is made, where half of them are left: making one takes
/// more of the processors than the start itself.
const REFILL_DELAY: Duration = Duration::from_millis(8);
/// How long more than the usual number are kept since they were last short.
const SHRINK_AFTER: Duration = Duration::from_secs(5);

/// What a blank may use: what is made ahead of need does not push aside what runs. As most functions have it, since each
/// limit that differs is written when a start waits.
fn initial_limits(processes: u32) -> Limits {
    Limits {
        memory_bytes: 128 << 20,
        pids: processes,
        cpu_weight: 125,
        cpu_milli: 1000,
    }
}

/// A sandboxed process that waits to be given a function.
#[derive(Debug)]
pub(crate) struct PrewarmedSandbox {
    pub(crate) process: Arc<Process>,
    /// Where it is told its function.
    pub(crate) socket: UnixStream,
    pub(crate) log: OwnedFd,
    pub(crate) hostname: String,
    /// Where it sees what runtimes are made of.
    pub(crate) shims: PathBuf,
    /// An empty directory of the host, where it has a root of its own.
    pub(crate) empty: Option<PathBuf>,
    /// Whether it is a copy of an interpreter.
    pub(crate) is_copy: bool,
}

impl PrewarmedSandbox {
    /// One that waits says nothing: something to read is the end of its process, whose cell may take a moment longer.
    fn is_alive(&self) -> bool {
        self.process.ended().is_none() && !sandbox::is_readable(self.socket.as_fd())
    }
}

/// How blanks are made.
#[derive(Clone, Debug)]
pub(crate) struct PoolSettings {
    /// Virga's own binary.
    pub(crate) virga: PathBuf,
    pub(crate) zygote: ZygoteSpec,
    /// Whose they become.
    pub(crate) account: u64,
    /// Where blanks see what runtimes are made of.
    pub(crate) shims: PathBuf,
    /// How many wait ready where starts are rare.
    pub(crate) ready: usize,
    pub(crate) tmp_bytes: u64,
    pub(crate) tmp_inodes: u64,
    pub(crate) open_files: u64,
    pub(crate) processes: u32,
    pub(crate) renewal: ZygoteRenewal,
    pub(crate) sandbox_kind: SandboxKind,
}

/// Where blanks are made.
#[derive(Clone, Debug)]
pub(crate) enum SandboxKind {
    /// In cells, with control groups.
    Namespaces,
    /// On the host.
    Host {
        /// What they read of it.
        readable: Vec<PathBuf>,
        /// Where each has a directory for temporary files.
        work_directories: PathBuf,
    },
}

/// When a zygote is followed by a fresh one: all that come of one share its memory's layout.
#[derive(Clone, Copy, Debug)]
pub struct ZygoteRenewal {
    /// After so many blanks,
    pub forks: u32,
    /// or at this age, when the next blank is wanted.
    pub age: Duration,
}

enum PoolRequest {
    Make(oneshot::Sender<Result<PrewarmedSandbox, Error>>),
    /// One that waited was taken.
    Refill,
}

type Ready = Arc<Mutex<VecDeque<PrewarmedSandbox>>>;

/// A handle on the thread. When the last one goes, the zygote and all its instances end.
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

    /// A blank: one that waits, or one made now.
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
    /// One of those that wait, for its user's sake.
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

/// The thread's state.
struct PoolThread {
    settings: PoolSettings,
    /// How many blanks are wanted now.
    target: usize,
    resources: Arc<HostResources>,
    identities: Arc<IdentityPool>,
    zygote: Option<ActiveZygote>,
    /// What follows it, while it warms up.
    next: Option<(Zygote, OwnedFd)>,
    /// When a blank was taken last.
    last_taken: Option<Instant>,
    ready: Ready,
    inbox: Receiver<PoolRequest>,
    failures: u32,
}

/// A zygote in use. It lives on until the last instance that it made has ended.
struct ActiveZygote {
    zygote: Arc<Zygote>,
    /// Closed when it has ended, of itself or not.
    is_alive: watch::Receiver<()>,
    exit_statuses: Arc<ExitStatuses>,
    forks: u32,
    born: Instant,
}

impl ActiveZygote {
    fn begin((zygote, ends): (Zygote, OwnedFd)) -> Result<Self, sandbox::Error> {
        zygote.wait_until_warm()?;
        info!(pid = zygote.pid(), "zygote started");
        let (living, is_alive) = watch::channel(());
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
            is_alive,
            exit_statuses,
            forks: 0,
            born: Instant::now(),
        })
    }
}

/// What keeps a blank from being made.
enum MakeError {
    /// Something on this side, as that no descriptor is free; the zygote is as good as before.
    Local(Error),
    /// The zygote cannot be talked to.
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

    /// The next ask, which is waited for no longer than this.
    fn next_request(&self, pause: Option<Duration>) -> Result<PoolRequest, RecvTimeoutError> {
        match pause {
            Some(pause) => self.inbox.recv_timeout(pause),
            None => self.inbox.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// When there is something to do without an ask: more blanks to make, or to give up; none where all is as it is wanted.
    fn pause(&self) -> Option<Duration> {
        if self.ready_count() >= self.target {
            return (self.target > self.settings.ready).then_some(SHRINK_AFTER);
        }
        let since = self.last_taken.filter(|_| !self.is_half_empty());
        Some(since.map_or(Duration::ZERO, |last_taken| {
            REFILL_DELAY.saturating_sub(last_taken.elapsed())
        }))
    }

    /// Starts have not been short of blanks for a while.
    fn shrink(&mut self) {
        self.target = (self.target / 2).max(self.settings.ready);
        while self.ready_count() > self.target {
            if let Some(unneeded) = pop_alive(&self.ready) {
                unneeded.process.kill();
            }
        }
    }

    fn refill(&mut self) {
        // Where they go as fast as they come, the processors are better spent on more of them.
        let demand_is_high = self
            .last_taken
            .is_some_and(|last_taken| last_taken.elapsed() < REFILL_DELAY);
        let skip_warm_up = demand_is_high && self.is_half_empty();
        match self.make(!skip_warm_up) {
            Ok(prewarmed) => self.keep(prewarmed),
            Err(e) => {
                let pause = Duration::from_millis(100 << self.failures.min(7));
                self.failures += 1;
                if !self.resources.is_closed() {
                    warn!(error = %e, ?pause, "cannot make a sandbox ahead of need");
                }
                match self.inbox.recv_timeout(pause) {
                    Ok(PoolRequest::Make(sender)) => drop(sender.send(self.make(false))),
                    Ok(PoolRequest::Refill)
                    | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
            }
        }
    }

    /// Whether less than half of the blanks that are wanted are there.
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

    /// Makes one, which rehearses where nobody waits for it.
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
                    warn!(%error, "a zygote failed and is started anew");
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
        let mut slot = match &self.resources.tree {
            Some(tree) => Some(tree.acquire(Some(self.settings.account)).map_err(local)?),
            None => None,
        };
        let mut cgroups = Vec::new();
        if let Some(slot) = &mut slot {
            slot.set(&initial_limits(self.settings.processes))
                .map_err(local)?;
            slot.begin();
            cgroups = slot.attach_files().map_err(local)?;
        }
        let (socket, guest_socket) = UnixStream::pair().map_err(io("make an instance's socket"))?;
        let (log, guest_log) =
            sandbox::close_on_exec_pipe().map_err(io("make an instance's log"))?;
        let hostname = format!("scf-{user}");
        let (space, own, work_directory, confinement) = match &self.settings.sandbox_kind {
            SandboxKind::Namespaces => {
                let space = InitRequest {
                    uid: user,
                    hostname: hostname.clone(),
                    tmp_bytes: self.settings.tmp_bytes,
                    tmp_inodes: self.settings.tmp_inodes,
                };
                (Some(space), Some(user), None, Confinement::Namespaces)
            }
            SandboxKind::Host {
                readable,
                work_directories,
            } => {
                let work_directory = WorkDirectory::make(work_directories, &hostname);
                let work_directory =
                    work_directory.map_err(io("make a directory for temporary files"))?;
                let confinement = Confinement::Landlock {
                    readable: readable.clone(),
                    writable: work_directory.0.clone(),
                };
                (None, None, Some(work_directory), confinement)
            }
        };
        let zygote_failed = |e: sandbox::Error| MakeError::Zygote(e.into());
        let active_zygote = self.active_zygote().map_err(zygote_failed)?;
        active_zygote.forks += 1;
        let (zygote, is_alive) = (active_zygote.zygote.clone(), active_zygote.is_alive.clone());
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
            cgroups: cgroups.iter().map(AsFd::as_fd).collect(),
        };
        let cell = match &space {
            Some(space) => Some(
                zygote
                    .make_init(space, identity.network().map(AsFd::as_fd))
                    .map_err(zygote_failed)?,
            ),
            None => None,
        };
        let pidfd = zygote.fork(&request, cell, &ends).map_err(zygote_failed)?;
        let process = Process::adopt(
            pidfd,
            (zygote, is_alive),
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

    /// The zygote to fork from: the one in use, its successor once that is warm, or the first.
    fn active_zygote(&mut self) -> Result<&mut ActiveZygote, sandbox::Error> {
        if let Some(next) = self.next.take_if(|(next, _)| next.has_spoken()) {
            match ActiveZygote::begin(next) {
                Ok(fresh) => self.zygote = Some(fresh),
                Err(error) => {
                    warn!(%error, "a zygote's successor failed; another is started later")
                }
            }
        }
        let ZygoteRenewal { forks, age } = self.settings.renewal;
        let (virga, spec) = (&self.settings.virga, &self.settings.zygote);
        match &mut self.zygote {
            Some(old) => {
                if self.next.is_none() && (old.forks >= forks || old.born.elapsed() >= age) {
                    // Where it cannot be started the old one goes on, and the next try is a whole life later.
                    (old.forks, old.born) = (0, Instant::now());
                    self.next = Zygote::start(virga, spec)
                        .inspect_err(|error| warn!(%error, "cannot renew a zygote"))
                        .ok();
                }
                Ok(old)
            }
            empty => Ok(empty.insert(ActiveZygote::begin(Zygote::start(virga, spec)?)?)),
        }
    }
}
