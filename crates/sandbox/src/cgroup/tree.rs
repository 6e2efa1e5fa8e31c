//! Virga's control groups, and the slots below them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::files::{controller_directory, read_number, write};
use super::hierarchy::{
    Hierarchies, PROCESSORS, enable, enable_controllers, hierarchies, processors, unusable,
};
use super::removal::{end, kill_all, remove_tree};
use super::slot::{CgroupSlot, PROCESSORS_V1};
use super::{LimitGroup, Version};
use crate::processors::Processors;
use crate::{Result, Step};

/// Index of the pids controller in the list of controllers.
const PIDS: usize = 2;
/// Minimum number of processes per group.
const MIN_PIDS: u64 = 1024;
/// CPU weight of a group, 1 to 10,000, under version 2.
const GROUP_WEIGHT: u64 = 1000;
/// Slots per directory of the processors' controller: the kernel visits all siblings when it makes a directory.
const SLOTS_PER_DIRECTORY: u64 = 32;

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
            None => self.make_slot(group),
        }
    }

    fn make_slot(&self, group: LimitGroup) -> Result<CgroupSlot> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut roots = self.roots.clone();
        if let Some(group) = group {
            let root = match self.version {
                Version::V1 => &mut roots[PIDS],
                Version::V2 => &mut roots[0],
            };
            root.push(format!("a{group}"));
            self.make_group(root)?;
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
        CgroupSlot::open(self.version, group, directories, self.processors.clone())
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
                .entry(slot.group())
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

/// Returns how many processes and threads the host supports.
fn numbers_of_processes() -> u64 {
    let files = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let most = files
        .iter()
        .filter_map(|path| read_number(Path::new(path)).ok());
    most.min().unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;

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
        let mut directories: Vec<_> = used.iter().flat_map(|slot| slot.attach_paths()).collect();
        let count = directories.len();
        directories.sort();
        directories.dedup();
        assert_eq!(directories.len(), count);
        drop(used);
        tree.remove().expect("removed");
    }
}
