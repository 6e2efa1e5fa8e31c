//! Resource limits of instances by control groups, versions 1 and 2.
//!
//! A [`CgroupSlot`] is an instance's directory in every controller. Virga creates it, sets its limits and reads its
//! counters through open files. The guest enters it by itself: under version 1 attaching another process waits for a
//! grace period of the kernel (10 ms measured), while attaching oneself does not. Slots are reused, because creating
//! one costs more than resetting it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::processors::{CpuAllocation, Processors};
use crate::{Result, Step};

/// Resource limits of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory, including page cache and `/tmp`, bytes. Swap is disabled. Socket buffers count towards it, or have a
    /// limit of their own in proportion.
    pub memory_bytes: u64,
    /// Number of processes and threads.
    pub pids: u32,
    /// CPU weight relative to other instances, 1 to 10,000.
    pub cpu_weight: u32,
    /// CPU quota in thousandths of a processor.
    pub cpu_milli: u32,
}

/// Version of the control group interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy.
    V2,
}

/// Controllers required under version 1.
const V1: &[&str] = &["memory", "cpu", "pids", "freezer"];
/// Index of the pids controller in that list.
const PIDS: usize = 2;
/// Controllers required under version 2; freezing is built in.
const V2: &[&str] = &["memory", "cpu", "pids"];
/// An optional controller.
const PROCESSORS: &str = "cpuset";
/// CFS period in microseconds, the kernel's default.
const PERIOD_US: u64 = 100_000;
/// CFS period of long requests. At the start of each period every throttled task runs again, and waking tasks cannot
/// preempt them. With periods of 100 ms, that delayed 2 % of wakeups by 3 ms.
const LONG_PERIOD_US: u64 = 1_000_000;

/// Minimum number of processes per group.
const MIN_PIDS: u64 = 1024;
/// CPU weight of a group, 1 to 10,000, under version 2.
const GROUP_WEIGHT: u64 = 1000;

/// Minimum of [`buffers`]: the initial windows of a hundred connections.
const MIN_BUFFERS: u64 = 16 << 20;

/// An instance with more threads per allowed processor than this is confined to some processors.
const CROWDED_THREADS: u32 = 4;
/// An instance with more processes than this counts as busy without looking at each.
const MANY_PROCESSES: usize = 16;
/// Unit of CPU times in `/proc` (USER_HZ), independent of the kernel's clock.
const TICK: Duration = Duration::from_millis(10);

/// Index of the [`PROCESSORS`] directory under version 1, if present.
const PROCESSORS_V1: usize = 4;
/// Slots per directory of that controller: the kernel visits all siblings when it makes a directory.
const SLOTS_PER_DIRECTORY: u64 = 32;

/// Slots of one group share further limits. `None` is the platform itself.
pub type LimitGroup = Option<u64>;

/// Virga's directory in each hierarchy, and the slots below it.
#[derive(Debug)]
pub struct CgroupTree {
    version: Version,
    roots: Vec<PathBuf>,
    /// The processors, if instances can be confined to some of them.
    processors: Option<Arc<Processors>>,
    free: Mutex<HashMap<LimitGroup, Vec<CgroupSlot>>>,
    /// Maximum number of processes and threads per [`LimitGroup`].
    pids_per_group: u64,
    /// Held while a group's directory is made.
    making: Mutex<()>,
    /// Number of slots made so far; slot names are never reused.
    made: AtomicU64,
    /// Read-locked while a slot is made; true once everything is being removed.
    closed: RwLock<bool>,
}

