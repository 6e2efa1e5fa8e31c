//! Max-min fairness between accounts: who starts next when memory is short, and who releases some.
//!
//! Running instances are never stopped. Memory comes from idle instances, and from busy ones after their request.

use std::cmp::Reverse;

use super::Machine;
use super::start_queue::AccountPosition;
use super::starts::BlockedStart;
use crate::capacity::Capacity;
use crate::pool::{Pool, State};
use crate::rule::Rule;
use crate::{AccountId, Config, InstanceId, Limit, MachineEffect, PoolId, PoolSpec, Time};

/// Limit of starting instances as a multiple of [`crate::Config::max_starting`], where each account beyond the slots
/// starts just one.
const START_SLOT_FACTOR: u32 = 4;

/// The turn of provisioned starts: an empty account may overtake them, whenever it became empty.
pub(super) const PROVISIONED_TURN: u64 = u64::MAX;

impl Machine {
    /// Starts instances for waiting requests as far as memory allows, smallest account first.
    pub(super) fn start_pending(&mut self, now: Time, out: &mut Vec<MachineEffect>) {
        // Provisioned starts at the end may change which account is smallest.
        while self.start_pending_once(now, out) {}
    }

    /// Returns whether provisioned starts were made after the others.
    fn start_pending_once(&mut self, now: Time, out: &mut Vec<MachineEffect>) -> bool {
        let mut blocked = Vec::new();
        let held_back = self.start_provisioned(now, &mut blocked, out);
        let mut at = None;
        while let Some(position) = self.start_queue.next(at) {
            // All further accounts hold no less than the one that waits for memory, and may not overtake it.
            let behind = |first: &BlockedStart| {
                first.limit == Limit::Node
                    && self.capacity.held_mb(first.spec.account) < position.held_mb
            };
            if blocked.iter().any(behind) {
                break;
            }
            let changed = self.start_for_account(now, position, &mut blocked, out);
            // An account's own limits do not block others.
            blocked.retain(|lack| lack.limit == Limit::Node || lack.turn == PROVISIONED_TURN);
            at = Some(position);
            if changed {
                // A start or an eviction may have changed the order of accounts.
                self.keep_provisioned(now, &mut blocked);
                at = None;
            }
        }
        let before = out.len();
        if held_back {
            blocked.retain(|lack| lack.turn == PROVISIONED_TURN);
            self.start_provisioned(now, &mut blocked, out);
        }
        out.len() > before
    }

    /// Keeps blocked provisioned starts and drops those of requests, which are evaluated anew.
    fn keep_provisioned(&self, now: Time, blocked: &mut Vec<BlockedStart>) {
        let waits = |lack: &BlockedStart| {
            let pool = self.pools.get(&lack.pool);
            lack.turn == PROVISIONED_TURN && pool.is_some_and(|pool| pool.needs_provisioned(now))
        };
        blocked.retain(waits);
    }

    /// Starts one instance of an account, or evicts idle instances for it. Returns whether it did either.
    fn start_for_account(
        &mut self,
        now: Time,
        position: AccountPosition,
        blocked: &mut Vec<BlockedStart>,
        out: &mut Vec<MachineEffect>,
    ) -> bool {
        let account = position.account;
        let mut turn = 0;
        while let Some(id) = self.start_queue.get(account, turn) {
            let pool = self.pools.get(&id);
            let Some(pool) = pool.filter(|pool| pool.needs_start(&self.config)) else {
                self.start_queue.take(account, turn);
                if let Some(pool) = self.pools.get_mut(&id) {
                    pool.pending_since = None;
                }
                continue;
            };
            let spec = pool.spec;
            if self.must_wait_behind(blocked, id, pool) {
                turn += 1;
                continue;
            }
            match self.exceeded(now, &spec) {
                None if !self.has_start_slot(account) => return false,
                None => {
                    self.start_queue.take(account, turn);
                    self.start(id, false, out);
                    self.take_rate_token(now, account);
                    if let Some(pool) = self.pools.get_mut(&id) {
                        pool.pending_since = None;
                    }
                    self.queue_start(now, id);
                    return true;
                }
                Some(Limit::Rate) => {
                    // The bucket is empty for all pools of the account.
                    self.wake_at_next_token(account);
                    return false;
                }
                Some(limit) => {
                    let wanted_since = pool.pending_turn;
                    let later = Capacity::exceeded_after_stops;
                    let evicted = self.evict_for(&spec, later, out);
                    if evicted {
                        return true;
                    }
                    // A start that can never fit must not block others.
                    if self.capacity.never_fits(&self.config, &spec).is_none() {
                        blocked.extend(self.blocked_start(limit, id, wanted_since));
                    }
                    turn += 1;
                }
            }
        }
        false
    }

