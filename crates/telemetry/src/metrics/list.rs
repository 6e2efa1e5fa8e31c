//! The complete list of metrics: others are not exported.

/// The kind of a metric.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A counter without labels, exported as 0 from the start, because a rate over a missing series is missing too.
    Counter,
    /// A counter with labels, exported from its first increment on.
    LabelledCounter,
    Gauge,
    /// Durations in seconds.
    Histogram,
}

/// A metric of the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
}

macro_rules! list {
    ($($kind:ident $constant:ident = $name:literal, $help:literal;)*) => {
        $(pub(crate) const $constant: &str = $name;)*

        /// All metrics.
        pub(crate) const ALL: &[Metric] = &[
            $(Metric { kind: Kind::$kind, name: $constant, help: $help },)*
        ];
    };
}

list! {
    LabelledCounter INVOCATIONS = "virga_invocations_total", "Finished invocations by status code";
    Histogram DURATION = "virga_invocation_duration_seconds", "Time from handing the event to an instance to its answer";
    Counter COLD_STARTS = "virga_cold_starts_total", "Instances started for a waiting request";
    Histogram COLD_START_DURATION = "virga_cold_start_duration_seconds", "Time of a start by part: total, runtime, function";
    Counter RECORDS_DROPPED = "virga_log_records_dropped_total", "Log records dropped because the disk could not keep up";
    Gauge INSTANCES = "virga_instances", "Instances by state";
    Gauge PROVISIONED = "virga_provisioned_instances", "Provisioned instances: wanted and ready";
    Gauge WAITING = "virga_requests_waiting", "Requests waiting for an instance";
    Counter EVENTS_ACCEPTED = "virga_events_accepted_total", "Asynchronous events accepted";
    Counter EVENTS_REFUSED = "virga_events_refused_total", "Asynchronous events rejected, such as by a full queue or an account's quota";
    Counter EVENTS_DELIVERED = "virga_events_delivered_total", "Asynchronous events that succeeded";
    Counter EVENTS_RETRIED = "virga_events_retried_total", "Failed attempts of asynchronous events that are retried";
    Counter EVENTS_FAILED = "virga_events_failed_total", "Asynchronous events that failed permanently";
    Counter EVENTS_LOOPED = "virga_events_looped_total", "Asynchronous events that failed permanently as a recursion loop (max_depth)";
    Counter EVENTS_DEAD_LETTERED = "virga_events_dead_lettered_total", "Dead letters delivered to their target";
    Counter EVENTS_ABORTED = "virga_events_aborted_total", "Asynchronous events that were cancelled";
    Gauge EVENTS_WAITING = "virga_events_waiting", "Asynchronous events waiting for an attempt, and dead letters waiting for delivery";
    Gauge EVENTS_RUNNING = "virga_events_running", "Asynchronous events running, and dead letters being delivered";
    Gauge EVENT_BYTES = "virga_event_store_bytes", "Size of asynchronous events that have not completed, and of dead events";
    Gauge EVENTS_OLDEST = "virga_events_oldest_seconds", "Age of the oldest due asynchronous event";
    Gauge TIMERS = "virga_timers", "Enabled timers";
    Histogram TIMER_LATENESS = "virga_timer_lateness_seconds", "Time from when a timer was due to when its event was accepted";
    Counter TIMERS_MISSED = "virga_timers_missed_total", "Timers found to have missed runs, such as after downtime";
    Gauge NOTICES = "virga_bucket_events_waiting", "Bucket events not yet in the event queue; if too many wait, changes that would add more are rejected";
    Gauge CONNECTIONS = "virga_connections", "Open connections by side: outside, or inside (functions)";
    LabelledCounter CONNECTIONS_CLOSED = "virga_connections_closed_total", "Connections closed or refused by virga, by reason";
    LabelledCounter API_REQUESTS = "virga_api_requests_total", "API requests by action and error code";
    LabelledCounter BUCKET_REQUESTS = "virga_bucket_requests_total", "Requests to buckets by API, method and class of status";
    Histogram BUCKET_DURATION = "virga_bucket_request_seconds", "Time from the request head to the response head, by method";
    Gauge BUCKET_BYTES = "virga_bucket_store_bytes", "Size of all objects and their index";
}
