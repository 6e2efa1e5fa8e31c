//! Plans everything that unpacking an archive creates, before anything is created.
//!
//! The archive's directory is read entry by entry, with untrusted claims bounded: directories that paths only imply
//! count like listed ones, and links are resolved here, on the plan. This bounds the unpacking: its inodes, its bytes
//! written, and its compressed bytes read.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use model::Limits;
use sandbox::beneath::{DEPTH_MAX, PATH_MAX};
use sandbox::{CONFIGURATION, SYSTEM};
use zip::read::ZipFileEntry;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use super::PackageError;

/// Longest component of a path, bytes. Source: Linux's NAME_MAX.
const NAME_MAX: usize = 255;
/// Most links of a package. Their targets are in memory together.
const LINKS_MAX: usize = 20_000;
/// Most links that one path may lead through. Source: path_resolution(7).
const LINKS_FOLLOWED_MAX: u32 = 40;
/// Most path components walked while all links are resolved: about a second.
const STEPS_MAX: u64 = 10_000_000;

/// Where a package is mounted: as a function's code, and as a layer.
const MOUNT_POINTS: [&[&str]; 2] = [&["var", "user"], &["opt"]];
/// Directories outside of the system's that functions see read-only. Links may lead there.
const SHOWN: [&str; 2] = ["/opt", "/var/lang"];

/// The number of a node. A parent's is always lower than its children's.
pub(super) type Id = usize;

/// The tree that an archive unpacks to.
#[derive(Debug)]
pub(super) struct Plan {
    nodes: Vec<Node>,
    /// The node of each entry, in the archive's order. `None` for an entry that names the root.
    entries: Vec<Option<Id>>,
    links: usize,
    bytes: u64,
    limits: Limits,
}

#[derive(Debug)]
pub(super) struct Node {
    parent: Id,
    pub(super) kind: NodeKind,
}

/// What a path in the archive is.
#[derive(Debug)]
pub(super) enum NodeKind {
    Directory(HashMap<Box<str>, Id>),
    File {
        executable: bool,
        /// Declared size, bytes.
        size: u64,
    },
    Link(String),
}

const ROOT: Id = 0;

impl Plan {
    /// Reads an archive's directory and the targets of its links.
    ///
    /// # Errors
    /// [`PackageError::Refused`] names the entry and the limit.
    pub(super) fn of<R: Read + Seek>(
        archive: &mut ZipIterable<R>,
        limits: &Limits,
    ) -> Result<Self, PackageError> {
        if archive.len() as u64 > limits.unpacked_entries {
            let message = format!(
                "the package has {} entries; up to {} files, directories and links are allowed",
                archive.len(),
                limits.unpacked_entries
            );
            return Err(PackageError::Refused(message));
        }
        let mut plan = Self {
            nodes: vec![Node {
                parent: ROOT,
                kind: NodeKind::Directory(HashMap::new()),
            }],
            entries: Vec::with_capacity(archive.len()),
            links: 0,
            bytes: 0,
            limits: limits.clone(),
        };
        let files = archive.files().map_err(not_a_zip)?;
        let length = files.reader_mut().seek(SeekFrom::End(0));
        // Entries that share bytes would be decompressed many times over.
        let mut unread = length.map_err(PackageError::io("read a package"))?;
        while let Some(entry) = files.next() {
            let entry = entry.map_err(not_a_zip)?;
            let name = name_of(&entry)?;
            unread = match unread.checked_sub(entry.compressed_size()) {
                Some(unread) => unread,
                None => {
                    return refuse(
                        &name,
                        "is longer than the rest of the package: entries share bytes, or a size is wrong",
                    );
                }
            };
            plan.add(&name, entry, files.reader_mut())?;
        }
        plan.resolve_links()?;
        Ok(plan)
    }

    /// Returns the number of inodes, without the root directory.
    fn inodes(&self) -> u64 {
        self.nodes.len() as u64 - 1
    }

