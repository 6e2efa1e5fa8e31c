//! What happened: one record per finished invocation, kept as log lines, metrics and, later, usage.
//!
//! The invoke path hands a record over and goes on; a thread of its own writes. What waits to be written is
//! bounded: when the disk cannot keep up, records are dropped and counted, and calls stay fast. Those of the account that
//! has most waiting are dropped first.

mod metrics;
mod record;
mod store;
mod text;
mod waiting;

pub(crate) use metrics::{
    EventStep, InstanceState, Metrics, install as install_metrics, keep as keep_metrics,
};
pub(crate) use record::{ColdStart, Record};
pub(crate) use store::{Found, Order, OrderBy, Outcomes, Query, Row, Settings, Store, StoreError};
pub(crate) use text::{log_text, tail};

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use model::{AccountId, FunctionName, Namespace};
use tracing::{error, info, warn};

use crate::ailing::Ailing;
use record::RECORD_BYTES;
use waiting::Waiting;

/// Bytes of records that may wait for the writer, of one account up to two thirds.
const QUEUE_BYTES: usize = 96 << 20;
/// Records that may wait for the writer: no fewer than their bytes allow, so that bytes are what accounts share.
const QUEUE: usize = QUEUE_BYTES / RECORD_BYTES;

/// Records in one transaction.
const BATCH: usize = 4096;
/// How long the writer lets records gather.
const LINGER: Duration = Duration::from_millis(50);

/// Takes records. Cheap to share.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    sender: SyncSender<Message>,
    waiting: Arc<Waiting>,
    metrics: Arc<Metrics>,
    store: Store,
    writer: Thread,
}

enum Message {
    Record(Box<Record>),
    Flush(SyncSender<()>),
}

impl Telemetry {
    /// Starts the writer's thread over a store.
    pub(crate) fn start(store: Store, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (sender, inbox) = sync_channel(QUEUE);
        let waiting = Arc::new(Waiting::new(QUEUE_BYTES));
        let gathered = waiting.clone();
        let writer = store.clone();
        let counted = metrics.clone();
        let thread = std::thread::Builder::new()
            .name("telemetry".into())
            .spawn(move || {
                // At first, since what an earlier run left may be too much.
                let mut first = None;
                let mut ailing = Ailing::default();
                loop {
                    let (batch, flushes) = gather(first, &inbox);
                    let accounts = |a: &Record, b: &Record| a.function.account == b.function.account;
                    for records in batch.chunk_by(accounts) {
                        let bytes = records.iter().map(Record::weight).sum();
                        gathered.release(records[0].function.account, bytes);
                    }
                    let written = writer.write(&batch);
                    if written.is_err() {
                        counted.records_dropped(batch.len());
                    }
                    // Also after a failure: on a full disk it makes room for the next batch.
                    match written.and(writer.clean()) {
                        Ok(()) if ailing.works() => info!("the log store is written again"),
                        Ok(()) => {}
                        Err(error) => {
                            if let Some(times) = ailing.failed() {
                                error!(%error, times, "the log store cannot be written: records are lost, or old ones stay");
                            }
                        }
                    }
                    let asked = !flushes.is_empty();
                    for done in flushes {
                        let _ = done.send(());
                    }
                    if !asked {
                        // Whoever reports does not wake a thread that is not waiting for it.
                        std::thread::park_timeout(LINGER);
                    }
                    first = match inbox.recv_timeout(store::CLEAN_EVERY) {
                        Ok(message) => Some(message),
                        Err(RecvTimeoutError::Timeout) => None,
                        Err(RecvTimeoutError::Disconnected) => return,
                    };
                }
            })?;
        Ok(Self {
            sender,
            waiting,
            metrics,
            store,
            writer: thread.thread().clone(),
        })
    }

    /// Takes a finished invocation. Never waits.
    pub(crate) fn report(&self, record: Record) {
        self.metrics.invocation(&record);
        let (account, weight) = (record.function.account, record.weight());
        if !self.waiting.reserve(account, weight) {
            self.metrics.records_dropped(1);
            return;
        }
        match self.sender.try_send(Message::Record(Box::new(record))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.waiting.release(account, weight);
                self.metrics.records_dropped(1);
            }
        }
    }

    /// Waits until everything reported before is written. Call from a thread that may wait.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        let asked = self.sender.send(Message::Flush(done)).is_ok();
        self.writer.unpark();
        if asked && written.recv().is_err() {
            warn!("the log writer ended before it wrote everything");
        }
    }

    /// The functions of a namespace of which there may be rows.
    pub(crate) fn functions(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Result<Vec<FunctionName>, StoreError> {
        self.flush();
        self.store.functions(account, namespace)
    }

    /// What was written, to search in. Waits for the records that are under way first.
    pub(crate) fn search(&self, query: &Query) -> Result<Found, StoreError> {
        self.flush();
        self.store.search(query)
    }
}

/// What has come since the writer last looked.
fn gather(first: Option<Message>, inbox: &Receiver<Message>) -> (Vec<Record>, Vec<SyncSender<()>>) {
    let mut batch = Vec::new();
    let mut flushes = Vec::new();
    for message in first.into_iter().chain(inbox.try_iter().take(BATCH - 1)) {
        match message {
            Message::Record(record) => batch.push(*record),
            Message::Flush(done) => flushes.push(done),
        }
    }
    (batch, flushes)
}

#[cfg(test)]
mod tests;
