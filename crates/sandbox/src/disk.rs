//! Disks for temporary files: bounded, private to an instance, and removed with it.
//!
//! An in-memory file system would count as the function's memory, and not every kernel can bound a directory of the
//! host. So each instance gets a small file system in an unnamed file on the disk of virga's data. Nothing is left
//! after any kind of exit: the mount lives in the mount namespace of a single thread, the loop device goes with the
//! mount, and the file with the device. The file is sparse. Written data stays in the page cache until the kernel
//! writes it back; it counts against the function's memory only briefly.
//!
//! Making a disk takes 1 ms, so disks are made ahead of need, and reused if none of their data has reached the host's
//! disk.

mod file;
mod template;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;

use self::file::{open, unnamed_file};
pub use self::template::DiskTemplate;
use crate::empty::empty_directory;
use crate::{Result, Step, sys};

/// Where the maker mounts disks.
const DISKS: &str = "/disks";
/// The directory of a disk that its instance sees.
const OWN: &str = "own";
/// The directory to move that to before it is emptied.
const TRASH: &str = "gone";
/// How much more of the host's disk a reusable disk may occupy than a new one, bytes, for file system metadata.
const METADATA_MAX: u64 = 64 << 10;
/// Attempts to attach a loop device, since others may take the free one first.
const ATTACH_ATTEMPTS: usize = 32;

/// Mount options. The content need not survive a crash, so write order and the drive's cache do not matter.
const OPTIONS: &str = "nobarrier,noinit_itable,noauto_da_alloc";

/// Makes disks, on a dedicated thread.
#[derive(Debug)]
pub struct DiskMaker {
    /// The directory of their files on the host, which identifies them there.
    directory: OwnedFd,
    template: DiskTemplate,
    made: u64,
}

/// A disk. Only its maker's thread, or one started by it, may use it.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
    image: File,
    /// Takes the number of blocks that the file system keeps in reserve.
    reserve: File,
    /// Bytes that a new disk occupies on the host.
    fresh: u64,
    /// Free bytes on a new disk.
    capacity: u64,
    bound: u64,
    block: u64,
}

/// The part of a disk for an instance.
#[derive(Debug)]
pub struct DiskMount {
    /// A detached mount.
    pub tree: OwnedFd,
    directory: File,
}

impl DiskMount {
    /// Gives it to a user.
    ///
    /// # Errors
    /// The system's error.
    pub fn give(&self, user: u32) -> Result<()> {
        fchown(&self.directory, Some(user), Some(user)).step("change the owner of a disk")
    }
}

impl DiskMaker {
    /// Prepares this thread, which sees only what disks need from now on. `directory` is for the disks' files, on a
    /// file system of the host; `staging` is an empty directory.
    ///
    /// # Errors
    /// The step that failed.
    pub fn begin(directory: &Path, staging: &Path, template: DiskTemplate) -> Result<Self> {
        let opened = open(directory).step("open the directory of disks")?;
        sys::unshare(libc::CLONE_FS | libc::CLONE_NEWNS).step("new mount namespace")?;
        sys::make_mounts_private().step("make mounts private")?;
        let text = |path: &Path| {
            let not = || io::Error::other(format!("{} is not UTF-8", path.display()));
            path.to_str().map(str::to_owned).ok_or_else(not)
        };
        let at = text(staging).step("staging directory")?;
        let closed = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        sys::mount("disks", &at, "tmpfs", closed, "mode=0700,size=16m").step("mount a root")?;
        for shown in ["/dev", "/sys"] {
            let place = staging.join(shown.trim_start_matches('/'));
            let what = || format!("show {shown}");
            fs::create_dir(&place).step(what())?;
            let place = text(&place).step(what())?;
            sys::mount(shown, &place, "", libc::MS_BIND, "").step(what())?;
        }
        fs::create_dir(staging.join(DISKS.trim_start_matches('/'))).step("make a directory")?;
        sys::pivot_into(&at).step("pivot into the root")?;
        Ok(Self {
            directory: opened,
            template,
            made: 0,
        })
    }

    /// Makes a disk.
    ///
    /// # Errors
    /// The step that failed, for example because the host's disk is full.
    pub fn make(&mut self) -> Result<Disk> {
        let image = unnamed_file(&self.directory).step("make a disk's file")?;
        self.template.write(&image).step("write a disk's file")?;
        let device = attach(&image)?;
        self.made += 1;
        let place = Path::new(DISKS).join(self.made.to_string());
        fs::create_dir(&place).step("make a disk's place")?;
        let mounted = sys::mount(
            &format!("/dev/{}", device.name),
            &place.to_string_lossy(),
            "ext4",
            libc::MS_NOSUID | libc::MS_NODEV,
            OPTIONS,
        );
        if mounted.is_err() {
            let _ = fs::remove_dir(&place);
        }
        mounted.step("mount a disk")?;
        let disk = self.describe(image, &device, place.clone());
        if disk.is_err() {
            unmount(&place);
        }
        disk
    }