impl CgroupTree {
    /// Finds the host's controllers and makes the directory `name` in each, removing leftovers of an earlier virga.
    ///
    /// # Errors
    /// The missing controller, or the directory that cannot be used.
    pub fn open(name: &str) -> Result<Self> {
        let Hierarchies {
            version,
            parents,
            processors: above,
        } = hierarchies()?;
        if version == Version::V2 {
            enable_controllers(&parents[0])?;
        }
        let mut roots: Vec<PathBuf> = parents.iter().map(|parent| parent.join(name)).collect();
        // All before any wait: under version 1 the freezer, which keeps processes from exiting, is another hierarchy
        // than memory.
        roots.iter().for_each(|root| kill_all(root));
        for root in &roots {
            remove_tree(root)?;
            match fs::create_dir_all(root) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(unusable(&format!(
                        "{} is not this user's to make; under version 1 have the administrator make groups that \
                         are, with virga's shell in them, or start virga as root",
                        root.display()
                    )));
                }
                made => made.step(format!("create {}", root.display()))?,
            }
        }
        if version == Version::V2 {
            enable_controllers(&roots[0])?;
        }
        // Process ids are a resource of the host, so all instances together leave some of them free.
        let numbers = numbers_of_processes();
        let (all, pids_per_group) = (numbers / 4 * 3, numbers / 8 * 3);
        write(
            &controller_directory(version, &roots, PIDS).join("pids.max"),
            all.max(MIN_PIDS),
        )?;
        let mut all = None;
        if let Some(above) = above {
            let root = above.join(name);
            all = processors(version, &above, &root);
            if version == Version::V1 && all.is_some() {
                roots.push(root);
            }
        }
        Ok(Self {
            version,
            roots,
            processors: all,
            free: Mutex::default(),
            pids_per_group: pids_per_group.max(MIN_PIDS),
            making: Mutex::default(),
            made: AtomicU64::new(0),
            closed: RwLock::new(false),
        })
    }

    /// Returns the version in use.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns virga's directory in each hierarchy.
    pub fn directories(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Removes everything and creates nothing more. Waits for the remaining processes, which must have been killed.
    ///
    /// # Errors
    /// The directory whose processes do not end.
    pub fn remove(&self) -> Result<()> {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        end(&self.roots)
    }

    /// Returns whether everything is being removed.
    pub fn is_closed(&self) -> bool {
        *self.closed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an empty slot of a group, reused or new.
    ///
    /// # Errors
    /// The file that could not be made or opened.
    pub fn acquire(&self, group: LimitGroup) -> Result<CgroupSlot> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            let why = io::Error::other("virga is stopping");
            return Err(crate::Error::new("make control groups", why));
        }
        match self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(&group)
            .and_then(Vec::pop)
        {
            Some(slot) => Ok(slot),
            None => CgroupSlot::create(self, self.made.fetch_add(1, Ordering::Relaxed), group),
        }
    }

    /// Makes a group's directory unless it exists.
    fn make_group(&self, directory: &Path) -> Result<()> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::create_dir(directory) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made.step(format!("create {}", directory.display()))?,
        }
        if self.version == Version::V2 {
            enable_controllers(directory)?;
            if self.processors.is_some() {
                enable(directory, &[PROCESSORS])?;
            }
            // Groups share the processors equally, and the slots of a group share its part.
            write(&directory.join("cpu.weight"), GROUP_WEIGHT)?;
        }
        write(&directory.join("pids.max"), self.pids_per_group)
    }

    /// Takes back a slot whose processes have all ended.
    pub fn release(&self, mut slot: CgroupSlot) {
        // Under version 2, event counters and, before Linux 6.12, the peak last as long as the directory.
        let reusable = self.version == Version::V1
            && slot.freeze(false).is_ok()
            && slot.reset_scheduling().is_ok();
        if reusable {
            self.free
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(slot.group)
                .or_default()
                .push(slot);
        } else {
            slot.remove();
        }
    }
}

impl Drop for CgroupTree {
    fn drop(&mut self) {
        for slot in self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .flat_map(|(_, slots)| slots)
        {
            slot.remove();
        }
        for root in &self.roots {
            // Leftovers are removed at the next start.
            for together in fs::read_dir(root).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(together.path());
            }
            let _ = fs::remove_dir(root);
        }
    }
}

/// The control groups of one instance.
#[derive(Debug)]
pub struct CgroupSlot {
    version: Version,
    group: LimitGroup,
    directories: Vec<PathBuf>,
    peak: File,
    freezer: File,
    kills_before: u64,
    /// Limits in force, if known.
    limits: Option<Limits>,
    processors: Option<Arc<Processors>>,
    /// Processors that it is confined to.
    cpu_allocation: Option<CpuAllocation>,
    /// CPU time at the last check of its request.
    used: Option<(Instant, Duration)>,
    /// Whether weight and period are, or may be, lowered.
    yielding: bool,
    /// CFS period in microseconds.
    period: u64,
}

