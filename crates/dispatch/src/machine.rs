//! The state machine.

mod fair;
mod limits;
mod provisioned;
mod short_requests;
mod slots;
mod start_queue;
mod starts;

use std::collections::VecDeque;

use self::start_queue::StartQueue;
use crate::capacity::Capacity;
use crate::ids::Map;
use crate::pool::{Instance, Pool, State};
use crate::rate::TokenBucket;
#[cfg(test)]
use crate::rule::Rule;
use crate::rule::Rules;
use crate::timer::{MachineTimer, Timers};
use crate::{
    AccountId, Config, InstanceId, Limit, MachineEffect, MachineEvent, PoolId, PoolSpec, PoolStats,
    Reject, StartFault, Ticket, Time,
};

/// The scheduling state of a node: all pools, instances and waiting requests.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    pools: Map<PoolId, Pool>,
    instances: Map<InstanceId, Instance>,
    /// Waiting requests, each with its pool and deadline.
    tickets: Map<Ticket, (PoolId, Time)>,
    capacity: Capacity,
    timers: Timers,
    /// Pending starts, by account.
    start_queue: StartQueue,
    /// Pools with a provisioned minimum.
    provisioned_pools: Vec<PoolId>,
    /// Those below their minimum, in the order in which they get a start.
    below_minimum: VecDeque<PoolId>,
    rates: Map<AccountId, TokenBucket>,
    next_instance: u64,
    draining: bool,
}

/// How long after a request's deadline to check again whether its starting instance is ready, microseconds.
const RECHECK_US: u64 = 100_000;

