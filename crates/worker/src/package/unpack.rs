//! Unpacking what a stranger zipped.
//!
//! Sizes are counted as they are written, never believed. Links are made last, so that nothing is written through
//! one, and each must lead to something inside the tree.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use model::Limits;
use zip::ZipArchive;
use zip::result::ZipError;

use super::PackageError;

/// Longest path of an entry, bytes, and of one of its parts. Source: Linux's PATH_MAX and NAME_MAX.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// What a path in the archive is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Directory,
    File,
    Link,
}

/// Unpacks an archive into an empty directory.
pub(super) fn unpack(
    archive: impl Read + Seek,
    into: &Path,
    limits: &Limits,
) -> Result<(), PackageError> {
    let mut archive = ZipArchive::new(archive).map_err(not_a_zip)?;
    if archive.len() as u64 > limits.unpacked_entries {
        let message = format!(
            "the package has {} entries; up to {} are allowed",
            archive.len(),
            limits.unpacked_entries
        );
        return Err(PackageError::Refused(message));
    }
    let mut tree = Tree {
        root: into,
        seen: HashMap::new(),
        links: Vec::new(),
        room: limits.unpacked_bytes,
        limit: limits.unpacked_bytes,
    };
    for index in 0..archive.len() {
        tree.entry(&mut archive, index)?;
    }
    tree.link()
}

struct Tree<'a> {
    root: &'a Path,
    seen: HashMap<PathBuf, Kind>,
    links: Vec<(PathBuf, String)>,
    room: u64,
    limit: u64,
}

impl Tree<'_> {
    fn entry<R: Read + Seek>(
        &mut self,
        archive: &mut ZipArchive<R>,
        index: usize,
    ) -> Result<(), PackageError> {
        // Looked at before the data is, since an encrypted entry cannot be opened.
        let raw = archive.by_index_raw(index).map_err(not_a_zip)?;
        let name = match std::str::from_utf8(raw.name_raw()) {
            Ok(name) => name.to_owned(),
            Err(_) => raw.name().map_err(not_a_zip)?.into_owned(),
        };
        let encrypted = raw.encrypted();
        drop(raw);
        if encrypted {
            return refuse(&name, "is encrypted; zip the package without a password");
        }
        let mut file = archive.by_index(index).map_err(|e| broken(&name, &e))?;
        let path = checked_path(&name)?;
        let mode = file.unix_mode().unwrap_or(0o644);
        let kind = kind(&name, file.is_dir(), mode)?;
        if path.as_os_str().is_empty() {
            return Ok(()); // `./`
        }
        self.claim(&name, &path, kind)?;
        match kind {
            Kind::Directory => self.make_directory(&path),
            Kind::File => self.write_file(&name, &path, mode, &mut file),
            Kind::Link => {
                let mut target = String::new();
                file.take(PATH_MAX as u64)
                    .read_to_string(&mut target)
                    .or_else(|_| refuse(&name, "is a link whose target cannot be read"))?;
                self.links.push((path, target));
                Ok(())
            }
        }
    }

    /// Each path is one thing: a second entry of the same name, or a file where a directory is needed, is refused.
    fn claim(&mut self, name: &str, path: &Path, kind: Kind) -> Result<(), PackageError> {
        for parent in path
            .ancestors()
            .skip(1)
            .filter(|p| !p.as_os_str().is_empty())
        {
            match self.seen.get(parent) {
                Some(Kind::Directory) => break,
                Some(_) => return refuse(name, "lies below another entry that is not a directory"),
                None => drop(self.seen.insert(parent.to_owned(), Kind::Directory)),
            }
        }
        match self.seen.insert(path.to_owned(), kind) {
            None => Ok(()),
            Some(Kind::Directory) if kind == Kind::Directory => Ok(()),
            Some(_) => refuse(name, "is in the package twice"),
        }
    }

    fn make_directory(&self, path: &Path) -> Result<(), PackageError> {
        fs::create_dir_all(self.root.join(path)).map_err(PackageError::io("create a directory"))
    }

    fn write_file(
        &mut self,
        name: &str,
        path: &Path,
        mode: u32,
        data: &mut impl Read,
    ) -> Result<(), PackageError> {
        if let Some(parent) = path.parent() {
            self.make_directory(parent)?;
        }
        let executable = mode & 0o111 != 0;
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o755 } else { 0o644 })
            .open(self.root.join(path))
            .map_err(PackageError::io("create a file"))?;
        let mut buffer = [0; 64 << 10];
        loop {
            let length = match data.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(e) => return refuse(name, &format!("is damaged: {e}")),
            };
            self.room = match self.room.checked_sub(length as u64) {
                Some(room) => room,
                None => {
                    let message = format!(
                        "the package is over {} MB unpacked, which is the limit",
                        self.limit >> 20
                    );
                    return Err(PackageError::Refused(message));
                }
            };
            file.write_all(&buffer[..length])
                .map_err(PackageError::io("write a file"))?;
        }
    }

    fn link(&self) -> Result<(), PackageError> {
        for (path, target) in &self.links {
            if let Some(parent) = path.parent() {
                self.make_directory(parent)?;
            }
            symlink(target, self.root.join(path)).map_err(PackageError::io("create a link"))?;
        }
        let root = self
            .root
            .canonicalize()
            .map_err(PackageError::io("find the tree"))?;
        for (path, target) in &self.links {
            // All links are there, so this follows chains of them to their end.
            let leads_inside = !Path::new(target).is_absolute()
                && self
                    .root
                    .join(path)
                    .canonicalize()
                    .is_ok_and(|end| end.starts_with(&root));
            if !leads_inside {
                let why = format!("is a link to {target:?}, which is not in the package");
                return refuse(&path.to_string_lossy(), &why);
            }
        }
        Ok(())
    }
}

