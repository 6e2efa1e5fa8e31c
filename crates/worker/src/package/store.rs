//! The package store on disk.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use model::{Limits, Sha256};
use sha2::Digest;
use tracing::error;

use super::{PackageError, TreeSize, archive, pack, tree, unpack};

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

/// Extension of a file whose bytes do not match its digest.
pub(super) const DAMAGED: &str = "damaged";

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
        for name in ["aside", "archives", "merged", "packages", "trees"] {
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
            let digest = entry.file_name().to_str().and_then(Sha256::parse);
            if digest.is_some_and(|digest| self.is_packed(&digest)) {
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
        self.rename_synced(staging, to)
    }

    /// Moves a synced file to `to`, replacing an older file.
    fn rename_synced(&self, staging: &Path, to: &Path) -> io::Result<()> {
        fs::rename(staging, to)?;
        to.parent()
            .map_or(Ok(()), |directory| File::open(directory)?.sync_all())?;
        // An earlier file of this digest that was damaged has been replaced.
        self.remove(&to.with_extension(DAMAGED))
    }

    /// Returns the path of a package.
    pub fn package(&self, digest: &Sha256) -> PathBuf {
        self.path("packages").join(format!("{digest}.zip"))
    }

    /// Returns the path of the archive of a tree that was built here.
    pub(super) fn archive(&self, digest: &Sha256) -> PathBuf {
        self.path("archives").join(format!("{digest}.tgz"))
    }

    /// Returns whether a tree can be unpacked when it is lost.
    pub fn is_packed(&self, tree: &Sha256) -> bool {
        self.package(tree).is_file() || self.archive(tree).is_file()
    }

    /// Returns the path of a tree.
    pub fn tree(&self, digest: &Sha256) -> PathBuf {
        self.path("trees").join(digest.as_str())
    }

    /// Unpacks a package or an archive, unless it is unpacked, and returns its tree.
    ///
    /// # Errors
    /// [`PackageError::Refused`] if the package is not allowed; then nothing of it is left. [`PackageError::Damaged`] if its
    /// bytes are not those that were stored.
    pub fn unpack(&self, digest: &Sha256) -> Result<PathBuf, PackageError> {
        let tree = self.tree(digest);
        if tree.is_dir() {
            return Ok(tree);
        }
        let (file, is_archive) = match self.open_verified(digest, &self.package(digest)) {
            Err(PackageError::Missing(_)) => {
                (self.open_verified(digest, &self.archive(digest))?, true)
            }
            opened => (opened?, false),
        };
        let staging = self.make_staging_directory()?;
        let unpacked = if is_archive {
            archive::unpack(file, &staging).map_err(PackageError::io("unpack an archive"))
        } else {
            unpack::unpack(io::BufReader::new(file), &staging, &self.shared.limits)
        };
        unpacked
            .and_then(|()| self.publish(&staging, &tree))
            .inspect_err(|_| {
                let _ = fs::remove_dir_all(&staging);
            })?;
        Ok(tree)
    }

    /// Opens a file of the store, and compares its bytes with its digest.
    fn open_verified(&self, digest: &Sha256, path: &Path) -> Result<File, PackageError> {
        let damaged = path.with_extension(DAMAGED);
        let mut file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(match damaged.exists() {
                    true => PackageError::Damaged(digest.clone()),
                    false => PackageError::Missing(digest.clone()),
                });
            }
            opened => opened.map_err(PackageError::io("open a package"))?,
        };
        let read = PackageError::io("read a package");
        if digest_of(&mut file).map_err(read)? != *digest {
            set_aside(&file, path, &damaged);
            return Err(PackageError::Damaged(digest.clone()));
        }
        file.rewind().map_err(PackageError::io("read a package"))?;
        Ok(file)
    }

    /// Measures a tree.
    ///
    /// # Errors
    /// Disk errors.
    pub fn size(&self, digest: &Sha256) -> Result<TreeSize, PackageError> {
        tree::size(&self.tree(digest)).map_err(PackageError::io("measure a tree"))
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

    /// Archives a tree that was built in a staging directory, and moves it into the store. Its archive is on stable storage
    /// when this returns; it names the tree.
    ///
    /// # Errors
    /// Disk errors.
    pub fn adopt(&self, staging: &Path) -> Result<Sha256, PackageError> {
        let digest = self.write_archive(staging)?;
        self.publish(staging, &self.tree(&digest))?;
        Ok(digest)
    }

    /// Packs a tree that was built in a staging directory into a package, as if it had been uploaded. The package is on
    /// stable storage, and unpacked, when this returns.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub fn adopt_as_package(&self, staging: &Path) -> Result<Sha256, PackageError> {
        let file = self.staging();
        let packed = pack::pack(staging, &file).and_then(|()| {
            let digest = digest_of(&mut File::open(&file)?)?;
            self.rename_synced(&file, &self.package(&digest))?;
            Ok(digest)
        });
        let digest = packed
            .inspect_err(|_| {
                let _ = fs::remove_file(&file);
            })
            .map_err(PackageError::io("pack a tree"))?;
        self.unpack(&digest)?;
        Ok(digest)
    }

    /// Archives a tree of an earlier version, which was stored without an archive. It stays; the same tree can be had under
    /// the returned digest, too.
    ///
    /// # Errors
    /// Disk errors.
    pub fn archive_old_tree(&self, tree: &Sha256) -> Result<Sha256, PackageError> {
        let old = self.tree(tree);
        let digest = self.write_archive(&old)?;
        let staging = self.make_staging_directory()?;
        let copied = tree::overlay(&old, &staging).map_err(PackageError::io("copy a tree"));
        copied
            .and_then(|()| self.publish(&staging, &self.tree(&digest)))
            .inspect_err(|_| {
                let _ = fs::remove_dir_all(&staging);
            })?;
        Ok(digest)
    }

    fn write_archive(&self, tree: &Path) -> Result<Sha256, PackageError> {
        let staging = self.staging();
        let written = archive::write(tree, &staging).and_then(|digest| {
            let digest = Sha256::from_digest(digest);
            // A file of this name has the same bytes, unless it is damaged.
            self.rename_synced(&staging, &self.archive(&digest))?;
            Ok(digest)
        });
        written
            .inspect_err(|_| {
                let _ = fs::remove_file(&staging);
            })
            .map_err(PackageError::io("archive a tree"))
    }

    pub(super) fn publish(&self, staging: &Path, tree: &Path) -> Result<(), PackageError> {
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

    /// Removes a file or a directory, if it exists.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
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

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.shared.directory.join(name)
    }

    pub(super) fn staging(&self) -> PathBuf {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.path("aside").join(number.to_string())
    }
}