impl CgroupSlot {
    fn create(tree: &CgroupTree, number: u64, group: LimitGroup) -> Result<Self> {
        let version = tree.version;
        let mut roots = tree.roots.clone();
        if let Some(group) = group {
            let root = match version {
                Version::V1 => &mut roots[PIDS],
                Version::V2 => &mut roots[0],
            };
            root.push(format!("a{group}"));
            tree.make_group(root)?;
        }
        if let Some(root) = roots.get_mut(PROCESSORS_V1) {
            root.push(format!("t{}", number / SLOTS_PER_DIRECTORY));
            fs::create_dir_all(&root).step(format!("create {}", root.display()))?;
        }
        let name = format!("i{number}");
        let directories: Vec<PathBuf> = roots.iter().map(|root| root.join(&name)).collect();
        for directory in &directories {
            // An existing directory would belong to another instance, and both would be frozen and limited together.
            fs::create_dir(directory).step(format!("create {}", directory.display()))?;
        }
        let (peak, freezer) = match version {
            Version::V1 => ("memory.max_usage_in_bytes", "freezer.state"),
            Version::V2 => ("memory.peak", "cgroup.freeze"),
        };
        let file =
            |controller, name| controller_directory(version, &directories, controller).join(name);
        Ok(Self {
            version,
            group,
            peak: open(&file(0, peak), true, version == Version::V1)?,
            freezer: open(&file(3, freezer), false, true)?,
            directories,
            kills_before: 0,
            limits: None,
            processors: tree.processors.clone(),
            cpu_allocation: None,
            used: None,
            yielding: false,
            period: PERIOD_US,
        })
    }

    /// Opens the files into which a process writes `0` to enter. Only two files per slot stay open, because thousands
    /// of instances share virga's descriptor table.
    ///
    /// # Errors
    /// The file that could not be opened.
    pub fn attach_files(&self) -> Result<Vec<File>> {
        let files = self.attach_paths();
        files.iter().map(|path| open(path, false, true)).collect()
    }

    /// Returns the paths of those files.
    pub fn attach_paths(&self) -> Vec<PathBuf> {
        // `tasks` moves only the writing thread. The process has no other, and this avoids a lock.
        let name = match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        let all = self.directories.iter();
        all.map(|directory| directory.join(name)).collect()
    }

    /// Resets the counters for the next instance.
    pub fn begin(&mut self) {
        self.reset_peak();
        self.kills_before = self.kills();
    }

    /// Sets the limits.
    ///
    /// # Errors
    /// The limit that the host refused.
    pub fn set(&mut self, limits: &Limits) -> Result<()> {
        // Write only what differs: a pre-warmed sandbox mostly has its function's limits already, and each write is
        // part of a cold start.
        let before = self.limits.take();
        let differs = |of: fn(&Limits) -> u64| before.as_ref().map(of) != Some(of(limits));
        if differs(|limits| limits.memory_bytes) {
            self.write_memory(limits.memory_bytes)?;
        }
        if differs(|limits| limits.cpu_weight.into()) {
            self.write_weight(limits.cpu_weight)?;
        }
        if differs(|limits| limits.cpu_milli.into()) {
            self.write_quota(limits.cpu_milli, PERIOD_US)?;
        }
        if differs(|limits| limits.pids.into()) {
            write(&self.file(2, "pids.max"), limits.pids.into())?;
        }
        self.limits = Some(*limits);
        Ok(())
    }

    /// Lowers the CPU weight of an instance with a long request to a tenth.
    ///
    /// # Errors
    /// The system's error.
    pub fn lower_priority(&mut self) -> Result<()> {
        match self.limits {
            Some(limits) if !self.yielding => {
                self.yielding = true;
                self.write_weight((limits.cpu_weight / 10).max(1))?;
                self.write_quota(limits.cpu_milli, LONG_PERIOD_US)
            }
            _ => Ok(()),
        }
    }

