//! The interface of all kinds of triggers.

use std::fmt::Debug;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bucket::store::Store as Objects;
use catalog::Catalog;
use catalog::kv::KvError;
use engine::invoke::Ingest;
use model::{AccountId, TraceContext};
use telemetry::Metrics;
use thiserror::Error;

use super::cos::ObjectTriggers;
use super::external::EventSources;
use super::timer::Settings as TimerSettings;

/// A kind of trigger while it runs: it creates events for the triggers of its kind in the catalog.
pub trait Trigger: Sized + Send + 'static {
    /// Name in log messages.
    const NAME: &'static str;

    /// Resumes where the last run stopped. `None` if this installation has no such event source.
    fn start(context: &Context) -> impl Future<Output = Result<Option<Self>, StartError>> + Send;

    /// Returns the receiver of notifications, for a kind that other systems notify.
    fn receiver(&self) -> Option<Arc<dyn Receiver>> {
        None
    }

    /// Stops creating events. Events that the queue has not accepted are created after the next start.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// The parts of virga that kinds of triggers use.
#[derive(Debug)]
pub struct Context {
    /// The functions with their triggers.
    pub catalog: Catalog,
    /// Accepts events.
    pub ingest: Ingest,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The object store; `None` if buckets are disabled.
    pub objects: Option<Objects>,
    /// Matches changes of objects with triggers.
    pub object_triggers: ObjectTriggers,
    /// The operator's settings.
    pub settings: Settings,
}

/// The operator's settings of all kinds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Data directory, for the state of kinds that have some.
    pub data: PathBuf,
    /// The time zone and the rules of timers.
    pub timers: TimerSettings,
    /// The external storages that may send notifications.
    pub event_sources: EventSources,
}

/// A reason why a kind does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its state cannot be read.
    #[error(transparent)]
    Store(#[from] KvError),
}

/// Receives notifications of other systems. A gateway serves it at its path, and authenticates senders by its tokens.
pub trait Receiver: Debug + Send + Sync {
    /// Path of its address.
    fn path(&self) -> &'static str;

    /// Maximum size of a notification, bytes.
    fn max_bytes(&self) -> usize;

    /// Returns how to permit a sender, if there is none.
    fn setup_hint(&self) -> Option<&'static str>;

    /// Returns the sender with this token. Takes the same time for every token.
    fn sender(&self, token: &str) -> Option<Sender>;

    /// Creates the events of a notification. They are durable when it returns.
    ///
    /// # Errors
    /// Events before the rejected one may have been accepted; a repeated notification does not repeat them.
    fn receive<'a>(
        &'a self,
        sender: &'a Sender,
        body: &'a [u8],
        trace: Option<TraceContext>,
    ) -> Pin<Box<dyn Future<Output = Result<Receipt, Rejection>> + Send + 'a>>;
}

/// An authenticated sender of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Name given by the operator.
    pub name: String,
    /// Account whose memory budget its notifications use.
    pub account: AccountId,
}

/// The result of a notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Changes that became events.
    pub accepted: usize,
    /// Changes that match no trigger.
    pub ignored: usize,
}

/// The reason why a notification is rejected.
#[derive(Debug, Error)]
pub enum Rejection {
    /// The same notification would be rejected again.
    #[error("{0}")]
    Malformed(String),
    /// The sender should retry.
    #[error("{0}")]
    RetryLater(String),
}
