//! Operations on file trees: walk, size, overlay.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The size of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Number of files, directories and links.
    pub inodes: u64,
}

impl std::ops::AddAssign for TreeSize {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// Measures a tree.
pub(crate) fn size(root: &Path) -> io::Result<TreeSize> {
    let mut sum = TreeSize::default();
    for path in walk(root)? {
        // The tree may be written meanwhile, so missing files count as empty.
        let kind = fs::symlink_metadata(root.join(path));
        sum += TreeSize {
            bytes: kind.map_or(0, |kind| if kind.is_dir() { 0 } else { kind.len() }),
            inodes: 1,
        };
    }
    Ok(sum)
}

/// Lays a tree over another one. Files are hard-linked, since neither tree is ever written again.
pub(crate) fn overlay(from: &Path, to: &Path) -> io::Result<()> {
    for path in walk(from)? {
        let (source, target) = (from.join(&path), to.join(&path));
        let kind = fs::symlink_metadata(&source)?;
        let there = fs::symlink_metadata(&target).ok();
        if kind.is_dir() && there.as_ref().is_some_and(fs::Metadata::is_dir) {
            continue;
        }
        match there {
            Some(old) if old.is_dir() => fs::remove_dir_all(&target)?,
            Some(_) => fs::remove_file(&target)?,
            None => {}
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, target)?;
        } else if kind.is_dir() {
            fs::create_dir(target)?;
        } else {
            fs::hard_link(source, target)?;
        }
    }
    Ok(())
}

/// Returns every path below a directory, sorted, parents before children. Links are not followed.
pub(crate) fn walk(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        let entries = match fs::read_dir(root.join(&directory)) {
            // Removed since it was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !directory.as_os_str().is_empty() => {
                continue;
            }
            listed => listed?,
        };
        for entry in entries {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(super) struct Hashing<'a>(pub(super) &'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
