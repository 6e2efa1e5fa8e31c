//! Template of a disk's file. It is made once by `mke2fs` and then copied, since almost all of it is empty.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::file::{open, unnamed_file};
use crate::{Result, Step, user};

/// Size of a block, which is also the size of a page.
const BLOCK: usize = 4096;
/// Extra space for file system metadata, bytes.
const METADATA_BYTES: u64 = 1 << 20;

/// Content of a new disk's file.
#[derive(Clone, Debug)]
pub struct DiskTemplate {
    /// Capacity of a disk.
    pub(super) bytes: u64,
    length: u64,
    blocks: Vec<(u64, Vec<u8>)>,
}

impl DiskTemplate {
    /// Makes a template for this many bytes and files. `directory` needs the space for a moment.
    ///
    /// # Errors
    /// The step that failed, for example because `mke2fs` is missing.
    pub fn make(directory: &Path, bytes: u64, inodes: u64) -> Result<Self> {
        if user::in_namespace() {
            let why = "a file system on a disk is root's alone to mount";
            return Err(io::Error::other(why)).step("make a disk");
        }
        let image = open(directory)
            .and_then(|directory| unnamed_file(&directory))
            .step("make a disk's file")?;
        // An inode has 256 bytes, and a block's bitmap covers 32,768 blocks.
        let length = bytes + bytes / 256 + inodes * 256 + 4 * METADATA_BYTES;
        let length = length.next_multiple_of(METADATA_BYTES);
        image.set_len(length).step("make a disk's file")?;
        format(&image, inodes)?;
        let blocks = read(&image, length).step("read a disk's file")?;
        Ok(Self {
            // Indirect blocks of a large file count as used.
            bytes: bytes + METADATA_BYTES / 4,
            length,
            blocks,
        })
    }

    /// Writes the template to an empty file.
    pub(super) fn write(&self, image: &File) -> io::Result<()> {
        image.set_len(self.length)?;
        let mut blocks = self.blocks.iter();
        blocks.try_for_each(|(offset, block)| image.write_all_at(block, *offset))
    }
}

fn format(image: &File, inodes: u64) -> Result<()> {
    let input = image.try_clone().step("make a disk's file")?;
    let made = Command::new("mke2fs")
        .args([
            "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-I", "256",
        ])
        .args(["-N", &inodes.to_string()])
        // The content need not survive a crash, so no journal.
        .args(["-O", "^has_journal,^resize_inode"])
        .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"])
        .arg("/proc/self/fd/0")
        .env(
            "PATH",
            "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
        )
        .stdin(Stdio::from(input))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let made = match made {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let why = "the command mke2fs is missing; install it (apt install e2fsprogs)";
            Err(io::Error::other(why))
        }
        made => made,
    };
    let made = made.step("format a disk")?;
    if made.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&made.stderr);
    let why = format!("mke2fs said {:?}", text.trim());
    Err(io::Error::other(why)).step("format a disk")
}

/// Reads the non-empty blocks of a file.
fn read(image: &File, length: u64) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut blocks = Vec::new();
    let mut offset = 0;
    while let Ok(data) = rustix::fs::seek(image, rustix::fs::SeekFrom::Data(offset)) {
        let end = rustix::fs::seek(image, rustix::fs::SeekFrom::Hole(data))?;
        offset = data - data % BLOCK as u64;
        while offset < end.min(length) {
            let mut block = vec![0; BLOCK];
            image.read_exact_at(&mut block, offset)?;
            if block.iter().any(|byte| *byte != 0) {
                blocks.push((offset, block));
            }
            offset += BLOCK as u64;
        }
    }
    Ok(blocks)
}