fn checked_path(name: &str) -> Result<PathBuf, PackageError> {
    if name.starts_with('/') {
        return refuse(name, "is an absolute path");
    }
    if name.contains('\\') {
        return refuse(
            name,
            "has a backslash in its path; zip with / between directories",
        );
    }
    if name.contains('\0') || name.len() > PATH_MAX {
        return refuse(name, "is not a path");
    }
    let mut path = PathBuf::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse(name, "leaves the package by .."),
            part if part.len() > NAME_MAX => return refuse(name, "has a name over 255 bytes"),
            part => path.push(part),
        }
    }
    if path.as_os_str().is_empty() && !name.ends_with('/') {
        return refuse(name, "is not a path");
    }
    Ok(path)
}

fn kind(name: &str, directory: bool, mode: u32) -> Result<Kind, PackageError> {
    const FORMAT: u32 = 0o170_000;
    match mode & FORMAT {
        0o120_000 => Ok(Kind::Link),
        _ if directory => Ok(Kind::Directory),
        0 | 0o100_000 => Ok(Kind::File),
        _ => refuse(name, "is neither a file, a directory nor a link"),
    }
}

fn refuse<T>(name: &str, why: &str) -> Result<T, PackageError> {
    const SHOWN: usize = 200;
    let name: String = name.chars().take(SHOWN).collect();
    Err(PackageError::Refused(format!("entry {name:?} {why}")))
}

fn broken(name: &str, error: &ZipError) -> PackageError {
    PackageError::Refused(format!("entry {name:?} cannot be read: {error}"))
}

