//! A pool and its instances.

use std::collections::VecDeque;

use crate::{Config, InstanceId, PoolId, PoolSpec, PoolStats, Ticket, Time};

/// One revision of one function version.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) spec: PoolSpec,
    /// Idle instances, the least recently used first.
    pub(crate) idle: VecDeque<InstanceId>,
    /// Busy instances that could serve another request, the last to have been given one last.
    pub(crate) sharing: Vec<InstanceId>,
    /// Requests in the order in which they came, and when. Those given up are skipped when their turn comes.
    pub(crate) line: VecDeque<(Ticket, Time)>,
    /// Requests in line that are not given up.
    pub(crate) waiting: usize,
    pub(crate) starting: usize,
    pub(crate) busy: usize,
    pub(crate) frozen: usize,
    pub(crate) stopping: usize,
    /// Starts that failed in a row by the platform's fault.
    pub(crate) failures: u8,
    /// Since when it has wanted a start; it stands in the queue of wants while this is set.
    pub(crate) pending_since: Option<Time>,
    /// Its place among all that began to want something, or to have nothing.
    pub(crate) pending_turn: u64,
    pub(crate) retired: bool,
    /// Instances that it keeps ahead of need.
    pub(crate) provisioned_min: usize,
    /// Since when it has had fewer; it stands in the queue of those below their floor while this is set.
    pub(crate) below_since: Option<Time>,
    /// When the next start for the floor is tried, after one has failed.
    pub(crate) retry_at: Option<Time>,
    /// Starts that failed in a row since the floor was set.
    pub(crate) provisioned_failures: u32,
    /// The most requests at a time, running or waiting, since someone asked.
    pub(crate) peak: usize,
    /// What its requests are like.
    pub(crate) short_requests: ShortRequests,
}

/// What a pool's requests are like.
#[derive(Debug, Default)]
pub(crate) struct ShortRequests {
    pub(crate) short: bool,
    /// They are not taken for brief before, since that has just held some up.
    pub(crate) doubted_until: Time,
    /// Whether a timer is set for the first in line.
    pub(crate) watched: bool,
}

impl Pool {
    pub(crate) fn new(spec: PoolSpec) -> Self {
        Self {
            spec,
            idle: VecDeque::new(),
            sharing: Vec::new(),
            line: VecDeque::new(),
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

    /// Whether more requests wait than instances are on their way for, and than those that are there soon come to.
    pub(crate) fn needs_start(&self, config: &Config) -> bool {
        self.waiting > self.coming() && !self.has_enough(config, self.busy + self.starting)
    }

    /// Whether a request waits for an instance that works rather than take one that idles.
    pub(crate) fn holds(&self, config: &Config) -> bool {
        self.has_enough(config, self.busy)
    }

    fn has_enough(&self, config: &Config, working: usize) -> bool {
        let short = self.short_requests.short && self.spec.slots == 1 && config.brief_at_once > 0;
        short && working >= config.brief_at_once
    }

    /// Requests that the instances can serve that are on their way.
    pub(crate) fn coming(&self) -> usize {
        self.starting.saturating_mul(self.spec.slots as usize)
    }

    /// Instances that take up memory.
    pub(crate) fn instances(&self) -> usize {
        self.live() + self.stopping
    }

    /// Instances that are not about to end.
    pub(crate) fn live(&self) -> usize {
        self.starting + self.busy + self.idle.len()
    }

    /// Whether an instance may be started now because there are fewer than it keeps.
    pub(crate) fn needs_provisioned(&self, now: Time) -> bool {
        self.live() < self.provisioned_min && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Notes how many requests there are, if they never were as many.
    pub(crate) fn note_peak(&mut self) {
        self.peak = self.peak.max(self.busy + self.waiting);
    }

    /// Memory that it holds and will go on to hold, MB.
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

/// Where an instance is in its life.
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
    /// Requests that it serves.
    pub(crate) running: u32,
    /// Whether it has ended, and the requests that it served have yet to hear of it.
    pub(crate) broken: bool,
    /// Whether it has been given a request.
    pub(crate) served: bool,
    /// When its timer fires, if it has one. It is set anew only when it fires, not with each request.
    pub(crate) timer: Option<Time>,
}
