//! Disks for instances' temporary files: made ahead of need by a thread, leased for an instance's life, and limited
//! together.

mod limit;

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

use self::limit::HostDisk;
use crate::Error;

/// Disks that are kept ready.
const READY: usize = 4;
/// Returned disks that are kept beyond that.
const SPARES_MAX: usize = 60;
/// How long surplus disks are kept.
const EXCESS_KEPT_FOR: Duration = Duration::from_secs(10);
/// How often the use of leased disks is checked: while they grow, and while they do not.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(50);
const CHECK_INTERVAL_MAX: Duration = Duration::from_millis(400);
/// Delay after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Settings of the disks.
#[derive(Clone, Debug)]
pub(crate) struct DiskSettings {
    /// The worker's own directory.
    pub(crate) directory: PathBuf,
    /// Limits of an instance: bytes and files.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// Limit of all instances together, bytes. `None` takes a part of the free space.
    pub(crate) total: Option<u64>,
}

/// A lease of a disk. Dropping it returns the disk.
#[derive(Debug)]
pub(crate) struct DiskLease {
    number: u64,
    requests: Sender<DiskRequest>,
}

impl Drop for DiskLease {
    fn drop(&mut self) {
        // If the thread has ended, the disk is gone already.
        let _ = self.requests.send(DiskRequest::Return(self.number));
    }
}

enum DiskRequest {
    Take(oneshot::Sender<Option<(DiskLease, DiskMount)>>),
    /// A ready disk was taken.
    Refill,
    Return(u64),
    /// A returned disk was emptied and can be reused.
    Cleaned(Disk),
}

type Ready = Arc<Mutex<VecDeque<(DiskLease, DiskMount)>>>;

/// A handle on the thread, which ends with virga.
#[derive(Debug)]
pub(crate) struct Disks {
    requests: Sender<DiskRequest>,
    ready: Ready,
    /// Set if this host cannot make disks.
    unavailable: Arc<AtomicBool>,
}

impl Disks {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn start(settings: DiskSettings) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::channel();
        let ready = Ready::default();
        let unavailable = Arc::new(AtomicBool::new(false));
        let (sender, ready_disks, unavailable_after_failure) =
            (requests.clone(), ready.clone(), unavailable.clone());
        let run = move || match DiskThread::begin(&settings, sender, ready_disks) {
            Ok(thread) => thread.run(&inbox),
            Err(error) => {
                warn!(%error, "cannot make disks; temporary files of functions are kept in memory and count towards their memory limit");
                unavailable_after_failure.store(true, Ordering::Relaxed);
                // Pending requests fail when the channel closes.
            }
        };
        std::thread::Builder::new()
            .name("disks".into())
            .spawn(run)?;
        Ok(Self {
            requests,
            ready,
            unavailable,
        })
    }

    /// Leases a disk to a user id. Returns the lease and the mount for `/tmp`; `None` if the host has no disk to give.
    pub(crate) async fn take(&self, user: u32) -> Result<Option<(DiskLease, OwnedFd)>, Error> {
        if self.unavailable.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let waiting = self.ready.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner).pop_front();
        let taken = if waiting.is_some() {
            let _ = self.requests.send(DiskRequest::Refill);
            waiting
        } else {
            let (sender, answer) = oneshot::channel();
            let _ = self.requests.send(DiskRequest::Take(sender));
            answer.await.ok().flatten()
        };
        let Some((lease, mount)) = taken else {
            return Ok(None);
        };
        mount.give(user)?;
        Ok(Some((lease, mount.tree)))
    }
}

/// The state of the thread.
struct DiskThread {
    maker: DiskMaker,
    total: u64,
    requests: Sender<DiskRequest>,
    ready: Ready,
    /// All ready and leased disks, by number.
    disks: HashMap<u64, Disk>,
    next: u64,
    /// Use of all disks at the last check, and free space of the host for more.
    used: u64,
    available: u64,
    check_interval: Duration,
    last_check: Instant,
    /// Since when there is a surplus of ready disks.
    excess_since: Option<Instant>,
    last_failure: Option<Instant>,
}

impl DiskThread {
    fn begin(
        settings: &DiskSettings,
        requests: Sender<DiskRequest>,
        ready: Ready,
    ) -> Result<Self, Error> {
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
        let host = HostDisk::of(maker.host()?);
        let total = settings.total.unwrap_or_else(|| host.default_total());
        // Only making a disk shows whether the kernel supports all of it.
        let first = maker.make()?;
        let mut thread = Self {
            maker,
            total,
            requests,
            ready,
            disks: HashMap::new(),
            next: 0,
            used: 0,
            available: host.available(0),
            check_interval: CHECK_INTERVAL_MIN,
            last_check: Instant::now(),
            excess_since: None,
            last_failure: None,
        };
        info!(
            total_mb = total >> 20,
            "temporary files of functions are on disk"
        );
        thread.keep(first)?;
        Ok(thread)
    }