    /// Confines the instance to as many processors as it may use if it has more threads than that. Its threads then
    /// compete with each other only, and other tasks find the remaining processors free.
    ///
    /// # Errors
    /// The system's error.
    pub fn confine_processors(&mut self) -> Result<()> {
        let Some(limits) = self.limits.filter(|_| self.processors.is_some()) else {
            return Ok(());
        };
        let stays = match &self.cpu_allocation {
            Some(cpu_allocation) => cpu_allocation.is_even(),
            None => !self.is_crowded(limits.cpu_milli),
        };
        if stays {
            return Ok(());
        }
        // Release the present allocation first, so that it does not count in the choice.
        self.cpu_allocation = None;
        let all = self.processors.as_ref();
        self.cpu_allocation = all.and_then(|all| all.allocate(limits.cpu_milli));
        match &self.cpu_allocation {
            Some(cpu_allocation) => self.write_processors(&cpu_allocation.list()),
            None => Ok(()),
        }
    }

    /// Returns whether it has several threads per allowed processor and was busy since the last check.
    fn is_crowded(&mut self, cpu_milli: u32) -> bool {
        let threads = read_number(&self.file(2, "pids.current")).unwrap_or(0);
        if threads <= u64::from(CROWDED_THREADS * cpu_milli / 1000) {
            return false;
        }
        let processes = self.processes().unwrap_or_default();
        if processes.len() > MANY_PROCESSES {
            return true;
        }
        let used = processes.into_iter().filter_map(processor_time);
        let now = (Instant::now(), used.sum::<Duration>());
        let Some(before) = self.used.replace(now) else {
            return false;
        };
        let used = now.1.saturating_sub(before.1);
        // An eighth of the time suffices: next to other busy instances it gets no more. One tick may belong to the time
        // before.
        used >= (now.0 - before.0) / 8 + TICK
    }

    /// Reverts [`Self::lower_priority`] and [`Self::confine_processors`].
    ///
    /// # Errors
    /// The system's error.
    pub fn reset_scheduling(&mut self) -> Result<()> {
        self.used = None;
        if let (Some(_), Some(processors)) = (&self.cpu_allocation, &self.processors) {
            self.write_processors(&processors.all())?;
        }
        self.cpu_allocation = None;
        if let Some(limits) = self.limits.filter(|_| self.yielding) {
            self.write_weight(limits.cpu_weight)?;
            self.write_quota(limits.cpu_milli, PERIOD_US)?;
            self.yielding = false;
        }
        Ok(())
    }

    /// Returns the path of a controller's file. `controller` is an index under version 1.
    fn file(&self, controller: usize, name: &str) -> PathBuf {
        controller_directory(self.version, &self.directories, controller).join(name)
    }

    fn write_processors(&self, list: &str) -> Result<()> {
        write_text(&self.file(PROCESSORS_V1, "cpuset.cpus"), list)
    }

    fn write_weight(&self, weight: u32) -> Result<()> {
        match self.version {
            Version::V1 => write(&self.file(1, "cpu.shares"), shares(weight)),
            Version::V2 => write(&self.file(1, "cpu.weight"), weight.into()),
        }
    }

    fn write_quota(&mut self, milli: u32, period: u64) -> Result<()> {
        let quota = (u64::from(milli) * period / 1000).max(1000);
        match self.version {
            Version::V1 => {
                // The kernel visits every group at each change of the period.
                if period != self.period {
                    write(&self.file(1, "cpu.cfs_period_us"), period)?;
                    self.period = period;
                }
                write(&self.file(1, "cpu.cfs_quota_us"), quota)
            }
            Version::V2 => write_text(&self.file(1, "cpu.max"), &format!("{quota} {period}")),
        }
    }

