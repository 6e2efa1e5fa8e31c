//! The end of control groups: their processes are killed, then the directories removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Result, Step};

/// Kills all processes left by an ended virga, and removes its directories.
pub(crate) fn end(directories: &[PathBuf]) -> Result<()> {
    directories.iter().for_each(|root| kill_all(root));
    directories.iter().try_for_each(|root| remove_tree(root))
}

/// Kills all processes in a directory and below. Under version 1 a frozen process dies only after it is thawed.
pub(super) fn kill_all(root: &Path) {
    if fs::write(root.join("cgroup.kill"), "1").is_err() {
        members(root).into_iter().for_each(|process| {
            // The pid may have been reused. If it is still listed, the pidfd refers to the listed process.
            if let Ok(pidfd) = crate::Pidfd::open(process)
                && members(root).contains(&process)
            {
                let _ = pidfd.kill();
            }
        });
    }
    let _ = fs::write(root.join("freezer.state"), "THAWED");
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            kill_all(&entry.path());
        }
    }
}

/// Removes a directory tree. Remaining processes must have been killed.
pub(super) fn remove_tree(root: &Path) -> Result<()> {
    if !root.exists() {
        return Ok(());
    }
    let what = || format!("clean {}", root.display());
    let listed = match fs::read_dir(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.step(what())?,
    };
    for entry in listed.flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    // Processes of a killed virga end with it, but the kernel may take a moment to release them.
    for _ in 0..200 {
        match fs::remove_dir(root) {
            Ok(()) => return Ok(()),
            // Other threads remove the slots of ended instances at the same time.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                let _ = fs::write(root.join("freezer.state"), "THAWED");
                let _ = fs::write(root.join("cgroup.kill"), "1");
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(e) => return Err(crate::Error::new(what(), e)),
        }
    }
    Err(crate::Error::new(
        what(),
        io::Error::other("processes are left in it; end them"),
    ))
}

/// Returns the process ids in a directory.
pub(super) fn processes_in(directory: &Path) -> io::Result<Vec<i32>> {
    let text = fs::read_to_string(directory.join("cgroup.procs"))?;
    // Processes outside this pid namespace are listed as 0.
    let numbers = text.lines().filter_map(|line| line.trim().parse().ok());
    Ok(numbers.filter(|number| *number > 0).collect())
}

fn members(directory: &Path) -> Vec<i32> {
    processes_in(directory).unwrap_or_default()
}
