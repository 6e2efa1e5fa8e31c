//! Limits of the stored data.

use std::time::Duration;

/// Limits of the stored data.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Maximum bytes of events that have not completed and of dead events.
    pub bytes: u64,
    /// Retention of completed events.
    pub history: Duration,
    /// Maximum number of completed events.
    pub history_events: u64,
    /// Retention of the usage ledger.
    pub usage: Duration,
}
