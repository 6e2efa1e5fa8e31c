//! Files of control groups.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Version;
use crate::{Result, Step};

/// Returns a controller's directory: one per controller under version 1, in the order of the list, and a single one
/// under version 2.
pub(super) fn controller_directory(
    version: Version,
    directories: &[PathBuf],
    controller: usize,
) -> &Path {
    match version {
        Version::V1 => &directories[controller],
        Version::V2 => &directories[0],
    }
}

/// Opens a file.
pub(super) fn open(path: &Path, read: bool, write: bool) -> Result<File> {
    File::options()
        .read(read)
        .write(write)
        .open(path)
        .step(format!("open {}", path.display()))
}

pub(super) fn write(path: &Path, value: u64) -> Result<()> {
    write_text(path, &value.to_string())
}

pub(super) fn write_text(path: &Path, value: &str) -> Result<()> {
    let written = open(path, false, true)?.write_all(value.as_bytes());
    written.step(format!("write {value} to {}", path.display()))
}

/// Writes a number to a file that older kernels lack.
pub(super) fn write_if_there(path: &Path, value: u64) -> Result<()> {
    if path.exists() {
        write(path, value)
    } else {
        Ok(())
    }
}

pub(super) fn read_number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?
        .trim()
        .parse()
        .map_err(io::Error::other)
}
