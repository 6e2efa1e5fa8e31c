//! Events that were accepted: on stable storage from before their answer until they have run, were given up, or were
//! taken away, each of which is recorded.
//!
//! [`Queue`] keeps them, [`Runner`] runs them. The two meet the rest of virga through [`crate::invoke::Ingest`] alone.

mod clock;
mod endpoint;
mod event;
mod runner;
mod sqlite;

pub(crate) use clock::QueueClock;
pub(crate) use endpoint::Endpoint;
pub(crate) use event::{
    Backlog, Completion, EventOrigin, EventPage, EventQuery, EventRow, EventState, Failures,
    NewEvent, QueueKey, QueuedEvent,
};
pub(crate) use runner::{ControlOutcome, RetryWaits, Runner, Settings};
pub(crate) use sqlite::{Budget, SqliteQueue};

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use dispatch::events::QueuePosition;
use model::{AccountId, RequestId, StatusCode};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::usage::{UsageEntry, UsageKey, UsageQuery, UsageTotals};

/// An event that has just come into a lane.
#[derive(Clone, Debug)]
pub(crate) struct EnqueuedEvent {
    pub(crate) queue_key: QueueKey,
    pub(crate) order: QueuePosition,
}

/// The next events of a lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct NextEvents {
    pub(crate) orders: Vec<QueuePosition>,
    /// Whether there are no more.
    pub(crate) whole: bool,
}

/// What is kept of an account, each counted up to 100,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccountCounts {
    /// Events that have not ended, dead ones included.
    pub(crate) queued: u64,
    /// Events that have.
    pub(crate) ended: u64,
    /// Entries of the usage ledger.
    pub(crate) usage: u64,
}

/// Why the queue does not do something.
#[derive(Clone, Debug, Error)]
pub(crate) enum QueueError {
    #[error(
        "the event queue is full: it holds {used} of {budget} bytes; try again when functions have caught up, or raise event_store_mb"
    )]
    Full { used: u64, budget: u64 },
    #[error(
        "the account's share of the event queue is used up: it holds {held} of {budget} bytes and may hold as much as it leaves free; try again when its functions have caught up, or raise event_store_mb"
    )]
    Quota { held: u64, budget: u64 },
    #[error("too many events are on their way into the queue; try again")]
    Busy,
    #[error("too many events of this account are on their way into the queue; try again")]
    AccountBusy,
    #[error("the event queue: {0}")]
    Unavailable(String),
}

impl QueueError {
    /// Whether the queue would accept an event of another account.
    pub(crate) fn is_account_limit(&self) -> bool {
        matches!(self, Self::Quota { .. } | Self::AccountBusy)
    }
}

/// A call's answer, later.
pub(crate) type QueueFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, QueueError>> + Send + 'a>>;

/// A durable queue with a lane for each function and for each target of dead letters, and the ledger of usage, whose entries are
/// written with what they are of. What it has answered is on stable storage.
pub(crate) trait Queue: Debug + Send + Sync + 'static {
    /// Keeps an event. It has its place among others when this returns; with the answer it is kept.
    fn accept(&self, event: NewEvent) -> QueueFuture<'static, ()>;
    /// Keeps events, of which none runs before all have been looked at. Each has an answer of its own.
    fn accept_batch(&self, events: Vec<NewEvent>) -> Vec<QueueFuture<'static, ()>>;
    /// What came since the queue was opened, in order. It can be taken once.
    fn enqueued_events(&self) -> Option<mpsc::UnboundedReceiver<EnqueuedEvent>>;
    /// The highest number that an event had when the queue was opened.
    fn last_seq_at_open(&self) -> u64;
    /// The highest id of an account that anything was ever written of, 0 where there is none.
    fn highest_account(&self) -> QueueFuture<'_, u64>;
    /// Takes nothing of an account any more: what comes of it is dropped, and said to be kept. For as long as this process runs.
    fn close(&self, account: AccountId) -> QueueFuture<'_, ()>;
    /// Counts what is kept of an account.
    fn account_counts(&self, account: AccountId) -> QueueFuture<'_, AccountCounts>;
    /// Removes some of the events, or else of the usage, of a closed account. Gives how much, 0 once nothing is left.
    fn purge_some(&self, account: AccountId) -> QueueFuture<'_, u64>;
    /// The lanes that hold events.
    fn nonempty_queues(&self) -> QueueFuture<'_, Vec<QueueKey>>;
    /// A lane's next events behind a place.
    fn next<'a>(
        &'a self,
        queue_key: &'a QueueKey,
        after: Option<QueuePosition>,
        limit: usize,
    ) -> QueueFuture<'a, NextEvents>;
    /// An event that is in a lane.
    fn get(&self, seq: u64) -> QueueFuture<'_, Option<QueuedEvent>>;
    /// Records what came of an event, with what it counts for.
    fn complete(
        &self,
        seq: u64,
        status: StatusCode,
        completion: Completion,
        usage: Option<UsageEntry>,
    ) -> QueueFuture<'_, ()>;
    /// Brings an event that was given up back into its function's lane, as if it had just come.
    fn replay(&self, seq: u64) -> QueueFuture<'_, ()>;
    /// Events, those that have ended included.
    fn find(&self, query: EventQuery) -> QueueFuture<'_, EventPage>;
    /// An event by its name.
    fn event(&self, request: RequestId) -> QueueFuture<'_, Option<EventRow>>;
    /// What is in the queue now.
    fn backlog(&self) -> QueueFuture<'_, Backlog>;
    /// Counts a finished call with the next commit.
    fn meter(&self, entry: UsageEntry);
    /// What the ledger holds, by function, version and hour.
    fn usage(&self, query: UsageQuery) -> QueueFuture<'_, Vec<(UsageKey, UsageTotals)>>;
    /// Done when all that was handed over before is on stable storage.
    fn flush(&self) -> QueueFuture<'_, ()>;
    /// The time by which events are due.
    fn clock(&self) -> &QueueClock;
}
