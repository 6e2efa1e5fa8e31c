//! Packs a tree that was built here into a package, as if it had been uploaded.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::tree;

/// Writes a zip archive of a tree. The same tree gives the same bytes: entries are sorted and have no timestamps.
pub(super) fn pack(root: &Path, to: &Path) -> io::Result<()> {
    let mut archive = ZipWriter::new(BufWriter::new(File::create_new(to)?));
    for path in tree::walk(root)? {
        let full = root.join(&path);
        let kind = fs::symlink_metadata(&full)?;
        let name = path
            .to_str()
            .ok_or_else(|| io::Error::other(format!("{}: a name is not UTF-8", path.display())))?;
        // Only this virga reads it again, so speed matters more than size.
        let options = SimpleFileOptions::default().compression_level(Some(1));
        if kind.is_symlink() {
            let target = fs::read_link(&full)?;
            archive.add_symlink(name, target.to_string_lossy(), options)?;
        } else if kind.is_dir() {
            archive.add_directory(name, options.unix_permissions(0o755))?;
        } else {
            let executable = kind.permissions().mode() & 0o111 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            archive.start_file(name, options.unix_permissions(mode))?;
            io::copy(&mut File::open(&full)?, &mut archive)?;
        }
    }
    let mut written = archive.finish()?;
    written.flush()?;
    written.get_ref().sync_all()
}
