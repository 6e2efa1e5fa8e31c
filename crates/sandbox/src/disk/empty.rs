//! Empties a directory that untrusted code has filled, at any depth.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

/// Removes everything in a directory. Subdirectories of subdirectories are moved up first, so that neither paths nor
/// the stack grow with the depth.
pub(super) fn all(top: &Path) -> io::Result<()> {
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
                    number += 1;
                    fs::rename(inner.path(), top.join(format!("up-{number}")))?;
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
        all(&top).expect("emptied");
        assert_eq!(fs::read_dir(&top).expect("there").count(), 0);
        assert!(kept.join("file").exists());
    }
}