fn not_a_zip(error: ZipError) -> PackageError {
    PackageError::Refused(format!("the package is not a zip archive: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    enum Entry<'a> {
        File(&'a str, &'a [u8]),
        Link(&'a str, &'a str),
        Directory(&'a str),
    }
    use Entry::{Directory, File as Plain, Link};

    fn zipped(entries: &[Entry<'_>]) -> Cursor<Vec<u8>> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default();
        for entry in entries {
            match entry {
                Plain(name, data) => {
                    writer.start_file(*name, options).expect("a name");
                    writer.write_all(data).expect("memory");
                }
                Link(name, target) => writer.add_symlink(*name, *target, options).expect("a name"),
                Directory(name) => writer.add_directory(*name, options).expect("a name"),
            }
        }
        writer.finish().expect("an archive")
    }

    fn result(
        archive: Cursor<Vec<u8>>,
        limits: &Limits,
    ) -> (tempfile::TempDir, Result<(), String>) {
        let into = tempfile::tempdir().expect("a directory");
        let result = unpack(archive, into.path(), limits).map_err(|e| e.to_string());
        (into, result)
    }

    #[test]
    fn a_package_comes_out_as_it_went_in() {
        let archive = zipped(&[
            Directory("pkg/"),
            Plain("index.py", b"x = 1"),
            Plain("pkg/deep/er.py", b"y = 2"),
            Plain("\u{e4}.txt", b"umlaut"),
            Link("pkg/link.py", "../index.py"),
            Link("again", "pkg/link.py"),
        ]);
        let (into, result) = result(archive, &Limits::default());
        assert_eq!(result, Ok(()));
        let read = |name: &str| fs::read_to_string(into.path().join(name)).expect(name);
        assert_eq!(read("index.py"), "x = 1");
        assert_eq!(read("pkg/deep/er.py"), "y = 2");
        assert_eq!(read("\u{e4}.txt"), "umlaut");
        assert_eq!(read("again"), "x = 1");
    }

    #[test]
    fn what_is_unsafe_is_refused_by_name() {
        let rows: &[(&[Entry<'_>], &str)] = &[
            (&[Plain("/etc/passwd", b"")], "absolute"),
            (&[Plain("a/../../b", b"")], ".."),
            (&[Plain("a\\b", b"")], "backslash"),
            (&[Link("l", "/etc/shadow")], "not in the package"),
            (&[Link("a/l", "../../x")], "not in the package"),
            (&[Link("l", "nowhere")], "not in the package"),
            (&[Link("l", "l")], "not in the package"),
            // Each step alone stays inside; together they leave.
            (
                &[
                    Plain("d/e/f", b""),
                    Link("d/up", "e/.."),
                    Link("x", "d/up/../.."),
                ],
                "not in the package",
            ),
            (
                &[Link("l", "d"), Plain("d/f", b""), Plain("l/g", b"")],
                "not a directory",
            ),
            (&[Plain("a", b""), Plain("./a", b"")], "twice"),
            (&[Plain("a", b""), Plain("a/b", b"")], "not a directory"),
        ];
        for (entries, expected) in rows {
            let outer = tempfile::tempdir().expect("a directory");
            let into = outer.path().join("into");
            fs::create_dir(&into).expect("made");
            let refusal = unpack(zipped(entries), &into, &Limits::default()).expect_err(expected);
            let message = refusal.to_string();
            assert!(message.contains(expected), "{message}");
            let beside = fs::read_dir(outer.path()).expect("listed").count();
            assert_eq!(beside, 1, "something came out beside the package");
        }
    }

    #[test]
    fn sizes_are_counted_not_believed() {
        let limits = Limits {
            unpacked_bytes: 1 << 20,
            unpacked_entries: 3,
            ..Limits::default()
        };
        // A bomb: a thousandth of its size when zipped.
        let zeros = vec![0; 2 << 20];
        let bomb = zipped(&[Plain("zeros", &zeros)]);
        assert!(bomb.get_ref().len() < 10_000);
        let (_, over) = result(bomb, &limits);
        assert_eq!(
            over,
            Err("the package is over 1 MB unpacked, which is the limit".into())
        );
        let names: Vec<_> = (0..4).map(|n| n.to_string()).collect();
        let entries: Vec<_> = names.iter().map(|name| Plain(name, b"")).collect();
        let (_, many) = result(zipped(&entries), &limits);
        assert_eq!(
            many,
            Err("the package has 4 entries; up to 3 are allowed".into())
        );
    }

    #[test]
    fn damage_is_told_from_a_good_archive() {
        let (_, none) = result(Cursor::new(b"not a zip".to_vec()), &Limits::default());
        assert!(none.expect_err("refused").contains("not a zip archive"));
        let data: Vec<u8> = (0..10_000u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let mut bytes = zipped(&[Plain("data", &data)]).into_inner();
        bytes[2000] ^= 0xff;
        let (_, damaged) = result(Cursor::new(bytes), &Limits::default());
        assert!(
            damaged
                .expect_err("refused")
                .contains("\"data\" is damaged")
        );
    }
}
