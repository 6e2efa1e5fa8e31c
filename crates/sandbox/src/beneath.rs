//! Safe access to directories that untrusted code may write to, without following links.
//!
//! Every name is opened relative to its directory's descriptor by `openat2` with RESOLVE_BENEATH and without links, so
//! swapping a name meanwhile cannot redirect it. Trees are bounded in bytes, inodes, depth and path length.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum path length of a file in a tree, bytes.
pub const PATH_MAX: usize = 1024;
/// Maximum number of components of such a path.
pub const DEPTH_MAX: usize = 100;

/// Size limits of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeBounds {
    /// Total size of all files, bytes.
    pub bytes: u64,
    /// Number of files, directories and links.
    pub inodes: u64,
}

/// Reason why a tree was not copied.
#[derive(Debug, Error)]
pub enum TreeError {
    /// It exceeds a limit or has a file that is not allowed; the text says which.
    #[error("{0}")]
    Refused(String),
    /// An I/O error.
    #[error("{}: {source}", path.display())]
    Io {
        /// Path in the tree.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

const NO_ESCAPE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

impl Directory {
    /// Opens a directory by a trusted path. The last component must not be a link.
    ///
    /// # Errors
    /// The system's error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory below this one without following links.
    ///
    /// # Errors
    /// The system's error; `ELOOP` at a link.
    pub fn below(&self, path: &Path) -> io::Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self(self.0.try_clone()?));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), NO_ESCAPE)?;
        Ok(Self(fd))
    }

    /// Opens a directory in this one, and makes it if it does not exist.
    ///
    /// # Errors
    /// The system's error, for example because a file of that name exists.
    pub fn make(&self, name: &OsStr) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.below(Path::new(name)),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens a regular file in this directory for reading.
    fn file(&self, name: &CString) -> io::Result<File> {
        // Opening a pipe must not block.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.0, name, flags, Mode::empty(), NO_ESCAPE)?;
        let file = File::from(fd);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other("it is no ordinary file any more"))
        }
    }

    /// Opens a regular file below this directory for reading. Follows links that stay below it.
    ///
    /// # Errors
    /// The system's error; `EXDEV` at a link that leads out.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        // Opening a pipe must not block.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let fd = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        let file = File::from(fd);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is no ordinary file")),
        }
    }

    /// Makes a new file in this directory.
    fn make_file(&self, name: &CString, executable: bool) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let fd = rustix::fs::openat2(&self.0, name, flags, mode, NO_ESCAPE)?;
        Ok(File::from(fd))
    }

    /// Moves a file to another directory unless the name exists there.
    ///
    /// # Errors
    /// The system's error.
    pub fn move_file(&self, name: &OsStr, to: &Self) -> io::Result<()> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(&self.0, name, &to.0, name, flags)?;
        Ok(())
    }

    /// Lists this directory: names and file types.
    fn entries(&self, most: u64) -> io::Result<Vec<(CString, FileType)>> {
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if found.len() as u64 >= most {
                // One entry beyond the limit is enough to detect it.
                found.push((name.to_owned(), FileType::Unknown));
                break;
            }
            let kind = match entry.file_type() {
                // Not every file system reports the type.
                FileType::Unknown => self
                    .status(&name.to_owned())
                    .map_or(FileType::Unknown, |status| {
                        FileType::from_raw_mode(status.st_mode)
                    }),
                kind => kind,
            };
            found.push((name.to_owned(), kind));
        }
        Ok(found)
    }

    /// Returns the type, mode and size of an entry, without following a link.
    fn status(&self, name: &CString) -> io::Result<rustix::fs::Stat> {
        Ok(rustix::fs::statat(
            &self.0,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Lists all regular files below this directory.
    ///
    /// # Errors
    /// [`TreeError`], as for [`Self::copy_to`].
    pub fn files(&self, bounds: TreeBounds) -> Result<Vec<PathBuf>, TreeError> {
        let mut found = Vec::new();
        let mut walk = Walk::new(bounds);
        walk.tree(self, &mut |_, path, kind, _| {
            if kind == FileType::RegularFile {
                found.push(path.to_owned());
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Copies everything below this directory into an empty one. Copies belong to `owner` and have the modes 755 and
    /// 644. Links are copied, not followed.
    ///
    /// # Errors
    /// [`TreeError::Refused`] if a limit is exceeded, or something is neither a file, a directory nor a link.
    pub fn copy_to(
        &self,
        to: &Self,
        owner: Option<u32>,
        bounds: TreeBounds,
    ) -> Result<(), TreeError> {
        let mut walk = Walk::new(bounds);
        let mut copy = Copy { owner };
        copy.tree(&mut walk, self, to)
    }

    /// Measures everything below this directory, up to the bounds. The result is approximate while others write to it.
    ///
    /// # Errors
    /// The system's error.
    pub fn measure(&self, bounds: TreeBounds) -> Result<TreeBounds, TreeError> {
        let mut bytes = 0;
        let mut walk = Walk::new(bounds);
        walk.lenient = true;
        let walked = walk.tree(self, &mut |directory, _, kind, name| {
            if kind == FileType::RegularFile
                && let Ok(status) = directory.status(name)
            {
                bytes += u64::try_from(status.st_size).unwrap_or(0);
            }
            Ok(())
        });
        let inodes = bounds.inodes - walk.left.inodes;
        match walked {
            // A limit is exceeded, by an unknown amount. The caller compares with the bounds.
            Err(TreeError::Refused(_)) => Ok(TreeBounds {
                bytes,
                inodes: bounds.inodes.saturating_add(1),
            }),
            Err(e) => Err(e),
            Ok(()) => Ok(TreeBounds { bytes, inodes }),
        }
    }
}

/// A tree walk with its remaining limits.
struct Walk {
    bounds: TreeBounds,
    left: TreeBounds,
    path: PathBuf,
    depth: usize,
    /// Whether entries may vanish or change type during the walk.
    lenient: bool,
}

impl Walk {
    fn new(bounds: TreeBounds) -> Self {
        Self {
            bounds,
            left: bounds,
            path: PathBuf::new(),
            depth: 0,
            lenient: false,
        }
    }

    fn io(&self) -> impl FnOnce(io::Error) -> TreeError {
        let path = self.path.clone();
        move |source| TreeError::Io { path, source }
    }

    /// Counts an entry and appends it to the path.
    fn enter(&mut self, name: &CString) -> Result<(), TreeError> {
        let Some(left) = self.left.inodes.checked_sub(1) else {
            return Err(TreeError::Refused(format!(
                "there are over {most} files, directories and links; up to {most} are allowed",
                most = self.bounds.inodes
            )));
        };
        self.left.inodes = left;
        self.path.push(OsStr::from_bytes(name.as_bytes()));
        self.depth += 1;
        if self.depth > DEPTH_MAX || self.path.as_os_str().len() > PATH_MAX {
            let shown: String = self.path.to_string_lossy().chars().take(200).collect();
            return Err(TreeError::Refused(format!(
                "the path {shown:?} … is too long; up to {DEPTH_MAX} parts and {PATH_MAX} bytes are allowed"
            )));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.path.pop();
        self.depth -= 1;
    }

    /// Visits everything below a directory, parents first, with the directory, path, type and name.
    fn tree(
        &mut self,
        directory: &Directory,
        visit: &mut impl FnMut(&Directory, &Path, FileType, &CString) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let listed = directory.entries(self.left.inodes).map_err(self.io())?;
        for (name, kind) in listed {
            self.enter(&name)?;
            visit(directory, &self.path, kind, &name)?;
            if kind == FileType::Directory {
                match directory.below(Path::new(OsStr::from_bytes(name.as_bytes()))) {
                    Ok(below) => self.tree(&below, visit)?,
                    Err(_) if self.lenient => {}
                    Err(e) => return Err(self.io()(e)),
                }
            }
            self.leave();
        }
        Ok(())
    }
}

struct Copy {
    owner: Option<u32>,
}

impl Copy {
    fn tree(&mut self, walk: &mut Walk, from: &Directory, to: &Directory) -> Result<(), TreeError> {
        let listed = from.entries(walk.left.inodes).map_err(walk.io())?;
        for (name, kind) in listed {
            walk.enter(&name)?;
            match kind {
                FileType::Directory => {
                    let as_path = Path::new(OsStr::from_bytes(name.as_bytes()));
                    let below = from.below(as_path).map_err(walk.io())?;
                    let made = to.make(as_path.as_os_str()).map_err(walk.io())?;
                    self.give(&made.0).map_err(walk.io())?;
                    self.tree(walk, &below, &made)?;
                }
                FileType::RegularFile => self.file(walk, from, to, &name)?,
                FileType::Symlink => self.link(from, to, &name).map_err(walk.io())?,
                _ => {
                    let path = walk.path.display();
                    return Err(TreeError::Refused(format!(
                        "{path} is neither a file, a directory nor a link"
                    )));
                }
            }
            walk.leave();
        }
        Ok(())
    }

    fn file(
        &self,
        walk: &mut Walk,
        from: &Directory,
        to: &Directory,
        name: &CString,
    ) -> Result<(), TreeError> {
        let copied = || {
            let source = from.file(name)?;
            let executable = from.status(name)?.st_mode & 0o111 != 0;
            let mut target = to.make_file(name, executable)?;
            self.give(&target)?;
            // One byte beyond the limit is enough to detect it.
            let most = walk.left.bytes.saturating_add(1);
            io::copy(&mut source.take(most), &mut target)
        };
        let length = copied().map_err(walk.io())?;
        match walk.left.bytes.checked_sub(length) {
            Some(left) => walk.left.bytes = left,
            None => {
                let message = format!(
                    "the files have over {} MB together, which is the limit",
                    walk.bounds.bytes >> 20
                );
                return Err(TreeError::Refused(message));
            }
        }
        Ok(())
    }

    fn link(&self, from: &Directory, to: &Directory, name: &CString) -> io::Result<()> {
        let target = rustix::fs::readlinkat(&from.0, name, Vec::new())?;
        rustix::fs::symlinkat(target, &to.0, name)?;
        if let Some(owner) = self.owner {
            let (user, group) = ids(owner);
            rustix::fs::chownat(
                &to.0,
                name,
                Some(user),
                Some(group),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(())
    }

    fn give(&self, file: &impl AsFd) -> io::Result<()> {
        if let Some(owner) = self.owner {
            let (user, group) = ids(owner);
            rustix::fs::fchown(file, Some(user), Some(group))?;
        }
        Ok(())
    }
}

fn ids(owner: u32) -> (rustix::fs::Uid, rustix::fs::Gid) {
    (
        rustix::fs::Uid::from_raw(owner),
        rustix::fs::Gid::from_raw(owner),
    )
}

/// Opens a trusted file for writing. It must not be a link.
pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(
        CWD,
        path,
        flags,
        Mode::empty(),
    )?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const ALL: TreeBounds = TreeBounds {
        bytes: 1000,
        inodes: 20,
    };

    fn trees() -> (tempfile::TempDir, Directory, Directory) {
        let outer = tempfile::tempdir().expect("a directory");
        for name in ["from", "to", "secret"] {
            fs::create_dir(outer.path().join(name)).expect("made");
        }
        fs::write(outer.path().join("secret/key"), "secret").expect("written");
        let open = |name: &str| Directory::open(&outer.path().join(name)).expect("opened");
        let (from, to) = (open("from"), open("to"));
        (outer, from, to)
    }

    #[test]
    fn copy_preserves_symlinks() {
        let (outer, from, to) = trees();
        let at = |path: &str| outer.path().join(path);
        fs::create_dir_all(at("from/a/b")).expect("made");
        fs::write(at("from/a/b/f"), "text").expect("written");
        symlink("../../secret", at("from/a/out")).expect("made");
        from.copy_to(&to, None, ALL).expect("copied");
        assert_eq!(fs::read_to_string(at("to/a/b/f")).expect("read"), "text");
        assert!(at("to/a/out").is_symlink());
        assert_eq!(from.files(ALL).expect("listed"), [Path::new("a/b/f")]);
        let size = from.measure(ALL).expect("measured");
        assert_eq!((size.bytes, size.inodes), (4, 4));
    }

    #[test]
    fn symlinks_are_never_followed() {
        let (outer, from, _) = trees();
        let at = |path: &str| outer.path().join(path);
        symlink(at("secret"), at("from/absolute")).expect("made");
        symlink("../secret", at("from/relative")).expect("made");
        symlink("../secret/key", at("from/file")).expect("made");
        for path in ["absolute", "relative", "..", "/", "relative/.."] {
            let opened = from.below(Path::new(path));
            assert!(opened.is_err(), "{path}");
            assert!(from.make(OsStr::new(path)).is_err(), "{path}");
        }
        assert!(from.file(&c"file".to_owned()).is_err());
        assert!(from.make_file(&c"file".to_owned(), false).is_err());
        assert!(Directory::open(&at("from/absolute")).is_err());
    }

    #[test]
    fn oversized_trees_and_special_files_are_rejected() {
        type Fill<'a> = &'a dyn Fn(&Path);
        let rows: [(Fill<'_>, &str); 5] = [
            (
                &|at| fs::write(at.join("f"), [0; 1001]).expect("written"),
                "over 0 MB",
            ),
            (
                &|at| (0..21).for_each(|n| fs::write(at.join(n.to_string()), "").expect("written")),
                "up to 20 are allowed",
            ),
            (
                &|at| fs::create_dir_all(at.join("d/".repeat(21))).expect("made"),
                "up to 20 are allowed",
            ),
            (
                &|at| {
                    fs::create_dir_all(at.join(format!("{}/", "n".repeat(250)).repeat(5)))
                        .expect("made")
                },
                "too long",
            ),
            (
                &|at| {
                    rustix::fs::mknodat(
                        CWD,
                        at.join("pipe"),
                        FileType::Fifo,
                        Mode::from_raw_mode(0o644),
                        0,
                    )
                    .expect("made")
                },
                "neither a file",
            ),
        ];
        for (fill, expected) in rows {
            let (outer, from, to) = trees();
            fill(&outer.path().join("from"));
            let refused = from.copy_to(&to, None, ALL).expect_err(expected);
            assert!(refused.to_string().contains(expected), "{refused}");
        }
    }

    /// A directory and a link out of the tree are swapped repeatedly during the copy.
    #[test]
    fn concurrent_symlink_swap_cannot_escape() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (outer, from, _) = trees();
        let root = outer.path().to_owned();
        fs::create_dir(root.join("from/d")).expect("made");
        symlink("../secret", root.join("from/l")).expect("made");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let swap = rustix::fs::RenameFlags::EXCHANGE;
                    let (d, l) = (root.join("from/d"), root.join("from/l"));
                    rustix::fs::renameat_with(CWD, d, CWD, l, swap).expect("swapped");
                }
            });
            for number in 0..500 {
                let target = root.join(format!("to/{number}"));
                fs::create_dir(&target).expect("made");
                let to = Directory::open(&target).expect("opened");
                let _ = from.copy_to(&to, None, ALL);
                let _ = from.measure(ALL).expect("measured");
                for name in ["d/key", "l/key"] {
                    let copied = target.join(name);
                    // `exists` follows a copied link, so only entries of real directories count.
                    let real = copied.parent().is_some_and(|parent| !parent.is_symlink());
                    assert!(!(real && copied.exists()), "{number} {name}");
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