impl Machine {
    /// Creates a machine without pools.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            pools: Map::default(),
            instances: Map::default(),
            tickets: Map::default(),
            capacity: Capacity::default(),
            timers: Timers::default(),
            start_queue: StartQueue::default(),
            provisioned_pools: Vec::new(),
            below_minimum: VecDeque::new(),
            rates: Map::default(),
            next_instance: 0,
            draining: false,
        }
    }

    /// Creates a machine that breaks a rule.
    #[cfg(test)]
    pub(crate) fn with_broken_rule(config: Config, rule: Rule) -> Self {
        let mut machine = Self::new(config);
        machine.capacity.rules.broken = Some(rule);
        machine
    }

    fn rules(&self) -> Rules {
        self.capacity.rules
    }

    /// Processes one event and appends the resulting effects to `out`. Events with unknown identifiers have no effect.
    pub fn step(&mut self, now: Time, event: MachineEvent, out: &mut Vec<MachineEffect>) {
        match event {
            MachineEvent::Open { pool, spec } => self.open(now, pool, spec, out),
            MachineEvent::Reserve { group, reserved_mb } => {
                self.reserve(now, group, reserved_mb, out)
            }
            MachineEvent::Unreserved { account, mb } => self.set_unreserved(now, account, mb, out),
            MachineEvent::Accounts { count } => {
                self.capacity.set_known(count);
                // The headroom may have shrunk.
                self.start_pending(now, out);
            }
            MachineEvent::Provision {
                pool,
                provisioned_min,
            } => self.provision(now, pool, provisioned_min, out),
            MachineEvent::Retire { pool } => self.retire(now, pool, out),
            MachineEvent::Request {
                ticket,
                pool,
                deadline,
            } => self.request(now, ticket, pool, deadline, out),
            MachineEvent::Cancel { ticket } => self.cancel(now, ticket, out),
            MachineEvent::Started { instance } => self.started(now, instance, out),
            MachineEvent::StartFailed { instance, fault } => {
                self.start_failed(now, instance, fault, out)
            }
            MachineEvent::Finished { instance, reusable } => {
                self.finished(now, instance, reusable, out)
            }
            MachineEvent::ShortRequests { instance, short } => {
                self.short_requests(now, instance, short, out)
            }
            MachineEvent::Ended { instance } => self.ended(now, instance, out),
            MachineEvent::Wake => self.wake(now, out),
            MachineEvent::Drain => self.drain(out),
        }
        if let Some(at) = self.timers.announce() {
            out.push(MachineEffect::WakeAt { at });
        }
    }

    /// Returns the instance and request counts of a pool.
    pub fn stats(&self, pool: PoolId) -> Option<PoolStats> {
        self.pools.get(&pool).map(Pool::stats)
    }

    /// Returns the counts of all pools together.
    pub fn totals(&self) -> PoolStats {
        self.pools
            .values()
            .map(Pool::stats)
            .fold(PoolStats::default(), |sum, one| PoolStats {
                starting: sum.starting + one.starting,
                busy: sum.busy + one.busy,
                idle: sum.idle + one.idle,
                frozen: sum.frozen + one.frozen,
                stopping: sum.stopping + one.stopping,
                waiting: sum.waiting + one.waiting,
                provisioned_min: sum.provisioned_min + one.provisioned_min,
                ready: sum.ready + one.ready,
            })
    }

    /// Returns the peak concurrency of a pool, running and waiting requests, since the last call.
    pub fn take_peak(&mut self, pool: PoolId) -> Option<usize> {
        let pool = self.pools.get_mut(&pool)?;
        let now = pool.busy + pool.waiting;
        Some(std::mem::replace(&mut pool.peak, now))
    }

    /// Returns whether there are no instances and no waiting requests.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.tickets.is_empty()
    }

    /// Returns whether an instance has ended or never existed.
    pub fn instance_is_gone(&self, instance: InstanceId) -> bool {
        !self.instances.contains_key(&instance)
    }

    /// Returns the number of timers. An empty machine has none.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    fn open(&mut self, now: Time, id: PoolId, spec: PoolSpec, out: &mut Vec<MachineEffect>) {
        self.capacity.open(&spec, !self.pools.contains_key(&id));
        match self.pools.get_mut(&id) {
            // Memory and slots are accounted per live instance, so they must not change under it.
            Some(pool) if pool.instances() > 0 => {
                pool.spec.keep_alive = spec.keep_alive;
                pool.spec.freeze_after = spec.freeze_after;
            }
            Some(pool) => pool.spec = spec,
            None => drop(self.pools.insert(id, Pool::new(spec))),
        }
        // A limit may have been raised.
        self.start_pending(now, out);
    }

    fn retire(&mut self, now: Time, id: PoolId, out: &mut Vec<MachineEffect>) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        pool.retired = true;
        self.clear_provisioned(id);
        while let Some(instance) = self
            .pools
            .get(&id)
            .and_then(|pool| pool.idle.front().copied())
        {
            self.stop(instance, out);
        }
        // Other starts may have waited behind its provisioned instances.
        self.start_pending(now, out);
        self.forget_if_empty(id, out);
    }

    fn request(
        &mut self,
        now: Time,
        ticket: Ticket,
        id: PoolId,
        deadline: Time,
        out: &mut Vec<MachineEffect>,
    ) {
        let mut reject = |reason| out.push(MachineEffect::Reject { ticket, reason });
        if self.draining {
            return reject(Reject::Draining);
        }
        let Some(pool) = self.pools.get_mut(&id).filter(|pool| !pool.retired) else {
            return reject(Reject::Gone);
        };
        let held = pool.waits_for_busy(&self.config)
            && self.capacity.never_fits(&self.config, &pool.spec).is_none();
        // Prefer a busy instance with a free slot, so that idle ones reach their keep-alive.
        if !held && let Some(instance) = pool.with_free_slots.pop().or_else(|| pool.idle.pop_back())
        {
            return self.assign(ticket, instance, out);
        }
        if let Some(limit) = self.capacity.never_fits(&self.config, &pool.spec) {
            return reject(Reject::Never { limit });
        }
        if pool.waiting >= self.config.max_waiting {
            return reject(Reject::QueueFull);
        }
        pool.requests.push_back((ticket, now));
        pool.waiting += 1;
        pool.note_peak();
        self.tickets.insert(ticket, (id, deadline));
        self.timers.add(deadline, MachineTimer::Ticket(ticket));
        self.check_head(now, id, out);
        self.queue_start(now, id);
        self.start_pending(now, out);
    }

    fn cancel(&mut self, now: Time, ticket: Ticket, out: &mut Vec<MachineEffect>) {
        if let Some(pool) = self.leave_queue(ticket) {
            // Other starts may have waited behind it.
            self.start_pending(now, out);
            self.forget_if_empty(pool, out);
        }
    }

    fn started(&mut self, now: Time, id: InstanceId, out: &mut Vec<MachineEffect>) {
        let Some(instance) = self
            .instances
            .get_mut(&id)
            .filter(|i| i.state == State::Starting)
        else {
            return;
        };
        // `free` expects a busy instance, as after a request.
        instance.state = State::Busy;
        let pool = instance.pool;
        if let Some(pool) = self.pools.get_mut(&pool) {
            self.capacity.end_start(pool.spec.account);
            pool.starting -= 1;
            pool.busy += 1;
            pool.failures = 0;
        }
        self.forgive_failures(pool);
        self.queue_provisioned(now, pool);
        self.free(now, id, out);
        self.start_pending(now, out);
    }

    fn start_failed(
        &mut self,
        now: Time,
        id: InstanceId,
        fault: StartFault,
        out: &mut Vec<MachineEffect>,
    ) {
        let Some(instance) = self
            .instances
            .get(&id)
            .filter(|i| i.state == State::Starting)
        else {
            return;
        };
        let pool_id = instance.pool;
        self.remove(id);
        self.provisioned_start_failed(now, pool_id);
        let Some(pool) = self.pools.get_mut(&pool_id) else {
            return;
        };
        let rejects = match fault {
            StartFault::User => true,
            StartFault::Platform => {
                pool.failures += 1;
                pool.failures >= self.config.max_start_attempts
            }
        };
        if rejects {
            pool.failures = 0;
            if let Some(ticket) = self.next_request(pool_id) {
                out.push(MachineEffect::Reject {
                    ticket,
                    reason: Reject::StartFailed { instance: id },
                });
            }
        }
        self.queue_start(now, pool_id);
        self.queue_provisioned(now, pool_id);
        self.start_pending(now, out);
        self.forget_if_empty(pool_id, out);
    }

    fn finished(
        &mut self,
        now: Time,
        id: InstanceId,
        reusable: bool,
        out: &mut Vec<MachineEffect>,
    ) {
        let Some(instance) = self
            .instances
            .get_mut(&id)
            .filter(|i| i.state == State::Busy)
        else {
            return;
        };
        let pool = instance.pool;
        instance.running = instance.running.saturating_sub(1);
        instance.broken |= !reusable;
        match (instance.broken, instance.running) {
            (true, 0) => {
                self.remove(id);
                self.serve_requests(now, pool, out);
                self.queue_provisioned(now, pool);
            }
            (true, _) => self.remove_free_slots(pool, id),
            (false, _) => self.free(now, id, out),
        }
        self.start_pending(now, out);
        self.forget_if_empty(pool, out);
    }

    fn ended(&mut self, now: Time, id: InstanceId, out: &mut Vec<MachineEffect>) {
        // Busy and starting instances report their end by `Finished` and `StartFailed`.
        let over = |state| matches!(state, State::Idle { .. } | State::Stopping);
        let Some(instance) = self.instances.get(&id).filter(|i| over(i.state)) else {
            return;
        };
        let pool = instance.pool;
        self.remove(id);
        self.queue_provisioned(now, pool);
        self.start_pending(now, out);
        self.forget_if_empty(pool, out);
    }

    fn drain(&mut self, out: &mut Vec<MachineEffect>) {
        self.draining = true;
        for id in self.provisioned_pools.clone() {
            self.clear_provisioned(id);
        }
        let idle: Vec<_> = self
            .pools
            .values()
            .flat_map(|pool| pool.idle.iter().copied())
            .collect();
        for instance in idle {
            self.stop(instance, out);
        }
    }

    /// Stops an idle instance.
    fn stop(&mut self, id: InstanceId, out: &mut Vec<MachineEffect>) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let State::Idle { frozen, .. } = instance.state else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&instance.pool) else {
            return;
        };
        pool.idle.retain(|idle| *idle != id);
        pool.frozen -= usize::from(frozen);
        pool.stopping += 1;
        instance.state = State::Stopping;
        if let Some(at) = instance.timer.take() {
            self.timers.remove(at, MachineTimer::Instance(id));
        }
        let account = pool.spec.account;
        self.capacity.mark_stopping(&pool.spec);
        self.note_held(account);
        out.push(MachineEffect::Stop { instance: id });
    }

    /// Removes an instance that has ended, in any state.
    fn remove(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.remove(&id) else {
            return;
        };
        if let Some(at) = instance.timer {
            self.timers.remove(at, MachineTimer::Instance(id));
        }
        let Some(pool) = self.pools.get_mut(&instance.pool) else {
            return;
        };
        match instance.state {
            State::Starting => {
                pool.starting -= 1;
                self.capacity.end_start(pool.spec.account);
            }
            State::Busy => {
                pool.busy -= 1;
                pool.with_free_slots.retain(|other| *other != id);
            }
            State::Idle { frozen, .. } => {
                pool.idle.retain(|idle| *idle != id);
                pool.frozen -= usize::from(frozen);
            }
            State::Stopping => pool.stopping -= 1,
        }
        let account = pool.spec.account;
        self.capacity
            .release(&pool.spec, instance.state == State::Stopping);
        self.note_held(account);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<MachineEffect>) {
        self.timers.woken();
        while let Some(due) = self.timers.pop(now) {
            match due {
                MachineTimer::Ticket(ticket) => self.expire(now, ticket, out),
                MachineTimer::Instance(id) => self.check_idle(now, id, out),
                MachineTimer::Provisioned(id) => self.retry_provisioned(now, id),
                MachineTimer::Head(id) => self.head_timer_fired(now, id, out),
                MachineTimer::Rate(account) => {
                    if let Some(bucket) = self.rates.get_mut(&account) {
                        bucket.timer_set = false;
                    }
                }
            }
        }
        self.start_pending(now, out);
    }

    fn expire(&mut self, now: Time, ticket: Ticket, out: &mut Vec<MachineEffect>) {
        if self.await_start(now, ticket) {
            return;
        }
        let Some(id) = self.leave_queue(ticket) else {
            return;
        };
        let limit = self
            .pools
            .get(&id)
            .and_then(|pool| self.exceeded(now, &pool.spec));
        let reason = Reject::Deadline {
            limit: limit.unwrap_or(Limit::Starting),
        };
        out.push(MachineEffect::Reject { ticket, reason });
        self.forget_if_empty(id, out);
    }

    /// Freezes or stops an instance that has been idle long enough, and sets its next timer.
    fn check_idle(&mut self, now: Time, id: InstanceId, out: &mut Vec<MachineEffect>) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.timer = None;
        // A busy instance gets a timer again when it becomes idle.
        let State::Idle { since, frozen } = &mut instance.state else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&instance.pool) else {
            return;
        };
        let mut gone_at = since.after(pool.spec.keep_alive);
        if now >= gone_at {
            if pool.live() > pool.provisioned_min {
                return self.stop(id, out);
            }
            // A provisioned instance stays, unless it is evicted for a smaller account.
            gone_at = now.after(pool.spec.keep_alive.max(RECHECK_US));
        }
        let freeze_at = since.after(pool.spec.freeze_after);
        if !*frozen && now >= freeze_at {
            *frozen = true;
            pool.frozen += 1;
            out.push(MachineEffect::Freeze { instance: id });
        }
        let next = if *frozen {
            gone_at
        } else {
            freeze_at.min(gone_at)
        };
        instance.timer = Some(next);
        self.timers.add(next, MachineTimer::Instance(id));
    }

    fn forget_if_empty(&mut self, id: PoolId, out: &mut Vec<MachineEffect>) {
        let Some(pool) = self.pools.get(&id) else {
            return;
        };
        if pool.retired && pool.instances() == 0 && pool.waiting == 0 {
            self.capacity.close(&pool.spec);
            self.start_queue.remove(pool.spec.account, id);
            self.pools.remove(&id);
            self.below_minimum.retain(|other| *other != id);
            out.push(MachineEffect::PoolEmpty { pool: id });
        }
    }
}