    /// Returns what an entry of the archive creates.
    pub(super) fn entry(&self, number: usize) -> Option<&NodeKind> {
        let id = self.entries.get(number).copied().flatten()?;
        Some(&self.nodes[id].kind)
    }

    /// Returns the children of a directory, by name.
    pub(super) fn children(&self, directory: Id) -> impl Iterator<Item = (&str, Id, &NodeKind)> {
        let children = match &self.nodes[directory].kind {
            NodeKind::Directory(children) => Some(children),
            _ => None,
        };
        let all = children.into_iter().flatten();
        all.map(|(name, id)| (&**name, *id, &self.nodes[*id].kind))
    }

    /// Returns the root directory.
    pub(super) fn root() -> Id {
        ROOT
    }

    fn add(
        &mut self,
        name: &str,
        entry: ZipFileEntry<'_>,
        reader: &mut (impl Read + Seek),
    ) -> Result<(), PackageError> {
        if entry.encrypted() {
            return refuse(name, "is encrypted; zip the package without a password");
        }
        let readable = [CompressionMethod::Stored, CompressionMethod::Deflated];
        if !readable.contains(&entry.compression()) {
            let why = format!(
                "is compressed by {}; Stored and Deflated are allowed",
                entry.compression()
            );
            return refuse(name, &why);
        }
        let parts = parts_of(name)?;
        let kind = entry_kind(name, entry, reader)?;
        let Some((last, above)) = parts.split_last() else {
            self.entries.push(None); // `./`
            return Ok(());
        };
        let (bytes, link) = match &kind {
            NodeKind::File { size, .. } => (*size, false),
            NodeKind::Link(target) => (target.len() as u64, true),
            NodeKind::Directory(_) => (0, false),
        };
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.unpacked_bytes {
            let limit = self.limits.unpacked_bytes >> 20;
            let message = format!("the package is over {limit} MB unpacked, which is the limit");
            return Err(PackageError::Refused(message));
        }
        self.links += usize::from(link);
        if self.links > LINKS_MAX {
            let message =
                format!("the package has over {LINKS_MAX} links; up to {LINKS_MAX} are allowed");
            return Err(PackageError::Refused(message));
        }
        let mut parent = ROOT;
        for part in above {
            parent = match self.child(parent, part) {
                Ok(Some(child)) => child,
                Ok(None) => self.push(parent, part, NodeKind::Directory(HashMap::new()))?,
                Err(NotADirectory) => {
                    return refuse(name, "lies below another entry that is not a directory");
                }
            };
        }
        let id = match self.child(parent, last) {
            Err(NotADirectory) => {
                return refuse(name, "lies below another entry that is not a directory");
            }
            Ok(None) => self.push(parent, last, kind)?,
            Ok(Some(there)) => {
                let both = (&self.nodes[there].kind, &kind);
                if !matches!(both, (NodeKind::Directory(_), NodeKind::Directory(_))) {
                    return refuse(name, "is in the package twice; each path is allowed once");
                }
                there
            }
        };
        self.entries.push(Some(id));
        Ok(())
    }

    fn child(&self, parent: Id, name: &str) -> Result<Option<Id>, NotADirectory> {
        match &self.nodes[parent].kind {
            NodeKind::Directory(children) => Ok(children.get(name).copied()),
            _ => Err(NotADirectory),
        }
    }

    fn push(&mut self, parent: Id, name: &str, kind: NodeKind) -> Result<Id, PackageError> {
        let most = self.limits.unpacked_entries;
        if self.inodes() >= most {
            let message = format!(
                "the package makes over {most} files, directories and links, those counted that paths only imply; up \
                 to {most} are allowed"
            );
            return Err(PackageError::Refused(message));
        }
        let id = self.nodes.len();
        self.nodes.push(Node { parent, kind });
        if let NodeKind::Directory(children) = &mut self.nodes[parent].kind {
            children.insert(name.into(), id);
        }
        Ok(id)
    }