    fn describe(&self, image: File, device: &Device, place: PathBuf) -> Result<Disk> {
        let what = "prepare a disk";
        fs::create_dir(place.join(TRASH)).step(what)?;
        begin(&place)?;
        let reserve = format!("/sys/fs/ext4/{}/reserved_clusters", device.name);
        let reserve = File::options().write(true).open(&reserve);
        let free = rustix::fs::statvfs(&place).map_err(io::Error::from);
        let free = free.step(what)?;
        let mut disk = Disk {
            reserve: reserve.step(what)?,
            fresh: image.metadata().step(what)?.blocks() * 512,
            capacity: free.f_bfree * free.f_frsize,
            bound: self.template.bytes,
            block: free.f_frsize,
            place,
            image,
        };
        disk.hold(self.template.bytes)?;
        Ok(disk)
    }

    /// Returns the capacity of a disk, including file system metadata, bytes.
    pub fn bytes(&self) -> u64 {
        self.template.bytes
    }

    /// Returns the free and the total bytes of the host's disk.
    ///
    /// # Errors
    /// The system's error.
    pub fn host(&self) -> Result<(u64, u64)> {
        let found = rustix::fs::fstatvfs(&self.directory).map_err(io::Error::from);
        let found = found.step("stat the host's disk")?;
        Ok((
            found.f_bavail * found.f_frsize,
            found.f_blocks * found.f_frsize,
        ))
    }
}

impl Disk {
    /// Returns the part for an instance.
    ///
    /// # Errors
    /// The step that failed.
    pub fn part(&self) -> Result<DiskMount> {
        let own = self.place.join(OWN);
        let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        Ok(DiskMount {
            tree: sys::clone_tree_with(&own, attributes).step("copy a disk's mount")?,
            directory: File::open(&own).step("open a disk")?,
        })
    }

    /// Returns the bytes in use, whether or not they have reached the host's disk.
    ///
    /// # Errors
    /// The system's error.
    pub fn used(&self) -> Result<u64> {
        let found = rustix::fs::statvfs(&self.place).map_err(io::Error::from);
        let found = found.step("stat a disk")?;
        Ok(self.capacity.saturating_sub(found.f_bfree * found.f_frsize))
    }

    /// Returns the bytes that it occupies on the host's disk.
    ///
    /// # Errors
    /// The system's error.
    pub fn on_host(&self) -> Result<u64> {
        let found = self.image.metadata().step("stat a disk's file")?;
        Ok(found.blocks() * 512)
    }

    /// Limits its content to `bytes`. Existing content stays.
    ///
    /// # Errors
    /// The system's error.
    pub fn hold(&mut self, bytes: u64) -> Result<()> {
        self.bound = bytes;
        let reserve = self.capacity.saturating_sub(bytes) / self.block;
        let written = self.reserve.write_at(reserve.to_string().as_bytes(), 0);
        written.step("limit a disk").map(drop)
    }

    /// Returns the limit, bytes.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Returns whether nothing was ever written to it, as far as a quick check shows.
    pub fn is_untouched(&self) -> bool {
        let listed = fs::read_dir(self.place.join(OWN));
        listed.is_ok_and(|mut entries| entries.next().is_none()) && self.is_as_new()
    }

    fn is_as_new(&self) -> bool {
        let used = self.used().unwrap_or(u64::MAX);
        let on_host = self.on_host().unwrap_or(u64::MAX);
        // A directory occupies one block.
        used <= self.block && on_host <= self.fresh + METADATA_MAX
    }

    /// Empties a disk whose processes have all ended. Returns it if it is as good as new, with a fresh directory for
    /// the next instance.
    ///
    /// # Errors
    /// The step that failed.
    pub fn clean(self) -> Result<Option<Self>> {
        let cleaned = self.empty().and_then(|()| begin(&self.place));
        if cleaned.is_ok() && self.is_as_new() {
            return Ok(Some(self));
        }
        self.remove();
        cleaned.map(|()| None)
    }

    fn empty(&self) -> Result<()> {
        let gone = self.place.join(TRASH);
        fs::rename(self.place.join(OWN), gone.join("0")).step("move a directory to the trash")?;
        empty_directory(&gone).step("empty a disk")
    }

    /// Removes the disk and its content.
    pub fn remove(self) {
        unmount(&self.place);
    }
}

/// Makes the directory for an instance.
fn begin(place: &Path) -> Result<()> {
    let own = place.join(OWN);
    fs::create_dir(&own).step("make a directory on a disk")?;
    fs::set_permissions(&own, Permissions::from_mode(0o700)).step("set the mode of a directory")
}

