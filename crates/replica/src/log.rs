//! What a log is.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use thiserror::Error;

use crate::time::Time;

/// The position of a record in its log. Positions grow; they need not be consecutive. 0 is before the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What distinguishes a log from another one under the same name, for example one that was made anew after its loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity(pub String);

/// A record as the log has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The position.
    pub position: Position,
    /// When the log stored it, by the log's clock.
    pub stored: Time,
    /// The record.
    pub record: Bytes,
}

/// A durable, totally ordered sequence of records.
///
/// Several writers append and several readers follow. What [`follow`](Self::follow) yields is durable and is never taken back.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Appends a record and returns its position once it is durable.
    ///
    /// # Errors
    /// [`AppendError::Refused`] if the record is certainly not stored; [`AppendError::Unknown`] if it may be, or may be later.
    async fn append(&self, record: Bytes) -> Result<Position, AppendError>;

    /// Returns the records behind a position, in order, and waits for further ones. The stream ends or fails when the reader has to
    /// follow again from where it is.
    async fn follow(
        &self,
        after: Position,
    ) -> Result<BoxStream<'static, Result<Entry, LogError>>, LogError>;

    /// Drops the records up to and including one.
    ///
    /// A reader that lags behind is not notified: it reads the first record that is left next. So the rest has to begin with a checkpoint,
    /// at which every reader asks [`trimmed`](Self::trimmed).
    ///
    /// # Errors
    /// Fails if the log cannot be reached; the records may then be gone or not.
    async fn trim(&self, through: Position) -> Result<(), LogError>;

    /// Returns the position of the last record that was dropped, or is about to be; 0 if none. An answer is never out of date: whatever
    /// this log has yielded before, it is from then or later.
    ///
    /// # Errors
    /// Fails if the log cannot be reached, or cannot write.
    async fn trimmed(&self) -> Result<Position, LogError>;

    /// Returns how full the log is.
    ///
    /// # Errors
    /// Fails if the log cannot be reached.
    async fn usage(&self) -> Result<Usage, LogError>;

    /// Returns the position of the last record.
    ///
    /// # Errors
    /// Fails if the log cannot be reached.
    async fn latest(&self) -> Result<Position, LogError>;

    /// Returns the log's identity.
    ///
    /// # Errors
    /// Fails if the log cannot be reached.
    async fn identity(&self) -> Result<LogIdentity, LogError>;
}

#[async_trait]
impl<L: Log + ?Sized> Log for Arc<L> {
    async fn append(&self, record: Bytes) -> Result<Position, AppendError> {
        (**self).append(record).await
    }

    async fn follow(
        &self,
        after: Position,
    ) -> Result<BoxStream<'static, Result<Entry, LogError>>, LogError> {
        (**self).follow(after).await
    }

    async fn trim(&self, through: Position) -> Result<(), LogError> {
        (**self).trim(through).await
    }

    async fn trimmed(&self) -> Result<Position, LogError> {
        (**self).trimmed().await
    }

    async fn usage(&self) -> Result<Usage, LogError> {
        (**self).usage().await
    }

    async fn latest(&self) -> Result<Position, LogError> {
        (**self).latest().await
    }

    async fn identity(&self) -> Result<LogIdentity, LogError> {
        (**self).identity().await
    }
}

/// How full a log is. Logs that share their storage share these figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Stored bytes.
    pub bytes: u64,
    /// Maximum of stored bytes.
    pub limit: u64,
}

impl Usage {
    /// Returns whether the log is so full that only what ends work is taken: completions and snapshots, by which it shrinks again.
    pub fn is_low(self) -> bool {
        self.bytes / 7 >= self.limit / 10
    }
}

/// Why an append has no position.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// The log is full. The record is not stored.
    #[error("the log is full: {0}")]
    Full(String),
    /// The log refused the record. The record is not stored.
    #[error("the log refused a record: {0}")]
    Refused(String),
    /// No answer came. The record may be stored, now or later.
    #[error("the log did not answer an append: {0}")]
    Unknown(String),
}

/// Why a log cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogError {
    /// The log cannot be reached; trying again helps.
    #[error("the log cannot be reached: {0}")]
    Unavailable(String),
    /// Records behind the position were trimmed; the reader needs a snapshot.
    #[error("record {} was applied, and the log was trimmed up to record {}", after.0, trimmed.0)]
    Trimmed {
        /// The last position that the reader has.
        after: Position,
        /// The last position that was dropped.
        trimmed: Position,
    },
    /// A record is not what its writer appended, or cannot be decrypted here.
    #[error("{0}")]
    Unreadable(String),
}
