//! The backlog, dead letters, and usage.

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
    /// Events that wait, or were given up and are kept; or in other states that are named.
    ListEvents(Selection) -> EventPage,
    /// One event, with all that is kept of it.
    ShowEvent(Selection) -> EventInfo,
    /// Runs events again that were given up.
    ReplayEvents(Selection) -> EventCount,
    /// Takes events away.
    PurgeEvents(Selection) -> EventCount,
    /// What the ledger holds.
    ListUsage(UsageRequest) -> UsageList,
}

/// Which events are meant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Selection {
    /// One alone.
    pub(crate) request_id: Option<String>,
    /// Those of a function.
    pub(crate) function_name: Option<String>,
    /// The function's namespace.
    pub(crate) namespace: Option<String>,
    /// Those in a state.
    pub(crate) state: Option<String>,
    /// All, where nothing else is said.
    pub(crate) all: bool,
    /// How many are shown.
    pub(crate) limit: Option<u32>,
    /// How many are left out before.
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
    /// What it came from.
    pub(crate) source: String,
    /// waiting, running, undelivered, dead, finished, failed or aborted.
    pub(crate) state: String,
    pub(crate) accepted_time: String,
    /// When it runs, or is sent, next.
    pub(crate) due_time: String,
    pub(crate) end_time: String,
    /// How often it has failed.
    pub(crate) failures: u32,
    /// How it failed last.
    pub(crate) status_code: u16,
    pub(crate) message: String,
    pub(crate) bytes: u64,
    /// Where it goes as a dead letter.
    pub(crate) target: String,
    /// The event, where one alone was asked for and its body is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<String>,
}

/// How many there were.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EventCount {
    pub(crate) count: u64,
}

/// Which entries of the ledger are wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct UsageRequest {
    /// Those of a function.
    pub(crate) function_name: Option<String>,
    /// The function's namespace.
    pub(crate) namespace: Option<String>,
    /// From this time on.
    pub(crate) start_time: Option<String>,
    /// Up to this time.
    pub(crate) end_time: Option<String>,
    /// Hour by hour, and not summed up.
    pub(crate) by_hour: bool,
}

/// Sums, by function and version, and by hour where that was asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UsageList {
    pub(crate) usage: Vec<Usage>,
}

/// One sum.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Usage {
    pub(crate) function_name: String,
    pub(crate) namespace: String,
    pub(crate) version: String,
    /// The hour's beginning, where hours were asked for.
    pub(crate) hour: String,
    pub(crate) invocations: u64,
    pub(crate) errors: u64,
    pub(crate) throttles: u64,
    pub(crate) billed_ms: u64,
    /// GB of memory times seconds.
    pub(crate) gb_seconds: f64,
    pub(crate) out_bytes: u64,
}
