//! Private copies of directories, whose inodes no other sandbox shares.
//!
//! Bind mounts of a directory share its inodes, and with them what the kernel keeps per inode: file locks and inotify
//! watches. A read-only overlay has inodes of its own, while contents and page cache stay shared. So no sandbox notices
//! what another locks or watches.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::{Result, Step, sys, user};

/// Harmless devices; no terminals, no disks.
pub(crate) const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];

const READ_ONLY: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY;
/// For a directory of devices: the devices work, while their names and times are fixed.
const DEVICES_ONLY: u64 =
    libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_RDONLY;

/// Makes a detached, read-only copy of a directory without the mounts below it. `empty` is an empty directory, since an
/// overlay needs at least two layers.
///
/// # Errors
/// The system's error, for example if overlays are not supported or the directory is nested in too many of them.
pub fn private_tree(directory: &Path, empty: &Path) -> io::Result<OwnedFd> {
    overlay(directory, empty, READ_ONLY)
}

fn overlay(directory: &Path, empty: &Path, attributes: u64) -> io::Result<OwnedFd> {
    let open = |path| {
        let mut options = fs::File::options();
        options.read(true);
        options.custom_flags(libc::O_PATH | libc::O_DIRECTORY);
        options.open(path)
    };
    // By descriptor: a sandbox that lists its mounts could read the layers' paths.
    let opened = (open(directory)?, open(empty)?);
    let layers = if fs::exists("/proc/self/fd").unwrap_or(false) {
        let (directory, empty) = (opened.0.as_raw_fd(), opened.1.as_raw_fd());
        format!("/proc/self/fd/{directory}:/proc/self/fd/{empty}")
    } else {
        format!("{}:{}", escape(text(directory)?), escape(text(empty)?))
    };
    let mut settings = vec![("lowerdir", Some(layers.as_str()))];
    if user::in_namespace() {
        settings.push(("userxattr", None));
    }
    sys::new_file_system("overlay", &settings, attributes)
}

/// Covers these paths of the mount namespace with private copies. A file is its own mount and is mounted again. If the
/// kernel cannot do it for all paths, it is done for none.
pub(crate) fn cover(places: &[PathBuf], empty: &Path) -> Result<()> {
    // All copies precede the first mount, which would hide what lies below it.
    let copies: io::Result<Vec<_>> = places
        .iter()
        .map(|place| match place.is_dir() {
            true if place == Path::new("/dev") => overlay(place, empty, DEVICES_ONLY),
            true => private_tree(place, empty),
            false => sys::clone_tree(place, true),
        })
        .collect();
    for (copy, place) in copies.into_iter().flatten().zip(places) {
        let attached = text(place).and_then(|place| sys::attach_tree(&copy, place));
        attached.step(format!("cover {}", place.display()))?;
    }
    Ok(())
}

/// Mounts new devices at a path, and returns false if this process may not make any. `known` holds their originals.
pub(crate) fn devices(place: &Path, known: &Path) -> Result<bool> {
    if user::in_namespace() {
        return Ok(false);
    }
    let what = "make devices";
    let numbers: io::Result<Vec<_>> = DEVICES
        .iter()
        .map(|name| fs::metadata(known.join(name)).map(|device| (*name, device)))
        .collect();
    let settings = [
        ("size", Some("64k")),
        ("nr_inodes", Some("32")),
        ("mode", Some("0755")),
    ];
    let closed = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let tree = sys::new_file_system("tmpfs", &settings, closed).step(what)?;
    let at = text(place).step(what)?;
    sys::attach_tree(&tree, at).step(what)?;
    for (name, device) in numbers.step(what)? {
        let made = device.file_type().is_char_device()
            && sys::make_device(&place.join(name), device.rdev()).is_ok();
        if !made {
            // Some containers forbid it.
            sys::unmount(at).step(what)?;
            return Ok(false);
        }
    }
    links(place).step(what)?;
    // The devices work on a read-only mount; only their names and times are fixed.
    sys::set_mount_attributes(&tree, libc::MOUNT_ATTR_RDONLY).step(what)?;
    Ok(true)
}

/// Makes the links that programs expect in `/dev`.
pub(crate) fn links(place: &Path) -> io::Result<()> {
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("shm", "/tmp"),
    ];
    links
        .iter()
        .try_for_each(|(name, to)| symlink(to, place.join(name)))
}

/// Returns the mount points below a directory in this mount namespace, parents first.
pub(crate) fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    below(
        &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
        directory,
    )
}

fn below(mounts: &str, directory: &Path) -> Vec<PathBuf> {
    let places = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(unescape));
    let mut places: Vec<_> = places
        .filter(|place| place.starts_with(directory) && place != directory)
        .collect();
    places.sort();
    places.dedup();
    places
}

/// Decodes a path in `mountinfo`, where separators are octal escapes.
fn unescape(field: &str) -> PathBuf {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        rest = match code {
            Some(code) => {
                text.push(char::from(code));
                &after[3..]
            }
            None => {
                text.push('\\');
                after
            }
        };
    }
    text.push_str(rest);
    text.into()
}

/// Escapes a path for an overlay's list of layers.
fn escape(path: &str) -> String {
    path.replace('\\', r"\\").replace(':', r"\:")
}

fn text(path: &Path) -> io::Result<&str> {
    let not = || io::Error::other(format!("{} is not UTF-8", path.display()));
    path.to_str().ok_or_else(not)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_are_sorted() {
        let mounts = "\
1 0 0:1 / / rw - ext4 a rw
2 1 0:2 / /usr/share/a\\040b rw - ext4 b rw
3 1 0:3 / /usr rw - ext4 c rw
4 1 0:4 / /usr/share rw - ext4 d rw
5 1 0:5 / /usr2 rw - ext4 e rw";
        let found = below(mounts, Path::new("/usr"));
        assert_eq!(
            found,
            ["/usr/share", "/usr/share/a b"].map(PathBuf::from).to_vec()
        );
    }
}
