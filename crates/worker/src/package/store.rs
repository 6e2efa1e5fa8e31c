//! The package store on disk.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use model::{Limits, Sha256};
use sha2::Digest;

use super::{PackageError, TreeSize, pack, tree, unpack};

/// Packages and trees under one directory. Cheap to share. Calls may block on the disk.
#[derive(Clone, Debug)]
pub struct PackageStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    limits: Limits,
    next: AtomicU64,
}

/// Identifies a boot of the machine. Source: proc_sys_kernel(5).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl PackageStore {
    /// Opens or creates a store. Removes incomplete files of an interrupted run.
    ///
    /// # Errors
    /// Disk errors.
    pub fn open(directory: &Path, limits: &Limits) -> Result<Self, PackageError> {
        let store = Self {
            shared: Arc::new(Shared {
                directory: directory.to_owned(),
                limits: limits.clone(),
                next: AtomicU64::new(0),
            }),
        };
        store
            .prepare()
            .map_err(PackageError::io("prepare the package store"))?;
        Ok(store)
    }

    fn prepare(&self) -> io::Result<()> {
        // Incomplete files, and merged trees: they are quickly rebuilt, and their hard links would keep files on disk.
        for name in ["aside", "merged"] {
            self.discard(&self.path(name))?;
        }
        self.clear_discarded()?;
        for name in ["aside", "merged", "packages", "trees"] {
            fs::create_dir_all(self.path(name))?;
        }
        self.remove_trees_after_a_crash()
    }

    /// Moves a directory of an earlier run away. A sandbox of that run may still write into it, so it is renamed before
    /// it is removed.
    fn discard(&self, directory: &Path) -> io::Result<()> {
        if !directory.exists() {
            return Ok(());
        }
        let discarded = self.path("discarded");
        fs::create_dir_all(&discarded)?;
        let mut free = (0u64..).map(|number| discarded.join(number.to_string()));
        match free.find(|path| !path.exists()) {
            Some(free) => fs::rename(directory, free),
            None => Ok(()),
        }
    }

    fn clear_discarded(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.path("discarded")) {
            // Files that a sandbox has written meanwhile are removed at the next start.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// Removes trees that can be unpacked again, after a crash of the machine. Their files are not fsynced one by one.
    fn remove_trees_after_a_crash(&self) -> io::Result<()> {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let boot_marker = self.path("trees/.boot");
        if fs::read_to_string(&boot_marker).is_ok_and(|before| before == boot) {
            return Ok(());
        }
        for entry in fs::read_dir(self.path("trees"))? {
            let entry = entry?;
            let package = self
                .path("packages")
                .join(entry.file_name())
                .with_extension("zip");
            if package.is_file() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        fs::write(boot_marker, boot)
    }

    /// Stores a package. It is on stable storage when this returns.
    ///
    /// # Errors
    /// Disk errors.
    pub fn put(&self, bytes: &[u8]) -> Result<Sha256, PackageError> {
        let digest = Sha256::from_digest(sha2::Sha256::digest(bytes).into());
        let path = self.package(&digest);
        if !self
            .touch(&path)
            .map_err(PackageError::io("keep a package"))?
        {
            let mut incoming = self.receive()?;
            incoming.write(bytes)?;
            incoming.keep()?;
        }
        Ok(digest)
    }

    /// Updates the modification time of a stored package, since it is about to be referenced again. Returns whether it
    /// exists.
    pub(super) fn touch(&self, path: &Path) -> io::Result<bool> {
        let opened = File::options().append(true).open(path);
        match opened.and_then(|file| file.set_modified(SystemTime::now())) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Moves a package from its staging path to `to`. It is on stable storage when this returns.
    pub(super) fn place(&self, file: &File, staging: &Path, to: &Path) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(staging, to)?;
        File::open(self.path("packages"))?.sync_all()
    }

    /// Packs a tree and stores the package. It is on stable storage when this returns.
    ///
    /// # Errors
    /// Disk errors.
    pub fn pack(&self, tree: &Sha256) -> Result<Sha256, PackageError> {
        let staging = self.staging();
        let packed = self.pack_into(tree, &staging);
        if packed.is_err() {
            let _ = fs::remove_file(&staging);
        }
        packed.map_err(PackageError::io("pack a tree"))
    }

    fn pack_into(&self, tree: &Sha256, staging: &Path) -> io::Result<Sha256> {
        pack::pack(&self.tree(tree), staging)?;
        let mut sum = sha2::Sha256::new();
        io::copy(&mut File::open(staging)?, &mut tree::Hashing(&mut sum))?;
        let digest = Sha256::from_digest(sum.finalize().into());
        fs::rename(staging, self.package(&digest))?;
        File::open(self.path("packages"))?.sync_all()?;
        Ok(digest)
    }

    /// Returns the path of a package.
    pub fn package(&self, digest: &Sha256) -> PathBuf {
        self.path("packages").join(format!("{digest}.zip"))
    }

    /// Returns the path of a tree.
    pub fn tree(&self, digest: &Sha256) -> PathBuf {
        self.path("trees").join(digest.as_str())
    }

    /// Unpacks a package, unless it is unpacked, and returns its tree.
    ///
    /// # Errors
    /// [`PackageError::Refused`] if the package is not allowed; then nothing of it is left.
    pub fn unpack(&self, digest: &Sha256) -> Result<PathBuf, PackageError> {
        let tree = self.tree(digest);
        if tree.is_dir() {
            return Ok(tree);
        }
        let archive = match File::open(self.package(digest)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(PackageError::Missing(digest.clone()));
            }
            opened => opened.map_err(PackageError::io("open a package"))?,
        };
        let staging = self.make_staging_directory()?;
        let unpacked = unpack::unpack(io::BufReader::new(archive), &staging, &self.shared.limits);
        unpacked
            .and_then(|()| self.publish(&staging, &tree))
            .inspect_err(|_| {
                let _ = fs::remove_dir_all(&staging);
            })?;
        Ok(tree)
    }

    /// Measures a tree.
    ///
    /// # Errors
    /// Disk errors.
    pub fn size(&self, digest: &Sha256) -> Result<TreeSize, PackageError> {
        tree::size(&self.tree(digest)).map_err(PackageError::io("measure a tree"))
    }

    /// Returns a tree of several packages, later ones over earlier ones. On disk it consists of hard links.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub fn merge(&self, packages: &[Sha256]) -> Result<PathBuf, PackageError> {
        if let [only] = packages {
            return self.unpack(only);
        }
        let merged = self.path("merged").join(merged_name(packages).as_str());
        if merged.is_dir() {
            return Ok(merged);
        }
        let staging = self.make_staging_directory()?;
        let laid = packages.iter().try_for_each(|package| {
            let tree = self.unpack(package)?;
            tree::overlay(&tree, &staging).map_err(PackageError::io("merge layers"))
        });
        laid.and_then(|()| self.publish(&staging, &merged))
            .inspect_err(|_| {
                let _ = fs::remove_dir_all(&staging);
            })?;
        Ok(merged)
    }

    /// Creates an empty staging directory.
    ///
    /// # Errors
    /// Disk errors.
    pub fn make_staging_directory(&self) -> Result<PathBuf, PackageError> {
        let staging = self.staging();
        fs::create_dir(&staging).map_err(PackageError::io("create a directory"))?;
        Ok(staging)
    }

    /// Moves a tree from a staging directory into the store. It is on stable storage when this returns.
    ///
    /// # Errors
    /// Disk errors.
    pub fn adopt(&self, staging: &Path) -> Result<Sha256, PackageError> {
        let digest = tree::digest(staging).map_err(PackageError::io("read a tree"))?;
        let digest = Sha256::from_digest(digest);
        for path in tree::walk(staging).map_err(PackageError::io("read a tree"))? {
            let full = staging.join(path);
            if fs::symlink_metadata(&full).is_ok_and(|kind| !kind.is_symlink()) {
                let synced = File::open(&full).and_then(|file| file.sync_all());
                synced.map_err(PackageError::io("write a tree"))?;
            }
        }
        self.publish(staging, &self.tree(&digest))?;
        Ok(digest)
    }

    fn publish(&self, staging: &Path, tree: &Path) -> Result<(), PackageError> {
        match fs::rename(staging, tree) {
            Ok(()) => Ok(()),
            // Another call has published the same content first.
            Err(_) if tree.is_dir() => {
                fs::remove_dir_all(staging).map_err(PackageError::io("remove a directory"))
            }
            Err(e) => Err(PackageError::Io {
                step: "publish a tree",
                source: e,
            }),
        }
    }

    /// Removes all packages and trees older than `age` that are not in `keep`, not merged from a list in `merged`, and
    /// not `running`. Younger ones may be about to be referenced by a function. Returns the number removed.
    ///
    /// # Errors
    /// Disk errors.
    pub fn sweep(
        &self,
        keep: &HashSet<Sha256>,
        merged: &[Vec<Sha256>],
        running: &[PathBuf],
        age: Duration,
    ) -> io::Result<usize> {
        let merged: Vec<_> = merged.iter().map(|list| merged_name(list)).collect();
        let keep: HashSet<&OsStr> = keep
            .iter()
            .chain(&merged)
            .map(|digest| OsStr::new(digest.as_str()))
            .collect();
        let mut removed = 0;
        for folder in ["merged", "packages", "trees"] {
            for entry in fs::read_dir(self.path(folder))? {
                let path = entry?.path();
                let kept = path
                    .file_stem()
                    .is_none_or(|stem| keep.contains(stem) || stem == ".boot");
                let old = fs::symlink_metadata(&path)
                    .and_then(|meta| meta.modified())
                    .is_ok_and(|time| time.elapsed().is_ok_and(|since| since >= age));
                if kept || !old || running.contains(&path) {
                    continue;
                }
                self.remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes packages, their trees and merged trees that are no longer referenced. A package stored after `since`
    /// stays: it may be about to be referenced.
    ///
    /// # Errors
    /// Disk errors.
    pub fn forget(
        &self,
        digests: &HashSet<Sha256>,
        merged: &[Vec<Sha256>],
        since: SystemTime,
    ) -> io::Result<()> {
        for digest in digests {
            let package = self.package(digest);
            let put = fs::symlink_metadata(&package).and_then(|meta| meta.modified());
            if put.is_ok_and(|put| put > since) {
                continue;
            }
            self.remove(&package)?;
            self.remove(&self.tree(digest))?;
        }
        let merged = merged.iter().map(|list| merged_name(list));
        for name in merged {
            self.remove(&self.path("merged").join(name.as_str()))?;
        }
        Ok(())
    }

    /// Removes a file or a directory, if it exists.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => {
                // A directory is renamed first, so that a half-removed tree is never found under its name.
                let staging = self.staging();
                fs::rename(path, &staging).and_then(|()| fs::remove_dir_all(staging))
            }
            Ok(_) => fs::remove_file(path),
            Err(e) => Err(e),
        };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shared.directory.join(name)
    }

    pub(super) fn staging(&self) -> PathBuf {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.path("aside").join(number.to_string())
    }
}

