//! Errors of deletion steps.

use events::QueueError;
use telemetry::LogStoreError;
use thiserror::Error;

/// An error of a deletion step.
#[derive(Debug, Error)]
pub enum PurgeError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The event queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The log store failed.
    #[error(transparent)]
    Logs(#[from] LogStoreError),
    /// The object store failed.
    #[error(transparent)]
    Objects(#[from] bucket::StoreError),
    /// Packages cannot be removed.
    #[error("packages: {0}")]
    Packages(#[from] std::io::Error),
    /// A thread panicked.
    #[error("a worker thread failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}