    fn write_memory(&self, bytes: u64) -> Result<()> {
        let of = |name| self.file(0, name);
        if self.version == Version::V2 {
            write(&of("memory.max"), bytes)?;
            write_if_there(&of("memory.swap.max"), 0)?;
            // An out-of-memory kill ends the whole instance: half a process tree is useless.
            return write_if_there(&of("memory.oom.group"), 1);
        }
        // Version 1 charges socket buffers separately, and only in groups that get this limit before the socket is
        // made.
        write_if_there(&of("memory.kmem.tcp.limit_in_bytes"), buffers(bytes))?;
        let limit = of("memory.limit_in_bytes");
        let with_swap = of("memory.memsw.limit_in_bytes");
        // The limit with swap must never be below the one without, so the order depends on the direction.
        if write_if_there(&with_swap, bytes).is_err()
            || read_number(&limit).is_ok_and(|old| old > bytes)
        {
            write(&limit, bytes)?;
            write_if_there(&with_swap, bytes)
        } else {
            write(&limit, bytes)
        }
    }

    /// Resets the peak memory use, if the host supports it.
    pub fn reset_peak(&mut self) {
        if self.version == Version::V1 {
            let _ = self.peak.write_all(b"0");
        }
    }

    /// Returns the peak memory use since the counters were reset, bytes; 0 if the host does not report it.
    pub fn peak(&self) -> u64 {
        let mut text = [0; 32];
        let length = self.peak.read_at(&mut text, 0).unwrap_or(0);
        std::str::from_utf8(&text[..length])
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Returns whether the OOM killer struck here since the counters were reset.
    pub fn out_of_memory(&self) -> bool {
        self.kills() > self.kills_before
    }

    fn kills(&self) -> u64 {
        let name = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let read = fs::read_to_string(self.directories[0].join(name));
        let count = |line: &str| {
            line.strip_prefix("oom_kill ")
                .and_then(|n| n.trim().parse().ok())
        };
        read.ok()
            .and_then(|text| text.lines().find_map(count))
            .unwrap_or(0)
    }

    /// Sends SIGTERM to all processes.
    ///
    /// # Errors
    /// The system's error.
    pub fn terminate(&self) -> Result<()> {
        for process in self.processes()? {
            let Ok(pidfd) = crate::Pidfd::open(process) else {
                continue; // It has ended.
            };
            // The pid may have been reused. If it is still listed, the pidfd refers to the listed process.
            if self.processes()?.contains(&process) {
                pidfd.terminate().step("send SIGTERM to a process")?;
            }
        }
        Ok(())
    }

    /// Returns the process ids.
    ///
    /// # Errors
    /// The system's error.
    pub fn processes(&self) -> Result<Vec<i32>> {
        processes_in(&self.directories[0]).step("list processes")
    }

    /// Freezes or thaws all processes.
    ///
    /// # Errors
    /// The system's error.
    pub fn freeze(&mut self, frozen: bool) -> Result<()> {
        let state: &[u8] = match (self.version, frozen) {
            (Version::V1, true) => b"FROZEN",
            (Version::V1, false) => b"THAWED",
            (Version::V2, true) => b"1",
            (Version::V2, false) => b"0",
        };
        self.freezer
            .write_all(state)
            .step("freeze or thaw an instance")
    }

    fn remove(self) {
        for directory in &self.directories {
            // Leftovers are removed at the next start.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Returns the process ids in a directory.
fn processes_in(directory: &Path) -> io::Result<Vec<i32>> {
    let text = fs::read_to_string(directory.join("cgroup.procs"))?;
    // Processes outside this pid namespace are listed as 0.
    let numbers = text.lines().filter_map(|line| line.trim().parse().ok());
    Ok(numbers.filter(|number| *number > 0).collect())
}

fn members(directory: &Path) -> Vec<i32> {
    processes_in(directory).unwrap_or_default()
}

/// Returns the CPU time of a running process.
fn processor_time(process: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u32>);
    let ticks: u32 = ticks.sum::<std::result::Result<_, _>>().ok()?;
    Some(TICK * ticks)
}

/// Returns a controller's directory: one per controller under version 1, in the order of the list, and a single one
/// under version 2.
fn controller_directory(version: Version, directories: &[PathBuf], controller: usize) -> &Path {
    match version {
        Version::V1 => &directories[controller],
        Version::V2 => &directories[0],
    }
}

/// Returns how many processes and threads the host supports.
fn numbers_of_processes() -> u64 {
    let files = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let most = files
        .iter()
        .filter_map(|path| read_number(Path::new(path)).ok());
    most.min().unwrap_or(32_768)
}

/// Returns the limit of socket buffers in bytes, where they are charged apart from memory.
fn buffers(memory: u64) -> u64 {
    (memory / 8).max(MIN_BUFFERS)
}

/// Converts a weight to version 1's `cpu.shares`, where 1024 is the default, as 100 is under version 2.
fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).max(2)
}

/// Returns the parent of trees. Trees of one name are distinct if it differs.
///
/// # Errors
/// The missing part of the host's control groups.
pub fn place_of_trees() -> Result<PathBuf> {
    let mut parents = hierarchies()?.parents;
    Ok(parents.swap_remove(0))
}

/// Kills all processes left by an ended virga, and removes its directories.
pub(crate) fn end(directories: &[PathBuf]) -> Result<()> {
    directories.iter().for_each(|root| kill_all(root));
    directories.iter().try_for_each(|root| remove_tree(root))
}

/// Virga's position in the host's control groups.
struct Hierarchies {
    version: Version,
    /// One directory per required controller, in the order of the list, or one for all.
    parents: Vec<PathBuf>,
    /// The directory of [`PROCESSORS`], if present.
    processors: Option<PathBuf>,
}

/// Finds the mounts of the controllers and virga's own position in them.
fn hierarchies() -> Result<Hierarchies> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").step("read the mounts")?;
    let own = fs::read_to_string("/proc/self/cgroup").step("read own control groups")?;
    if let Some(parents) = V1
        .iter()
        .map(|controller| v1_place(&mounts, &own, controller))
        .collect()
    {
        return Ok(Hierarchies {
            version: Version::V1,
            parents,
            processors: v1_place(&mounts, &own, PROCESSORS),
        });
    }
    let unified = mounts
        .lines()
        .find_map(|line| mount_point(line, |kind, _| kind == "cgroup2"));
    let Some(mount) = unified else {
        return Err(unusable(
            "none are mounted; mount cgroup2 at /sys/fs/cgroup",
        ));
    };
    let place = if is_ours(&mount) {
        mount
    } else {
        delegated(&mount, &own)?
    };
    let offered = fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default();
    let offers = |controller: &str| offered.split_whitespace().any(|have| have == controller);
    let missing: Vec<_> = V2.iter().filter(|wanted| !offers(wanted)).collect();
    if missing.is_empty() {
        return Ok(Hierarchies {
            version: Version::V2,
            processors: offers(PROCESSORS).then(|| place.clone()),
            parents: vec![place],
        });
    }
    Err(unusable(&format!(
        "{} lacks the controllers {missing:?}; enable them at boot, or for users with \
         Delegate=cpu cpuset memory pids under [Service] in: sudo systemctl edit user@.service",
        place.display()
    )))
}

