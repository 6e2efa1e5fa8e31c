//! The runner: executes queued events and records their completion.
//!
//! [`FunctionQueues`](dispatch::events::FunctionQueues) decides which event starts next. One lock guards it; it is held for one
//! step and never across an await.

mod attempt;
mod control;
mod dead_letters;
mod endpoint;
mod handle;
mod rules;
mod state;

pub use self::control::ControlOutcome;
pub use self::endpoint::Endpoint;
pub use self::state::{RetryWaits, Runner, Settings};

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use catalog::Catalog;
use dispatch::events::{FunctionQueueId, FunctionQueues, QueueEffect, QueueInput};
use events::{Queue, QueueError, QueueKey};
use telemetry::Metrics;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use self::state::{Core, Decision, Shared};
use crate::invoke::Ingest;

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
