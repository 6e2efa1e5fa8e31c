//! How a replica stands to its log.

use crate::log::Position;

/// How a replica stands to its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It applies records as they come.
    Following {
        /// The last position applied.
        applied: Position,
    },
    /// It waits for its log or its disk, and goes on by itself.
    Waiting {
        /// The last position applied.
        applied: Position,
        /// What it waits for.
        reason: String,
    },
    /// It cannot go on from its own database: the log was trimmed behind it. It is to be closed, [prepared](crate::snapshot::Snapshots::prepare)
    /// and started again.
    Behind {
        /// Why.
        reason: String,
    },
    /// It cannot go on without the operator.
    Stopped {
        /// Why, and what to do.
        reason: String,
    },
}