fn unusable(why: &str) -> crate::Error {
    crate::Error::new("control groups", io::Error::other(why))
}

/// Returns whether this process may make groups and enable controllers below a directory.
fn is_ours(directory: &Path) -> bool {
    ["cgroup.procs", "cgroup.subtree_control"]
        .iter()
        .all(|name| open(&directory.join(name), false, true).is_ok())
}

/// Virga's own group below a delegated one: a group with subgroups must not hold processes.
const OWN: &str = "virga-itself";

/// Returns the group delegated to an ordinary user, after moving its processes into a subgroup.
fn delegated(mount: &Path, own: &str) -> Result<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.unwrap_or_default();
    // The shell that started this virga may have been moved by an earlier one.
    let path = path.strip_suffix(OWN).unwrap_or(path);
    let place = mount.join(path);
    if !is_ours(&place) {
        return Err(unusable(
            "none is this user's; start virga with \
             systemd-run --user --scope --property=Delegate=yes virga up …, or as root",
        ));
    }
    let below = place.join(OWN);
    match fs::create_dir(&below) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).step(format!("create {}", below.display()));
        }
        _ => {}
    }
    let listed = fs::read_to_string(place.join("cgroup.procs")).step("list own control group")?;
    for process in listed.lines() {
        match fs::write(below.join("cgroup.procs"), process) {
            // The process has ended meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            moved => moved.step(format!("move a process into {}", below.display()))?,
        }
    }
    Ok(place)
}

