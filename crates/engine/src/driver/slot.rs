//! An instance as seen by the driver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dispatch::InstanceId;
use worker::{Instance, Started};

use access::ChainMember;
use model::RecursionDepth;
use telemetry::ColdStart;

/// An instance with its desired state and the cost of its cold start.
#[derive(Debug)]
pub(super) struct InstanceSlot {
    pub(super) id: InstanceId,
    pub(super) instance: Instance,
    should_be_frozen: AtomicBool,
    is_frozen: Mutex<bool>,
    ended: AtomicBool,
    first: Mutex<Option<(ColdStart, Vec<u8>)>>,
    billing: Mutex<Billing>,
    member: ChainMember,
}

/// Billing of concurrent requests: each moment is billed once.
#[derive(Debug, Default)]
struct Billing {
    running: u32,
    /// End of the billed time.
    since: Option<Instant>,
}

impl InstanceSlot {
    pub(super) fn new(
        id: InstanceId,
        started: Started,
        provisioned: bool,
        member: ChainMember,
    ) -> Self {
        let cold = ColdStart {
            total_us: started.total.as_micros() as u64,
            runtime_us: started.sandbox.as_micros() as u64,
            import_us: started.import.as_micros() as u64,
            memory_peak: started.memory_peak,
            provisioned,
        };
        Self {
            id,
            instance: started.instance,
            should_be_frozen: AtomicBool::new(false),
            is_frozen: Mutex::new(false),
            ended: AtomicBool::new(false),
            first: Mutex::new(Some((cold, started.log))),
            billing: Mutex::default(),
            member,
        }
    }

    /// Records the recursion depth of the request that it runs.
    pub(super) fn runs(&self, depth: RecursionDepth) {
        self.member.runs(depth);
    }

    /// Records the desired state. Called under the driver's lock, so that the last record is the last decision.
    pub(super) fn should_be_frozen(&self, frozen: bool) {
        self.should_be_frozen.store(frozen, Ordering::Release);
    }

    /// Freezes or thaws it as last recorded.
    pub(super) fn apply_freeze(&self) {
        // Threads may arrive here out of order; each applies the latest decision.
        let mut is = self
            .is_frozen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let should = self.should_be_frozen.load(Ordering::Acquire);
        if *is != should {
            self.instance.freeze(should);
            *is = should;
        }
    }

    pub(super) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn begin_billing(&self) {
        let mut billing = self.billing.lock().unwrap_or_else(PoisonError::into_inner);
        if billing.running == 0 {
            billing.since = Some(Instant::now());
        }
        billing.running += 1;
    }

    pub(super) fn end_billing(&self) -> Duration {
        let mut billing = self.billing.lock().unwrap_or_else(PoisonError::into_inner);
        billing.running = billing.running.saturating_sub(1);
        let now = Instant::now();
        let since = billing.since.replace(now);
        since.map(|since| now - since).unwrap_or_default()
    }

    /// Returns the cost and log of the cold start, once.
    pub(super) fn cold(&self) -> (Option<ColdStart>, Vec<u8>) {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.map_or((None, Vec::new()), |(cold, log)| (Some(cold), log))
    }
}