/// Returns the name of the tree merged from packages.
fn merged_name(packages: &[Sha256]) -> Sha256 {
    let mut sum = sha2::Sha256::new();
    for package in packages {
        sum.update(package.as_str());
    }
    Sha256::from_digest(sum.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn zip(text: &str) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        writer
            .start_file("index.py", zip::write::SimpleFileOptions::default())
            .expect("a name");
        writer.write_all(text.as_bytes()).expect("memory");
        writer.finish().expect("an archive").into_inner()
    }

    fn open(directory: &Path) -> PackageStore {
        PackageStore::open(directory, &Limits::default()).expect("a store")
    }

    #[test]
    fn package_is_stored_once_and_unpacked_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let digest = store.put(&zip("x")).expect("kept");
        assert_eq!(store.put(&zip("x")).expect("kept"), digest);
        let tree = store.unpack(&digest).expect("unpacked");
        fs::write(tree.join("mark"), b"").expect("written");
        let again = open(directory.path())
            .unpack(&digest)
            .expect("there already");
        assert!(again.join("mark").exists());
    }

    #[test]
    fn refused_package_leaves_no_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let digest = store.put(b"not a zip").expect("kept");
        assert!(matches!(
            store.unpack(&digest),
            Err(PackageError::Refused(_))
        ));
        assert_eq!(
            fs::read_dir(directory.path().join("aside"))
                .expect("listed")
                .count(),
            0
        );
        assert!(!store.tree(&digest).exists());
    }

    #[test]
    fn equal_trees_have_equal_digests() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let adopt = |text: &str| {
            let staging = store.make_staging_directory().expect("a directory");
            fs::create_dir(staging.join("d")).expect("made");
            fs::write(staging.join("d/f"), text).expect("written");
            store.adopt(&staging).expect("adopted")
        };
        let (a, b, c) = (adopt("1"), adopt("1"), adopt("2"));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert!(store.tree(&a).join("d/f").exists());
    }

    #[test]
    fn sweep_removes_unreferenced_packages() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let (kept, gone) = (
            store.put(&zip("x")).expect("kept"),
            store.put(&zip("y")).expect("kept"),
        );
        store.unpack(&gone).expect("unpacked");
        let keep = HashSet::from([kept.clone()]);
        assert_eq!(
            store
                .sweep(&keep, &[], &[], Duration::from_secs(3600))
                .expect("swept"),
            0
        );
        assert_eq!(
            store.sweep(&keep, &[], &[], Duration::ZERO).expect("swept"),
            2
        );
        assert!(store.package(&kept).exists());
        assert!(!store.package(&gone).exists() && !store.tree(&gone).exists());
    }

    #[test]
    fn merging_layers_overlays_them_and_leaves_them_unchanged() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let zip = |files: &[(&str, &str)]| {
            let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
            for (name, text) in files {
                let options = zip::write::SimpleFileOptions::default();
                writer.start_file(*name, options).expect("a name");
                writer.write_all(text.as_bytes()).expect("memory");
            }
            store.put(&writer.finish().expect("an archive").into_inner())
        };
        let lower = zip(&[("a", "1"), ("d/b", "1"), ("x", "1")]).expect("kept");
        let upper = zip(&[("d/b", "2"), ("d/c", "2"), ("x/y", "2")]).expect("kept");
        let merged = store
            .merge(&[lower.clone(), upper.clone()])
            .expect("merged");
        let read = |path: &str| fs::read_to_string(merged.join(path)).expect("read");
        assert_eq!(["a", "d/b", "d/c", "x/y"].map(read), ["1", "2", "2", "2"]);
        let below = store.tree(&lower).join("d/b");
        assert_eq!(fs::read_to_string(below).expect("read"), "1");
        let other = store.merge(&[upper, lower]).expect("merged");
        assert_eq!(fs::read_to_string(other.join("x")).expect("read"), "1");
    }

    #[test]
    fn trees_are_unpacked_again_after_a_machine_crash() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let digest = store.put(&zip("x")).expect("kept");
        let tree = store.unpack(&digest).expect("unpacked");
        fs::write(tree.join("index.py"), b"").expect("damaged");
        fs::write(directory.path().join("trees/.boot"), b"another").expect("written");
        let tree = open(directory.path()).unpack(&digest).expect("unpacked");
        assert_eq!(fs::read(tree.join("index.py")).expect("read"), b"x");
    }
}
