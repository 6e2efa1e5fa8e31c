//! The runner: executes queued events and records their completion.
//!
//! [`FunctionQueues`] decides which event starts next. One lock guards it; it is held for one step and never across an await.

mod attempt;
mod control;
mod dead_letters;
mod endpoint;

pub use self::control::ControlOutcome;
pub use self::endpoint::Endpoint;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use access::Access;
use bytes::Bytes;
use catalog::Catalog;
use dispatch::Time;
use dispatch::events::{
    FunctionQueueId, FunctionQueues, QueueEffect, QueueInput, QueueLimits, QueuePosition,
    RetryPolicy,
};
use events::{Queue, QueueError, QueueKey, QueuedEvent};
use model::{Limits, RecursionDepth, RequestId};
use telemetry::Metrics;
use tokio::sync::{Notify, oneshot, watch};
use tracing::{info, warn};

use self::attempt::Attempt;
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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    queue: Arc<dyn Queue>,
    ingest: Ingest,
    catalog: Catalog,
    metrics: Arc<Metrics>,
    settings: Settings,
    post: ureq::Agent,
    timer_changed: Notify,
    /// True once no new attempts start.
    draining: watch::Sender<bool>,
    ended: Notify,
    cached: AtomicUsize,
}

#[derive(Debug)]
struct Core {
    function_queues: FunctionQueues,
    ids: HashMap<QueueKey, FunctionQueueId>,
    keys: HashMap<FunctionQueueId, Arc<QueueKey>>,
    /// By queue: the last started event, and a signal for when it is in the function's start queue.
    last_in_line: HashMap<FunctionQueueId, (u64, oneshot::Receiver<()>)>,
    /// Attempts in progress, by event number.
    attempts: HashMap<u64, Arc<Attempt>>,
    effects: Vec<QueueEffect>,
    wake: Option<Time>,
}

/// A decision of a step, carried out after the lock is released.
enum Decision {
    Start(FunctionQueueId, Arc<QueueKey>, u64, Arc<Attempt>, Turn),
    Load(FunctionQueueId, Arc<QueueKey>, Option<QueuePosition>, usize),
}

/// Keeps the events of a queue in order when they enter the function's start queue, although each runs on its own task.
///
/// An event that is throttled sends a message, and the events behind it return to the queue too: otherwise one of them could get
/// the instance that the first did not get. In all other cases the sender is dropped.
struct Turn {
    before: Option<oneshot::Receiver<()>>,
    on_queued: oneshot::Sender<()>,
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
    /// Returns the delays before a retry.
    pub fn retry_waits(&self) -> RetryWaits {
        let Settings { pacing, policy, .. } = &self.shared.settings;
        let seconds = |microseconds: u64| microseconds.div_ceil(1_000_000).max(1);
        RetryWaits {
            failed: seconds(policy.after_user_fault),
            throttled: seconds(pacing.pause),
        }
    }

