//! The durable queue of asynchronous events, with at-least-once delivery.
//!
//! An event is fsynced before its acceptance is answered. It stays until it has run, failed permanently or been cancelled, and
//! each of these completions is recorded.
//!
//! [`Queue`] stores events; the runner, in `engine`, runs them. Below it, [`machine`] is a deterministic state machine, which `replica` runs
//! embedded or on a log.
//!
//! Owns `events.sqlite`: queued events, their history, and the usage ledger. Never knows functions' instances, HTTP, or who
//! runs an event.
#![forbid(unsafe_code)]

mod event;
pub mod machine;
mod queue_clock;
mod sqlite;
pub mod usage;

pub use event::{
    AttemptId, Backlog, Completion, EventOrigin, EventPage, EventQuery, EventRow, EventState,
    Failures, NewEvent, QueueKey, QueuedEvent,
};
pub use queue_clock::QueueClock;
pub use sqlite::{Budget, SqliteQueue};

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use dispatch::Time;
use dispatch::events::QueuePosition;
use model::{AccountId, FailureKind, RequestId};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::usage::{UsageEntry, UsageKey, UsageQuery, UsageTotals};

/// An event that was just added to a function queue or a dead-letter queue.
#[derive(Clone, Debug)]
pub struct EnqueuedEvent {
    /// Its queue.
    pub queue_key: QueueKey,
    /// Its position in the queue.
    pub order: QueuePosition,
}

/// A window of the next events of one queue.
#[derive(Clone, Debug, Default)]
pub struct NextEvents {
    /// Positions, in order.
    pub orders: Vec<QueuePosition>,
    /// Whether no events follow.
    pub whole: bool,
}

/// Stored rows of one account, by kind. Each count stops at 100,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountCounts {
    /// Events that have not completed, dead events included.
    pub queued: u64,
    /// Completed events in the history.
    pub ended: u64,
    /// Entries of the usage ledger.
    pub usage: u64,
}

/// An error of the event queue.
#[derive(Clone, Debug, Error)]
pub enum QueueError {
    /// The queue is full.
    #[error(
        "the event queue is full: it holds {used} of {budget} bytes; try again when functions have caught up, or raise event_store_mb"
    )]
    Full {
        /// Bytes that it holds.
        used: u64,
        /// Bytes that it may hold.
        budget: u64,
    },
    /// The account's quota of the queue is used up.
    #[error(
        "the account's quota of the event queue is used up: it holds {held} of {budget} bytes and may hold as much as it leaves free; try again when its functions have caught up, or raise event_store_mb"
    )]
    Quota {
        /// Bytes that the account's events hold.
        held: u64,
        /// Bytes that the queue may hold.
        budget: u64,
    },
    /// Too many events wait for the writer.
    #[error("too many events are waiting to be written to the queue; try again")]
    Busy,
    /// Too many events of the account wait for the writer.
    #[error("too many events of this account are waiting to be written to the queue; try again")]
    AccountBusy,
    /// The store failed.
    #[error("the event queue: {0}")]
    Unavailable(String),
}

impl QueueError {
    /// Returns whether only this account is throttled, so that the queue still accepts events of others.
    pub fn is_account_limit(&self) -> bool {
        matches!(self, Self::Quota { .. } | Self::AccountBusy)
    }
}

/// The future result of a queue operation.
pub type QueueFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, QueueError>> + Send + 'a>>;

/// A durable store with one queue per function and per dead-letter target, and the usage ledger.
///
/// A completion and its usage entry are written in one commit. Every operation that has been answered is on stable storage.
pub trait Queue: Debug + Send + Sync + 'static {
    /// Enqueues an event. Its position is fixed when this returns; it is durable once the future resolves.
    fn accept(&self, event: NewEvent) -> QueueFuture<'static, ()>;
    /// Enqueues events in one commit, so that none runs before all are accepted or rejected. Each has its own result.
    fn accept_batch(&self, events: Vec<NewEvent>) -> Vec<QueueFuture<'static, ()>>;
    /// Returns the stream of events enqueued since the queue was opened, in order. Returns `None` after the first call.
    fn enqueued_events(&self) -> Option<mpsc::UnboundedReceiver<EnqueuedEvent>>;
    /// Returns the highest number that an event can have had when the queue was opened.
    fn last_seq_at_open(&self) -> u64;
    /// Returns the highest account id that was ever stored, or 0.
    fn highest_account(&self) -> QueueFuture<'_, u64>;
    /// Closes an account for good: later writes of it are dropped and reported as stored.
    fn close(&self, account: AccountId) -> QueueFuture<'_, ()>;
    /// Counts the rows of an account.
    fn account_counts(&self, account: AccountId) -> QueueFuture<'_, AccountCounts>;
    /// Removes some rows of a closed account: events first, then usage. Returns the number removed, 0 once nothing is left.
    fn purge_some(&self, account: AccountId) -> QueueFuture<'_, u64>;
    /// Returns the queues that hold events.
    fn nonempty_queues(&self) -> QueueFuture<'_, Vec<QueueKey>>;
    /// Returns the events of a queue that follow a position.
    fn next<'a>(
        &'a self,
        queue_key: &'a QueueKey,
        after: Option<QueuePosition>,
        limit: usize,
    ) -> QueueFuture<'a, NextEvents>;
    /// Returns an event that still waits in a queue.
    fn get(&self, seq: u64) -> QueueFuture<'_, Option<QueuedEvent>>;
    /// Records the completion of an attempt together with its usage, unless one of that attempt was recorded before. Returns when the
    /// event is due again, if it waits.
    fn complete(
        &self,
        attempt: AttemptId,
        failure: Option<FailureKind>,
        completion: Completion,
        usage: Option<UsageEntry>,
    ) -> QueueFuture<'_, Option<Time>>;
    /// Cancels an event that waits. Returns false if it does not wait any more.
    fn terminate(&self, request: RequestId, failure: FailureKind) -> QueueFuture<'_, bool>;
    /// Drops a dead event or an undelivered dead letter. Returns false if it is neither.
    fn discard(&self, request: RequestId) -> QueueFuture<'_, bool>;
    /// Moves an event that failed permanently back into its function's queue as a new event. Returns false if it has not failed.
    fn replay(&self, request: RequestId) -> QueueFuture<'_, bool>;
    /// Searches events, completed ones included.
    fn find(&self, query: EventQuery) -> QueueFuture<'_, EventPage>;
    /// Returns an event by its request id.
    fn event(&self, request: RequestId) -> QueueFuture<'_, Option<EventRow>>;
    /// Returns the current backlog.
    fn backlog(&self) -> QueueFuture<'_, Backlog>;
    /// Adds a synchronous call to the usage ledger with the next commit.
    fn meter(&self, entry: UsageEntry);
    /// Returns the ledger's totals by function, version and hour.
    fn usage(&self, query: UsageQuery) -> QueueFuture<'_, Vec<(UsageKey, UsageTotals)>>;
    /// Resolves once all earlier writes are on stable storage.
    fn flush(&self) -> QueueFuture<'_, ()>;
    /// Returns the clock by which events are due.
    fn clock(&self) -> &QueueClock;
}