    /// Returns the entry that blocks others from the memory a pool waits for.
    pub(super) fn blocked_start(
        &self,
        limit: Limit,
        id: PoolId,
        turn: u64,
    ) -> Option<BlockedStart> {
        let pool = self.pools.get(&id)?;
        Some(BlockedStart {
            pool: id,
            limit,
            spec: pool.spec,
            held_mb: pool.held_mb(),
            turn,
        })
    }

    /// Returns whether an account may start another instance now. An account without a starting instance needs no free
    /// slot, or slow starts of others would delay its first.
    pub(super) fn has_start_slot(&self, account: AccountId) -> bool {
        let starting = self.capacity.starting;
        let most = self.config.max_starting;
        starting < most
            || (self.capacity.starting_of(account) == 0
                && starting < most.saturating_mul(START_SLOT_FACTOR)
                && self.rules().in_force(Rule::FirstNeedsNoSlot))
            || !self.rules().in_force(Rule::StartSlots)
    }

    /// Returns whether a pool must wait behind another pending start of a pool or account that holds no more.
    pub(super) fn must_wait_behind(
        &self,
        blocked: &[BlockedStart],
        id: PoolId,
        pool: &Pool,
    ) -> bool {
        let spec = &pool.spec;
        let held_mb = pool.held_mb();
        let account_mb = self.capacity.held_mb(spec.account);
        let mut others = blocked.iter().filter(|first| first.pool != id);
        others.any(|first| {
            let behind = if first.spec.account == spec.account {
                held_mb >= first.held_mb && self.counts_against(first.limit, pool, &first.spec)
            } else {
                // Compare current values: other functions of the account may have started meanwhile.
                account_mb >= self.capacity.held_mb(first.spec.account)
                    && first.limit == Limit::Node
            };
            behind && !self.may_overtake(spec, first)
        })
    }

    /// Returns whether an empty account may overtake a start that waits for memory, by use of the headroom. It may do
    /// so once per wait, or many small accounts together would starve a large instance.
    fn may_overtake(&self, spec: &PoolSpec, first: &BlockedStart) -> bool {
        let empty_since = self.capacity.empty_since(spec.account);
        first.limit == Limit::Node
            && spec.headroom
            && self.rules().in_force(Rule::FirstOvertakes)
            && spec.memory_mb <= self.capacity.headroom_mb(&self.config)
            && empty_since.is_some_and(|turn| turn <= first.turn)
    }

    /// Returns whether a smaller account has waited long enough for memory to get the next instance that `own` finishes
    /// with. A provisioned instance is handed over only while its account still holds more afterwards.
    pub(super) fn account_starves(&self, now: Time, own: &Pool) -> bool {
        let account = own.spec.account;
        let starves = |id: PoolId| {
            let Some(pool) = self.pools.get(&id) else {
                return false;
            };
            let waited = pool
                .pending_since
                .is_some_and(|since| since.after(self.config.yield_after) <= now);
            let gives = own.live() > own.provisioned_min || self.has_larger_share(own, &pool.spec);
            let lacks = || {
                self.capacity.exceeded_after_stops(&self.config, &pool.spec) == Some(Limit::Node)
            };
            waited && gives && pool.needs_start(&self.config) && lacks()
        };
        self.smaller_account_waits(account, starves) && self.rules().in_force(Rule::AccountsYield)
    }

    /// Returns whether the account of `own` would hold no less than the other after handing one instance over.
    pub(super) fn has_larger_share(&self, own: &Pool, other: &PoolSpec) -> bool {
        let held = self.capacity.held_mb(own.spec.account);
        let after = self.capacity.held_mb(other.account) + other.memory_mb;
        own.spec.account != other.account && held >= after + own.spec.memory_mb
    }

