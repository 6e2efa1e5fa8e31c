//! Events that were accepted: on stable storage from before their answer until they have run, were given up, or were
//! taken away, each of which is recorded.
//!
//! [`Queue`] keeps them, [`Runner`] runs them. The two meet the rest of virga through [`crate::invoke::Ingest`] alone.

mod clock;
mod runner;
mod sqlite;

pub(crate) use clock::QueueClock;
pub(crate) use runner::{Runner, Settings};
pub(crate) use sqlite::{Budget, SqliteQueue};

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use dispatch::Time;
use dispatch::events::Order;
use model::{FunctionKey, Qualifier, RequestId, RoutingKey, StatusCode};
use thiserror::Error;
use tokio::sync::mpsc;

/// What an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `Invoke` with InvocationType Event.
    Api,
    /// A timer.
    Timer,
}

impl Source {
    /// The name that the API shows.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Timer => "TIMER",
        }
    }
}

/// An event to be kept.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    /// Its name: a second one of the same name is the same event, and does not run again.
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    pub(crate) qualifier: Qualifier,
    /// What an alias chooses a version by.
    pub(crate) routing_key: RoutingKey,
    pub(crate) source: Source,
    /// A JSON document.
    pub(crate) event: Bytes,
}

/// An event as it is kept, without its place in line.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    pub(crate) qualifier: Qualifier,
    pub(crate) routing_key: RoutingKey,
    pub(crate) accepted: Time,
    /// How often it failed by the function's fault, and by the platform's.
    pub(crate) failures: Failures,
    pub(crate) event: Bytes,
}

/// How often an event has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) user: u32,
    pub(crate) system: u32,
}

/// An event that has just come.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) lane: FunctionKey,
    pub(crate) order: Order,
}

/// The next events of a lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Next {
    pub(crate) orders: Vec<Order>,
    /// Whether there are no more.
    pub(crate) whole: bool,
}

/// What came of an event that ran, or could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It ran.
    Finished,
    /// It failed and runs again.
    Again { due: Time, failures: Failures },
    /// It failed and is given up.
    Failed { why: String },
}

/// What is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Events that have not ended.
    pub(crate) events: u64,
    /// Their bytes, and those of events that were given up and are kept.
    pub(crate) bytes: u64,
    /// When the one that has been due longest was due.
    pub(crate) oldest: Option<Time>,
}

/// Why the queue does not do something.
#[derive(Clone, Debug, Error)]
pub(crate) enum QueueError {
    #[error(
        "the event queue is full: it holds {used} of {budget} bytes; try again when functions have caught up, or raise event_store_mb"
    )]
    Full { used: u64, budget: u64 },
    #[error("too many events are on their way into the queue; try again")]
    Busy,
    #[error("the event queue: {0}")]
    Unavailable(String),
}

/// A call's answer, later.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, QueueError>> + Send + 'a>>;

/// A durable queue with a lane for each function. What it has answered is on stable storage.
pub(crate) trait Queue: Debug + Send + Sync + 'static {
    /// Keeps an event.
    fn accept(&self, event: NewEvent) -> Later<'_, ()>;
    /// What came since the queue was opened, in order. It can be taken once.
    fn arrivals(&self) -> Option<mpsc::UnboundedReceiver<Arrival>>;
    /// The highest number that an event had when the queue was opened.
    fn last_of_old(&self) -> u64;
    /// The lanes that hold events.
    fn lanes(&self) -> Later<'_, Vec<FunctionKey>>;
    /// A lane's next events behind a place.
    fn next<'a>(
        &'a self,
        lane: &'a FunctionKey,
        after: Option<Order>,
        limit: usize,
    ) -> Later<'a, Next>;
    /// An event that has not ended.
    fn get(&self, seq: u64) -> Later<'_, Option<Kept>>;
    /// Records what came of an event.
    fn settle(&self, seq: u64, status: StatusCode, settled: Settled) -> Later<'_, ()>;
    /// What is in the queue now.
    fn backlog(&self) -> Later<'_, Backlog>;
    /// The time by which events are due.
    fn clock(&self) -> &QueueClock;
}
