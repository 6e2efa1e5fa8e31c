//! Events that wait: in which order they are started, and what becomes of one that failed.
//!
//! Each function has a lane of its own, so that neither its backlog nor its failures delay another's events. A lane's
//! events are on disk, however many; here is a window of the next ones. The rules:
//! * Events start in the order in which they are due; those that never ran are due when they came.
//! * Few wait for an instance at a time, so that events never crowd out calls; any number runs.
//! * A lane that is short of instances pauses as a whole and keeps its order. It goes on after a while, one event first, or
//!   as soon as one of its own ends.
//! * An event that is under way is not started again, whatever a reading of the disk shows.
#![allow(clippy::module_name_repetitions)]

mod queues;
mod retry;

pub use queues::{
    Disposition, FunctionQueueId, FunctionQueues, QueueEffect, QueueInput, QueueLimits,
    QueuePosition,
};
pub use retry::{Fault, RetryDecision, RetryPolicy, retry_decision};
