//! Starts of instances, and the limits that they wait for.

use super::{Machine, RECHECK_US};
use crate::pool::{Instance, Pool, State};
use crate::rule::Rule;
use crate::timer::MachineTimer;
use crate::{AccountId, InstanceId, Limit, MachineEffect, PoolId, PoolSpec, Ticket, Time};

/// A pending start that lacks memory. Pools that hold no less must not take that memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockedStart {
    pub(super) pool: PoolId,
    /// The exceeded limit.
    pub(super) limit: Limit,
    pub(super) spec: PoolSpec,
    /// Memory of the pool's instances, MB.
    pub(super) held_mb: u64,
    /// When the wait began, in turns of the capacity.
    pub(super) turn: u64,
}

impl Machine {
    /// Adds a pool to the start queue if it needs a start and is not queued.
    pub(super) fn queue_start(&mut self, now: Time, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id)
            && pool.needs_start(&self.config)
            && pool.pending_since.is_none()
        {
            pool.pending_since = Some(now);
            pool.pending_turn = self.capacity.next_turn();
            let account = pool.spec.account;
            let held_mb = self.queue_mb(account);
            self.start_queue.push(account, held_mb, id);
        }
    }

    pub(super) fn start(&mut self, id: PoolId, provisioned: bool, out: &mut Vec<MachineEffect>) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        let instance = InstanceId(self.next_instance);
        self.next_instance += 1;
        pool.starting += 1;
        let account = pool.spec.account;
        self.capacity.allocate(&pool.spec);
        self.capacity.start(account);
        let state = Instance {
            pool: id,
            state: State::Starting,
            running: 0,
            broken: false,
            served: false,
            timer: None,
        };
        self.instances.insert(instance, state);
        self.note_held(account);
        out.push(MachineEffect::Start {
            instance,
            pool: id,
            provisioned,
        });
    }

    /// Extends the deadline if a starting instance covers each waiting request: a slow start has a timeout of its own.
    pub(super) fn await_start(&mut self, now: Time, ticket: Ticket) -> bool {
        let Some((id, deadline)) = self.tickets.get_mut(&ticket) else {
            return false;
        };
        if self
            .pools
            .get(id)
            .is_none_or(|pool| pool.starting_slots() < pool.waiting)
        {
            return false;
        }
        *deadline = now.after(RECHECK_US);
        self.timers.add(*deadline, MachineTimer::Ticket(ticket));
        true
    }

    /// Returns the limit that a start for a request would exceed.
    pub(super) fn exceeded(&self, now: Time, spec: &PoolSpec) -> Option<Limit> {
        let exceeded = self.capacity.exceeded(&self.config, spec);
        let late = || {
            let ready = self
                .rates
                .get(&spec.account)?
                .ready_at(self.config.starts_per_minute);
            (ready > now && self.rules().in_force(Rule::StartRate)).then_some(Limit::Rate)
        };
        exceeded.or_else(late)
    }

    /// Returns whether memory of a pool counts against a limit that a start of `spec` would exceed.
    pub(super) fn counts_against(&self, limit: Limit, pool: &Pool, spec: &PoolSpec) -> bool {
        match limit {
            Limit::Group => pool.spec.group == spec.group,
            Limit::Account => self.uses_unreserved(pool, spec),
            Limit::Rate => pool.spec.account == spec.account,
            Limit::Node | Limit::Starting => true,
        }
    }

    /// Returns whether a pool uses the same unreserved quota as `spec`.
    pub(super) fn uses_unreserved(&self, pool: &Pool, spec: &PoolSpec) -> bool {
        pool.spec.account == spec.account && !self.capacity.is_reserved(pool.spec.group)
    }

    /// Takes a token of the account's start rate.
    pub(super) fn take_rate_token(&mut self, now: Time, account: AccountId) {
        if self.config.starts_per_minute > 0 {
            let bucket = self.rates.entry(account).or_default();
            bucket.take(now, self.config.starts_per_minute);
        }
    }

    /// Sets a timer for the account's next token.
    pub(super) fn wake_at_next_token(&mut self, account: AccountId) {
        if let Some(bucket) = self.rates.get_mut(&account)
            && !bucket.timer_set
        {
            bucket.timer_set = true;
            let at = bucket.ready_at(self.config.starts_per_minute);
            self.timers.add(at, MachineTimer::Rate(account));
        }
    }

    /// Updates the account's position in the start queue after a change of its memory.
    pub(super) fn note_held(&mut self, account: AccountId) {
        let held_mb = self.queue_mb(account);
        self.start_queue.set_held(account, held_mb);
    }

    /// Returns the memory that determines an account's position in the start queue, MB.
    pub(super) fn queue_mb(&self, account: AccountId) -> u64 {
        match self.rules().in_force(Rule::LeastFirst) {
            true => self.capacity.held_mb(account),
            false => 0,
        }
    }
}
