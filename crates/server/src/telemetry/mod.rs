//! What happened: one record per finished invocation, kept as log lines, metrics and, later, usage.
//!
//! The invoke path hands a record over and goes on; a thread of its own writes. What waits to be written is
//! bounded: when the disk cannot keep up, records of the account that has most waiting are dropped and counted, and calls stay
//! fast.

mod metrics;
mod record;
mod record_queue;
mod store;
mod text;

pub(crate) use metrics::{
    EventStep, InstanceState, Metrics, install as install_metrics, run_upkeep as run_metrics_upkeep,
};
pub(crate) use record::{ColdStart, Record};
pub(crate) use store::{
    LogPage, LogQuery, LogRow, LogStore, LogStoreError, LogStoreSettings, OutcomeFilter, SortKey,
    SortOrder,
};
pub(crate) use text::{log_text, tail};

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::Thread;
use std::time::Duration;

use model::{AccountId, FunctionName, Namespace};
use tracing::{error, info, warn};

use crate::failure_log::FailureLog;
use record_queue::RecordQueue;

/// Bytes of records that may wait for the writer.
const QUEUE_BYTES: usize = 96 << 20;

/// Records in one transaction.
const BATCH: usize = 4096;
/// How long the writer lets records gather.
const LINGER: Duration = Duration::from_millis(50);

/// Takes records. Cheap to share.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    record_queue: Arc<RecordQueue>,
    metrics: Arc<Metrics>,
    store: LogStore,
    writer: Thread,
}

impl Telemetry {
    /// Starts the writer's thread over a store.
    pub(crate) fn start(store: LogStore, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let record_queue = Arc::new(RecordQueue::new(QUEUE_BYTES));
        let queue = Arc::downgrade(&record_queue);
        let writer = store.clone();
        let counted = metrics.clone();
        let thread = std::thread::Builder::new()
            .name("telemetry".into())
            .spawn(move || {
                let mut failure_log = FailureLog::default();
                // At first without a wait, since what an earlier run left may be too much.
                while let Some(record_queue) = queue.upgrade() {
                    let batch = record_queue.next(BATCH);
                    let written = writer.write(&batch.records);
                    if written.is_err() {
                        counted.records_dropped(batch.records.len());
                    }
                    // Also after a failure: on a full disk it makes room for the next batch.
                    match written.and(writer.clean()) {
                        Ok(()) if failure_log.success() => info!("the log store is written again"),
                        Ok(()) => {}
                        Err(error) => {
                            if let Some(times) = failure_log.failure() {
                                error!(%error, times, "the log store cannot be written: records are lost, or old ones stay");
                            }
                        }
                    }
                    let asked = batch.urgent || !batch.flushed.is_empty();
                    for done in batch.flushed {
                        let _ = done.send(());
                    }
                    if !asked {
                        // Whoever reports does not wake a thread that is not waiting for it.
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

    /// Takes a finished invocation. Never waits.
    pub(crate) fn report(&self, record: Record) {
        self.metrics.invocation(&record);
        let dropped = self.record_queue.push(record);
        if dropped > 0 {
            self.metrics.records_dropped(dropped);
        }
    }

    /// Waits until everything reported before is written. Call from a thread that may wait.
    pub(crate) fn flush(&self) {
        self.flush_of(None);
    }

    fn flush_of(&self, account: Option<AccountId>) {
        let (done, written) = sync_channel(1);
        self.record_queue.flush(account, done);
        self.writer.unpark();
        if written.recv().is_err() {
            warn!("the log writer ended before it wrote everything");
        }
    }

    /// The functions of a namespace of which there may be rows.
    pub(crate) fn functions(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Result<Vec<FunctionName>, LogStoreError> {
        self.flush_of(Some(account));
        self.store.functions(account, namespace)
    }

    /// What was written, to search in. Waits for the account's records that are under way first.
    pub(crate) fn search(&self, query: &LogQuery) -> Result<LogPage, LogStoreError> {
        self.flush_of(Some(query.account));
        self.store.search(query)
    }
}

#[cfg(test)]
mod tests;
