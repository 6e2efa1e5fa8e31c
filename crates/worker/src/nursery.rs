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
use crate::endings::Endings;
use crate::identity::{Identities, Identity};
use crate::process::{self, Home, Process, Room};

/// How many times as many blanks as usual are kept where starts find none.
const GROWTH_MAX: usize = 4;
/// How long a start that took a blank is let alone before another is made, where half of them are left: making one takes
/// more of the processors than the start itself.
const REST: Duration = Duration::from_millis(8);
/// How long more than the usual number are kept since they were last short.
const SHRINK_AFTER: Duration = Duration::from_secs(5);

/// What a blank may use: what is made ahead of need does not push aside what runs. As most functions have it, since each
/// limit that differs is written when a start waits.
fn blank(processes: u32) -> Limits {
    Limits {
        memory_bytes: 128 << 20,
        pids: processes,
        cpu_weight: 125,
        cpu_milli: 1000,
    }
}

/// A sandboxed process that waits to be given a function.
#[derive(Debug)]
pub(crate) struct Blank {
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

impl Blank {
    /// One that waits says nothing: something to read is the end of its process, whose cell may take a moment longer.
    fn lives(&self) -> bool {
        self.process.ended().is_none() && !sandbox::is_readable(self.socket.as_fd())
    }
}

/// How blanks are made.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
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
    pub(crate) renewal: Renewal,
    pub(crate) place: Place,
}

/// Where blanks are made.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In cells, with control groups.
    Cells,
    /// On the host.
    Host {
        /// What they read of it.
        readable: Vec<PathBuf>,
        /// Where each has a directory for temporary files.
        rooms: PathBuf,
    },
}

/// When a zygote is followed by a fresh one: all that come of one share its memory's layout.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// After so many blanks,
    pub forks: u32,
    /// or at this age, when the next blank is wanted.
    pub age: Duration,
}

enum Ask {
    Make(oneshot::Sender<Result<Blank, Error>>),
    /// One that waited was taken.
    Refill,
}

type Ready = Arc<Mutex<VecDeque<Blank>>>;

/// A handle on the thread. When the last one goes, the zygote and all its instances end.
#[derive(Debug)]
pub(crate) struct Nursery {
    asks: Sender<Ask>,
    ready: Ready,
}

