//! What happened: one record per finished invocation, kept as log lines, metrics and, later, usage.
//!
//! The invoke path hands a record over and goes on; a thread of its own writes. What waits to be written is
//! bounded: when the disk cannot keep up, records are dropped and counted, and calls stay fast.

mod metrics;
mod record;
mod store;
mod text;

pub(crate) use metrics::{
    EventStep, InstanceState, Metrics, install as install_metrics, keep as keep_metrics,
};
pub(crate) use record::{ColdStart, Record};
pub(crate) use store::{Found, Order, OrderBy, Outcomes, Query, Row, Settings, Store, StoreError};
pub(crate) use text::{log_text, tail};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use model::{AccountId, FunctionName, Namespace};
use tracing::{error, info, warn};

use crate::ailing::Ailing;

/// Records that may wait for the writer.
const QUEUE: usize = 65_536;
/// Bytes of answers and logs that may wait for the writer.
const QUEUE_BYTES: usize = 64 << 20;

/// Records in one transaction.
const BATCH: usize = 4096;
/// How long the writer lets records gather.
const LINGER: Duration = Duration::from_millis(50);

/// Takes records. Cheap to share.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    sender: SyncSender<Message>,
    waiting_bytes: Arc<AtomicUsize>,
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
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let waiting = waiting_bytes.clone();
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
                    waiting.fetch_sub(batch.iter().map(Record::weight).sum(), Ordering::Relaxed);
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
            waiting_bytes,
            metrics,
            store,
            writer: thread.thread().clone(),
        })
    }

    /// Takes a finished invocation. Never waits.
    pub(crate) fn report(&self, record: Record) {
        self.metrics.invocation(&record);
        let weight = record.weight();
        let full = self.waiting_bytes.fetch_add(weight, Ordering::Relaxed) + weight > QUEUE_BYTES;
        let refused = full
            || match self.sender.try_send(Message::Record(Box::new(record))) {
                Ok(()) => false,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => true,
            };
        if refused {
            self.waiting_bytes.fetch_sub(weight, Ordering::Relaxed);
            self.metrics.records_dropped(1);
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
