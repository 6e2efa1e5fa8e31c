//! Code packages: content-addressed, unpacked once, and read-only from then on.
//!
//! `packages/<digest>.zip` is an uploaded package, `archives/<digest>.tgz` the archive of a tree that was built here, such as
//! one with installed dependencies. `trees/<digest>/` is the code that either of them unpacks to. A tree is assembled in a
//! staging directory and renamed, so a tree that exists is complete. A digest always names the same content, so
//! functions with the same package share a tree.
//!
//! A tree can be lost at any time: it is unpacked again. Before that, the bytes are compared with the digest. If they differ,
//! nothing is unpacked, and the file is renamed to `<digest>.damaged`.

mod archive;
mod incoming;
mod merged;
mod pack;
mod plan;
mod store;
mod sweep;
mod tree;
mod unpack;

pub use incoming::PackageWriter;
pub(crate) use merged::Unpacked;
pub use store::PackageStore;

pub use tree::TreeSize;
pub(crate) use tree::walk;

use thiserror::Error;

/// Why a package cannot be used.
#[derive(Debug, Error)]
pub enum PackageError {
    /// The package is not allowed. The message names the problem and the limit.
    #[error("{0}")]
    Refused(String),
    /// The package is not in the store.
    #[error("package {0} is missing from the store")]
    Missing(model::Sha256),
    /// The bytes of the package are not those that were stored.
    #[error(
        "package {0} is damaged: its bytes in the store do not match its digest, so it is not run; deploy the code again, or restore the file from a backup"
    )]
    Damaged(model::Sha256),
    /// A disk error.
    #[error("{step}: {source}")]
    Io {
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl PackageError {
    /// Wraps an error of the sandbox.
    pub(crate) fn sandbox(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::io("prepare a build")(std::io::Error::other(error))
    }

    pub(crate) fn tree(error: sandbox::beneath::TreeError) -> Self {
        match error {
            sandbox::beneath::TreeError::Refused(why) => Self::Refused(why),
            other => Self::io("read a tree")(std::io::Error::other(other)),
        }
    }

    pub(crate) fn io(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { step, source }
    }
}
