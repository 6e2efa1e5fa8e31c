//! Provisioned instances: each pool keeps at least its minimum warm, ahead of need.

use super::Machine;
use super::fair::PROVISIONED_TURN;
use super::starts::BlockedStart;
use crate::capacity::Capacity;
use crate::pool::Pool;
use crate::timer::MachineTimer;
use crate::{Limit, MachineEffect, PoolId, PoolSpec, Time};

/// Delay of a provisioned start after a failed one, microseconds. It doubles with each consecutive failure.
const RETRY_FIRST: u64 = 1_000_000;
const RETRY_DOUBLINGS: u32 = 6;

impl Machine {
    /// Returns the memory that provisioned instances may hold together, MB. The headroom and a tenth of the rest stay
    /// free for other functions.
    pub fn provisionable_mb(&self) -> u64 {
        let headroom_mb = self.capacity.largest_headroom_mb(&self.config);
        self.config.node_mb.saturating_sub(headroom_mb) / 10 * 9
    }

    /// Sets the provisioned minimum of a pool. Instances above it become ordinary ones.
    pub(super) fn provision(
        &mut self,
        now: Time,
        id: PoolId,
        provisioned_min: usize,
        out: &mut Vec<MachineEffect>,
    ) {
        let taken = |pool: &&mut Pool| !pool.retired && !self.draining;
        let Some(pool) = self.pools.get_mut(&id).filter(taken) else {
            return;
        };
        pool.provisioned_min = provisioned_min;
        self.provisioned_pools.retain(|kept| *kept != id);
        if provisioned_min > 0 {
            self.provisioned_pools.push(id);
        }
        self.forgive_failures(id);
        self.queue_provisioned(now, id);
        self.start_pending(now, out);
    }

