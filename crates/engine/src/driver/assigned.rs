//! An instance that serves a request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use model::RecursionDepth;
use telemetry::ColdStart;
use tracing::debug;
use worker::RequestMetadata;

use super::Driver;
use super::slot::InstanceSlot;
use super::types::{AcquireOptions, CompletedRun, LivePool};

/// Maximum number of instances that a request is sent to when each ends before it starts the request.
pub(crate) const INSTANCES_MAX: usize = 4;

/// An instance assigned to a request. Returned to its pool on drop.
pub struct Assigned {
    pub(super) driver: Driver,
    pub(super) slot: Arc<InstanceSlot>,
    /// Made when it is asked for, since only events can be stopped.
    pub(super) stopper: Option<Stopper>,
    pub(super) first: bool,
    /// True until a request has run on it.
    pub(super) reusable: bool,
    pub(super) short: Option<bool>,
    /// Whether the instance was returned to its pool.
    pub(super) returned: bool,
}

impl Assigned {
    /// Returns the instance.
    pub(crate) fn instance(&self) -> &worker::Instance {
        &self.slot.instance
    }

    /// Begins a request on an instance that may serve others, too. Thaws it if it was frozen while idle.
    pub fn begin(&self, depth: RecursionDepth) {
        self.slot.apply_freeze();
        self.slot.runs(depth);
        self.slot.begin_billing();
    }

    /// Ends a request. Returns the billed time: since the last end, or since the first concurrent request began.
    pub fn end(&self) -> Duration {
        self.slot.end_billing()
    }

    /// Returns the cost and log of the cold start if this is the instance's first request.
    pub fn first(&self) -> Option<(ColdStart, Vec<u8>)> {
        if !self.first {
            return None;
        }
        let (cold, log) = self.slot.cold();
        cold.map(|cold| (cold, log))
    }

    /// Marks the instance as not reusable.
    pub(crate) fn mark_unusable(&mut self) {
        self.reusable = false;
    }

    /// Returns a handle that stops the instance of this request.
    pub(crate) fn stopper(&mut self) -> Stopper {
        let slot = &self.slot;
        let made = || Stopper::of(slot.clone());
        self.stopper.get_or_insert_with(made).clone()
    }

    fn was_stopped(&self) -> bool {
        self.stopper.as_ref().is_some_and(Stopper::was_used)
    }

    /// Runs a request and passes its outcome to `finish`, even if the caller has gone away.
    ///
    /// An instance may end on its own while an event is being sent. An event that did not start goes to another instance.
    pub fn run<T: Send + 'static>(
        self,
        live: Arc<LivePool>,
        metadata: RequestMetadata,
        depth: RecursionDepth,
        event: bytes::Bytes,
        recycle: bool,
        finish: impl FnOnce(CompletedRun) -> T + Send + 'static,
    ) -> Detached<T> {
        Detached(Some(Box::pin(async move {
            let mut assigned = self;
            for _ in 1..INSTANCES_MAX {
                assigned.slot.runs(depth);
                let (ran, started) = assigned.invoke(&metadata, &event, recycle).await;
                // A stop of the instance was meant for this request.
                if started || assigned.was_stopped() {
                    return finish(ran);
                }
                debug!(request = %metadata.request, "an instance ended before it started an event; the event goes to another instance");
                if !assigned.replace(&live).await || assigned.was_stopped() {
                    return finish(ran);
                }
            }
            assigned.slot.runs(depth);
            finish(assigned.invoke(&metadata, &event, recycle).await.0)
        })))
    }

    /// Returns this instance and waits for another. The stopper then stops the new one. Returns false if there is none.
    pub async fn replace(&mut self, live: &Arc<LivePool>) -> bool {
        self.give_back();
        let mut options = AcquireOptions::default();
        let Ok(mut other) = self.driver.acquire(live, &mut options).await else {
            return false;
        };
        std::mem::swap(self, &mut other);
        // `other` is now the one that was returned.
        std::mem::swap(&mut self.stopper, &mut other.stopper);
        if let Some(stopper) = &self.stopper {
            stopper.follow(self.slot.clone());
        }
        true
    }

    /// Returns the instance to its pool, once.
    fn give_back(&mut self) {
        if std::mem::replace(&mut self.returned, true) {
            return;
        }
        if let Some(stopper) = &self.stopper {
            stopper.forget();
        }
        let now = self.driver.now();
        let mut core = self.driver.core();
        core.finished(now, &self.slot, self.reusable, self.short);
        self.driver.perform(core);
    }

    /// Runs a request. Returns its outcome and whether the event started. With `recycle`, an instance whose
    /// request failed is stopped.
    async fn invoke(
        &mut self,
        metadata: &RequestMetadata,
        event: &[u8],
        recycle: bool,
    ) -> (CompletedRun, bool) {
        // It may have been frozen while idle.
        self.slot.apply_freeze();
        let invoked = self.slot.instance.invoke(metadata, event).await;
        let (cold, init_log) = if self.first && invoked.started {
            self.slot.cold()
        } else {
            (None, Vec::new())
        };
        self.reusable = invoked.reusable;
        self.short = invoked.short_requests;
        if recycle && self.reusable && invoked.outcome.result.is_err() {
            self.slot.instance.stop();
            self.slot.instance.ended().await;
            self.reusable = false;
        }
        let ran = CompletedRun {
            outcome: invoked.outcome,
            cold,
            init_log,
        };
        (ran, invoked.started)
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl std::fmt::Debug for Assigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assigned").finish_non_exhaustive()
    }
}

/// Stops the instance of a request while the request owns it.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(Arc<Mutex<StopTarget>>);

#[derive(Debug)]
struct StopTarget {
    /// The instance, while the request owns it.
    slot: Option<Arc<InstanceSlot>>,
    used: bool,
}

impl Stopper {
    pub(super) fn of(slot: Arc<InstanceSlot>) -> Self {
        let slot = Some(slot);
        Self(Arc::new(Mutex::new(StopTarget { slot, used: false })))
    }

    /// Kills the instance, or sends SIGTERM to its processes. The request does not move to another instance any more. Has no
    /// effect after the request has ended.
    pub(crate) fn stop(&self, gracefully: bool) {
        let mut target = self.target();
        target.used = true;
        let Some(slot) = &target.slot else {
            return;
        };
        if gracefully {
            slot.instance.terminate();
        } else {
            slot.instance.stop();
        }
    }

    /// Returns whether it has been used.
    fn was_used(&self) -> bool {
        self.target().used
    }

    /// The request has moved to another instance.
    fn follow(&self, slot: Arc<InstanceSlot>) {
        self.target().slot = Some(slot);
    }

    /// The request no longer owns an instance.
    fn forget(&self) {
        self.target().slot = None;
    }

    fn target(&self) -> MutexGuard<'_, StopTarget> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future that is spawned to completion when it is dropped early.
pub struct Detached<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> std::fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = self.0.as_mut() else {
            return Poll::Pending; // Polled again after completion.
        };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(future);
        }
    }
}
