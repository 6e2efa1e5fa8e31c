//! Telemetry: one record per finished invocation, reported to all sinks, and metrics.
//!
//! The invocation path hands over a record without blocking. Metrics are counted at once. The log store has a queue and a thread of
//! its own: when the disk cannot keep up, records of the account with the most queued bytes are dropped and counted, and calls stay
//! fast. Gauges are read from their parts when an exporter asks for them.
//!
//! Owns the sinks, the log store, the closed list of metrics, the headers of trace contexts, and the rate limit of repeating log
//! lines. Never knows who asks, nor how a function runs.
#![forbid(unsafe_code)]

mod exporter;
mod failure_log;
mod gauges;
mod invocation_log;
mod metrics;
mod queued_sink;
mod record;
mod record_queue;
mod sink;
mod store;
mod text;
pub mod trace;

use std::sync::Arc;

pub use exporter::Exporter;
pub use failure_log::FailureLog;
pub use gauges::Gauges;
pub use invocation_log::InvocationLog;
pub use metrics::{EventStep, InstanceState, Metrics};
pub use queued_sink::QueuedSink;
pub use record::{ColdStart, Record};
pub use sink::{RecordWriter, Sink};
pub use store::{
    LogPage, LogQuery, LogRow, LogStore, LogStoreError, LogStoreSettings, OutcomeFilter, SortKey,
    SortOrder,
};
pub use text::{log_text, tail};

/// All sinks. Clones share them.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<[Arc<dyn Sink>]>);

impl Telemetry {
    /// Creates the telemetry from its sinks.
    pub fn new(sinks: impl IntoIterator<Item = Arc<dyn Sink>>) -> Self {
        Self(sinks.into_iter().collect())
    }

    /// Reports a finished invocation to all sinks. Never blocks.
    pub fn report(&self, record: Record) {
        let record = Arc::new(record);
        for sink in &*self.0 {
            sink.report(&record);
        }
    }

    /// Blocks until all records reported before are delivered or lost. Not for async tasks.
    pub fn flush(&self) {
        for sink in &*self.0 {
            sink.flush();
        }
    }
}

#[cfg(test)]
mod tests;
