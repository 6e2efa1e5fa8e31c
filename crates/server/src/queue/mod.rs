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
    Backlog, EventQuery, EventRow, EventState, Failures, Found, Kept, LaneKey, NewEvent, Settled,
    Source,
};
pub(crate) use runner::{RetryWaits, Runner, Settings, Taken};
pub(crate) use sqlite::{Budget, SqliteQueue};

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use dispatch::events::QueuePosition;
use model::{AccountId, RequestId, StatusCode};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::usage::{Account, Entry, Totals, UsageQuery};

/// An event that has just come into a lane.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) lane: LaneKey,
    pub(crate) order: QueuePosition,
}

/// The next events of a lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Next {
    pub(crate) orders: Vec<QueuePosition>,
    /// Whether there are no more.
    pub(crate) whole: bool,
}

/// What is kept of an account, each counted up to 100,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Belongings {
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
    Share { held: u64, budget: u64 },
    #[error("too many events are on their way into the queue; try again")]
    Busy,
    #[error("too many events of this account are on their way into the queue; try again")]
    AccountBusy,
    #[error("the event queue: {0}")]
    Unavailable(String),
}

impl QueueError {
    /// Whether the queue would accept an event of another account.
    pub(crate) fn is_of_one_account(&self) -> bool {
        matches!(self, Self::Share { .. } | Self::AccountBusy)
    }
}

/// A call's answer, later.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, QueueError>> + Send + 'a>>;

/// A durable queue with a lane for each function and for each target of dead letters, and the ledger of usage, whose entries are
/// written with what they are of. What it has answered is on stable storage.
pub(crate) trait Queue: Debug + Send + Sync + 'static {
    /// Keeps an event. It has its place among others when this returns; with the answer it is kept.
    fn accept(&self, event: NewEvent) -> Later<'static, ()>;
    /// Keeps events, of which none runs before all have been looked at. Each has an answer of its own.
    fn accept_together(&self, events: Vec<NewEvent>) -> Vec<Later<'static, ()>>;
    /// What came since the queue was opened, in order. It can be taken once.
    fn arrivals(&self) -> Option<mpsc::UnboundedReceiver<Arrival>>;
    /// The highest number that an event had when the queue was opened.
    fn last_of_old(&self) -> u64;
    /// The highest id of an account that anything was ever written of, 0 where there is none.
    fn highest_account(&self) -> Later<'_, u64>;
    /// Takes nothing of an account any more: what comes of it is dropped, and said to be kept. For as long as this process runs.
    fn close(&self, account: AccountId) -> Later<'_, ()>;
    /// Counts what is kept of an account.
    fn belongings(&self, account: AccountId) -> Later<'_, Belongings>;
    /// Removes some of the events, or else of the usage, of a closed account. Gives how much, 0 once nothing is left.
    fn purge_some(&self, account: AccountId) -> Later<'_, u64>;
    /// The lanes that hold events.
    fn lanes(&self) -> Later<'_, Vec<LaneKey>>;
    /// A lane's next events behind a place.
    fn next<'a>(
        &'a self,
        lane: &'a LaneKey,
        after: Option<QueuePosition>,
        limit: usize,
    ) -> Later<'a, Next>;
    /// An event that is in a lane.
    fn get(&self, seq: u64) -> Later<'_, Option<Kept>>;
    /// Records what came of an event, with what it counts for.
    fn settle(
        &self,
        seq: u64,
        status: StatusCode,
        settled: Settled,
        usage: Option<Entry>,
    ) -> Later<'_, ()>;
    /// Brings an event that was given up back into its function's lane, as if it had just come.
    fn replay(&self, seq: u64) -> Later<'_, ()>;
    /// Events, those that have ended included.
    fn find(&self, query: EventQuery) -> Later<'_, Found>;
    /// An event by its name.
    fn event(&self, request: RequestId) -> Later<'_, Option<EventRow>>;
    /// What is in the queue now.
    fn backlog(&self) -> Later<'_, Backlog>;
    /// Counts a finished call with the next commit.
    fn meter(&self, entry: Entry);
    /// What the ledger holds, by function, version and hour.
    fn usage(&self, query: UsageQuery) -> Later<'_, Vec<(Account, Totals)>>;
    /// Done when all that was handed over before is on stable storage.
    fn flush(&self) -> Later<'_, ()>;
    /// The time by which events are due.
    fn clock(&self) -> &QueueClock;
}
