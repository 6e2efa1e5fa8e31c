//! The control groups of one instance.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::{controller_directory, open, read_number, write, write_if_there, write_text};
use super::removal::processes_in;
use super::{LimitGroup, Limits, Version};
use crate::processors::{CpuAllocation, Processors};
use crate::{Result, Step};

/// CFS period in microseconds, the kernel's default.
const PERIOD_US: u64 = 100_000;

/// CFS period of long requests. At the start of each period every throttled task runs again, and waking tasks cannot
/// preempt them. With periods of 100 ms, that delayed 2 % of wakeups by 3 ms.
const LONG_PERIOD_US: u64 = 1_000_000;

/// Minimum of [`buffers`]: the initial windows of a hundred connections.
const MIN_BUFFERS: u64 = 16 << 20;

/// An instance with more threads per allowed processor than this is confined to some processors.
const CROWDED_THREADS: u32 = 4;

/// An instance with more processes than this counts as busy without looking at each.
const MANY_PROCESSES: usize = 16;

/// Unit of CPU times in `/proc` (USER_HZ), independent of the kernel's clock.
const TICK: Duration = Duration::from_millis(10);

/// Index of the directory of processors under version 1, if present.
pub(super) const PROCESSORS_V1: usize = 4;

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
    /// Opens a slot in new directories, one per hierarchy.
    pub(super) fn open(
        version: Version,
        group: LimitGroup,
        directories: Vec<PathBuf>,
        processors: Option<Arc<Processors>>,
    ) -> Result<Self> {
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
            processors,
            cpu_allocation: None,
            used: None,
            yielding: false,
            period: PERIOD_US,
        })
    }

    /// Returns the group whose limits it shares.
    pub(super) fn group(&self) -> LimitGroup {
        self.group
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

    /// Removes its directories.
    pub(super) fn remove(self) {
        for directory in &self.directories {
            // Leftovers are removed at the next start.
            let _ = fs::remove_dir(directory);
        }
    }
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

/// Returns the limit of socket buffers in bytes, where they are charged apart from memory.
fn buffers(memory: u64) -> u64 {
    (memory / 8).max(MIN_BUFFERS)
}

/// Converts a weight to version 1's `cpu.shares`, where 1024 is the default, as 100 is under version 2.
fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_a_busy_process_grows() {
        let own = || processor_time(std::process::id() as i32).expect("a time");
        let before = own();
        while own() < before + Duration::from_millis(50) {}
        assert!(processor_time(i32::MAX).is_none());
    }
}
