//! The disks of instances: made ahead on a thread of their own, lent for an instance's life, and bounded together.

mod share;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandbox::disk::{Disk, DiskMaker, DiskMount, DiskTemplate};
use tokio::sync::oneshot;
use tracing::{info, warn};

use self::share::Host;
use crate::Error;

/// How many wait ready.
const READY: usize = 4;
/// How many more that came back are kept, and for how long.
const SPARE: usize = 60;
/// How long more than are wanted ready are kept.
const KEPT: Duration = Duration::from_secs(10);
/// How often those in use are looked at while they grow, and while they do not.
const OFTEN: Duration = Duration::from_millis(50);
const SELDOM: Duration = Duration::from_millis(400);
/// How long none is tried after one could not be made.
const PAUSE: Duration = Duration::from_secs(1);

/// What disks are to be.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The worker's own directory.
    pub(crate) directory: PathBuf,
    /// What an instance may have, bytes and files.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// What all may have, bytes; a part of what is free where that is not said.
    pub(crate) total: Option<u64>,
}

/// One that is lent. It comes back when this goes.
#[derive(Debug)]
pub(crate) struct Lent {
    number: u64,
    back: Sender<Ask>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Where nobody listens any more, it is gone already.
        let _ = self.back.send(Ask::Back(self.number));
    }
}

enum Ask {
    Take(oneshot::Sender<Option<(Lent, DiskMount)>>),
    /// One that waited was taken.
    Refill,
    Back(u64),
    /// One that was emptied is as good as new.
    Cleaned(Disk),
}

type Ready = Arc<Mutex<VecDeque<(Lent, DiskMount)>>>;

/// A handle on the thread, which ends with virga.
#[derive(Debug)]
pub(crate) struct Disks {
    asks: Sender<Ask>,
    ready: Ready,
    /// Whether this host has none.
    none: Arc<AtomicBool>,
}

impl Disks {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn start(settings: Settings) -> std::io::Result<Self> {
        let (asks, inbox) = mpsc::channel();
        let ready = Ready::default();
        let none = Arc::new(AtomicBool::new(false));
        let (sender, kept, without) = (asks.clone(), ready.clone(), none.clone());
        let run = move || match Keeper::begin(&settings, sender, kept) {
            Ok(keeper) => keeper.run(&inbox),
            Err(error) => {
                warn!(%error, "temporary files of functions stay in memory, and count as theirs");
                without.store(true, Ordering::Relaxed);
                // Those who asked before hear that nobody answers.
            }
        };
        std::thread::Builder::new()
            .name("disks".into())
            .spawn(run)?;
        Ok(Self { asks, ready, none })
    }

    /// One for a user: the mount for its `/tmp`, and what is to be kept for as long as the instance lives. None where this host has
    /// none to give.
    pub(crate) async fn take(&self, user: u32) -> Result<Option<(Lent, OwnedFd)>, Error> {
        if self.none.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let waiting = self.ready.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner).pop_front();
        let taken = if waiting.is_some() {
            let _ = self.asks.send(Ask::Refill);
            waiting
        } else {
            let (sender, answer) = oneshot::channel();
            let _ = self.asks.send(Ask::Take(sender));
            answer.await.ok().flatten()
        };
        let Some((lent, part)) = taken else {
            return Ok(None);
        };
        part.give(user)?;
        Ok(Some((lent, part.tree)))
    }
}

/// The thread's state.
struct Keeper {
    maker: DiskMaker,
    total: u64,
    asks: Sender<Ask>,
    ready: Ready,
    /// All that are ready or lent.
    disks: HashMap<u64, Disk>,
    next: u64,
    /// How much there was in all of them at the last look, and what the host's disk had for more.
    used: u64,
    room: u64,
    looks: Duration,
    looked: Instant,
    /// When more were ready than are wanted, since when.
    plenty: Option<Instant>,
    failed: Option<Instant>,
}

impl Keeper {
    fn begin(settings: &Settings, asks: Sender<Ask>, ready: Ready) -> Result<Self, Error> {
        let prepare = |directory: &Path| {
            fs::create_dir_all(directory).map_err(Error::io("prepare a directory for disks"))
        };
        let (files, staging) = (
            settings.directory.join("disks"),
            settings.directory.join("disks-root"),
        );
        prepare(&files)?;
        prepare(&staging)?;
        let template = DiskTemplate::make(&files, settings.bytes, settings.inodes)?;
        let mut maker = DiskMaker::begin(&files, &staging, template)?;
        let host = Host::of(maker.host()?);
        let total = settings.total.unwrap_or_else(|| host.part());
        // Whether the kernel has all that it takes is known when there is one.
        let first = maker.make()?;
        let mut keeper = Self {
            maker,
            total,
            asks,
            ready,
            disks: HashMap::new(),
            next: 0,
            used: 0,
            room: host.room(0),
            looks: OFTEN,
            looked: Instant::now(),
            plenty: None,
            failed: None,
        };
        info!(
            total_mb = total >> 20,
            "temporary files of functions are on disk"
        );
        keeper.keep(first)?;
        Ok(keeper)
    }

