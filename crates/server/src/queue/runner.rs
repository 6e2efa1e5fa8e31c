//! Runs what is in the queue: asks [`Lanes`] what comes next, and records what came of it.
//!
//! One lock guards the lanes; it is held for a step and never while anything waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dispatch::Time;
use dispatch::events::{
    Effect, Fault, Input, LaneId, Lanes, Order, Pacing, Policy, Then, Verdict, verdict,
};
use model::{FunctionKey, StatusCode};
use tokio::sync::{Notify, oneshot, watch};
use tracing::{debug, info, warn};

use super::{Failures, Kept, Queue, QueueError, Settled};
use crate::invoke::{Finished, Ingest, IngestError, Invocation, Placed, Waiting};
use crate::telemetry::{EventStep, Metrics};

/// Bytes of events that wait for an instance and are kept in memory meanwhile; others are read again.
const CARRIED: usize = 64 << 20;
/// Distance of attempts to record what came of an event while the disk cannot be written.
const SETTLE_AGAIN: Duration = Duration::from_millis(500);

/// How events are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) pacing: Pacing,
    /// What holds for a function that says nothing else.
    pub(crate) policy: Policy,
    /// How long an event waits in a function's line before its lane pauses.
    pub(crate) wait: Duration,
}

/// A handle. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    queue: Arc<dyn Queue>,
    ingest: Ingest,
    metrics: Arc<Metrics>,
    settings: Settings,
    timer_changed: Notify,
    /// True once nothing is started any more.
    draining: watch::Sender<bool>,
    ended: Notify,
    carried: AtomicUsize,
}

#[derive(Debug)]
struct Core {
    lanes: Lanes,
    ids: HashMap<FunctionKey, LaneId>,
    functions: HashMap<LaneId, FunctionKey>,
    /// Tells when the event of a lane that was started last has its place in the function's line.
    last_in_line: HashMap<LaneId, oneshot::Receiver<()>>,
    effects: Vec<Effect>,
    wake: Option<Time>,
}

