//! The fields of actions on queued events and dead letters, and on usage.

use serde::{Deserialize, Serialize};

/// A selection of events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Selection {
    /// The event with this request id.
    pub request_id: Option<String>,
    /// Events of this function.
    pub function_name: Option<String>,
    /// The function's namespace.
    pub namespace: Option<String>,
    /// Events in this state.
    pub state: Option<String>,
    /// All events, if nothing else is selected.
    pub all: bool,
    /// Largest number of events in the response.
    pub limit: Option<u32>,
    /// Number of events to skip.
    pub offset: Option<u32>,
}

/// A page of events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventPage {
    /// Number of events that match.
    pub total_count: u64,
    /// The events of this page.
    pub events: Vec<EventInfo>,
}

/// An event.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventInfo {
    /// The request id.
    pub request_id: String,
    /// The function.
    pub function_name: String,
    /// The function's namespace.
    pub namespace: String,
    /// The version or alias.
    pub qualifier: String,
    /// The event's source.
    pub source: String,
    /// waiting, running, undelivered, dead, finished, failed or aborted.
    pub state: String,
    /// The time at which the event was accepted.
    pub accepted_time: String,
    /// The time of the next run or delivery.
    pub due_time: String,
    /// The time of its completion.
    pub end_time: String,
    /// Number of failed attempts.
    pub failures: u32,
    /// The outcome of the last attempt.
    pub status_code: u16,
    /// The error of the last attempt.
    pub message: String,
    /// The size of its body.
    pub bytes: u64,
    /// The dead-letter target.
    pub target: String,
    /// The event's body, if one event was asked for and its body still exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// The number of affected events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventCount {
    /// How many events.
    pub count: u64,
}

/// A selection of entries of the usage ledger.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UsageRequest {
    /// Entries of this function.
    pub function_name: Option<String>,
    /// The function's namespace.
    pub namespace: Option<String>,
    /// The earliest time.
    pub start_time: Option<String>,
    /// The latest time.
    pub end_time: Option<String>,
    /// Whether to return one entry per hour instead of sums.
    pub by_hour: bool,
}

/// Usage by function and version, and by hour if asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UsageList {
    /// The entries.
    pub usage: Vec<Usage>,
}

/// The usage of one function version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Usage {
    /// The function.
    pub function_name: String,
    /// The function's namespace.
    pub namespace: String,
    /// The version.
    pub version: String,
    /// The start of the hour, if hours were asked for.
    pub hour: String,
    /// Invocations that ran.
    pub invocations: u64,
    /// Invocations that ran and failed.
    pub errors: u64,
    /// Invocations that got no instance.
    pub throttles: u64,
    /// Billed duration (ms).
    pub billed_ms: u64,
    /// GB of memory times seconds.
    pub gb_seconds: f64,
    /// Bytes of responses.
    pub out_bytes: u64,
}
