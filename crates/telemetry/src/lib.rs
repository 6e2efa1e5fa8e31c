//! Telemetry: one record per finished invocation, turned into log rows and metrics.
//!
//! The invocation path hands over a record without blocking; a writer thread stores it. The queue in between is bounded: when the
//! disk cannot keep up, records of the account with the most queued bytes are dropped and counted, and calls stay fast.
//!
//! Owns the log store, the closed list of metrics, the headers of trace contexts, and the rate limit of repeating log
//! lines. Never knows who asks, nor how a function runs.
#![forbid(unsafe_code)]

mod failure_log;
mod metrics;
mod record;
mod record_queue;
mod store;
mod text;
pub mod trace;

pub use failure_log::FailureLog;
pub use metrics::{
    EventStep, InstanceState, Metrics, install as install_metrics, run_upkeep as run_metrics_upkeep,
};
pub use record::{ColdStart, Record};
pub use store::{
    LogPage, LogQuery, LogRow, LogStore, LogStoreError, LogStoreSettings, OutcomeFilter, SortKey,
    SortOrder,
};
pub use text::{log_text, tail};

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::Thread;
use std::time::Duration;

use model::{AccountId, FunctionName, Namespace};
use tracing::{error, info, warn};

use record_queue::RecordQueue;

/// Maximum bytes of records that wait for the writer.
const QUEUE_BYTES: usize = 96 << 20;

/// Maximum records per transaction.
const BATCH: usize = 4096;
/// Time the writer waits after a batch, so that records gather into larger commits.
const LINGER: Duration = Duration::from_millis(50);

/// A handle to the telemetry. Clones share it.
#[derive(Clone, Debug)]
pub struct Telemetry {
    record_queue: Arc<RecordQueue>,
    metrics: Arc<Metrics>,
    store: LogStore,
    writer: Thread,
}

impl Telemetry {
    /// Starts the writer thread on a store.
    pub fn start(store: LogStore, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let record_queue = Arc::new(RecordQueue::new(QUEUE_BYTES));
        let queue = Arc::downgrade(&record_queue);
        let writer = store.clone();
        let counted = metrics.clone();
        let thread = std::thread::Builder::new()
            .name("telemetry".into())
            .spawn(move || {
                let mut failure_log = FailureLog::default();
                // Starts without waiting, because the store may be over its size limit from an earlier run.
                while let Some(record_queue) = queue.upgrade() {
                    let batch = record_queue.next(BATCH);
                    let written = writer.write(&batch.records);
                    if written.is_err() {
                        counted.records_dropped(batch.records.len());
                    }
                    // Cleans also after a failure: on a full disk this frees space for the next batch.
                    match written.and(writer.clean()) {
                        Ok(()) if failure_log.success() => info!("writes of the log store have recovered"),
                        Ok(()) => {}
                        Err(error) => {
                            if let Some(times) = failure_log.failure() {
                                error!(%error, times, "failed to write or clean the log store; log records are lost or not removed");
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
                    record_queue.wait(store::CLEAN_EVERY);
                }
            })?;
        Ok(Self {
            record_queue,
            metrics,
            store,
            writer: thread.thread().clone(),
        })
    }

    /// Reports a finished invocation. Never blocks.
    pub fn report(&self, record: Record) {
        self.metrics.invocation(&record);
        let dropped = self.record_queue.push(record);
        if dropped > 0 {
            self.metrics.records_dropped(dropped);
        }
    }

    /// Blocks until all records reported before are written. Not for async tasks.
    pub fn flush(&self) {
        self.flush_of(None);
    }

    fn flush_of(&self, account: Option<AccountId>) {
        let (done, written) = sync_channel(1);
        self.record_queue.flush(account, done);
        self.writer.unpark();
        if written.recv().is_err() {
            warn!("the log writer stopped before it wrote all records");
        }
    }

    /// Returns the functions of a namespace that may have rows. Flushes the account's records first.
    pub fn functions(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Result<Vec<FunctionName>, LogStoreError> {
        self.flush_of(Some(account));
        self.store.functions(account, namespace)
    }

    /// Searches the log store. Flushes the account's records first.
    pub fn search(&self, query: &LogQuery) -> Result<LogPage, LogStoreError> {
        self.flush_of(Some(query.account));
        self.store.search(query)
    }
}

#[cfg(test)]
mod tests;
