//! Archives of trees that were built on this node, such as those with installed dependencies.
//!
//! An archive is a compressed tar file. It is named by the digest of its bytes, which are verified before it is unpacked,
//! so that it can be kept, copied to another node, and unpacked there. The same tree gives the same bytes: entries are
//! sorted, and have no times and no owners.
//!
//! It is no zip file, as an uploaded package is: what a package manager makes may have names and links that packages may not
//! have.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::tree;

/// Only virga reads it again, so speed matters more than size.
const LEVEL: u32 = 1;

/// Writes an archive of a tree into a new file. It is on stable storage when this returns. Returns its digest.
pub(super) fn write(root: &Path, to: &Path) -> io::Result<[u8; 32]> {
    let file = Summed {
        inner: BufWriter::new(File::create_new(to)?),
        sum: Sha256::new(),
    };
    let mut archive = Builder::new(GzEncoder::new(file, Compression::new(LEVEL)));
    for path in tree::walk(root)? {
        append(&mut archive, root, &path)?;
    }
    let Summed { inner, sum } = archive.into_inner()?.finish()?;
    inner.into_inner()?.sync_all()?;
    Ok(sum.finalize().into())
}

fn append(archive: &mut Builder<impl Write>, root: &Path, path: &Path) -> io::Result<()> {
    let full = root.join(path);
    let found = fs::symlink_metadata(&full)?;
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    if found.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        return archive.append_link(&mut header, path, fs::read_link(&full)?);
    }
    if found.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        return archive.append_data(&mut header, path, io::empty());
    }
    if !found.is_file() {
        let message = format!(
            "{} is neither a file, a directory nor a link",
            path.display()
        );
        return Err(io::Error::other(message));
    }
    let executable = found.permissions().mode() & 0o111 != 0;
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_size(found.len());
    archive.append_data(&mut header, path, File::open(full)?.take(found.len()))
}

/// Unpacks an archive, whose digest was verified, into an empty directory.
pub(super) fn unpack(archive: File, into: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(archive)));
    archive.set_preserve_mtime(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.unpack_in(into)? {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(io::Error::other(format!("{name} leaves the archive")));
        }
    }
    Ok(())
}

/// Computes the digest of all bytes that pass.
struct Summed<W> {
    inner: W,
    sum: Sha256,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.sum.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// Makes a tree with every kind of entry, and names and links that no package may have.
    fn furnish(root: &Path) {
        let long = "long/".repeat(40);
        fs::create_dir_all(root.join(&long)).expect("made");
        fs::create_dir_all(root.join("empty")).expect("made");
        fs::write(root.join(&long).join("f"), "deep").expect("written");
        fs::write(root.join("back\\slash"), "b").expect("written");
        fs::write(root.join(OsStr::from_bytes(b"\xff")), "not UTF-8").expect("written");
        fs::write(root.join("run"), "#!/bin/sh\n").expect("written");
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o700)).expect("set");
        fs::write(root.join("zeros"), vec![0; 3 << 20]).expect("written");
        symlink("/nowhere", root.join("dangling")).expect("made");
        symlink("../".repeat(50) + "up", root.join("empty/up")).expect("made");
        symlink("run", root.join("link")).expect("made");
    }

    /// Path, kind, whether it may be executed, and content or target of each entry.
    fn entries(root: &Path) -> Vec<(PathBuf, bool, bool, Vec<u8>)> {
        let entry = |path: PathBuf| {
            let full = root.join(&path);
            let found = fs::symlink_metadata(&full).expect("there");
            let content = match fs::read_link(&full) {
                Ok(target) => target.into_os_string().into_encoded_bytes(),
                Err(_) => fs::read(&full).unwrap_or_default(),
            };
            let executable = found.permissions().mode() & 0o111 != 0;
            (path, found.is_dir(), executable, content)
        };
        let paths = tree::walk(root).expect("listed").into_iter();
        paths.map(entry).collect()
    }

    #[test]
    fn unpacked_archive_equals_the_archived_tree() {
        let outer = tempfile::tempdir().expect("a directory");
        let at = |name: &str| outer.path().join(name);
        for name in ["one", "copy", "unpacked"] {
            fs::create_dir(at(name)).expect("made");
        }
        furnish(&at("one"));
        let first = write(&at("one"), &at("first")).expect("archived");
        let sum: [u8; 32] = Sha256::digest(fs::read(at("first")).expect("read")).into();
        assert_eq!(first, sum);
        // Files of another time and owner's mode, made in another order.
        let file = File::create(at("copy/zeros")).expect("made");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .expect("set");
        furnish(&at("copy"));
        assert_eq!(write(&at("copy"), &at("second")).expect("archived"), first);
        let archive = File::open(at("first")).expect("opened");
        unpack(archive, &at("unpacked")).expect("unpacked");
        assert_eq!(entries(&at("unpacked")), entries(&at("one")));
    }

    #[test]
    fn shortened_archive_is_not_unpacked() {
        let outer = tempfile::tempdir().expect("a directory");
        let at = |name: &str| outer.path().join(name);
        for name in ["one", "unpacked"] {
            fs::create_dir(at(name)).expect("made");
        }
        furnish(&at("one"));
        write(&at("one"), &at("archive")).expect("archived");
        let file = File::options().write(true).open(at("archive"));
        let file = file.expect("opened");
        file.set_len(file.metadata().expect("a size").len() / 2)
            .expect("cut");
        let archive = File::open(at("archive")).expect("opened");
        assert!(unpack(archive, &at("unpacked")).is_err());
    }
}
