//! Instances that a pool keeps ahead of need: its floor.

use super::fair::BEFORE_ALL;
use super::{Blocked, Machine};
use crate::capacity::Capacity;
use crate::pool::Pool;
use crate::timer::MachineTimer;
use crate::{Limit, MachineEffect, PoolId, PoolSpec, Time};

/// How long after a failed start the next one for a floor is tried, microseconds. It doubles with each failure in a row.
const RETRY_FIRST: u64 = 1_000_000;
const RETRY_DOUBLINGS: u32 = 6;

impl Machine {
    /// Memory that floors may hold together, MB: the headroom is left beside them, and some for whatever else is called.
    pub fn provisionable_mb(&self) -> u64 {
        let headroom_mb = self.capacity.largest_headroom_mb(&self.config);
        self.config.node_mb.saturating_sub(headroom_mb) / 10 * 9
    }

    /// A pool keeps so many instances from now on. Those above it become like any other.
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

    /// Puts a pool into the queue of those below their floor, if it is one of them and may start an instance now.
    pub(super) fn queue_provisioned(&mut self, now: Time, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id)
            && pool.needs_provisioned(now)
            && pool.below_since.is_none()
        {
            pool.below_since = Some(now);
            self.below.push_back(id);
        }
    }

    /// The same for all of them.
    pub(super) fn queue_all_provisioned(&mut self, now: Time) {
        for id in self.provisioned_pools.clone() {
            self.queue_provisioned(now, id);
        }
    }

    /// Starts what floors lack, in turn, as far as there is room. They come before what is wanted for requests, so that
    /// the memory of an instance that dies is its successor's; but not before an account that waits for memory and holds less.
    /// Says whether one was held back for that.
    pub(super) fn start_provisioned(
        &mut self,
        now: Time,
        blocked: &mut Vec<Blocked>,
        out: &mut Vec<MachineEffect>,
    ) -> bool {
        let mut turn = 0;
        let mut held_back = false;
        while let Some(id) = self.below.get(turn).copied() {
            let Some(pool) = self
                .pools
                .get(&id)
                .filter(|pool| pool.needs_provisioned(now))
            else {
                self.below.remove(turn);
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
                || self.stands_behind(blocked, id, pool)
                || !self.has_place(spec.account)
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
                    self.below.remove(turn);
                    self.below.push_back(id);
                }
                Some(limit) => {
                    self.evict_for(&spec, Capacity::exceeded_by_provisioned_after_stops, out);
                    blocked.extend(self.lacking(limit, id, BEFORE_ALL));
                    turn += 1;
                }
            }
        }
        held_back
    }

    /// Floors hold all that they may: an account with a larger share gives an idle one up for one with a smaller.
    fn rebalance_provisioned(&mut self, spec: &PoolSpec, out: &mut Vec<MachineEffect>) {
        let kept = |pool: &Pool| pool.live() <= pool.provisioned_min;
        let rank = |pool: &Pool, _| (kept(pool) && self.has_larger_share(pool, spec)).then_some(());
        if let Some(id) = self.least_recent(rank) {
            self.stop(id, out);
        }
    }

    /// What a pool waits for that has fewer instances than it keeps: memory, or only time.
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

    /// Whether floors may hold one more of this size. A node that has become smaller must still have room for others.
    fn may_keep(&self, spec: &PoolSpec) -> bool {
        let kept = |pool: &Pool| pool.live().min(pool.provisioned_min) as u64 * pool.spec.memory_mb;
        let pools = self
            .provisioned_pools
            .iter()
            .filter_map(|id| self.pools.get(id));
        pools.map(kept).sum::<u64>() + spec.memory_mb <= self.provisionable_mb()
    }

    /// Whether a pool below its floor has waited long for what an instance of `own` could give it.
    pub(super) fn provisioned_starves(&self, now: Time, own: &Pool) -> bool {
        let starves = |pool: &&Pool| {
            let waited = pool
                .below_since
                .is_some_and(|since| since.after(self.config.yield_after) <= now);
            waited
                && pool.needs_provisioned(now)
                && self.helps(own, pool)
                && self.may_keep(&pool.spec)
        };
        let below = self.below.iter().filter_map(|id| self.pools.get(id));
        below.into_iter().find(starves).is_some()
    }

    /// A start failed: the next one for the floor is tried later, and later still if it fails, too.
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

    /// The wait after a failed start is over.
    pub(super) fn retry_provisioned(&mut self, now: Time, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.retry_at = None;
        }
        self.queue_provisioned(now, id);
    }

    /// A start went well, or what is wanted has changed: failures before it say nothing any more.
    pub(super) fn forgive_failures(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        pool.provisioned_failures = 0;
        if let Some(at) = pool.retry_at.take() {
            self.timers.remove(at, MachineTimer::Provisioned(id));
        }
    }

    /// A retired pool keeps nothing, and nor does any at shutdown.
    pub(super) fn clear_provisioned(&mut self, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.provisioned_min = 0;
        }
        self.provisioned_pools.retain(|kept| *kept != id);
        self.forgive_failures(id);
    }

    /// Whether a pool can do with one instance less: it has more than it keeps, or may have none at all.
    pub(super) fn is_spare(&self, pool: &Pool) -> bool {
        pool.live() > pool.provisioned_min
            || self.capacity.never_fits(&self.config, &pool.spec).is_some()
    }
}