    /// Checks that each link leads to something in the package, or into directories that functions see read-only.
    fn resolve_links(&self) -> Result<(), PackageError> {
        let mut steps = STEPS_MAX;
        for (id, node) in self.nodes.iter().enumerate() {
            let NodeKind::Link(target) = &node.kind else {
                continue;
            };
            if !MOUNT_POINTS
                .iter()
                .any(|mount_point| self.link_is_allowed(id, mount_point, &mut steps))
            {
                let why = match steps {
                    0 => {
                        format!(
                            "leads to {target:?}: resolving the package's links takes too many steps"
                        )
                    }
                    _ => format!(
                        "is a link to {target:?}, which is not in the package, nor in the directories that functions see read-only: {}, {}",
                        SHOWN.join(", "),
                        SYSTEM.join(", ")
                    ),
                };
                return refuse(&self.path(id), &why);
            }
        }
        Ok(())
    }

    /// Returns whether a link leads to something in the package, or to a read-only directory, if the package is mounted
    /// at `mount_point`. Inside the package, links are followed as the kernel does. Nothing is looked up on the host:
    /// paths outside of the package differ between hosts and layers.
    fn link_is_allowed(&self, link: Id, mount_point: &[&'static str], steps: &mut u64) -> bool {
        // Remaining path components, next one last.
        let mut open: Vec<&str> = Vec::new();
        let mut position = Position::Inside(link);
        let mut links_followed = 0;
        loop {
            if let Position::Inside(id) = position {
                match &self.nodes[id].kind {
                    NodeKind::Link(target) => {
                        links_followed += 1;
                        if links_followed > LINKS_FOLLOWED_MAX {
                            return false;
                        }
                        position = match target.starts_with('/') {
                            true => Position::Outside(Vec::new()),
                            false => Position::Inside(self.nodes[id].parent),
                        };
                        open.extend(target.split('/').rev());
                    }
                    NodeKind::File { .. } if !open.is_empty() => return false,
                    NodeKind::File { .. } | NodeKind::Directory(_) => {}
                }
            }
            let Some(part) = open.pop() else {
                return match position {
                    Position::Inside(_) => true,
                    Position::Outside(path) => is_mounted_read_only(&path),
                };
            };
            let Some(left) = steps.checked_sub(1) else {
                return false;
            };
            *steps = left;
            position = match (part, position) {
                ("" | ".", position) => position,
                ("..", Position::Inside(ROOT)) => {
                    Position::Outside(mount_point[..mount_point.len() - 1].to_vec())
                }
                ("..", Position::Inside(id)) => Position::Inside(self.nodes[id].parent),
                ("..", Position::Outside(mut path)) => {
                    path.pop();
                    Position::Outside(path)
                }
                (part, Position::Inside(id)) => match self.child(id, part) {
                    Ok(Some(child)) => Position::Inside(child),
                    _ => return false,
                },
                (part, Position::Outside(mut path)) => {
                    path.push(part);
                    if path == mount_point {
                        Position::Inside(ROOT)
                    } else {
                        Position::Outside(path)
                    }
                }
            };
        }
    }

    fn path(&self, mut id: Id) -> String {
        let mut parts = Vec::new();
        while id != ROOT {
            let parent = self.nodes[id].parent;
            let name = self.children(parent).find(|(_, child, _)| *child == id);
            parts.push(name.map_or("", |(name, ..)| name));
            id = parent;
        }
        parts.reverse();
        parts.join("/")
    }
}

/// The position of a walk along a link's target.
enum Position<'a> {
    Inside(Id),
    /// Outside of the package, as path components.
    Outside(Vec<&'a str>),
}

/// Returns whether a path outside of the package lies in a directory that functions see read-only.
fn is_mounted_read_only(path: &[&str]) -> bool {
    let lies_in = |directory: &str| {
        let parts = directory.trim_start_matches('/').split('/');
        let count = parts.clone().count();
        path.len() >= count && parts.eq(path[..count].iter().copied())
    };
    let mut shown = SHOWN.iter().chain(SYSTEM).chain(CONFIGURATION);
    shown.any(|directory| lies_in(directory))
}

/// The parent is not a directory.
struct NotADirectory;

/// Returns the name of an entry: as UTF-8 if it is valid, else decoded as the archive declares.
pub(super) fn name_of(entry: &ZipFileEntry<'_>) -> Result<String, PackageError> {
    match std::str::from_utf8(entry.name_raw()) {
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Ok(entry.name().map_err(not_a_zip)?.into_owned()),
    }
}

/// Returns the components of an entry's path; empty for the root.
pub(super) fn parts_of(name: &str) -> Result<Vec<&str>, PackageError> {
    if name.starts_with('/') {
        return refuse(name, "is an absolute path");
    }
    if name.contains('\\') {
        return refuse(
            name,
            "has a backslash in its path; zip with / between directories",
        );
    }
    if name.contains('\0') {
        return refuse(name, "is not a path");
    }
    if name.len() > PATH_MAX {
        let why = format!(
            "has a path of {} bytes; up to {PATH_MAX} are allowed",
            name.len()
        );
        return refuse(name, &why);
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse(name, "leaves the package by .."),
            part if part.len() > NAME_MAX => return refuse(name, "has a name over 255 bytes"),
            part => parts.push(part),
        }
    }
    if parts.is_empty() && !name.ends_with('/') {
        return refuse(name, "is not a path");
    }
    if parts.len() > DEPTH_MAX {
        let why = format!(
            "lies {} directories deep; up to {DEPTH_MAX} are allowed",
            parts.len()
        );
        return refuse(name, &why);
    }
    Ok(parts)
}

