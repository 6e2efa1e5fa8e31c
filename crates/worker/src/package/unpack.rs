//! Unpacks an untrusted archive according to its [`Plan`].
//!
//! Links are created last, so that nothing is written through one. A file with more bytes than planned ends the
//! unpacking.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::Limits;
use zip::ZipReadOptions;
use zip::read::Config;
use zip::unstable::read::ZipIterable;

use super::PackageError;
use super::plan::{NodeKind, Plan, broken, name_of, not_a_zip, parts_of, refuse};

/// Timeout of unpacking. The size is bounded by the plan; this is for an extremely slow disk.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Unpacks an archive into an empty directory.
pub(super) fn unpack(
    archive: impl Read + Seek,
    into: &Path,
    limits: &Limits,
) -> Result<(), PackageError> {
    let mut archive = ZipIterable::try_new(archive, Config::default()).map_err(not_a_zip)?;
    let plan = Plan::of(&mut archive, limits)?;
    let deadline = Deadline {
        until: Instant::now() + TIMEOUT,
    };
    let links = deadline.make_directories(&plan, into)?;
    let files = archive.files().map_err(not_a_zip)?;
    let mut number = 0;
    while let Some(entry) = files.next() {
        let entry = entry.map_err(not_a_zip)?;
        if let Some(NodeKind::File { executable, size }) = plan.entry(number) {
            let name = name_of(&entry)?;
            let path: PathBuf = parts_of(&name)?.into_iter().collect();
            let data = entry.with_reader(files.reader_mut(), ZipReadOptions::new());
            let mut data = data.map_err(|e| broken(&name, &e))?;
            deadline.write_file(&name, &into.join(path), *executable, *size, &mut data)?;
        }
        number += 1;
    }
    for (path, target) in links {
        deadline.check()?;
        symlink(target, path).map_err(PackageError::io("create a link"))?;
    }
    Ok(())
}

struct Deadline {
    until: Instant,
}

impl Deadline {
    fn check(&self) -> Result<(), PackageError> {
        if Instant::now() < self.until {
            return Ok(());
        }
        let message = format!(
            "the package took over {} s to unpack, which is the limit; the disk may be busy: try again",
            TIMEOUT.as_secs()
        );
        Err(PackageError::Refused(message))
    }

    /// Creates every directory, and returns the links to create.
    fn make_directories<'a>(
        &self,
        plan: &'a Plan,
        into: &Path,
    ) -> Result<Vec<(PathBuf, &'a str)>, PackageError> {
        let mut links = Vec::new();
        let mut open = vec![(into.to_owned(), Plan::root())];
        while let Some((directory, id)) = open.pop() {
            self.check()?;
            for (name, child, kind) in plan.children(id) {
                let path = directory.join(name);
                match kind {
                    NodeKind::Directory(_) => {
                        fs::create_dir(&path).map_err(PackageError::io("create a directory"))?;
                        open.push((path, child));
                    }
                    NodeKind::Link(target) => links.push((path, target.as_str())),
                    NodeKind::File { .. } => {}
                }
            }
        }
        Ok(links)
    }

    fn write_file(
        &self,
        name: &str,
        path: &Path,
        executable: bool,
        size: u64,
        data: &mut impl Read,
    ) -> Result<(), PackageError> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o755 } else { 0o644 })
            .open(path)
            .map_err(PackageError::io("create a file"))?;
        let mut left = size;
        let mut buffer = [0; 64 << 10];
        loop {
            self.check()?;
            let length = match data.read(&mut buffer) {
                Ok(0) if left == 0 => return Ok(()),
                Ok(0) => return refuse(name, "is damaged: it is shorter than the archive says"),
                Ok(length) => length,
                Err(e) => return refuse(name, &format!("is damaged: {e}")),
            };
            left = match left.checked_sub(length as u64) {
                Some(left) => left,
                None => return refuse(name, "is damaged: it is larger than the archive says"),
            };
            file.write_all(&buffer[..length])
                .map_err(PackageError::io("write a file"))?;
        }
    }
}

#[cfg(test)]
mod tests;
