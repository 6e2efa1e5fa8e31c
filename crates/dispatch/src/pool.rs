//! Pools and their instances.

use std::collections::VecDeque;

use crate::{Config, InstanceId, PoolId, PoolSpec, PoolStats, Ticket, Time};

/// One revision of one function version.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) spec: PoolSpec,
    /// Idle instances, least recently used first.
    pub(crate) idle: VecDeque<InstanceId>,
    /// Busy instances with a free slot, most recently used last.
    pub(crate) with_free_slots: Vec<InstanceId>,
    /// Waiting requests with their arrival time, FIFO. Cancelled ones are skipped at their turn.
    pub(crate) requests: VecDeque<(Ticket, Time)>,
    /// Waiting requests without the cancelled ones.
    pub(crate) waiting: usize,
    pub(crate) starting: usize,
    pub(crate) busy: usize,
    pub(crate) frozen: usize,
    pub(crate) stopping: usize,
    /// Consecutive platform failures of starts.
    pub(crate) failures: u8,
    /// Time since which a start is pending. Set exactly while the pool is in the start queue.
    pub(crate) pending_since: Option<Time>,
    /// Position among all events that began a wait or emptied an account.
    pub(crate) pending_turn: u64,
    pub(crate) retired: bool,
    /// Provisioned minimum.
    pub(crate) provisioned_min: usize,
    /// Time since which it has had fewer. Set exactly while the pool is queued for a provisioned start.
    pub(crate) below_since: Option<Time>,
    /// Time of the next provisioned start after a failed one.
    pub(crate) retry_at: Option<Time>,
    /// Consecutive failed starts since the provisioned minimum was set.
    pub(crate) provisioned_failures: u32,
    /// Peak concurrency, running and waiting requests, since it was last read.
    pub(crate) peak: usize,
    /// State of short-request detection.
    pub(crate) short_requests: ShortRequests,
}

/// State of short-request detection of a pool.
#[derive(Debug, Default)]
pub(crate) struct ShortRequests {
    pub(crate) short: bool,
    /// Detection is off until then, because it has just delayed requests.
    pub(crate) disabled_until: Time,
    /// Whether a timer is set for the head of the queue.
    pub(crate) timer_set: bool,
}

impl Pool {
    pub(crate) fn new(spec: PoolSpec) -> Self {
        Self {
            spec,
            idle: VecDeque::new(),
            with_free_slots: Vec::new(),
            requests: VecDeque::new(),
            waiting: 0,
            starting: 0,
            busy: 0,
            frozen: 0,
            stopping: 0,
            failures: 0,
            pending_since: None,
            pending_turn: 0,
            retired: false,
            provisioned_min: 0,
            below_since: None,
            retry_at: None,
            provisioned_failures: 0,
            peak: 0,
            short_requests: ShortRequests::default(),
        }
    }

    /// Returns whether more requests wait than the starting and, for short requests, the busy instances can serve soon.
    pub(crate) fn needs_start(&self, config: &Config) -> bool {
        self.waiting > self.starting_slots() && !self.has_enough(config, self.busy + self.starting)
    }

    /// Returns whether a request waits for a busy instance rather than take an idle one.
    pub(crate) fn waits_for_busy(&self, config: &Config) -> bool {
        self.has_enough(config, self.busy)
    }

    fn has_enough(&self, config: &Config, working: usize) -> bool {
        let short = self.short_requests.short
            && self.spec.slots == 1
            && config.short_request_concurrency > 0;
        short && working >= config.short_request_concurrency
    }

    /// Returns how many requests the starting instances can serve.
    pub(crate) fn starting_slots(&self) -> usize {
        self.starting.saturating_mul(self.spec.slots as usize)
    }

    /// Counts the instances that take up memory.
    pub(crate) fn instances(&self) -> usize {
        self.live() + self.stopping
    }

    /// Counts the instances that are not stopping.
    pub(crate) fn live(&self) -> usize {
        self.starting + self.busy + self.idle.len()
    }

    /// Returns whether a provisioned instance is missing and may be started now.
    pub(crate) fn needs_provisioned(&self, now: Time) -> bool {
        self.live() < self.provisioned_min && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Raises the peak concurrency to the current one.
    pub(crate) fn note_peak(&mut self) {
        self.peak = self.peak.max(self.busy + self.waiting);
    }

    /// Returns the memory of all instances that are not stopping, MB.
    pub(crate) fn held_mb(&self) -> u64 {
        self.live() as u64 * self.spec.memory_mb
    }

    pub(crate) fn stats(&self) -> PoolStats {
        PoolStats {
            starting: self.starting,
            busy: self.busy,
            idle: self.idle.len(),
            frozen: self.frozen,
            stopping: self.stopping,
            waiting: self.waiting,
            provisioned_min: self.provisioned_min,
            ready: self.provisioned_min.min(self.busy + self.idle.len()),
        }
    }
}

/// Lifecycle state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Busy,
    Idle { since: Time, frozen: bool },
    Stopping,
}

/// One instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance {
    pub(crate) pool: PoolId,
    pub(crate) state: State,
    /// Requests in progress.
    pub(crate) running: u32,
    /// Whether it has ended while some of its requests have yet to be reported as finished.
    pub(crate) broken: bool,
    /// Whether it was ever assigned a request.
    pub(crate) served: bool,
    /// Time of its timer. The timer is rescheduled when it fires, not with each request.
    pub(crate) timer: Option<Time>,
}
