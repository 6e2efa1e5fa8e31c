//! A bounded queue and a thread in front of a slow destination.
//!
//! Each destination has a queue and a thread of its own, so that a slow one delays neither calls nor the other destinations. When
//! the queue is full, records of the account with the most queued bytes are lost and counted.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::Duration;

use model::AccountId;
use tracing::{error, info, warn};

use super::failure_log::FailureLog;
use super::record::Record;
use super::record_queue::RecordQueue;
use super::sink::{RecordWriter, Sink};

/// Maximum bytes of records that wait for one destination. Queues share their records, so several of them need little more.
pub(super) const QUEUE_BYTES: usize = 96 << 20;
/// Maximum records per batch.
const BATCH: usize = 4096;
/// Time that the thread waits after a batch, so that records gather into larger ones.
const LINGER: Duration = Duration::from_millis(50);
/// Maximum time between two calls of [`RecordWriter::tidy`].
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// A sink that hands records to a slow destination in a thread of its own. Clones share the queue and the thread.
#[derive(Debug)]
pub struct QueuedSink<W> {
    queue: Arc<RecordQueue>,
    writer: Arc<W>,
    thread: Thread,
}

impl<W> Clone for QueuedSink<W> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            writer: self.writer.clone(),
            thread: self.thread.clone(),
        }
    }
}

impl<W: RecordWriter> QueuedSink<W> {
    /// Starts the thread. It ends after all clones are dropped.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(writer: W) -> std::io::Result<Self> {
        let queue = Arc::new(RecordQueue::new(QUEUE_BYTES));
        let writer = Arc::new(writer);
        let (from, to) = (Arc::downgrade(&queue), writer.clone());
        let thread = std::thread::Builder::new()
            .name("telemetry".into())
            .spawn(move || deliver(&from, &*to))?;
        Ok(Self {
            queue,
            writer,
            thread: thread.thread().clone(),
        })
    }

    /// Returns the destination.
    pub(super) fn writer(&self) -> &W {
        &self.writer
    }

    /// Blocks until the earlier records of an account, or of all, are delivered or lost.
    pub(super) fn flush_of(&self, account: Option<AccountId>) {
        let (done, delivered) = sync_channel(1);
        self.queue.flush(account, done);
        self.thread.unpark();
        if delivered.recv().is_err() {
            let destination = W::NAME;
            warn!(
                destination,
                "the telemetry writer stopped before it wrote all records"
            );
        }
    }

    /// Returns the bytes of the queued records.
    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }
}

impl<W: RecordWriter> Sink for QueuedSink<W> {
    fn report(&self, record: &Arc<Record>) {
        let dropped = self.queue.push(record.clone());
        if dropped > 0 {
            self.writer.lost(dropped);
        }
    }

    fn flush(&self) {
        self.flush_of(None);
    }
}

/// Delivers records until all handles to the queue are dropped.
fn deliver<W: RecordWriter>(queue: &Weak<RecordQueue>, writer: &W) {
    let destination = W::NAME;
    let mut failure_log = FailureLog::default();
    // Starts without waiting, because the store may be over its size limit from an earlier run.
    while let Some(queue) = queue.upgrade() {
        let batch = queue.next(BATCH);
        let written = match batch.records.is_empty() {
            false => writer.write(&batch.records),
            true => Ok(()),
        };
        if written.is_err() {
            writer.lost(batch.records.len());
        }
        // Also after a failure: on a full disk this frees space for the next batch.
        match written.and(writer.tidy()) {
            Ok(()) if failure_log.success() => {
                info!(destination, "telemetry is written again");
            }
            Ok(()) => {}
            Err(error) => {
                if let Some(times) = failure_log.failure() {
                    error!(destination, %error, times, "failed to write or clean telemetry; records are lost or not removed");
                }
            }
        }
        let asked = batch.urgent || !batch.flushed.is_empty();
        for done in batch.flushed {
            let _ = done.send(());
        }
        if !asked {
            // While parked, the thread costs reporters no wake-up.
            std::thread::park_timeout(LINGER);
        }
        queue.wait(TIDY_INTERVAL);
    }
}