fn entry_kind(
    name: &str,
    entry: ZipFileEntry<'_>,
    reader: &mut (impl Read + Seek),
) -> Result<NodeKind, PackageError> {
    const FORMAT: u32 = 0o170_000;
    let mode = entry.unix_mode().unwrap_or(0o644);
    match mode & FORMAT {
        0o120_000 => target(name, entry, reader).map(NodeKind::Link),
        _ if entry.is_dir() => Ok(NodeKind::Directory(HashMap::new())),
        0 | 0o100_000 => Ok(NodeKind::File {
            executable: mode & 0o111 != 0,
            size: entry.size(),
        }),
        _ => refuse(name, "is neither a file, a directory nor a link"),
    }
}

/// Reads the target of a link, which is the entry's content.
fn target(
    name: &str,
    entry: ZipFileEntry<'_>,
    reader: &mut (impl Read + Seek),
) -> Result<String, PackageError> {
    let mut target = String::new();
    let file = entry.with_reader(reader, ZipReadOptions::new());
    let file = file.map_err(|e| broken(name, &e))?;
    if file
        .take(PATH_MAX as u64 + 1)
        .read_to_string(&mut target)
        .is_err()
        || target.contains('\0')
    {
        return refuse(name, "is a link whose target cannot be read");
    }
    if target.len() > PATH_MAX {
        let why = format!("is a link whose target is over {PATH_MAX} bytes, which is the limit");
        return refuse(name, &why);
    }
    Ok(target)
}

pub(super) fn refuse<T>(name: &str, why: &str) -> Result<T, PackageError> {
    const SHOWN: usize = 200;
    let name: String = name.chars().take(SHOWN).collect();
    Err(PackageError::Refused(format!("entry {name:?} {why}")))
}

pub(super) fn broken(name: &str, error: &zip::result::ZipError) -> PackageError {
    PackageError::Refused(format!("entry {name:?} cannot be read: {error}"))
}

pub(super) fn not_a_zip(error: zip::result::ZipError) -> PackageError {
    PackageError::Refused(format!("the package is not a zip archive: {error}"))
}
