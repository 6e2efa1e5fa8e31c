//! Settings of a function URL.

use serde::{Deserialize, Serialize};

use super::TriggerName;
use super::description::{EventSource, TriggerDescription};

/// Function URLs. A URL's id is the name of its trigger.
pub(super) const HTTP: TriggerDescription = TriggerDescription {
    name: "http",
    origin: "HTTP",
    sends_requests: true,
    one_per_qualifier: Some("URL"),
    ..TriggerDescription::EVENTS
};

/// A function URL that invokes a version or an alias. Its id is the name of its trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionUrl {
    /// Authentication of its callers.
    pub auth: UrlAuth,
    /// Whether functions can call it.
    pub intranet: bool,
    /// Whether callers outside the platform can call it.
    pub extranet: bool,
    /// Cross-origin policy; none sends no CORS headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

impl EventSource for FunctionUrl {
    fn http_id<'a>(&'a self, name: &'a TriggerName) -> Option<&'a TriggerName> {
        Some(name)
    }
}

/// Authentication mode of a function URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlAuth {
    /// Accepts anonymous requests.
    Open,
    /// Requires a signature, as the API does.
    Signed,
}

/// Cross-origin resource sharing (CORS) settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Allowed origins; `*` allows any.
    pub origins: Vec<String>,
    /// Allowed request headers; empty allows all.
    pub headers: Vec<String>,
    /// Allowed methods; empty allows all.
    pub methods: Vec<String>,
    /// Response headers exposed to scripts.
    pub expose: Vec<String>,
    /// Time a browser may cache a preflight response (s).
    pub max_age: Option<u32>,
    /// Whether requests may carry cookies.
    pub credentials: bool,
}
