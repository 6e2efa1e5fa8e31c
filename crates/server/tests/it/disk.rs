//! A disk that fills up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk, gone with this.
pub(crate) struct Disk(pub(crate) PathBuf);

/// A file that leaves no free space on it.
pub(crate) struct Filler(PathBuf);

impl Disk {
    pub(crate) fn mount(directory: &Path, megabytes: u32) -> Self {
        let path = directory.join("disk");
        fs::create_dir(&path).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={megabytes}m,mode=755"))
            .arg("virga-test")
            .arg(&path)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mount");
        Self(path)
    }

    /// Leaves no free space.
    pub(crate) fn fill(&self) -> Filler {
        let filler = self.0.join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        let _ = std::io::copy(&mut std::io::repeat(0), &mut file);
        Filler(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