impl Runner {
    /// Takes up what an earlier run left, and follows what comes from then on.
    pub(crate) async fn start(
        queue: Arc<dyn Queue>,
        ingest: Ingest,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Result<Self, QueueError> {
        let core = Core {
            lanes: Lanes::new(settings.pacing, queue.last_of_old()),
            ids: HashMap::new(),
            functions: HashMap::new(),
            last_in_line: HashMap::new(),
            effects: Vec::new(),
            wake: None,
        };
        let left = queue.lanes().await?;
        let arrivals = queue.arrivals();
        let shared = Shared {
            core: Mutex::new(core),
            queue,
            ingest,
            metrics,
            settings,
            timer_changed: Notify::new(),
            draining: watch::channel(false).0,
            ended: Notify::new(),
            carried: AtomicUsize::new(0),
        };
        let runner = Self {
            shared: Arc::new(shared),
        };
        if !left.is_empty() {
            info!(functions = left.len(), "events of an earlier run wait");
        }
        for function in &left {
            runner.step_for(function, |lane| Input::Open { lane });
        }
        tokio::spawn(runner.clone().keep_time());
        if let Some(mut arrivals) = arrivals {
            let follower = runner.clone();
            tokio::spawn(async move {
                while let Some(arrival) = arrivals.recv().await {
                    let order = arrival.order;
                    follower.step_for(&arrival.lane, |lane| Input::Arrived { lane, order });
                }
            });
        }
        Ok(runner)
    }

    /// Starts nothing any more, and gives back what waits for an instance. What runs goes on.
    pub(crate) fn drain(&self) {
        self.step(Input::Drain);
        self.shared.draining.send_replace(true);
    }

    /// Waits until all that ran is recorded, or the time is over.
    pub(crate) async fn settled(&self, within: Duration) -> bool {
        let idle = async {
            loop {
                let told = self.shared.ended.notified();
                tokio::pin!(told);
                told.as_mut().enable();
                if self.core().lanes.is_idle() {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(within, idle).await.is_ok()
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.shared
            .core
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, input: Input) {
        let core = self.core();
        self.take(core, input);
    }

    fn step_for(&self, function: &FunctionKey, input: impl FnOnce(LaneId) -> Input) {
        let mut core = self.core();
        let lane = core.lane(function);
        self.take(core, input(lane));
    }

    /// Takes a step, and does what it decided after the lock is released.
    fn take(&self, mut core: MutexGuard<'_, Core>, input: Input) {
        let now = self.shared.queue.clock().now();
        let mut effects = std::mem::take(&mut core.effects);
        core.lanes.step(now, input, &mut effects);
        let mut acts = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::WakeAt { at } => {
                    core.wake = Some(at);
                    self.shared.timer_changed.notify_one();
                }
                Effect::Start { lane, seq } => {
                    let (in_line, next) = oneshot::channel();
                    let before = core.last_in_line.insert(lane, next);
                    acts.push(Act::Start(lane, seq, Turn { before, in_line }));
                }
                Effect::Load { lane, after, limit } => {
                    if let Some(function) = core.functions.get(&lane) {
                        acts.push(Act::Load(lane, function.clone(), after, limit));
                    }
                }
            }
        }
        core.effects = effects;
        drop(core);
        for act in acts {
            let runner = self.clone();
            match act {
                Act::Start(lane, seq, turn) => {
                    tokio::spawn(async move {
                        let then = runner.attempt(lane, seq, turn).await;
                        runner.step(Input::Ended { lane, seq, then });
                        runner.shared.ended.notify_waiters();
                    });
                }
                Act::Load(lane, function, after, limit) => {
                    tokio::spawn(async move {
                        let next = runner.shared.queue.next(&function, after, limit).await;
                        runner.step(match next {
                            Ok(next) => Input::Loaded {
                                lane,
                                orders: next.orders,
                                whole: next.whole,
                            },
                            Err(error) => {
                                warn!(function = %function.name, %error, "events cannot be read; they are tried again");
                                Input::NotLoaded { lane }
                            }
                        });
                    });
                }
            }
        }
    }

    /// Runs an event once, and records what came of it.
    async fn attempt(&self, lane: LaneId, seq: u64, turn: Turn) -> Then {
        let kept = match self.shared.queue.get(seq).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Then::Gone,
            Err(error) => {
                warn!(seq, %error, "an event cannot be read; it is tried again");
                return Then::Short;
            }
        };
        let policy = self.shared.settings.policy;
        let now = self.shared.queue.clock().now();
        if policy.has_expired(now, kept.accepted) {
            let seconds = policy.ttl / 1_000_000;
            let why = format!("the event waited longer than its MsgTTL of {seconds} seconds");
            return self
                .settle(
                    seq,
                    &kept,
                    StatusCode::ResourceLimitReached,
                    Settled::Failed { why },
                )
                .await;
        }
        let (kept, carried) = self.carry(kept);
        let invocation = Invocation {
            request: kept.request,
            function: kept.function.clone(),
            qualifier: kept.qualifier.clone(),
            routing_key: kept.routing_key.clone(),
            event: Bytes::new(),
            tail: false,
        };
        let mut draining = self.shared.draining.subscribe();
        let Turn { before, in_line } = turn;
        let mut waiting = Waiting {
            at_most: Some(self.shared.settings.wait),
            in_line: Some(in_line),
        };
        let place = async {
            // The one before may also have ended without a place.
            if let Some(before) = before {
                let _ = before.await;
            }
            self.shared.ingest.place(&invocation, &mut waiting).await
        };
        let placed = tokio::select! {
            placed = place => placed,
            _ = draining.wait_for(|draining| *draining) => return Then::Back,
        };
        match placed {
            Ok(Placed::Ready(ready)) => {
                self.step(Input::Placed { lane, seq });
                let event = match carried {
                    Some(carried) => carried.take(),
                    None => match self.shared.queue.get(seq).await {
                        Ok(Some(again)) => again.event,
                        Ok(None) => return Then::Gone,
                        Err(error) => {
                            warn!(seq, %error, "an event cannot be read; it is tried again");
                            return Then::Short;
                        }
                    },
                };
                let finished = ready.run(event).await;
                self.finished(seq, &kept, &policy, finished).await
            }
            Ok(Placed::Refused(finished)) if is_short(finished.status) => Then::Short,
            Ok(Placed::Refused(finished)) => self.finished(seq, &kept, &policy, finished).await,
            Err(IngestError::Draining) => Then::Back,
            Err(error) => {
                let (fault, status) = fault_of(&error);
                let why = error.to_string();
                self.failed(seq, &kept, &policy, fault, status, why).await
            }
        }
    }

    async fn finished(&self, seq: u64, kept: &Kept, policy: &Policy, finished: Finished) -> Then {
        let status = finished.status;
        let fault = match status {
            StatusCode::Ok => {
                return self.settle(seq, kept, status, Settled::Finished).await;
            }
            StatusCode::InvalidParameterValue | StatusCode::RequestTooLarge => Fault::Caller,
            status if status.is_user_fault() => Fault::User,
            _ => Fault::System,
        };
        let why = String::from_utf8_lossy(&finished.answer).into_owned();
        self.failed(seq, kept, policy, fault, status, why).await
    }

    async fn failed(
        &self,
        seq: u64,
        kept: &Kept,
        policy: &Policy,
        fault: Fault,
        status: StatusCode,
        why: String,
    ) -> Then {
        let Failures {
            mut user,
            mut system,
        } = kept.failures;
        let count = match fault {
            Fault::User => &mut user,
            Fault::System | Fault::Caller => &mut system,
        };
        *count = count.saturating_add(1);
        let (count, now) = (*count, self.shared.queue.clock().now());
        let settled = match verdict(policy, now, kept.accepted, fault, count) {
            Verdict::Again { at } => Settled::Again {
                due: at,
                failures: Failures { user, system },
            },
            Verdict::Dead => Settled::Failed { why },
        };
        debug!(function = %kept.function.name, request = %kept.request, status = status.as_u16(), ?fault, "an event failed");
        self.settle(seq, kept, status, settled).await
    }

    /// Records what came of an event, however long that takes: until then it is under way.
    async fn settle(&self, seq: u64, kept: &Kept, status: StatusCode, settled: Settled) -> Then {
        let (then, step) = match &settled {
            Settled::Again { due, .. } => (Then::Again { due: *due }, EventStep::Retried),
            Settled::Finished => (Then::Gone, EventStep::Delivered),
            Settled::Failed { why } => {
                warn!(function = %kept.function.name, request = %kept.request, status = status.as_u16(), why, "an event is given up");
                (Then::Gone, EventStep::Failed)
            }
        };
        while let Err(error) = self.shared.queue.settle(seq, status, settled.clone()).await {
            warn!(request = %kept.request, %error, "what came of an event cannot be written; it is tried again");
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
        self.shared.metrics.event(step);
        then
    }

    /// Keeps an event's body while it waits, if there is room.
    fn carry(&self, mut kept: Kept) -> (Kept, Option<Carried>) {
        let bytes = std::mem::take(&mut kept.event);
        let length = bytes.len();
        let held = self.shared.carried.fetch_add(length, Relaxed) + length;
        let carried = Carried {
            bytes,
            shared: self.shared.clone(),
        };
        // What is over goes at once.
        (kept, (held <= CARRIED).then_some(carried))
    }

    /// Sends a wake-up whenever the lanes asked for one.
    async fn keep_time(self) {
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
                            self.take(core, Input::Wake);
                        }
                        () = changed => {}
                    }
                }
            }
        }
    }
}

