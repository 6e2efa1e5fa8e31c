//! Code packages: kept by content, unpacked once, read-only from then on.
//!
//! `packages/<digest>.zip` is what was uploaded, `trees/<digest>/` is what runs. A tree is put together aside and
//! appears under its name whole, so a name that exists is complete. A digest names one content for ever; two
//! functions with the same package share one tree.

mod plan;
mod store;
mod tree;
mod unpack;

pub use store::PackageStore;
pub use tree::TreeSize;
pub(crate) use tree::{copy, size, walk};

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
    pub(crate) fn io(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { step, source }
    }
}
