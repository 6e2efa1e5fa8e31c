//! Slots of instances: which request an instance serves next, and which instance gives way.

use super::Machine;
use crate::pool::{Instance, Pool, State};
use crate::rule::Rule;
use crate::timer::MachineTimer;
use crate::{InstanceId, Limit, MachineEffect, PoolId, Ticket, Time};

impl Machine {
    /// Reuses an instance with a free slot: it serves the queue, is handed over to another pool, or becomes idle.
    pub(super) fn free(&mut self, now: Time, id: InstanceId, out: &mut Vec<MachineEffect>) {
        let Some(Instance {
            pool: pool_id,
            running,
            served,
            ..
        }) = self.instances.get(&id).copied()
        else {
            return;
        };
        let Some(pool) = self.pools.get(&pool_id) else {
            return;
        };
        let (waits, retired, slots) = (pool.waiting > 0, pool.retired, pool.spec.slots);
        let over = self.capacity.is_over(&self.config, &pool.spec) && self.is_spare(pool);
        // A fresh instance serves at least one request, or its cold start would have been wasted.
        let yields = !over
            && waits
            && served
            && (self.must_yield(now, pool_id) || self.must_restore_headroom(pool_id, out));
        if over || yields {
            // Its other requests continue. It gets no new one and is stopped after the last.
            self.remove_free_slots(pool_id, id);
            if running == 0 {
                self.make_idle(now, id);
                self.stop(id, out);
                self.serve_requests(now, pool_id, out);
            }
            return;
        }
        if waits {
            return self.fill(id, out);
        }
        if slots > 1 {
            self.update_free_slots(id);
        }
        if running == 0 {
            self.make_idle(now, id);
            if retired || self.draining {
                self.stop(id, out);
            }
        }
    }

    /// Assigns as many waiting requests to an instance as it has free slots.
    pub(super) fn fill(&mut self, id: InstanceId, out: &mut Vec<MachineEffect>) {
        let Some(Instance { pool, running, .. }) = self.instances.get(&id).copied() else {
            return;
        };
        let slots = self.pools.get(&pool).map_or(0, |pool| pool.spec.slots);
        for _ in running..slots {
            match self.next_request(pool) {
                Some(ticket) => self.assign_busy(ticket, id, false, out),
                None => break,
            }
        }
        if slots > 1 {
            self.update_free_slots(id);
        }
    }

    /// Updates whether a busy instance is listed as having free slots.
    pub(super) fn update_free_slots(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get(&id).copied() else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&instance.pool) else {
            return;
        };
        pool.with_free_slots.retain(|other| *other != id);
        if (1..pool.spec.slots).contains(&instance.running) {
            pool.with_free_slots.push(id);
        }
    }

    pub(super) fn remove_free_slots(&mut self, pool: PoolId, id: InstanceId) {
        if let Some(pool) = self.pools.get_mut(&pool) {
            pool.with_free_slots.retain(|other| *other != id);
        }
    }

    /// Returns whether a pool must hand its instance over although its own requests wait: another account, or another
    /// pool of its account, holds less and has waited long for memory or is below its provisioned minimum. Provisioned
    /// instances are handed over to other accounts only, and only while the own account still holds more afterwards.
    pub(super) fn must_yield(&self, now: Time, id: PoolId) -> bool {
        let Some(own) = self.pools.get(&id) else {
            return false;
        };
        let starved = |other: PoolId| {
            let Some(pool) = self.pools.get(&other) else {
                return false;
            };
            let waited = pool
                .pending_since
                .is_some_and(|since| since.after(self.config.yield_after) <= now);
            let less = pool.held_mb() < own.held_mb();
            other != id && waited && less && self.would_unblock(own, pool)
        };
        let yields = self.rules().in_force(Rule::FunctionsYield);
        let neighbours = || yields && self.start_queue.of(own.spec.account).any(starved);
        self.account_starves(now, own)
            || (own.live() > own.provisioned_min
                && (self.provisioned_starves(now, own) || neighbours()))
    }

    /// Returns whether one instance less of `own` would let another pool start one, now or after further stops.
    pub(super) fn would_unblock(&self, own: &Pool, other: &Pool) -> bool {
        match self
            .capacity
            .exceeded_after_stops(&self.config, &other.spec)
        {
            Some(Limit::Node) => {
                let (own, other) = (own.spec.account, other.spec.account);
                own == other || self.capacity.held_mb(other) < self.capacity.held_mb(own)
            }
            Some(Limit::Account) => self.uses_unreserved(own, &other.spec),
            Some(Limit::Group) => other.spec.group == own.spec.group,
            Some(Limit::Rate | Limit::Starting) | None => false,
        }
    }

    /// Assigns a request to an instance that was just removed from its pool's idle instances or free slots.
    pub(super) fn assign(&mut self, ticket: Ticket, id: InstanceId, out: &mut Vec<MachineEffect>) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let idled = matches!(instance.state, State::Idle { .. });
        let frozen = matches!(instance.state, State::Idle { frozen: true, .. });
        instance.state = State::Busy;
        let mut slots = 1;
        if let Some(pool) = self.pools.get_mut(&instance.pool) {
            pool.busy += usize::from(idled);
            pool.note_peak();
            pool.frozen -= usize::from(frozen);
            slots = pool.spec.slots;
        }
        self.assign_busy(ticket, id, frozen, out);
        if slots > 1 {
            self.update_free_slots(id);
        }
    }

    /// Assigns a request to a busy instance.
    pub(super) fn assign_busy(
        &mut self,
        ticket: Ticket,
        id: InstanceId,
        frozen: bool,
        out: &mut Vec<MachineEffect>,
    ) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let first = !instance.served;
        instance.served = true;
        instance.running += 1;
        out.push(MachineEffect::Assign {
            ticket,
            instance: id,
            first,
            frozen,
        });
    }

    pub(super) fn make_idle(&mut self, now: Time, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&instance.pool) else {
            return;
        };
        instance.state = State::Idle {
            since: now,
            frozen: false,
        };
        pool.busy -= 1;
        pool.idle.push_back(id);
        // An earlier timer of a previous idle period reschedules itself. A later one, set while frozen, must be
        // replaced.
        let at = now.after(pool.spec.freeze_after.min(pool.spec.keep_alive));
        if instance.timer.is_none_or(|set| at < set) {
            if let Some(late) = instance.timer.replace(at) {
                self.timers.remove(late, MachineTimer::Instance(id));
            }
            self.timers.add(at, MachineTimer::Instance(id));
        }
    }

    /// Takes the first waiting request, skipping cancelled ones.
    pub(super) fn next_request(&mut self, id: PoolId) -> Option<Ticket> {
        let pool = self.pools.get_mut(&id)?;
        while let Some((ticket, _)) = pool.requests.pop_front() {
            if let Some((_, deadline)) = self.tickets.remove(&ticket) {
                self.timers.remove(deadline, MachineTimer::Ticket(ticket));
                pool.waiting -= 1;
                return Some(ticket);
            }
        }
        None
    }

    /// Removes a waiting request and returns its pool. Its queue entry is skipped later.
    pub(super) fn leave_queue(&mut self, ticket: Ticket) -> Option<PoolId> {
        let (id, deadline) = self.tickets.remove(&ticket)?;
        self.timers.remove(deadline, MachineTimer::Ticket(ticket));
        let pool = self.pools.get_mut(&id)?;
        pool.waiting -= 1;
        if pool.waiting == 0 {
            pool.requests.clear();
        }
        Some(id)
    }
}