    /// Returns whether an account that holds less than this one has a pending start for which `test` holds.
    fn smaller_account_waits(&self, account: AccountId, test: impl Fn(PoolId) -> bool) -> bool {
        let held = self.capacity.held_mb(account);
        let mut at = None;
        while let Some(position) = self
            .start_queue
            .next(at)
            .filter(|other| other.held_mb < held)
        {
            at = Some(position);
            if position.account != account && self.start_queue.of(position.account).any(&test) {
                return true;
            }
        }
        false
    }

    /// Returns whether a smaller account has a start pending that needs, or may get, memory of the node.
    pub(super) fn is_behind_others(&self, account: AccountId) -> bool {
        let wants = |id: PoolId| {
            let Some(pool) = self.pools.get(&id) else {
                return false;
            };
            let exceeded = || self.capacity.exceeded_after_stops(&self.config, &pool.spec);
            pool.needs_start(&self.config) && matches!(exceeded(), None | Some(Limit::Node))
        };
        self.smaller_account_waits(account, wants)
            && self.rules().in_force(Rule::ProvisionedComesAfter)
    }

    /// Returns whether a pool must hand its instance over to restore the headroom: the headroom is in use, and the
    /// account is above its fair share of the node. Idle instances are stopped first.
    pub(super) fn must_restore_headroom(
        &mut self,
        id: PoolId,
        out: &mut Vec<MachineEffect>,
    ) -> bool {
        let Some(own) = self
            .pools
            .get(&id)
            .filter(|own| own.live() > own.provisioned_min)
        else {
            return false;
        };
        if !self.rules().in_force(Rule::HeadroomRestored) {
            return false;
        }
        let account = own.spec.account;
        while self.capacity.lacks_headroom(&self.config)
            && self.capacity.is_above_fair_share(&self.config, account)
        {
            let larger = |pool: &Pool| {
                let above = self
                    .capacity
                    .is_above_fair_share(&self.config, pool.spec.account);
                above && self.is_spare(pool)
            };
            match self.least_recent(|pool, _| larger(pool).then_some(())) {
                Some(idle) => self.stop(idle, out),
                None => return true,
            }
        }
        false
    }

    /// Evicts as many idle instances as a start needs: those of the largest account first, then the least recently
    /// used. An account that holds less than the starting one loses only frozen instances, since an instance that is
    /// used again and again is not idle. Returns whether any was evicted.
    pub(super) fn evict_for(
        &mut self,
        spec: &PoolSpec,
        exceeded: impl Fn(&Capacity, &Config, &PoolSpec) -> Option<Limit>,
        out: &mut Vec<MachineEffect>,
    ) -> bool {
        let mut evicted = false;
        if !self.rules().in_force(Rule::IdleEvicted) {
            return false;
        }
        while let Some(limit) = exceeded(&self.capacity, &self.config, spec) {
            let wanting = self.capacity.held_mb(spec.account);
            let rank = |pool: &Pool, frozen: bool| {
                let held = self.capacity.held_mb(pool.spec.account);
                let gives = pool.spec.account == spec.account || held > wanting || frozen;
                let kept = !self.is_spare(pool) && self.rules().in_force(Rule::ProvisionedStays);
                let rank = match self.rules().in_force(Rule::LargestEvictedFirst) {
                    true => (kept, Reverse(held)),
                    false => (kept, Reverse(0)),
                };
                let counts_against = self.counts_against(limit, pool, spec);
                let may = if kept {
                    self.has_larger_share(pool, spec)
                        && self.rules().in_force(Rule::ProvisionedGivesWay)
                } else {
                    gives
                };
                (counts_against && may).then_some(rank)
            };
            let Some(id) = self.least_recent(rank) else {
                break;
            };
            self.stop(id, out);
            evicted = true;
        }
        evicted
    }

    /// Returns the least recently used idle instance among the pools with the lowest rank. The flag is set if it is
    /// frozen.
    pub(super) fn least_recent<R: Ord>(
        &self,
        rank: impl Fn(&Pool, bool) -> Option<R>,
    ) -> Option<InstanceId> {
        let oldest = self
            .pools
            .values()
            .filter_map(|pool| {
                let id = pool.idle.front()?;
                match self.instances.get(id)?.state {
                    State::Idle { since, frozen } => Some((rank(pool, frozen)?, since, *id)),
                    _ => None,
                }
            })
            .min();
        oldest.map(|(_, _, id)| id)
    }
}