    fn run(mut self, inbox: &Receiver<Ask>) {
        loop {
            let ask = match self.pause() {
                Some(pause) => inbox.recv_timeout(pause),
                None => inbox.recv().map_err(RecvTimeoutError::from),
            };
            match ask {
                Ok(Ask::Take(sender)) => {
                    let waiting = self.pop().or_else(|| self.make());
                    // Whoever has gone meanwhile gives it back.
                    let _ = sender.send(waiting);
                }
                Ok(Ask::Refill) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Ask::Back(number)) => self.take_back(number),
                Ok(Ask::Cleaned(disk)) => {
                    if let Err(error) = self.keep(disk) {
                        warn!(%error, "a disk is given up");
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.looked.elapsed() >= self.looks {
                self.look();
            }
            self.even();
        }
    }

    /// How long nothing needs to be done of itself.
    fn pause(&self) -> Option<Duration> {
        let ready = self.ready_count();
        let lent = self.disks.len() > ready;
        let waits = [
            lent.then(|| self.looks.saturating_sub(self.looked.elapsed())),
            (ready > READY).then_some(KEPT),
            (ready < READY).then(|| {
                let failed = self.failed.map(|failed| failed.elapsed());
                failed.map_or(Duration::ZERO, |since| PAUSE.saturating_sub(since))
            }),
        ];
        waits.into_iter().flatten().min()
    }

    fn ready_count(&self) -> usize {
        let ready = self.ready.lock();
        ready.unwrap_or_else(PoisonError::into_inner).len()
    }

    fn pop(&self) -> Option<(Lent, DiskMount)> {
        let ready = self.ready.lock();
        ready.unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Sees to it that as many are ready as are wanted: one at a time, since somebody may ask.
    fn even(&mut self) {
        let ready = self.ready_count();
        if ready <= READY {
            self.plenty = None;
        }
        if ready < READY {
            if let Some(made) = self.make() {
                self.put(made);
            }
            return;
        }
        let since = *self.plenty.get_or_insert_with(Instant::now);
        if since.elapsed() < KEPT {
            return;
        }
        for _ in READY..ready {
            let Some((lent, part)) = self.pop() else {
                return;
            };
            drop(part);
            // What the end of `lent` says is of none then.
            if let Some(disk) = self.disks.remove(&lent.number) {
                disk.remove();
            }
        }
    }

    fn make(&mut self) -> Option<(Lent, DiskMount)> {
        if self.failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
            return None;
        }
        let made = self.maker.make().and_then(|disk| self.lend(disk));
        self.failed = made.is_err().then(Instant::now);
        made.inspect_err(|error| {
            warn!(%error, "cannot make a disk; a function's temporary files are in memory");
        })
        .ok()
    }

    /// Counts a disk among the rest, bounded as they are.
    fn lend(&mut self, mut disk: Disk) -> sandbox::Result<(Lent, DiskMount)> {
        let bound = self.bound(0);
        if disk.bound() != bound {
            disk.hold(bound)?;
        }
        let part = disk.part()?;
        self.next += 1;
        self.disks.insert(self.next, disk);
        let lent = Lent {
            number: self.next,
            back: self.asks.clone(),
        };
        Ok((lent, part))
    }

    fn keep(&mut self, disk: Disk) -> sandbox::Result<()> {
        let made = self.lend(disk)?;
        self.put(made);
        Ok(())
    }

    fn put(&self, made: (Lent, DiskMount)) {
        let ready = self.ready.lock();
        ready
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(made);
    }

    fn take_back(&mut self, number: u64) {
        let Some(disk) = self.disks.remove(&number) else {
            return;
        };
        if self.ready_count() >= READY + SPARE {
            return disk.remove();
        }
        if disk.is_untouched() {
            if let Err(error) = self.keep(disk) {
                warn!(%error, "a disk is given up");
            }
            return;
        }
        let asks = self.asks.clone();
        // Taking out what is in one may take long. A thread sees what the one sees that has started it.
        let clean = move || match disk.clean() {
            Ok(Some(disk)) => drop(asks.send(Ask::Cleaned(disk))),
            Ok(None) => {}
            Err(error) => warn!(%error, "a disk is taken away as it is"),
        };
        let started = std::thread::Builder::new().name("disk".into()).spawn(clean);
        if let Err(error) = started {
            warn!(%error, "a disk is left as it is until virga ends");
        }
    }

    /// What one may hold that has so much.
    fn bound(&self, own: u64) -> u64 {
        share::bound(self.total, self.used, own, self.room).min(self.maker.bytes())
    }

    /// Bounds all anew by what there is in them now.
    fn look(&mut self) {
        let each = self.disks.iter().map(|(number, disk)| {
            // One that does not tell gets no more.
            let used = disk.used().unwrap_or_else(|_| disk.bound());
            (*number, used)
        });
        let each: Vec<_> = each.collect();
        let used = each.iter().map(|(_, used)| used).sum();
        let on_host = self.disks.values().map(|disk| disk.on_host().unwrap_or(0));
        let pending = used - on_host.sum::<u64>().min(used);
        // The more there are, the longer a look takes.
        let least = OFTEN.max(Duration::from_micros(50) * self.disks.len() as u32);
        self.looks = if used > self.used {
            least
        } else {
            (self.looks * 2).clamp(least, SELDOM.max(least))
        };
        self.used = used;
        self.room = self
            .maker
            .host()
            .map_or(0, |host| Host::of(host).room(pending));
        for (number, own) in each {
            let bound = self.bound(own);
            let disk = self.disks.get_mut(&number);
            let disk = disk.filter(|disk| disk.bound() != bound);
            if let Some(Err(error)) = disk.map(|disk| disk.hold(bound)) {
                warn!(%error, "cannot bound a disk");
            }
        }
        self.looked = Instant::now();
    }
}
