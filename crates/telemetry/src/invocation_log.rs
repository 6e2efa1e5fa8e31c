//! The log of invocations: the log store behind a queue, and searches that see all earlier records.

use std::sync::Arc;

use model::{AccountId, FunctionName, Namespace};

use super::metrics::Metrics;
use super::queued_sink::QueuedSink;
use super::record::Record;
use super::sink::{RecordWriter, Sink};
use super::store::{LogPage, LogQuery, LogStore, LogStoreError};

/// The log of invocations. Clones share it.
#[derive(Clone, Debug)]
pub struct InvocationLog(QueuedSink<LogWriter>);

/// Writes records into the store and removes old ones.
#[derive(Debug)]
struct LogWriter {
    store: LogStore,
    metrics: Arc<Metrics>,
}

impl RecordWriter for LogWriter {
    type Error = LogStoreError;

    const NAME: &'static str = "log store";

    fn write(&self, batch: &[Arc<Record>]) -> Result<(), LogStoreError> {
        self.store.write(batch)
    }

    fn tidy(&self) -> Result<(), LogStoreError> {
        self.store.clean()
    }

    fn lost(&self, count: usize) {
        self.metrics.records_dropped(count);
    }
}

impl InvocationLog {
    /// Starts the writer thread on a store.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(store: LogStore, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        QueuedSink::start(LogWriter { store, metrics }).map(Self)
    }

    /// Returns the store, which may lack the latest records.
    pub fn store(&self) -> &LogStore {
        &self.0.writer().store
    }

    /// Returns the functions of a namespace that may have rows. Flushes the account's records first.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn functions(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Result<Vec<FunctionName>, LogStoreError> {
        self.0.flush_of(Some(account));
        self.store().functions(account, namespace)
    }

    /// Searches the log store. Flushes the account's records first.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn search(&self, query: &LogQuery) -> Result<LogPage, LogStoreError> {
        self.0.flush_of(Some(query.account));
        self.store().search(query)
    }

    /// Returns the bytes of the queued records.
    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> usize {
        self.0.queued_bytes()
    }
}

impl Sink for InvocationLog {
    fn report(&self, record: &Arc<Record>) {
        self.0.report(record);
    }

    fn flush(&self) {
        self.0.flush();
    }
}
