//! Sinks: the destinations of records.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use super::record::Record;

/// A destination of the records of finished invocations, such as the metrics or the log store.
///
/// A new kind is a new file that implements this trait, and one line where [`super::Telemetry`] is made.
pub trait Sink: Debug + Send + Sync {
    /// Takes a record. It runs on the way of a call, so it never waits for a disk, a network or a lock that is held meanwhile. A
    /// destination that is slow implements [`RecordWriter`] and gets its records through a [`super::QueuedSink`].
    fn report(&self, record: &Arc<Record>);

    /// Blocks until all records reported before are delivered or lost. Not for async tasks.
    fn flush(&self) {}
}

/// A destination that may be slow. A [`super::QueuedSink`] calls it in a thread of its own.
pub trait RecordWriter: Debug + Send + Sync + 'static {
    /// The reason for which records are not delivered.
    type Error: Display;

    /// The destination, as the log names it.
    const NAME: &'static str;

    /// Delivers a batch. On an error the batch is lost, and counted.
    fn write(&self, batch: &[Arc<Record>]) -> Result<(), Self::Error>;

    /// Does regular work, such as the removal of old records: after each batch, also a failed one, and about once a minute.
    fn tidy(&self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Counts records that were lost.
    fn lost(&self, count: usize);
}
