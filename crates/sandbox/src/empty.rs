//! Empties a directory that untrusted code has filled, at any depth.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// Removes everything in a directory. Subdirectories of subdirectories are moved up first, so that neither paths nor
/// the stack grow with the depth. Links are removed, not followed.
///
/// # Errors
/// The system's error.
pub(crate) fn empty_directory(top: &Path) -> io::Result<()> {
    let mut number: u64 = 0;
    loop {
        let mut found = false;
        for entry in fs::read_dir(top)? {
            found = true;
            let entry = entry?;
            if !is_directory(&entry)? {
                fs::remove_file(entry.path())?;
                continue;
            }
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                if is_directory(&inner)? {
                    fs::rename(inner.path(), unused(top, &mut number))?;
                } else {
                    fs::remove_file(inner.path())?;
                }
            }
            fs::remove_dir(entry.path())?;
        }
        if !found {
            return Ok(());
        }
    }
}

/// Removes a directory with everything in it, like [`empty_directory`]. It is no error if there is none.
///
/// # Errors
/// The system's error.
pub fn remove_directory(top: &Path) -> io::Result<()> {
    match empty_directory(top).and_then(|()| fs::remove_dir(top)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !top.exists() => Ok(()),
        removed => removed,
    }
}

/// Returns a path in a directory at which nothing is. The code that filled it may have used any name.
fn unused(top: &Path, number: &mut u64) -> PathBuf {
    loop {
        *number += 1;
        let path = top.join(format!("up-{number}"));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

fn is_directory(entry: &DirEntry) -> io::Result<bool> {
    Ok(entry.file_type()?.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_trees_are_removed_and_link_targets_stay() {
        let place = tempfile::tempdir().expect("a directory");
        let kept = place.path().join("kept");
        fs::create_dir(&kept).expect("made");
        fs::write(kept.join("file"), "kept").expect("written");
        let top = place.path().join("top");
        for branch in ["a", "b"] {
            let mut deep = top.join(branch);
            for _ in 0..50 {
                fs::create_dir_all(&deep).expect("made");
                fs::write(deep.join("file"), "x").expect("written");
                std::os::unix::fs::symlink(&kept, deep.join("link")).expect("linked");
                deep.push("down");
            }
        }
        // Names that the removal itself would choose are taken.
        fs::write(top.join("up-1"), "x").expect("written");
        fs::create_dir_all(top.join("up-2/full/of")).expect("made");
        empty_directory(&top).expect("emptied");
        assert_eq!(fs::read_dir(&top).expect("there").count(), 0);
        assert!(kept.join("file").exists());
        remove_directory(&top).expect("removed");
        assert!(!top.exists());
        remove_directory(&top).expect("nothing to do");
    }
}