impl Nursery {
    /// Starts the thread, which starts the zygote. Must be called within a tokio runtime.
    pub(crate) fn start(
        name: &str,
        recipe: Recipe,
        home: Arc<Home>,
        identities: Arc<Identities>,
    ) -> std::io::Result<Self> {
        let (asks, inbox) = mpsc::channel();
        let ready = Ready::default();
        let keeper = Keeper {
            target: recipe.ready,
            recipe,
            home,
            identities,
            zygote: None,
            next: None,
            taken: None,
            ready: ready.clone(),
            inbox,
            failures: 0,
        };
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                keeper.run();
            })?;
        Ok(Self { asks, ready })
    }

    /// A blank: one that waits, or one made now.
    pub(crate) async fn take(&self) -> Result<Blank, Error> {
        let waiting = pop_living(&self.ready);
        if let Some(blank) = waiting {
            let _ = self.asks.send(Ask::Refill);
            return Ok(blank);
        }
        let (sender, answer) = oneshot::channel();
        self.asks
            .send(Ask::Make(sender))
            .map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Nursery {
    /// One of those that wait, for its user's sake.
    pub(crate) fn give_up(&self) -> Option<Arc<Process>> {
        let spare = pop_living(&self.ready)?;
        spare.process.kill();
        Some(spare.process.clone())
    }
}

fn pop_living(ready: &Ready) -> Option<Blank> {
    let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
    std::iter::from_fn(|| ready.pop_front()).find(Blank::lives)
}

/// The thread's state.
struct Keeper {
    recipe: Recipe,
    /// How many blanks are wanted now.
    target: usize,
    home: Arc<Home>,
    identities: Arc<Identities>,
    zygote: Option<Generation>,
    /// What follows it, while it warms up.
    next: Option<(Zygote, OwnedFd)>,
    /// When a blank was taken last.
    taken: Option<Instant>,
    ready: Ready,
    inbox: Receiver<Ask>,
    failures: u32,
}

/// A zygote in use. It lives on until the last instance that it made has ended.
struct Generation {
    zygote: Arc<Zygote>,
    /// Closed when it has ended, of itself or not.
    lives: watch::Receiver<()>,
    endings: Arc<Endings>,
    forks: u32,
    born: Instant,
}

impl Generation {
    fn begin((zygote, ends): (Zygote, OwnedFd)) -> Result<Self, sandbox::Error> {
        zygote.wait_until_warm()?;
        info!(pid = zygote.pid(), "zygote started");
        let (living, lives) = watch::channel(());
        let watch = |source| sandbox::Error {
            step: "watch a zygote".into(),
            source,
        };
        let ended = process::end_of(zygote.watch()?).map_err(watch)?;
        let endings = Endings::hear(ends).map_err(watch)?;
        tokio::spawn(async move {
            ended.await;
            drop(living);
        });
        Ok(Self {
            zygote: Arc::new(zygote),
            lives,
            endings,
            forks: 0,
            born: Instant::now(),
        })
    }
}

/// What keeps a blank from being made.
enum Fault {
    /// Something on this side, as that no descriptor is free; the zygote is as good as before.
    Here(Error),
    /// The zygote cannot be talked to.
    Zygote(Error),
}

impl Keeper {
    fn run(mut self) {
        let mut urgent = VecDeque::new();
        loop {
            let pause = if urgent.is_empty() {
                self.pause()
            } else {
                Some(Duration::ZERO)
            };
            match self.next_ask(pause) {
                Ok(Ask::Make(sender)) => {
                    self.target = (2 * self.target).min(GROWTH_MAX * self.recipe.ready);
                    urgent.push_back(sender);
                }
                Ok(Ask::Refill) => self.taken = Some(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => match urgent.pop_front() {
                    Some(sender) => {
                        if let Err(Ok(unwanted)) = sender.send(self.make(false)) {
                            self.keep(unwanted);
                        }
                    }
                    None if self.ready_count() < self.target => self.refill(),
                    None => self.shrink(),
                },
            }
        }
    }

    /// The next ask, which is waited for no longer than this.
    fn next_ask(&self, pause: Option<Duration>) -> Result<Ask, RecvTimeoutError> {
        match pause {
            Some(pause) => self.inbox.recv_timeout(pause),
            None => self.inbox.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// When there is something to do without an ask: more blanks to make, or to give up; none where all is as it is wanted.
    fn pause(&self) -> Option<Duration> {
        if self.ready_count() >= self.target {
            return (self.target > self.recipe.ready).then_some(SHRINK_AFTER);
        }
        let since = self.taken.filter(|_| !self.is_short());
        Some(since.map_or(Duration::ZERO, |taken| REST.saturating_sub(taken.elapsed())))
    }

    /// Starts have not been short of blanks for a while.
    fn shrink(&mut self) {
        self.target = (self.target / 2).max(self.recipe.ready);
        while self.ready_count() > self.target {
            if let Some(unneeded) = pop_living(&self.ready) {
                unneeded.process.kill();
            }
        }
    }

    fn refill(&mut self) {
        // Where they go as fast as they come, the processors are better spent on more of them.
        let goes_fast = self.taken.is_some_and(|taken| taken.elapsed() < REST);
        let hurried = goes_fast && self.is_short();
        match self.make(!hurried) {
            Ok(blank) => self.keep(blank),
            Err(e) => {
                let pause = Duration::from_millis(100 << self.failures.min(7));
                self.failures += 1;
                if !self.home.is_closed() {
                    warn!(error = %e, ?pause, "cannot make a sandbox ahead of need");
                }
                match self.inbox.recv_timeout(pause) {
                    Ok(Ask::Make(sender)) => drop(sender.send(self.make(false))),
                    Ok(Ask::Refill)
                    | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
            }
        }
    }

    /// Whether less than half of the blanks that are wanted are there.
    fn is_short(&self) -> bool {
        2 * self.ready_count() < self.target
    }

    fn ready_count(&self) -> usize {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn keep(&self, blank: Blank) {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(blank);
    }

    /// Makes one, which rehearses where nobody waits for it.
    fn make(&mut self, warm_up: bool) -> Result<Blank, Error> {
        let identity = self.identities.take()?;
        match self.make_as(identity, warm_up) {
            Ok(blank) => {
                self.failures = 0;
                Ok(blank)
            }
            Err(Fault::Here(error)) => Err(error),
            Err(Fault::Zygote(error)) => {
                if !self.home.is_closed() {
                    warn!(%error, "a zygote failed and is started anew");
                }
                self.zygote = None;
                Err(error)
            }
        }
    }

    fn make_as(&mut self, identity: Identity, warm_up: bool) -> Result<Blank, Fault> {
        if self.home.is_closed() {
            return Err(Fault::Here(Error::Closed));
        }
        let user = identity.user();
        let here = |error: sandbox::Error| Fault::Here(error.into());
        let io = |step| move |e| Fault::Here(Error::io(step)(e));
        let mut slot = match &self.home.tree {
            Some(tree) => Some(tree.acquire(Some(self.recipe.account)).map_err(here)?),
            None => None,
        };
        let mut cgroups = Vec::new();
        if let Some(slot) = &mut slot {
            slot.set(&blank(self.recipe.processes)).map_err(here)?;
            slot.begin();
            cgroups = slot.attach_files().map_err(here)?;
        }
        let (socket, guest_socket) = UnixStream::pair().map_err(io("make an instance's socket"))?;
        let (log, guest_log) =
            sandbox::close_on_exec_pipe().map_err(io("make an instance's log"))?;
        let hostname = format!("scf-{user}");
        let (space, own, room, confinement) = match &self.recipe.place {
            Place::Cells => {
                let space = InitRequest {
                    uid: user,
                    hostname: hostname.clone(),
                    tmp_bytes: self.recipe.tmp_bytes,
                    tmp_inodes: self.recipe.tmp_inodes,
                };
                (Some(space), Some(user), None, Confinement::Namespaces)
            }
            Place::Host { readable, rooms } => {
                let room = Room::make(rooms, &hostname);
                let room = room.map_err(io("make a directory for temporary files"))?;
                let confinement = Confinement::Landlock {
                    readable: readable.clone(),
                    writable: room.0.clone(),
                };
                (None, None, Some(room), confinement)
            }
        };
        let broken = |e: sandbox::Error| Fault::Zygote(e.into());
        let generation = self.generation().map_err(broken)?;
        generation.forks += 1;
        let (zygote, lives) = (generation.zygote.clone(), generation.lives.clone());
        let (number, status) = generation.endings.expect();
        let request = ForkRequest {
            number,
            uid: own,
            open_files: self.recipe.open_files,
            processes: self.recipe.processes.into(),
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
                    .map_err(broken)?,
            ),
            None => None,
        };
        let pidfd = zygote.fork(&request, cell, &ends).map_err(broken)?;
        let process = Process::adopt(
            pidfd,
            (zygote, lives),
            status,
            slot,
            room,
            identity,
            self.home.clone(),
        )
        .map_err(io("watch an instance"))?;
        Ok(Blank {
            process,
            socket,
            log,
            hostname,
            shims: self.recipe.shims.clone(),
            empty: self
                .recipe
                .zygote
                .root
                .as_ref()
                .map(|root| root.staging.clone()),
            is_copy: self.recipe.zygote.program.is_some(),
        })
    }

    /// The zygote to fork from: the one in use, its successor once that is warm, or the first.
    fn generation(&mut self) -> Result<&mut Generation, sandbox::Error> {
        if let Some(next) = self.next.take_if(|(next, _)| next.has_spoken()) {
            match Generation::begin(next) {
                Ok(fresh) => self.zygote = Some(fresh),
                Err(error) => {
                    warn!(%error, "a zygote's successor failed; another is started later")
                }
            }
        }
        let Renewal { forks, age } = self.recipe.renewal;
        let (virga, spec) = (&self.recipe.virga, &self.recipe.zygote);
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
            empty => Ok(empty.insert(Generation::begin(Zygote::start(virga, spec)?)?)),
        }
    }
}