    fn run(mut self, inbox: &Receiver<DiskRequest>) {
        loop {
            let request = match self.pause() {
                Some(pause) => inbox.recv_timeout(pause),
                None => inbox.recv().map_err(RecvTimeoutError::from),
            };
            match request {
                Ok(DiskRequest::Take(sender)) => {
                    let waiting = self.pop().or_else(|| self.make());
                    // If the requester has gone, dropping the lease returns the disk.
                    let _ = sender.send(waiting);
                }
                Ok(DiskRequest::Refill) | Err(RecvTimeoutError::Timeout) => {}
                Ok(DiskRequest::Return(number)) => self.return_disk(number),
                Ok(DiskRequest::Cleaned(disk)) => {
                    if let Err(error) = self.keep(disk) {
                        warn!(%error, "failed to reuse a returned disk; it is discarded");
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.last_check.elapsed() >= self.check_interval {
                self.update_bounds();
            }
            self.replenish();
        }
    }

    /// Returns the time until the thread has work without a request.
    fn pause(&self) -> Option<Duration> {
        let ready = self.ready_count();
        let any_leased = self.disks.len() > ready;
        let waits = [
            any_leased.then(|| {
                self.check_interval
                    .saturating_sub(self.last_check.elapsed())
            }),
            (ready > READY).then_some(EXCESS_KEPT_FOR),
            (ready < READY).then(|| {
                let last_failure = self.last_failure.map(|last_failure| last_failure.elapsed());
                last_failure.map_or(Duration::ZERO, |since| RETRY_DELAY.saturating_sub(since))
            }),
        ];
        waits.into_iter().flatten().min()
    }

    fn ready_count(&self) -> usize {
        let ready = self.ready.lock();
        ready.unwrap_or_else(PoisonError::into_inner).len()
    }

    fn pop(&self) -> Option<(DiskLease, DiskMount)> {
        let ready = self.ready.lock();
        ready.unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Adjusts the number of ready disks. Makes at most one at a time, so that requests do not wait.
    fn replenish(&mut self) {
        let ready = self.ready_count();
        if ready <= READY {
            self.excess_since = None;
        }
        if ready < READY {
            if let Some(made) = self.make() {
                self.put(made);
            }
            return;
        }
        let since = *self.excess_since.get_or_insert_with(Instant::now);
        if since.elapsed() < EXCESS_KEPT_FOR {
            return;
        }
        for _ in READY..ready {
            let Some((lease, mount)) = self.pop() else {
                return;
            };
            drop(mount);
            // The message that `lease` sends on drop then refers to no disk and is ignored.
            if let Some(disk) = self.disks.remove(&lease.number) {
                disk.remove();
            }
        }
    }

    fn make(&mut self) -> Option<(DiskLease, DiskMount)> {
        if self
            .last_failure
            .is_some_and(|last_failure| last_failure.elapsed() < RETRY_DELAY)
        {
            return None;
        }
        let made = self.maker.make().and_then(|disk| self.register(disk));
        self.last_failure = made.is_err().then(Instant::now);
        made.inspect_err(|error| {
            warn!(%error, "failed to make a disk; a function's temporary files are kept in memory");
        })
        .ok()
    }

    /// Registers a disk, limits it, and leases it.
    fn register(&mut self, mut disk: Disk) -> sandbox::Result<(DiskLease, DiskMount)> {
        let bound = self.bound(0);
        if disk.bound() != bound {
            disk.hold(bound)?;
        }
        let mount = disk.part()?;
        self.next += 1;
        self.disks.insert(self.next, disk);
        let lease = DiskLease {
            number: self.next,
            requests: self.requests.clone(),
        };
        Ok((lease, mount))
    }

    fn keep(&mut self, disk: Disk) -> sandbox::Result<()> {
        let made = self.register(disk)?;
        self.put(made);
        Ok(())
    }

    fn put(&self, made: (DiskLease, DiskMount)) {
        let ready = self.ready.lock();
        ready
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(made);
    }

    fn return_disk(&mut self, number: u64) {
        let Some(disk) = self.disks.remove(&number) else {
            return;
        };
        if self.ready_count() >= READY + SPARES_MAX {
            return disk.remove();
        }
        if disk.is_untouched() {
            if let Err(error) = self.keep(disk) {
                warn!(%error, "failed to reuse a returned disk; it is discarded");
            }
            return;
        }
        let requests = self.requests.clone();
        // Emptying a disk may take long, so it runs on another thread, which inherits this thread's mounts.
        let clean = move || match disk.clean() {
            Ok(Some(disk)) => drop(requests.send(DiskRequest::Cleaned(disk))),
            Ok(None) => {}
            Err(error) => warn!(%error, "failed to empty a returned disk; it is removed"),
        };
        let started = std::thread::Builder::new().name("disk".into()).spawn(clean);
        if let Err(error) = started {
            warn!(%error, "failed to start a thread that empties a disk; the disk stays until virga ends");
        }
    }

    /// Returns the limit of a disk that holds `own` bytes.
    fn bound(&self, own: u64) -> u64 {
        limit::bound(self.total, self.used, own, self.available).min(self.maker.bytes())
    }

    /// Updates the limits of all disks from their current use.
    fn update_bounds(&mut self) {
        let each = self.disks.iter().map(|(number, disk)| {
            // A disk whose use is unknown gets no more space.
            let used = disk.used().unwrap_or_else(|_| disk.bound());
            (*number, used)
        });
        let each: Vec<_> = each.collect();
        let used = each.iter().map(|(_, used)| used).sum();
        let on_host = self.disks.values().map(|disk| disk.on_host().unwrap_or(0));
        let pending = used - on_host.sum::<u64>().min(used);
        // The more disks there are, the longer a check takes.
        let least = CHECK_INTERVAL_MIN.max(Duration::from_micros(50) * self.disks.len() as u32);
        self.check_interval = if used > self.used {
            least
        } else {
            (self.check_interval * 2).clamp(least, CHECK_INTERVAL_MAX.max(least))
        };
        self.used = used;
        self.available = self
            .maker
            .host()
            .map_or(0, |host| HostDisk::of(host).available(pending));
        for (number, own) in each {
            let bound = self.bound(own);
            let disk = self.disks.get_mut(&number);
            let disk = disk.filter(|disk| disk.bound() != bound);
            if let Some(Err(error)) = disk.map(|disk| disk.hold(bound)) {
                warn!(%error, "failed to update the limit of a disk");
            }
        }
        self.last_check = Instant::now();
    }
}
