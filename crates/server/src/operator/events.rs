//! Actions on queued events and dead letters, and on usage.

use scf::Action;
use serde::{Deserialize, Serialize};

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $response:ty,)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name;

        impl Action for $name {
            const NAME: &'static str = stringify!($name);
            const VERSION: &'static str = super::VERSION;
            type Request = $request;
            type Response = $response;
        })*
    };
}

actions! {
    /// Lists waiting events and dead letters, or events in the given state.
    ListEvents(Selection) -> EventPage,
    /// Shows one event in full.
    ShowEvent(Selection) -> EventInfo,
    /// Replays dead letters.
    ReplayEvents(Selection) -> EventCount,
    /// Deletes events.
    PurgeEvents(Selection) -> EventCount,
    /// Lists usage from the ledger.
    ListUsage(UsageRequest) -> UsageList,
}

/// A selection of events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Selection {
    /// The event with this request id.
    pub(crate) request_id: Option<String>,
    /// Events of this function.
    pub(crate) function_name: Option<String>,
    /// The function's namespace.
    pub(crate) namespace: Option<String>,
    /// Events in this state.
    pub(crate) state: Option<String>,
    /// All events, if nothing else is selected.
    pub(crate) all: bool,
    /// Largest number of events in the response.
    pub(crate) limit: Option<u32>,
    /// Number of events to skip.
    pub(crate) offset: Option<u32>,
}

/// A page of events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EventPage {
    pub(crate) total_count: u64,
    pub(crate) events: Vec<EventInfo>,
}

/// An event.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EventInfo {
    pub(crate) request_id: String,
    pub(crate) function_name: String,
    pub(crate) namespace: String,
    pub(crate) qualifier: String,
    /// The event's source.
    pub(crate) source: String,
    /// waiting, running, undelivered, dead, finished, failed or aborted.
    pub(crate) state: String,
    pub(crate) accepted_time: String,
    /// The time of the next run or delivery.
    pub(crate) due_time: String,
    pub(crate) end_time: String,
    /// Number of failed attempts.
    pub(crate) failures: u32,
    /// The outcome of the last attempt.
    pub(crate) status_code: u16,
    pub(crate) message: String,
    pub(crate) bytes: u64,
    /// The dead-letter target.
    pub(crate) target: String,
    /// The event's body, if one event was asked for and its body still exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<String>,
}

/// The number of affected events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EventCount {
    pub(crate) count: u64,
}

/// A selection of entries of the usage ledger.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct UsageRequest {
    /// Entries of this function.
    pub(crate) function_name: Option<String>,
    /// The function's namespace.
    pub(crate) namespace: Option<String>,
    /// The earliest time.
    pub(crate) start_time: Option<String>,
    /// The latest time.
    pub(crate) end_time: Option<String>,
    /// Whether to return one entry per hour instead of sums.
    pub(crate) by_hour: bool,
}

/// Usage by function and version, and by hour if asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UsageList {
    pub(crate) usage: Vec<Usage>,
}

/// The usage of one function version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Usage {
    pub(crate) function_name: String,
    pub(crate) namespace: String,
    pub(crate) version: String,
    /// The start of the hour, if hours were asked for.
    pub(crate) hour: String,
    pub(crate) invocations: u64,
    pub(crate) errors: u64,
    pub(crate) throttles: u64,
    pub(crate) billed_ms: u64,
    /// GB of memory times seconds.
    pub(crate) gb_seconds: f64,
    pub(crate) out_bytes: u64,
}
