//! The recording of metrics. [`list`] has all of them.

mod list;

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, gauge, histogram};
use model::{FailureKind, outcome_number};

pub(super) use self::list::{ALL, Kind};
use super::record::Record;
use super::sink::Sink;

/// The state of an instance, as a metric label.
#[derive(Clone, Copy, Debug)]
pub enum InstanceState {
    /// It loads its code.
    Starting,
    /// It runs a request.
    Busy,
    /// It waits for a request.
    Idle,
    /// It is idle, and its processes are stopped.
    Frozen,
}

/// A step in the life of an asynchronous event, each with a counter.
#[derive(Clone, Copy, Debug)]
pub enum EventStep {
    /// The event is in the queue.
    Accepted,
    /// The event was not accepted.
    Refused,
    /// The event ran.
    Delivered,
    /// The event failed and will run again.
    Retried,
    /// Failed permanently.
    Failed,
    /// Failed permanently as a recursion loop.
    Looped,
    /// Its dead letter was delivered.
    DeadLettered,
    /// Cancelled.
    Aborted,
}

/// Records metrics.
pub struct Metrics {
    /// Cached handles of the metrics that every invocation updates.
    succeeded: Counter,
    duration: Histogram,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Sink for Metrics {
    fn report(&self, record: &Arc<Record>) {
        self.invocation(record);
    }
}

impl Metrics {
    /// Makes the handles from the global recorder.
    pub(super) fn new() -> Self {
        Self {
            succeeded: counter!(list::INVOCATIONS, "status" => status_label(outcome_number(None))),
            duration: histogram!(list::DURATION),
        }
    }

    /// Metrics without histograms, for tests.
    #[cfg(test)]
    pub(super) fn noop() -> Self {
        Self {
            succeeded: Counter::noop(),
            duration: Histogram::noop(),
        }
    }

    fn invocation(&self, record: &Record) {
        match record.failure.map(FailureKind::number) {
            None => self.succeeded.increment(1),
            Some(number) => {
                counter!(list::INVOCATIONS, "status" => status_label(number)).increment(1);
            }
        }
        self.duration.record(record.usage.duration_us as f64 / 1e6);
        if let Some(cold) = record.cold.filter(|cold| !cold.provisioned) {
            counter!(list::COLD_STARTS).increment(1);
            for (part, us) in [
                ("total", cold.total_us),
                ("runtime", cold.runtime_us),
                ("function", cold.import_us),
            ] {
                histogram!(list::COLD_START_DURATION, "part" => part).record(us as f64 / 1e6);
            }
        }
    }

    pub(super) fn records_dropped(&self, count: usize) {
        counter!(list::RECORDS_DROPPED).increment(count as u64);
    }

    /// Sets the number of instances in a state.
    pub fn instances(&self, state: InstanceState, count: usize) {
        let label = match state {
            InstanceState::Starting => "starting",
            InstanceState::Busy => "busy",
            InstanceState::Idle => "idle",
            InstanceState::Frozen => "frozen",
        };
        gauge!(list::INSTANCES, "state" => label).set(count as f64);
    }

    /// Sets the number of provisioned instances that are wanted, and how many of them are ready.
    pub fn provisioned(&self, wanted: usize, ready: usize) {
        gauge!(list::PROVISIONED, "state" => "wanted").set(wanted as f64);
        gauge!(list::PROVISIONED, "state" => "ready").set(ready as f64);
    }

    /// Sets the number of requests that wait for an instance.
    pub fn waiting(&self, count: usize) {
        gauge!(list::WAITING).set(count as f64);
    }

    /// Counts a step of an asynchronous event.
    pub fn event(&self, step: EventStep) {
        let name = match step {
            EventStep::Accepted => list::EVENTS_ACCEPTED,
            EventStep::Refused => list::EVENTS_REFUSED,
            EventStep::Delivered => list::EVENTS_DELIVERED,
            EventStep::Retried => list::EVENTS_RETRIED,
            EventStep::Failed => list::EVENTS_FAILED,
            EventStep::Looped => list::EVENTS_LOOPED,
            EventStep::DeadLettered => list::EVENTS_DEAD_LETTERED,
            EventStep::Aborted => list::EVENTS_ABORTED,
        };
        counter!(name).increment(1);
    }

    /// Sets the size and age of the event backlog.
    pub fn backlog(&self, waiting: u64, running: u64, bytes: u64, oldest: Duration) {
        gauge!(list::EVENTS_WAITING).set(waiting as f64);
        gauge!(list::EVENTS_RUNNING).set(running as f64);
        gauge!(list::EVENT_BYTES).set(bytes as f64);
        gauge!(list::EVENTS_OLDEST).set(oldest.as_secs_f64());
    }

    /// Sets the number of bucket events that are not in the event queue yet.
    pub fn notices(&self, count: u64) {
        gauge!(list::NOTICES).set(count as f64);
    }

    /// Sets the number of enabled timers.
    pub fn timers(&self, count: usize) {
        gauge!(list::TIMERS).set(count as f64);
    }

    /// Records how long after its due time a timer's event was accepted.
    pub fn timer_event(&self, late_s: f64) {
        histogram!(list::TIMER_LATENESS).record(late_s);
    }

    /// Counts timers that were found to have missed runs.
    pub fn timers_missed(&self, count: usize) {
        counter!(list::TIMERS_MISSED).increment(count as u64);
    }

    /// Sets the number of open connections.
    pub fn connections(&self, side: &'static str, count: usize) {
        gauge!(list::CONNECTIONS, "side" => side).set(count as f64);
    }

    /// Counts a connection that virga closed or refused. Reasons come from a closed list.
    pub fn connection_closed(&self, reason: &'static str) {
        counter!(list::CONNECTIONS_CLOSED, "reason" => reason).increment(1);
    }

    /// Counts an API request; `code` is empty for success. Both come from closed lists.
    pub fn api_request(&self, action: &'static str, code: &'static str) {
        counter!(list::API_REQUESTS, "action" => action, "code" => code).increment(1);
    }

    /// Counts a request to a bucket. The labels come from closed lists.
    pub fn bucket_request(
        &self,
        dialect: &'static str,
        method: &'static str,
        status: u16,
        took: Duration,
    ) {
        let class = match status / 100 {
            1 | 2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        counter!(list::BUCKET_REQUESTS, "api" => dialect, "method" => method, "status" => class)
            .increment(1);
        histogram!(list::BUCKET_DURATION, "method" => method).record(took.as_secs_f64());
    }

    /// Sets the size of all buckets.
    pub fn bucket_bytes(&self, bytes: u64) {
        gauge!(list::BUCKET_BYTES).set(bytes as f64);
    }
}

/// Returns the label of a status code, without allocating.
fn status_label(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        406 => "406",
        407 => "407",
        429 => "429",
        430 => "430",
        432 => "432",
        433 => "433",
        434 => "434",
        437 => "437",
        438 => "438",
        439 => "439",
        443 => "443",
        445 => "445",
        449 => "449",
        450 => "450",
        499 => "499",
        _ => "500",
    }
}
