//! A directory of the host for the temporary files of an instance without a root of its own.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use sandbox::remove_directory;

/// A work directory of one instance, removed on drop.
#[derive(Debug)]
pub(crate) struct WorkDirectory(pub(crate) PathBuf);

impl WorkDirectory {
    /// Creates a directory `name` below `parent`.
    pub(crate) fn make(parent: &Path, name: &str) -> std::io::Result<Self> {
        let path = parent.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        // The content is the function's. It may be deeper than paths or the stack allow.
        if let Err(error) = remove_directory(&self.0) {
            warn!(%error, path = %self.0.display(), "failed to remove temporary files of an instance");
        }
    }
}
