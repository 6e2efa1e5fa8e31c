//! Asynchronous invocation: the order in which queued events start, and whether a failed event is retried.
//!
//! Each function has a queue of its own, so that neither its backlog nor its failures delay other functions' events.
//! The events are on disk; a bounded window of the next ones is in memory. The rules:
//! * Events start in order of their due time. A first attempt is due when the event is enqueued.
//! * Few events of a queue wait for an instance at a time, so that they never crowd out synchronous calls. Any number
//!   of events runs.
//! * A queue whose event finds no instance is throttled: it pauses as a whole and keeps its order. It resumes after the
//!   pause, or as soon as one of its events ends, with one event first (slow start).
//! * An event in progress is never started a second time, whatever a read of the disk returns.
#![allow(clippy::module_name_repetitions)]

mod queues;
mod retry;

pub use queues::{
    Disposition, FunctionQueueId, FunctionQueues, QueueEffect, QueueInput, QueueLimits,
    QueuePosition,
};
pub use retry::{Fault, RetryDecision, RetryPolicy, retry_decision};
