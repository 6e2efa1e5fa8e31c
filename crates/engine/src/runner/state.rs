//! The state of the runner, which all its parts share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use access::Access;
use bytes::Bytes;
use catalog::Catalog;
use dispatch::Time;
use dispatch::events::{
    FunctionQueueId, FunctionQueues, QueueEffect, QueueLimits, QueuePosition, RetryPolicy,
};
use events::{Queue, QueueKey, QueuedEvent};
use model::{Limits, RecursionDepth};
use telemetry::Metrics;
use tokio::sync::{Notify, oneshot, watch};

use super::endpoint::Endpoint;
use super::handle::AttemptHandle;
use crate::invoke::Ingest;

/// Maximum bytes of event bodies cached while their events wait for an instance. Other bodies are read from disk again.
const MAX_CACHED_BYTES: usize = 64 << 20;

/// Settings of the runner.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The limits of function queues.
    pub pacing: QueueLimits,
    /// Retry intervals. Retry count and time to live are set per function.
    pub policy: RetryPolicy,
    /// How long an event waits for an instance before its function queue pauses.
    pub wait: Duration,
    /// Recursion depth from which on an event does not run.
    pub max_depth: RecursionDepth,
    /// The platform's limits.
    pub limits: Arc<Limits>,
    /// Source of the Uin of an account, which dead letters contain.
    pub access: Access,
    /// HTTP endpoints to which dead letters may be posted.
    pub endpoints: Vec<Endpoint>,
}

/// A handle to the runner. Clones share it.
#[derive(Clone, Debug)]
pub struct Runner {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Mutex<Core>,
    pub(super) queue: Arc<dyn Queue>,
    pub(super) ingest: Ingest,
    pub(super) catalog: Catalog,
    pub(super) metrics: Arc<Metrics>,
    pub(super) settings: Settings,
    pub(super) post: ureq::Agent,
    pub(super) timer_changed: Notify,
    /// True once no new attempts start.
    pub(super) draining: watch::Sender<bool>,
    pub(super) ended: Notify,
    pub(super) cached: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) function_queues: FunctionQueues,
    pub(super) ids: HashMap<QueueKey, FunctionQueueId>,
    pub(super) keys: HashMap<FunctionQueueId, Arc<QueueKey>>,
    /// By queue: the last started event, and a signal for when it is in the function's start queue.
    pub(super) last_in_line: HashMap<FunctionQueueId, (u64, oneshot::Receiver<()>)>,
    /// Attempts in progress, by event number.
    pub(super) attempts: HashMap<u64, Arc<AttemptHandle>>,
    pub(super) effects: Vec<QueueEffect>,
    pub(super) wake: Option<Time>,
}

/// A decision of a step, carried out after the lock is released.
pub(super) enum Decision {
    Start(
        FunctionQueueId,
        Arc<QueueKey>,
        u64,
        Arc<AttemptHandle>,
        Turn,
    ),
    Load(FunctionQueueId, Arc<QueueKey>, Option<QueuePosition>, usize),
}

/// Keeps the events of a queue in order when they enter the function's start queue, although each runs on its own task.
///
/// An event that is throttled sends a message, and the events behind it return to the queue too: otherwise one of them could get
/// the instance that the first did not get. In all other cases the sender is dropped.
pub(super) struct Turn {
    pub(super) before: Option<oneshot::Receiver<()>>,
    pub(super) on_queued: oneshot::Sender<()>,
}

/// Delays before a retry in whole seconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryWaits {
    /// After a failure of the function.
    pub failed: u64,
    /// After throttling.
    pub throttled: u64,
}

impl Runner {
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.shared
            .core
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves an event's body into the cache, unless the cache is full.
    pub(super) fn cache_body(&self, mut queued: QueuedEvent) -> (QueuedEvent, Option<CachedBody>) {
        let bytes = std::mem::take(&mut queued.event);
        let length = bytes.len();
        let held = self.shared.cached.fetch_add(length, Relaxed) + length;
        let cached = CachedBody {
            bytes,
            shared: self.shared.clone(),
        };
        // Dropping it releases its bytes.
        (queued, (held <= MAX_CACHED_BYTES).then_some(cached))
    }
}

impl Core {
    pub(super) fn decision(&mut self, effect: QueueEffect) -> Option<Decision> {
        match effect {
            QueueEffect::WakeAt { at } => {
                self.wake = Some(at);
                None
            }
            QueueEffect::Start { queue, seq } => {
                let (on_queued, next) = oneshot::channel();
                let before = self.last_in_line.insert(queue, (seq, next));
                // A predecessor that has ended no longer determines the order.
                let before = before.filter(|(seq, _)| self.attempts.contains_key(seq));
                let before = before.map(|(_, place)| place);
                let attempt = Arc::new(AttemptHandle::default());
                self.attempts.insert(seq, attempt.clone());
                let turn = Turn { before, on_queued };
                let key = self.keys.get(&queue)?.clone();
                Some(Decision::Start(queue, key, seq, attempt, turn))
            }
            QueueEffect::Load {
                queue,
                after,
                limit,
            } => {
                let key = self.keys.get(&queue)?.clone();
                Some(Decision::Load(queue, key, after, limit))
            }
        }
    }

    pub(super) fn queue(&mut self, key: &QueueKey) -> FunctionQueueId {
        if let Some(queue) = self.ids.get(key) {
            return *queue;
        }
        let queue = FunctionQueueId(self.ids.len() as u64);
        self.ids.insert(key.clone(), queue);
        self.keys.insert(queue, Arc::new(key.clone()));
        queue
    }
}

/// A cached event body. Dropping it releases its bytes from the cache.
pub(super) struct CachedBody {
    pub(super) bytes: Bytes,
    shared: Arc<Shared>,
}

impl Drop for CachedBody {
    fn drop(&mut self) {
        self.shared.cached.fetch_sub(self.bytes.len(), Relaxed);
    }
}