    /// Starts the runner: opens the queues that an earlier run left and follows newly enqueued events.
    pub async fn start(
        queue: Arc<dyn Queue>,
        ingest: Ingest,
        catalog: Catalog,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Result<Self, QueueError> {
        let core = Core {
            function_queues: FunctionQueues::new(settings.pacing, queue.last_seq_at_open()),
            ids: HashMap::new(),
            keys: HashMap::new(),
            last_in_line: HashMap::new(),
            attempts: HashMap::new(),
            effects: Vec::new(),
            wake: None,
        };
        let left = queue.nonempty_queues().await?;
        let enqueued_events = queue.enqueued_events();
        let shared = Shared {
            core: Mutex::new(core),
            queue,
            ingest,
            catalog,
            metrics,
            settings,
            post: dead_letters::agent(),
            timer_changed: Notify::new(),
            draining: watch::channel(false).0,
            ended: Notify::new(),
            cached: AtomicUsize::new(0),
        };
        let runner = Self {
            shared: Arc::new(shared),
        };
        if !left.is_empty() {
            info!(
                function_queues = left.len(),
                "resuming queued events of an earlier run"
            );
        }
        for queue in &left {
            runner.step_for(queue, |queue| QueueInput::Open { queue });
        }
        tokio::spawn(runner.clone().run_timer());
        if let Some(mut enqueued_events) = enqueued_events {
            let follower = runner.clone();
            tokio::spawn(async move {
                while let Some(enqueued_event) = enqueued_events.recv().await {
                    let order = enqueued_event.order;
                    follower.step_for(&enqueued_event.queue_key, |queue| QueueInput::Enqueued {
                        queue,
                        order,
                    });
                }
            });
        }
        Ok(runner)
    }

    /// Stops starting attempts and returns waiting events to their queues. Running attempts continue.
    pub fn drain(&self) {
        self.step(QueueInput::Drain);
        self.shared.draining.send_replace(true);
    }

    /// Waits until no attempt is in progress. Returns false on timeout.
    pub async fn wait_idle(&self, within: Duration) -> bool {
        let idle = async {
            loop {
                let notified = self.shared.ended.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if self.core().function_queues.is_idle() {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(within, idle).await.is_ok()
    }

    /// Returns the number of events and dead letters in progress, until their completion is on disk.
    pub fn running(&self) -> u64 {
        self.core().function_queues.running() as u64
    }

    /// Returns whether an event runs now.
    pub(crate) fn is_running(&self, seq: u64) -> bool {
        let core = self.core();
        core.attempts
            .get(&seq)
            .is_some_and(|attempt| attempt.is_running())
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.shared
            .core
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, input: QueueInput) {
        let core = self.core();
        self.take(core, input);
    }

    fn step_for(&self, queue: &QueueKey, input: impl FnOnce(FunctionQueueId) -> QueueInput) {
        let mut core = self.core();
        let queue = core.queue(queue);
        self.take(core, input(queue));
    }

    /// Makes a step and carries out its decisions after releasing the lock.
    fn take(&self, mut core: MutexGuard<'_, Core>, input: QueueInput) {
        let now = self.shared.queue.clock().now();
        if let QueueInput::Ended { seq, .. } = input {
            core.attempts.remove(&seq);
        }
        let mut effects = std::mem::take(&mut core.effects);
        core.function_queues.step(now, input, &mut effects);
        let mut decisions = Vec::new();
        for effect in effects.drain(..) {
            decisions.extend(core.decision(effect));
            if let QueueEffect::WakeAt { .. } = effect {
                self.shared.timer_changed.notify_one();
            }
        }
        core.effects = effects;
        drop(core);
        for decision in decisions {
            let runner = self.clone();
            match decision {
                Decision::Start(queue, key, seq, attempt, turn) => {
                    tokio::spawn(async move {
                        let then = match &*key {
                            QueueKey::Function(_) => {
                                runner.attempt(queue, seq, &attempt, turn).await
                            }
                            QueueKey::DeadLetters(account, target) => {
                                drop(turn);
                                runner.send(queue, seq, *account, target).await
                            }
                        };
                        runner.end(queue, seq, &attempt, then).await;
                        runner.shared.ended.notify_waiters();
                    });
                }
                Decision::Load(queue, key, after, limit) => {
                    tokio::spawn(async move {
                        let next = runner.shared.queue.next(&key, after, limit).await;
                        runner.step(match next {
                            Ok(next) => QueueInput::Loaded {
                                queue,
                                orders: next.orders,
                                whole: next.whole,
                            },
                            Err(error) => {
                                warn!(queue = ?key, %error, "failed to read queued events; will retry");
                                QueueInput::LoadFailed { queue }
                            }
                        });
                    });
                }
            }
        }
    }

    /// Moves an event's body into the cache, unless the cache is full.
    fn cache_body(&self, mut queued: QueuedEvent) -> (QueuedEvent, Option<CachedBody>) {
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

    /// Delivers the wake-ups that the function queues request.
    async fn run_timer(self) {
        loop {
            let next = self.core().wake;
            let changed = self.shared.timer_changed.notified();
            match next {
                None => changed.await,
                Some(at) => {
                    let until = self.shared.queue.clock().until(at);
                    tokio::select! {
                        () = tokio::time::sleep(until) => {
                            let mut core = self.core();
                            core.wake = None;
                            self.take(core, QueueInput::Wake);
                        }
                        () = changed => {}
                    }
                }
            }
        }
    }
}

impl Core {
    fn decision(&mut self, effect: QueueEffect) -> Option<Decision> {
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
                let attempt = Arc::new(Attempt::default());
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

    fn queue(&mut self, key: &QueueKey) -> FunctionQueueId {
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
struct CachedBody {
    bytes: Bytes,
    shared: Arc<Shared>,
}

impl Drop for CachedBody {
    fn drop(&mut self) {
        self.shared.cached.fetch_sub(self.bytes.len(), Relaxed);
    }
}

/// Derives a request id deterministically, so that a resend is deduplicated. Keeps the time prefix, so both ids sort together.
fn derive_request_id(request: RequestId, from: &str) -> RequestId {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(from)
        .chain_update(request.as_bytes())
        .finalize();
    let mut bytes = *request.as_bytes();
    bytes[9..].copy_from_slice(&digest[..7]);
    RequestId::from_bytes(bytes)
}
