//! The closed list of metrics, served at `GET /metrics`.

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

/// Counters without labels, which are there from the start.
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

/// Upper bounds of the histograms' buckets, seconds: dense where cold and warm calls lie.
const BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
];

/// Where an instance is, as a label.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InstanceState {
    Starting,
    Busy,
    Idle,
    Frozen,
}

/// What happened to an asynchronous event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EventStep {
    Accepted,
    Refused,
    Delivered,
    Retried,
    /// It was given up.
    Failed,
    /// It was given up as the end of a chain of functions that cause each other.
    Looped,
    /// As a dead letter it has reached its target.
    DeadLettered,
    /// It was taken away.
    Aborted,
}

/// Counts what happens.
pub(crate) struct Metrics {
    /// Of every invocation, so that they are not looked up each time.
    succeeded: Counter,
    duration: Histogram,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// Makes this process' metrics the ones of the list. Once per process.
pub(crate) fn install() -> Result<(Metrics, PrometheusHandle), BuildError> {
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
    describe_gauge!(
        PROVISIONED,
        "Instances kept ahead of need: wanted, and ready"
    );
    describe_gauge!(WAITING, "Requests that wait for an instance");
    describe_counter!(EVENTS_ACCEPTED, "Asynchronous events that were accepted");
    describe_counter!(
        EVENTS_REFUSED,
        "Asynchronous events that the queue had no room for"
    );
    describe_counter!(EVENTS_DELIVERED, "Asynchronous events that ran");
    describe_counter!(
        EVENTS_RETRIED,
        "Failures of asynchronous events that are tried again"
    );
    describe_counter!(EVENTS_FAILED, "Asynchronous events that were given up");
    describe_counter!(
        EVENTS_LOOPED,
        "Asynchronous events that were given up because functions cause each other without an end"
    );
    describe_counter!(
        EVENTS_DEAD_LETTERED,
        "Asynchronous events that were given up and have reached their dead-letter target"
    );
    describe_counter!(EVENTS_ABORTED, "Asynchronous events that were taken away");
    describe_gauge!(
        EVENTS_WAITING,
        "Asynchronous events that wait to run, for the first time or again, and dead letters that wait to be sent"
    );
    describe_gauge!(
        EVENTS_RUNNING,
        "Asynchronous events that run, and dead letters that are being sent"
    );
    describe_gauge!(
        EVENT_BYTES,
        "Size of asynchronous events that have not ended or were given up"
    );
    describe_gauge!(
        EVENTS_OLDEST,
        "How long the asynchronous event has been due that has been due longest"
    );
    describe_gauge!(TIMERS, "Timers that are open");
    describe_histogram!(
        TIMER_LATENESS,
        "Time from when a timer was due to when its event was accepted"
    );
    describe_counter!(
        TIMERS_MISSED,
        "How often a timer's times were too long past to be merely late"
    );
    describe_gauge!(
        NOTICES,
        "Events of buckets that are not in the queue yet; where too many wait, changes that cause more are refused"
    );
    describe_gauge!(
        CONNECTIONS,
        "Connections by side: outside, or inside, of functions"
    );
    describe_counter!(
        CONNECTIONS_CLOSED,
        "Connections that virga closed, or refused, by reason"
    );
    describe_counter!(API_REQUESTS, "API requests by action and error code");
    describe_counter!(
        BUCKET_REQUESTS,
        "Requests to buckets by API, method and class of status"
    );
    describe_histogram!(
        BUCKET_DURATION,
        "Time from a request's head to its answer's, by method"
    );
    describe_gauge!(BUCKET_BYTES, "Size of all objects and their index");
    // What has not happened yet is 0: a rate over a series that is missing is missing, too.
    for name in UNLABELLED_COUNTERS {
        counter!(*name).absolute(0);
    }
    let metrics = Metrics {
        succeeded: counter!(INVOCATIONS, "status" => status_label(200)),
        duration: histogram!(DURATION),
    };
    Ok((metrics, handle))
}

/// Adds what was measured to its histogram from time to time: until then each value is kept by itself, however many there are
/// and whether or not anybody asks for metrics.
pub(crate) async fn run_upkeep(handle: PrometheusHandle) {
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

    /// Sets how many instances are in a state.
    pub(crate) fn instances(&self, state: InstanceState, count: usize) {
        let label = match state {
            InstanceState::Starting => "starting",
            InstanceState::Busy => "busy",
            InstanceState::Idle => "idle",
            InstanceState::Frozen => "frozen",
        };
        gauge!(INSTANCES, "state" => label).set(count as f64);
    }

    /// Sets how many instances are to be kept ahead of need, and how many of them are there.
    pub(crate) fn provisioned(&self, wanted: usize, ready: usize) {
        gauge!(PROVISIONED, "state" => "wanted").set(wanted as f64);
        gauge!(PROVISIONED, "state" => "ready").set(ready as f64);
    }

    /// Sets how many requests wait.
    pub(crate) fn waiting(&self, count: usize) {
        gauge!(WAITING).set(count as f64);
    }

    /// Counts a step of an asynchronous event.
    pub(crate) fn event(&self, step: EventStep) {
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

    /// Sets what is in the queue of asynchronous events.
    pub(crate) fn backlog(&self, waiting: u64, running: u64, bytes: u64, oldest: Duration) {
        gauge!(EVENTS_WAITING).set(waiting as f64);
        gauge!(EVENTS_RUNNING).set(running as f64);
        gauge!(EVENT_BYTES).set(bytes as f64);
        gauge!(EVENTS_OLDEST).set(oldest.as_secs_f64());
    }

    /// Sets how many events of buckets are not in the queue yet.
    pub(crate) fn notices(&self, count: u64) {
        gauge!(NOTICES).set(count as f64);
    }

    /// Sets how many timers are open.
    pub(crate) fn timers(&self, count: usize) {
        gauge!(TIMERS).set(count as f64);
    }

    /// Counts a timer's event that was accepted, so long after its time.
    pub(crate) fn timer_event(&self, late_s: f64) {
        histogram!(TIMER_LATENESS).record(late_s);
    }

    /// Counts timers of which times were missed.
    pub(crate) fn timers_missed(&self, count: usize) {
        counter!(TIMERS_MISSED).increment(count as u64);
    }

    /// Sets how many connections there are.
    pub(crate) fn connections(&self, side: &'static str, count: usize) {
        gauge!(CONNECTIONS, "side" => side).set(count as f64);
    }

    /// Counts a connection that virga closed or refused; the reasons are a closed list.
    pub(crate) fn connection_closed(&self, reason: &'static str) {
        counter!(CONNECTIONS_CLOSED, "reason" => reason).increment(1);
    }

    /// Counts an API request; `code` is empty for success. Both come from closed lists.
    pub(crate) fn api_request(&self, action: &'static str, code: &'static str) {
        counter!(API_REQUESTS, "action" => action, "code" => code).increment(1);
    }

    /// Counts a request to a bucket. The labels come from closed lists.
    pub(crate) fn bucket_request(
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

    /// Sets how much buckets hold.
    pub(crate) fn bucket_bytes(&self, bytes: u64) {
        gauge!(BUCKET_BYTES).set(bytes as f64);
    }
}

/// A label without an allocation per call for the usual codes.
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
