//! The metrics served at `GET /metrics`. This list is complete.

use std::time::Duration;

use metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use model::StatusCode;

use super::Record;

const INVOCATIONS: &str = "virga_invocations_total";
const DURATION: &str = "virga_invocation_duration_seconds";
const COLD_STARTS: &str = "virga_cold_starts_total";
const COLD_START_DURATION: &str = "virga_cold_start_duration_seconds";
const RECORDS_DROPPED: &str = "virga_log_records_dropped_total";
const INSTANCES: &str = "virga_instances";
const PROVISIONED: &str = "virga_provisioned_instances";
const WAITING: &str = "virga_requests_waiting";
const EVENTS_ACCEPTED: &str = "virga_events_accepted_total";
const EVENTS_REFUSED: &str = "virga_events_refused_total";
const EVENTS_DELIVERED: &str = "virga_events_delivered_total";
const EVENTS_RETRIED: &str = "virga_events_retried_total";
const EVENTS_FAILED: &str = "virga_events_failed_total";
const EVENTS_LOOPED: &str = "virga_events_looped_total";
const EVENTS_DEAD_LETTERED: &str = "virga_events_dead_lettered_total";
const EVENTS_ABORTED: &str = "virga_events_aborted_total";
const EVENTS_WAITING: &str = "virga_events_waiting";
const EVENTS_RUNNING: &str = "virga_events_running";
const EVENT_BYTES: &str = "virga_event_store_bytes";
const EVENTS_OLDEST: &str = "virga_events_oldest_seconds";
const TIMERS: &str = "virga_timers";
const TIMER_LATENESS: &str = "virga_timer_lateness_seconds";
const TIMERS_MISSED: &str = "virga_timers_missed_total";
const NOTICES: &str = "virga_bucket_events_waiting";
const CONNECTIONS: &str = "virga_connections";
const CONNECTIONS_CLOSED: &str = "virga_connections_closed_total";
const API_REQUESTS: &str = "virga_api_requests_total";
const BUCKET_REQUESTS: &str = "virga_bucket_requests_total";
const BUCKET_DURATION: &str = "virga_bucket_request_seconds";
const BUCKET_BYTES: &str = "virga_bucket_store_bytes";

/// Counters without labels, exported as 0 from the start.
const UNLABELLED_COUNTERS: &[&str] = &[
    COLD_STARTS,
    EVENTS_ABORTED,
    EVENTS_ACCEPTED,
    EVENTS_DEAD_LETTERED,
    EVENTS_DELIVERED,
    EVENTS_FAILED,
    EVENTS_LOOPED,
    EVENTS_REFUSED,
    EVENTS_RETRIED,
    RECORDS_DROPPED,
    TIMERS_MISSED,
];

/// Upper bounds of the histogram buckets in seconds, dense in the range of cold starts and warm calls.
const BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
];

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

/// Installs the global recorder and describes all metrics. Call once per process.
#[expect(clippy::too_many_lines, reason = "one line for each metric")]
pub fn install() -> Result<(Metrics, PrometheusHandle), BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), BUCKETS)?
        .install_recorder()?;
    describe_counter!(INVOCATIONS, "Finished invocations by status code");
    describe_histogram!(
        DURATION,
        "Time from handing the event to an instance to its answer"
    );
    describe_counter!(COLD_STARTS, "Instances started for a waiting request");
    describe_histogram!(
        COLD_START_DURATION,
        "Time of a start by part: total, runtime, function"
    );
    describe_counter!(
        RECORDS_DROPPED,
        "Log records dropped because the disk could not keep up"
    );
    describe_gauge!(INSTANCES, "Instances by state");
    describe_gauge!(PROVISIONED, "Provisioned instances: wanted and ready");
    describe_gauge!(WAITING, "Requests waiting for an instance");
    describe_counter!(EVENTS_ACCEPTED, "Asynchronous events accepted");
    describe_counter!(
        EVENTS_REFUSED,
        "Asynchronous events rejected, such as by a full queue or an account's quota"
    );
    describe_counter!(EVENTS_DELIVERED, "Asynchronous events that succeeded");
    describe_counter!(
        EVENTS_RETRIED,
        "Failed attempts of asynchronous events that are retried"
    );
    describe_counter!(EVENTS_FAILED, "Asynchronous events that failed permanently");
    describe_counter!(
        EVENTS_LOOPED,
        "Asynchronous events that failed permanently as a recursion loop (max_depth)"
    );
    describe_counter!(
        EVENTS_DEAD_LETTERED,
        "Dead letters delivered to their target"
    );
    describe_counter!(EVENTS_ABORTED, "Asynchronous events that were cancelled");
    describe_gauge!(
        EVENTS_WAITING,
        "Asynchronous events waiting for an attempt, and dead letters waiting for delivery"
    );
    describe_gauge!(
        EVENTS_RUNNING,
        "Asynchronous events running, and dead letters being delivered"
    );
    describe_gauge!(
        EVENT_BYTES,
        "Size of asynchronous events that have not completed, and of dead events"
    );
    describe_gauge!(EVENTS_OLDEST, "Age of the oldest due asynchronous event");
    describe_gauge!(TIMERS, "Enabled timers");
    describe_histogram!(
        TIMER_LATENESS,
        "Time from when a timer was due to when its event was accepted"
    );
    describe_counter!(
        TIMERS_MISSED,
        "Timers found to have missed runs, such as after downtime"
    );
    describe_gauge!(
        NOTICES,
        "Bucket events not yet in the event queue; if too many wait, changes that would add more are rejected"
    );
    describe_gauge!(
        CONNECTIONS,
        "Open connections by side: outside, or inside (functions)"
    );
    describe_counter!(
        CONNECTIONS_CLOSED,
        "Connections closed or refused by virga, by reason"
    );
    describe_counter!(API_REQUESTS, "API requests by action and error code");
    describe_counter!(
        BUCKET_REQUESTS,
        "Requests to buckets by API, method and class of status"
    );
    describe_histogram!(
        BUCKET_DURATION,
        "Time from the request head to the response head, by method"
    );
    describe_gauge!(BUCKET_BYTES, "Size of all objects and their index");
    // Exported as 0, because a rate over a missing series is missing too.
    for name in UNLABELLED_COUNTERS {
        counter!(*name).absolute(0);
    }
    let metrics = Metrics {
        succeeded: counter!(INVOCATIONS, "status" => status_label(200)),
        duration: histogram!(DURATION),
    };
    Ok((metrics, handle))
}