fn unmount(place: &Path) {
    // The loop device and the file go with the last mount.
    let _ = sys::unmount(&place.to_string_lossy());
    let _ = fs::remove_dir(place);
}

/// A loop device backed by a file.
struct Device {
    name: String,
    /// The device is released when it is neither open nor mounted.
    _open: File,
}

fn attach(image: &File) -> Result<Device> {
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control");
    let control = control.step("open /dev/loop-control")?;
    let mut failure = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..ATTACH_ATTEMPTS {
        let number = sys::free_loop_device(&control).step("find a loop device")?;
        let name = format!("loop{number}");
        let path = format!("/dev/{name}");
        let open = File::options().read(true).write(true).open(&path);
        let open = open.step(format!("open {path}"))?;
        match sys::configure_loop_device(&open, image) {
            Ok(()) => return Ok(Device { name, _open: open }),
            // Another process took the device first.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => failure = e,
            Err(e) => return Err(e).step(format!("set up {path}")),
        }
    }
    Err(failure).step("set up a loop device")
}

/// Checks whether this host supports disks. Leaves nothing behind.
///
/// # Errors
/// The missing part and its fix.
pub fn probe(directory: &Path) -> std::result::Result<(), String> {
    let made = std::thread::scope(|scope| {
        let probed = scope.spawn(|| {
            let staging = directory.join(format!("virga-probe-{}", std::process::id()));
            let template = DiskTemplate::make(directory, 16 << 20, 1024)?;
            fs::create_dir(&staging).step("make a directory")?;
            // The thread cannot remove files of the host, so do it by descriptor.
            let parent = File::open(directory).step("open a directory");
            let made = DiskMaker::begin(directory, &staging, template).and_then(|mut maker| {
                let disk = maker.make()?;
                disk.remove();
                Ok(())
            });
            let name = staging.file_name().unwrap_or_default();
            let _ = rustix::fs::unlinkat(&parent?, name, AtFlags::REMOVEDIR);
            made
        });
        let lost = |_| Err(io::Error::other("its thread ended")).step("make a disk");
        probed.join().unwrap_or_else(lost)
    });
    made.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Runs a closure on a thread that makes disks.
    fn with_maker(run: impl FnOnce(&mut DiskMaker) + Send + 'static) {
        let place = tempfile::tempdir().expect("a directory");
        let staging = place.path().join("staging");
        fs::create_dir(&staging).expect("a directory");
        let template = DiskTemplate::make(place.path(), 16 << 20, 1024).expect("a template");
        let directory = place.path().to_owned();
        let thread = std::thread::spawn(move || {
            let mut maker = DiskMaker::begin(&directory, &staging, template).expect("a maker");
            run(&mut maker);
        });
        thread.join().expect("no panic");
    }

    /// Writes until the disk is full, and returns the number of bytes.
    fn fill(path: &Path) -> u64 {
        let mut file = File::create(path).expect("a file");
        let block = vec![7; 1 << 20];
        let mut total = 0;
        loop {
            match file.write(&block) {
                Ok(length) => total += length as u64,
                Err(e) => {
                    assert_eq!(e.kind(), io::ErrorKind::StorageFull, "{e}");
                    return total;
                }
            }
        }
    }

    #[test]
    fn cleaned_disk_is_reusable() {
        with_maker(|maker| {
            let disk = maker.make().expect("a disk");
            assert!(disk.is_untouched());
            let own = disk.place.join(OWN);
            fs::write(own.join("small"), "x").expect("written");
            assert!(!disk.is_untouched());
            let disk = disk.clean().expect("cleaned").expect("as good as new");
            assert!(disk.is_untouched());
            // Deep trees are removed, too.
            let mut deep = own.clone();
            for _ in 0..300 {
                deep.push("d");
                fs::create_dir(&deep).expect("made");
            }
            assert!(disk.clean().is_ok());
        });
    }

    #[test]
    fn limit_reduces_free_space() {
        with_maker(|maker| {
            let mut disk = maker.make().expect("a disk");
            disk.hold(4 << 20).expect("bounded");
            // Root may use the reserve, so writing proves nothing; the numbers do.
            let found = rustix::fs::statvfs(&disk.place).expect("numbers");
            let free = found.f_bavail * found.f_frsize;
            assert!(free <= 4 << 20 && free > 3 << 20, "{free}");
            disk.hold(16 << 20).expect("freed");
            let found = rustix::fs::statvfs(&disk.place).expect("numbers");
            assert!(found.f_bavail * found.f_frsize >= 16 << 20);
            let written = fill(&disk.place.join(OWN).join("full"));
            assert!(written >= 16 << 20, "{written}");
            assert!(disk.used().expect("a number") >= 16 << 20);
            assert!(disk.clean().is_ok());
        });
    }
}