fn v1_place(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|one| one == controller);
    let mount = mounts
        .lines()
        .find_map(|line| mount_point(line, |kind, options| kind == "cgroup" && has(options)))?;
    let own = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        has(controllers).then(|| path.trim_start_matches('/').to_owned())
    })?;
    // In a container the path may be the host's and not exist here.
    let place = mount.join(own);
    Some(if place.is_dir() { place } else { mount })
}

/// Returns the mount point of a `mountinfo` line if its type and super options match.
fn mount_point(line: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
    wanted(kind, options).then(|| before.split(' ').nth(4).map(PathBuf::from))?
}

/// Returns the processors if instances can be confined to some of them: the controller must work in virga's directory
/// and its parent.
fn processors(version: Version, parent: &Path, root: &Path) -> Option<Arc<Processors>> {
    let list = match version {
        Version::V1 => {
            remove_tree(root).ok()?;
            fs::create_dir(root).ok()?;
            let list = inherit_cpus(root).inspect_err(|_| {
                let _ = fs::remove_dir(root);
            });
            list.ok()?
        }
        Version::V2 => {
            enable(parent, &[PROCESSORS]).ok()?;
            enable(root, &[PROCESSORS]).ok()?;
            fs::read_to_string(root.join("cpuset.cpus.effective")).ok()?
        }
    };
    Processors::parse(&list)
}

/// Copies the parent's processors and memory nodes to a new [`PROCESSORS`] directory and its future children, which
/// start empty. Returns the processors.
fn inherit_cpus(directory: &Path) -> io::Result<String> {
    let take = |of: &str, own: &str| {
        let list = fs::read_to_string(directory.join("..").join(of))?;
        fs::write(directory.join(own), &list)?;
        Ok(list)
    };
    fs::write(directory.join("cgroup.clone_children"), "1")?;
    take("cpuset.effective_mems", "cpuset.mems")?;
    take("cpuset.effective_cpus", "cpuset.cpus")
}

fn enable_controllers(directory: &Path) -> Result<()> {
    enable(directory, V2)
}

fn enable(directory: &Path, controllers: &[&str]) -> Result<()> {
    let on: Vec<String> = controllers
        .iter()
        .map(|controller| format!("+{controller}"))
        .collect();
    write_text(&directory.join("cgroup.subtree_control"), &on.join(" "))
}

/// Kills all processes in a directory and below. Under version 1 a frozen process dies only after it is thawed.
fn kill_all(root: &Path) {
    if fs::write(root.join("cgroup.kill"), "1").is_err() {
        members(root).into_iter().for_each(|process| {
            // The pid may have been reused. If it is still listed, the pidfd refers to the listed process.
            if let Ok(pidfd) = crate::Pidfd::open(process)
                && members(root).contains(&process)
            {
                let _ = pidfd.kill();
            }
        });
    }
    let _ = fs::write(root.join("freezer.state"), "THAWED");
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            kill_all(&entry.path());
        }
    }
}

/// Removes a directory tree. Remaining processes must have been killed.
fn remove_tree(root: &Path) -> Result<()> {
    if !root.exists() {
        return Ok(());
    }
    let what = || format!("clean {}", root.display());
    let listed = match fs::read_dir(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.step(what())?,
    };
    for entry in listed.flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    // Processes of a killed virga end with it, but the kernel may take a moment to release them.
    for _ in 0..200 {
        match fs::remove_dir(root) {
            Ok(()) => return Ok(()),
            // Other threads remove the slots of ended instances at the same time.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                let _ = fs::write(root.join("freezer.state"), "THAWED");
                let _ = fs::write(root.join("cgroup.kill"), "1");
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(e) => return Err(crate::Error::new(what(), e)),
        }
    }
    Err(crate::Error::new(
        what(),
        io::Error::other("processes are left in it; end them"),
    ))
}