    /// Queues a pool for a provisioned start if it is below its minimum and may start one now.
    pub(super) fn queue_provisioned(&mut self, now: Time, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id)
            && pool.needs_provisioned(now)
            && pool.below_since.is_none()
        {
            pool.below_since = Some(now);
            self.below_minimum.push_back(id);
        }
    }

    /// Queues all pools that are below their minimum.
    pub(super) fn queue_all_provisioned(&mut self, now: Time) {
        for id in self.provisioned_pools.clone() {
            self.queue_provisioned(now, id);
        }
    }

    /// Starts missing provisioned instances in turn, as far as capacity allows. They precede pending starts of
    /// requests, so that a replacement gets the memory of the instance that died, but not those of smaller accounts
    /// that wait for memory. Returns whether one was held back for that reason.
    pub(super) fn start_provisioned(
        &mut self,
        now: Time,
        blocked: &mut Vec<BlockedStart>,
        out: &mut Vec<MachineEffect>,
    ) -> bool {
        let mut turn = 0;
        let mut held_back = false;
        while let Some(id) = self.below_minimum.get(turn).copied() {
            let Some(pool) = self
                .pools
                .get(&id)
                .filter(|pool| pool.needs_provisioned(now))
            else {
                self.below_minimum.remove(turn);
                if let Some(pool) = self.pools.get_mut(&id) {
                    pool.below_since = None;
                }
                continue;
            };
            let spec = pool.spec;
            let behind = self.is_behind_others(spec.account);
            held_back |= behind;
            let cannot = || self.capacity.never_fits(&self.config, &spec).is_some();
            if behind
                || self.must_wait_behind(blocked, id, pool)
                || !self.has_start_slot(spec.account)
                || cannot()
            {
                turn += 1;
                continue;
            }
            if !self.may_keep(&spec) {
                self.rebalance_provisioned(&spec, out);
                turn += 1;
                continue;
            }
            match self.capacity.exceeded_by_provisioned(&self.config, &spec) {
                None => {
                    self.start(id, true, out);
                    self.below_minimum.remove(turn);
                    self.below_minimum.push_back(id);
                }
                Some(limit) => {
                    self.evict_for(&spec, Capacity::exceeded_by_provisioned_after_stops, out);
                    blocked.extend(self.blocked_start(limit, id, PROVISIONED_TURN));
                    turn += 1;
                }
            }
        }
        held_back
    }

    /// Evicts an idle provisioned instance of a larger account when provisioned instances hold all that they may.
    fn rebalance_provisioned(&mut self, spec: &PoolSpec, out: &mut Vec<MachineEffect>) {
        let kept = |pool: &Pool| pool.live() <= pool.provisioned_min;
        let rank = |pool: &Pool, _| (kept(pool) && self.has_larger_share(pool, spec)).then_some(());
        if let Some(id) = self.least_recent(rank) {
            self.stop(id, out);
        }
    }

    /// Returns what a pool below its minimum waits for: a limit, or just time.
    pub fn blocked_by(&self, id: PoolId) -> Option<Limit> {
        let pool = self
            .pools
            .get(&id)
            .filter(|pool| pool.live() < pool.provisioned_min)?;
        let exceeded = self
            .capacity
            .exceeded_by_provisioned(&self.config, &pool.spec);
        let full = || (!self.may_keep(&pool.spec)).then_some(Limit::Node);
        Some(exceeded.or_else(full).unwrap_or(Limit::Starting))
    }

    /// Returns whether provisioned instances may hold this much more. Keeps capacity for others even if the node has
    /// shrunk.
    fn may_keep(&self, spec: &PoolSpec) -> bool {
        let kept = |pool: &Pool| pool.live().min(pool.provisioned_min) as u64 * pool.spec.memory_mb;
        let pools = self
            .provisioned_pools
            .iter()
            .filter_map(|id| self.pools.get(id));
        pools.map(kept).sum::<u64>() + spec.memory_mb <= self.provisionable_mb()
    }

    /// Returns whether a pool below its minimum has waited long for memory that an instance of `own` could release.
    pub(super) fn provisioned_starves(&self, now: Time, own: &Pool) -> bool {
        let starves = |pool: &&Pool| {
            let waited = pool
                .below_since
                .is_some_and(|since| since.after(self.config.yield_after) <= now);
            waited
                && pool.needs_provisioned(now)
                && self.would_unblock(own, pool)
                && self.may_keep(&pool.spec)
        };
        let below_minimum = self
            .below_minimum
            .iter()
            .filter_map(|id| self.pools.get(id));
        below_minimum.into_iter().find(starves).is_some()
    }

    /// Schedules the next provisioned start after a failed one, with exponential backoff.
    pub(super) fn provisioned_start_failed(&mut self, now: Time, id: PoolId) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        if pool.provisioned_min == 0 || pool.retry_at.is_some() {
            return;
        }
        let at = now.after(RETRY_FIRST << pool.provisioned_failures.min(RETRY_DOUBLINGS));
        pool.provisioned_failures = pool.provisioned_failures.saturating_add(1);
        pool.retry_at = Some(at);
        self.timers.add(at, MachineTimer::Provisioned(id));
    }

    /// Ends the backoff after a failed start.
    pub(super) fn retry_provisioned(&mut self, now: Time, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.retry_at = None;
        }
        self.queue_provisioned(now, id);
    }

    /// Resets the backoff after a successful start or a new minimum.
    pub(super) fn forgive_failures(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        pool.provisioned_failures = 0;
        if let Some(at) = pool.retry_at.take() {
            self.timers.remove(at, MachineTimer::Provisioned(id));
        }
    }

    /// Removes the provisioned minimum of a pool, when it is retired or at shutdown.
    pub(super) fn clear_provisioned(&mut self, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.provisioned_min = 0;
        }
        self.provisioned_pools.retain(|kept| *kept != id);
        self.forgive_failures(id);
    }

    /// Returns whether a pool can spare an instance: it is above its minimum, or its limits allow no instance at all.
    pub(super) fn is_spare(&self, pool: &Pool) -> bool {
        pool.live() > pool.provisioned_min
            || self.capacity.never_fits(&self.config, &pool.spec).is_some()
    }
}
