//! How kinds of triggers differ.

use super::TriggerName;

/// The properties of a kind of trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerDescription {
    /// Name of the trigger type.
    pub name: &'static str,
    /// Name of its events' origin.
    pub origin: &'static str,
    /// Whether triggers of this kind can be created.
    pub available: bool,
    /// Whether it invokes a function by requests that a web function can serve, instead of events.
    pub sends_requests: bool,
    /// What a trigger of this kind is called, if a version or alias has at most one of them.
    pub one_per_qualifier: Option<&'static str>,
    /// Whether a function may have several triggers of one name, which differ in their settings.
    pub shares_names: bool,
}

impl TriggerDescription {
    /// A kind that sends events, and whose triggers have names of their own within a function.
    pub(super) const EVENTS: Self = Self {
        name: "",
        origin: "",
        available: true,
        sends_requests: false,
        one_per_qualifier: None,
        shares_names: false,
    };
}

/// The settings of an event source.
pub(super) trait EventSource {
    /// Returns the times at which its events are due. When they change, only later events count.
    fn schedule(&self) -> &str {
        ""
    }

    /// Returns the id by which HTTP requests address a trigger of this name.
    fn http_id<'a>(&'a self, _name: &'a TriggerName) -> Option<&'a TriggerName> {
        None
    }
}
