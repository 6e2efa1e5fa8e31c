//! The error of the log store.

use thiserror::Error;

/// An error of the log store.
#[derive(Debug, Error)]
pub enum LogStoreError {
    /// SQLite failed.
    #[error("log store: {0}; check that the disk of the data directory is writable and not full")]
    Sqlite(#[from] rusqlite::Error),
}