/// Renames a damaged file, unless another has taken its place meanwhile.
fn set_aside(file: &File, path: &Path, damaged: &Path) {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let there = fs::metadata(path).map(identity).ok();
    let moved = match file.metadata().map(identity).ok() == there {
        true => fs::rename(path, damaged),
        false => return,
    };
    let moved = moved.map_or_else(
        |error| error.to_string(),
        |()| damaged.display().to_string(),
    );
    error!(file = %path.display(), moved_to = moved, "the bytes of a package do not match its digest; it is not run until its code is deployed again, or the file is restored from a backup");
}

/// Computes the digest of a file.
fn digest_of(file: &mut File) -> io::Result<Sha256> {
    let mut sum = sha2::Sha256::new();
    io::copy(file, &mut tree::Hashing(&mut sum))?;
    Ok(Sha256::from_digest(sum.finalize().into()))
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

    fn install(store: &PackageStore, text: &str) -> Sha256 {
        let staging = store.make_staging_directory().expect("a directory");
        fs::write(staging.join("f"), text).expect("written");
        store.adopt(&staging).expect("adopted")
    }

    #[test]
    fn lost_tree_is_unpacked_from_its_archive() {
        let directory = tempfile::tempdir().expect("a directory");
        let digest = install(&open(directory.path()), "1");
        fs::remove_dir_all(directory.path().join("trees")).expect("lost");
        let tree = open(directory.path()).unpack(&digest).expect("unpacked");
        assert_eq!(fs::read(tree.join("f")).expect("read"), b"1");
    }

    #[test]
    fn damaged_bytes_are_not_unpacked_until_they_are_stored_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let (package, tree) = (store.put(&zip("x")).expect("kept"), install(&store, "1"));
        let files = [store.package(&package), store.archive(&tree)];
        for (digest, file) in [&package, &tree].into_iter().zip(&files) {
            let mut bytes = fs::read(file).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, &bytes).expect("damaged");
            let _ = fs::remove_dir_all(store.tree(digest));
            for _ in 0..2 {
                let refused = store.unpack(digest);
                assert!(
                    matches!(refused, Err(PackageError::Damaged(_))),
                    "{refused:?}"
                );
                assert!(!store.tree(digest).exists() && !file.exists());
            }
        }
        assert_eq!(store.put(&zip("x")).expect("kept"), package);
        assert_eq!(install(&store, "1"), tree);
        for (digest, file) in [&package, &tree].into_iter().zip(&files) {
            store.unpack(digest).expect("unpacked");
            assert!(!file.with_extension(DAMAGED).exists());
        }
    }

    #[test]
    fn tree_without_an_archive_gets_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let old = Sha256::from_digest([0; 32]);
        fs::create_dir(store.tree(&old)).expect("made");
        fs::write(store.tree(&old).join("f"), "1").expect("written");
        assert!(!store.is_packed(&old));
        let new = store.archive_old_tree(&old).expect("archived");
        assert_eq!(new, install(&store, "1"));
        assert!(store.is_packed(&new) && store.tree(&new).join("f").exists());
        assert!(store.tree(&old).join("f").exists());
    }

    #[test]
    fn trees_are_unpacked_again_after_a_machine_crash() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let digest = store.put(&zip("x")).expect("kept");
        let tree = store.unpack(&digest).expect("unpacked");
        fs::write(tree.join("index.py"), b"").expect("damaged");
        fs::write(directory.path().join("trees/.boot"), b"another").expect("written");
        let installed = install(&store, "1");
        fs::write(store.tree(&installed).join("f"), b"").expect("damaged");
        let store = open(directory.path());
        let tree = store.unpack(&digest).expect("unpacked");
        assert_eq!(fs::read(tree.join("index.py")).expect("read"), b"x");
        let tree = store.unpack(&installed).expect("unpacked");
        assert_eq!(fs::read(tree.join("f")).expect("read"), b"1");
    }
}