impl Core {
    fn lane(&mut self, function: &FunctionKey) -> LaneId {
        if let Some(lane) = self.ids.get(function) {
            return *lane;
        }
        let lane = LaneId(self.ids.len() as u64);
        self.ids.insert(function.clone(), lane);
        self.functions.insert(lane, function.clone());
        lane
    }
}

/// What a step decided, to be done outside of the lock.
enum Act {
    Start(LaneId, u64, Turn),
    Load(LaneId, FunctionKey, Option<Order>, usize),
}

/// Keeps events in order on their way into the function's line, though each is on a task of its own.
struct Turn {
    before: Option<oneshot::Receiver<()>>,
    in_line: oneshot::Sender<()>,
}

/// A body in memory, counted.
struct Carried {
    bytes: Bytes,
    shared: Arc<Shared>,
}

impl Carried {
    fn take(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.shared.carried.fetch_sub(self.bytes.len(), Relaxed);
    }
}

/// Whether an event was refused for want of an instance.
fn is_short(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::ResourceLimit
            | StatusCode::ResourceLimitReached
            | StatusCode::InsufficientResources
    )
}

fn fault_of(error: &IngestError) -> (Fault, StatusCode) {
    match error {
        IngestError::NoFunction(_) | IngestError::NoNamespace(_) => {
            (Fault::Caller, StatusCode::FunctionNotFound)
        }
        IngestError::NoQualifier { .. } => (Fault::Caller, StatusCode::QualifierNotFound),
        IngestError::TooLarge { .. } => (Fault::Caller, StatusCode::RequestTooLarge),
        IngestError::Invalid(_) | IngestError::Web(_) => {
            (Fault::Caller, StatusCode::InvalidParameterValue)
        }
        IngestError::State { .. } => (Fault::System, StatusCode::FunctionStatusError),
        IngestError::Open { .. } => (Fault::System, StatusCode::ContainerInitError),
        IngestError::Draining | IngestError::Queue(_) => (Fault::System, StatusCode::InternalError),
    }
}