fn open(path: &Path, read: bool, write: bool) -> Result<File> {
    File::options()
        .read(read)
        .write(write)
        .open(path)
        .step(format!("open {}", path.display()))
}

fn write(path: &Path, value: u64) -> Result<()> {
    write_text(path, &value.to_string())
}

fn write_text(path: &Path, value: &str) -> Result<()> {
    let written = open(path, false, true)?.write_all(value.as_bytes());
    written.step(format!("write {value} to {}", path.display()))
}

fn write_if_there(path: &Path, value: u64) -> Result<()> {
    if path.exists() {
        write(path, value)
    } else {
        Ok(())
    }
}

fn read_number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?
        .trim()
        .parse()
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/unified rw,relatime shared:11 - cgroup2 cgroup2 rw";

    #[test]
    fn co_mounted_v1_controller_is_found() {
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/x";
        assert_eq!(
            v1_place(MOUNTS, own, "cpu"),
            Some("/sys/fs/cgroup/cpu,cpuacct".into())
        );
        assert_eq!(v1_place(MOUNTS, own, "cpuset"), None);
    }

    #[test]
    fn cgroup2_mount_is_found_by_type() {
        let found = MOUNTS
            .lines()
            .find_map(|line| mount_point(line, |kind, _| kind == "cgroup2"));
        assert_eq!(found, Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn cpu_time_of_a_busy_process_grows() {
        let own = || processor_time(std::process::id() as i32).expect("a time");
        let before = own();
        while own() < before + Duration::from_millis(50) {}
        assert!(processor_time(i32::MAX).is_none());
    }

    #[test]
    fn pids_limit_is_shared_within_a_group_only() {
        let mut tree =
            CgroupTree::open(&format!("virga-groups-{}", std::process::id())).expect("a tree");
        tree.pids_per_group = 6;
        let slots = [1, 1, 2].map(|group| tree.acquire(Some(group)).expect("a slot"));
        // Each shell enters its slot, then starts children that wait for the end of its input.
        let shells = slots.each_ref().map(|slot| {
            let script = "exec 3<&0; read go; for n in 1 2 3 4; do sh -c 'echo one; exec cat <&3 >&2' & done; echo done; wait";
            let mut shell = std::process::Command::new("sh")
                .args(["-c", script])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("a shell");
            for mut file in slot.attach_files().expect("files") {
                let number = shell.id().to_string();
                file.write_all(number.as_bytes()).expect("a member");
            }
            let input = shell.stdin.as_mut().expect("its input");
            input.write_all(b"go\n").expect("write");
            shell
        });
        // A shell that cannot fork ends.
        let mut shells = shells.map(|mut shell| {
            let lines = BufReader::new(shell.stdout.take().expect("its output")).lines();
            let lines = lines.map(|line| line.expect("text"));
            (shell, lines.filter(|line| line == "one").take(4).count())
        });
        for (shell, _) in &mut shells {
            drop(shell.stdin.take());
            shell.wait().expect("its end");
        }
        let started = shells.map(|(_, started)| started);
        assert!(started[0] + started[1] < 6, "{started:?}");
        assert_eq!(started[2], 4, "{started:?}");
        for slot in slots {
            tree.release(slot);
        }
        tree.remove().expect("removed");
    }

    #[test]
    fn slots_in_use_have_distinct_directories() {
        let tree =
            CgroupTree::open(&format!("virga-slots-{}", std::process::id())).expect("a tree");
        let [first, second] = [(); 2].map(|()| tree.acquire(None).expect("a slot"));
        tree.release(first);
        let mut used = vec![second];
        used.extend((0..3).map(|_| tree.acquire(None).expect("a slot")));
        let mut directories: Vec<_> = used
            .iter()
            .flat_map(|slot| slot.directories.clone())
            .collect();
        let count = directories.len();
        directories.sort();
        directories.dedup();
        assert_eq!(directories.len(), count);
        drop(used);
        tree.remove().expect("removed");
    }
}
