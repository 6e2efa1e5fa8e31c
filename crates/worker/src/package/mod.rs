//! Code packages: kept by content, unpacked once, read-only from then on.
//!
//! `packages/<digest>.zip` is what was uploaded, `trees/<digest>/` is what runs. A tree is put together aside and
//! appears under its name whole, so a name that exists is complete. A digest names one content for ever; two
//! functions with the same package share one tree.

mod incoming;
mod pack;
mod plan;
mod store;
mod tree;
mod unpack;

pub use incoming::PackageWriter;
pub use store::PackageStore;
pub use tree::TreeSize;
pub(crate) use tree::walk;

use thiserror::Error;

/// Why a package cannot be used.
#[derive(Debug, Error)]
pub enum PackageError {
    /// The uploader's fault: says what is wrong with it, and what is allowed.
    #[error("{0}")]
    Refused(String),
    /// The package is no longer there.
    #[error("package {0} is missing from the store")]
    Missing(model::Sha256),
    /// The disk's.
    #[error("{step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl PackageError {
    /// The sandbox's fault.
    pub(crate) fn worker(error: crate::Error) -> Self {
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