/// Periodically folds recorded values into their histograms. Until then each value takes memory, even if nobody scrapes.
pub async fn run_upkeep(handle: PrometheusHandle) {
    const EVERY: Duration = Duration::from_secs(5);
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

impl Metrics {
    /// Metrics without histograms, for tests.
    #[cfg(test)]
    pub(super) fn noop() -> Self {
        Self {
            succeeded: Counter::noop(),
            duration: Histogram::noop(),
        }
    }

    pub(super) fn invocation(&self, record: &Record) {
        match record.status {
            StatusCode::Ok => self.succeeded.increment(1),
            other => {
                counter!(INVOCATIONS, "status" => status_label(other.as_u16())).increment(1);
            }
        }
        self.duration.record(record.usage.duration_us as f64 / 1e6);
        if let Some(cold) = record.cold.filter(|cold| !cold.provisioned) {
            counter!(COLD_STARTS).increment(1);
            for (part, us) in [
                ("total", cold.total_us),
                ("runtime", cold.runtime_us),
                ("function", cold.import_us),
            ] {
                histogram!(COLD_START_DURATION, "part" => part).record(us as f64 / 1e6);
            }
        }
    }

    pub(super) fn records_dropped(&self, count: usize) {
        counter!(RECORDS_DROPPED).increment(count as u64);
    }

    /// Sets the number of instances in a state.
    pub fn instances(&self, state: InstanceState, count: usize) {
        let label = match state {
            InstanceState::Starting => "starting",
            InstanceState::Busy => "busy",
            InstanceState::Idle => "idle",
            InstanceState::Frozen => "frozen",
        };
        gauge!(INSTANCES, "state" => label).set(count as f64);
    }

    /// Sets the number of provisioned instances that are wanted, and how many of them are ready.
    pub fn provisioned(&self, wanted: usize, ready: usize) {
        gauge!(PROVISIONED, "state" => "wanted").set(wanted as f64);
        gauge!(PROVISIONED, "state" => "ready").set(ready as f64);
    }

    /// Sets the number of requests that wait for an instance.
    pub fn waiting(&self, count: usize) {
        gauge!(WAITING).set(count as f64);
    }

    /// Counts a step of an asynchronous event.
    pub fn event(&self, step: EventStep) {
        let name = match step {
            EventStep::Accepted => EVENTS_ACCEPTED,
            EventStep::Refused => EVENTS_REFUSED,
            EventStep::Delivered => EVENTS_DELIVERED,
            EventStep::Retried => EVENTS_RETRIED,
            EventStep::Failed => EVENTS_FAILED,
            EventStep::Looped => EVENTS_LOOPED,
            EventStep::DeadLettered => EVENTS_DEAD_LETTERED,
            EventStep::Aborted => EVENTS_ABORTED,
        };
        counter!(name).increment(1);
    }

    /// Sets the size and age of the event backlog.
    pub fn backlog(&self, waiting: u64, running: u64, bytes: u64, oldest: Duration) {
        gauge!(EVENTS_WAITING).set(waiting as f64);
        gauge!(EVENTS_RUNNING).set(running as f64);
        gauge!(EVENT_BYTES).set(bytes as f64);
        gauge!(EVENTS_OLDEST).set(oldest.as_secs_f64());
    }

    /// Sets the number of bucket events that are not in the event queue yet.
    pub fn notices(&self, count: u64) {
        gauge!(NOTICES).set(count as f64);
    }

    /// Sets the number of enabled timers.
    pub fn timers(&self, count: usize) {
        gauge!(TIMERS).set(count as f64);
    }

    /// Records how long after its due time a timer's event was accepted.
    pub fn timer_event(&self, late_s: f64) {
        histogram!(TIMER_LATENESS).record(late_s);
    }

    /// Counts timers that were found to have missed runs.
    pub fn timers_missed(&self, count: usize) {
        counter!(TIMERS_MISSED).increment(count as u64);
    }

    /// Sets the number of open connections.
    pub fn connections(&self, side: &'static str, count: usize) {
        gauge!(CONNECTIONS, "side" => side).set(count as f64);
    }

    /// Counts a connection that virga closed or refused. Reasons come from a closed list.
    pub fn connection_closed(&self, reason: &'static str) {
        counter!(CONNECTIONS_CLOSED, "reason" => reason).increment(1);
    }

    /// Counts an API request; `code` is empty for success. Both come from closed lists.
    pub fn api_request(&self, action: &'static str, code: &'static str) {
        counter!(API_REQUESTS, "action" => action, "code" => code).increment(1);
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
        counter!(BUCKET_REQUESTS, "api" => dialect, "method" => method, "status" => class)
            .increment(1);
        histogram!(BUCKET_DURATION, "method" => method).record(took.as_secs_f64());
    }

    /// Sets the size of all buckets.
    pub fn bucket_bytes(&self, bytes: u64) {
        gauge!(BUCKET_BYTES).set(bytes as f64);
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
