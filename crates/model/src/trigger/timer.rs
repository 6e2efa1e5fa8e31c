//! Timer triggers.

use serde::{Deserialize, Serialize};

use super::description::{EventSource, TriggerDescription};

/// Timers: events at the times of a cron expression.
pub(super) const TIMER: TriggerDescription = TriggerDescription {
    name: "timer",
    origin: "TIMER",
    ..TriggerDescription::EVENTS
};

/// The schedule and message of a timer trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Cron expression as given.
    pub cron: String,
    /// Message in each event.
    pub message: String,
}

impl EventSource for Timer {
    fn schedule(&self) -> &str {
        &self.cron
    }
}
