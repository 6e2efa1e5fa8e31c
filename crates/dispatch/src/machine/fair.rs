//! Fairness between accounts: who starts next where memory is short, and who gives some back.
//!
//! Nothing that runs is ever stopped. Memory comes from idle instances, and from busy ones when their request has ended.

use std::cmp::Reverse;

use super::queue::Position;
use super::{Blocked, Machine};
use crate::capacity::Capacity;
use crate::pool::{Pool, State};
use crate::rule::Rule;
use crate::{AccountId, Config, InstanceId, Limit, MachineEffect, PoolId, PoolSpec, Time};

/// How many times [`crate::Config::max_starting`] may be starting when every account beyond it has just one.
const PLACES_IN_ALL: u32 = 4;

/// The turn of what floors lack: accounts that have nothing pass it, whenever they came to have nothing.
pub(super) const BEFORE_ALL: u64 = u64::MAX;

impl Machine {
    /// Starts what requests want, as far as there is memory: the account that holds least comes first.
    pub(super) fn start_pending(&mut self, now: Time, out: &mut Vec<MachineEffect>) {
        // What floors get in the end may change who holds least.
        while self.serve_once(now, out) {}
    }

    /// Says whether floors got something after the others.
    fn serve_once(&mut self, now: Time, out: &mut Vec<MachineEffect>) -> bool {
        let mut blocked = Vec::new();
        let held_back = self.start_provisioned(now, &mut blocked, out);
        let mut at = None;
        while let Some(position) = self.queue.next(at) {
            // Whoever comes now holds no less than the one that waits for memory, and none passes it.
            let behind = |first: &Blocked| {
                first.limit == Limit::Node
                    && self.capacity.held_mb(first.spec.account) < position.held_mb
            };
            if blocked.iter().any(behind) {
                break;
            }
            let changed = self.serve_account(now, position, &mut blocked, out);
            // What an account lacks by its own limits is nothing to others.
            blocked.retain(|lack| lack.limit == Limit::Node || lack.turn == BEFORE_ALL);
            at = Some(position);
            if changed {
                // Who holds least, and who stands behind whom, may be another now.
                self.drop_settled(now, &mut blocked);
                at = None;
            }
        }
        let before = out.len();
        if held_back {
            blocked.retain(|lack| lack.turn == BEFORE_ALL);
            self.start_provisioned(now, &mut blocked, out);
        }
        out.len() > before
    }

    /// Keeps what floors still wait for, and forgets what requests wait for.
    fn drop_settled(&self, now: Time, blocked: &mut Vec<Blocked>) {
        let waits = |lack: &Blocked| {
            let pool = self.pools.get(&lack.pool);
            lack.turn == BEFORE_ALL && pool.is_some_and(|pool| pool.needs_provisioned(now))
        };
        blocked.retain(waits);
    }

    /// Starts one instance of an account, if one can be started, or stops what idles in its way. Says whether it did either.
    fn serve_account(
        &mut self,
        now: Time,
        position: Position,
        blocked: &mut Vec<Blocked>,
        out: &mut Vec<MachineEffect>,
    ) -> bool {
        let account = position.account;
        let mut turn = 0;
        while let Some(id) = self.queue.get(account, turn) {
            let pool = self.pools.get(&id);
            let Some(pool) = pool.filter(|pool| pool.needs_start(&self.config)) else {
                self.queue.take(account, turn);
                if let Some(pool) = self.pools.get_mut(&id) {
                    pool.pending_since = None;
                }
                continue;
            };
            let spec = pool.spec;
            if self.stands_behind(blocked, id, pool) {
                turn += 1;
                continue;
            }
            match self.exceeded(now, &spec) {
                None if !self.has_place(account) => return false,
                None => {
                    self.queue.take(account, turn);
                    self.start(id, false, out);
                    self.spend(now, account);
                    if let Some(pool) = self.pools.get_mut(&id) {
                        pool.pending_since = None;
                    }
                    self.queue_start(now, id);
                    return true;
                }
                Some(Limit::Rate) => {
                    // None of the account's others has a token, either.
                    self.await_rate(account);
                    return false;
                }
                Some(limit) => {
                    let wanted_since = pool.pending_turn;
                    let later = Capacity::exceeded_after_stops;
                    let evicted = self.evict_for(&spec, later, out);
                    if evicted {
                        return true;
                    }
                    // What cannot be had at all is waited for by nobody.
                    if self.capacity.never_fits(&self.config, &spec).is_none() {
                        blocked.extend(self.lacking(limit, id, wanted_since));
                    }
                    turn += 1;
                }
            }
        }
        false
    }

    /// What keeps others from taking what a pool waits for.
    pub(super) fn lacking(&self, limit: Limit, id: PoolId, turn: u64) -> Option<Blocked> {
        let pool = self.pools.get(&id)?;
        Some(Blocked {
            pool: id,
            limit,
            spec: pool.spec,
            held_mb: pool.held_mb(),
            turn,
        })
    }

    /// Whether an account may have one more instance starting. One that has none needs no place, or slow starts of others would
    /// keep it from its first.
    pub(super) fn has_place(&self, account: AccountId) -> bool {
        let starting = self.capacity.starting;
        let most = self.config.max_starting;
        starting < most
            || (self.capacity.starting_of(account) == 0
                && starting < most.saturating_mul(PLACES_IN_ALL)
                && self.rules().hold(Rule::FirstPlace))
            || !self.rules().hold(Rule::Places)
    }

    /// Whether a pool would take what another one waits for, which holds no more.
    pub(super) fn stands_behind(&self, blocked: &[Blocked], id: PoolId, pool: &Pool) -> bool {
        let spec = &pool.spec;
        let held_mb = pool.held_mb();
        let account_mb = self.capacity.held_mb(spec.account);
        let mut others = blocked.iter().filter(|first| first.pool != id);
        others.any(|first| {
            let behind = if first.spec.account == spec.account {
                held_mb >= first.held_mb && self.concerns(first.limit, pool, &first.spec)
            } else {
                // As it is now: others of its functions may have started meanwhile.
                account_mb >= self.capacity.held_mb(first.spec.account)
                    && first.limit == Limit::Node
            };
            behind && !self.passes(spec, first)
        })
    }

    /// Whether an account that has nothing may start its first instance though another start waits for memory: the headroom is
    /// kept for it. Once, or many accounts together would keep a large instance from ever being started.
    fn passes(&self, spec: &PoolSpec, first: &Blocked) -> bool {
        let empty_since = self.capacity.empty_since(spec.account);
        first.limit == Limit::Node
            && spec.headroom
            && self.rules().hold(Rule::FirstPasses)
            && spec.memory_mb <= self.capacity.headroom_mb(&self.config)
            && empty_since.is_some_and(|turn| turn <= first.turn)
    }

    /// Whether another account takes the next instance that a pool finishes with: it has waited for memory for long, and holds
    /// less. What a pool keeps it gives only as long as its account still has the larger share then.
    pub(super) fn account_starves(&self, now: Time, own: &Pool) -> bool {
        let account = own.spec.account;
        let held = self.capacity.held_mb(account);
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
        let mut at = None;
        while let Some(position) = self.queue.next(at).filter(|other| other.held_mb < held) {
            at = Some(position);
            if position.account != account && self.queue.of(position.account).any(starves) {
                return self.rules().hold(Rule::AccountsYield);
            }
        }
        false
    }

    /// Whether an account has no less than another one, once an instance of it has made room for one of the other's.
    pub(super) fn has_larger_share(&self, own: &Pool, other: &PoolSpec) -> bool {
        let held = self.capacity.held_mb(own.spec.account);
        let after = self.capacity.held_mb(other.account) + other.memory_mb;
        own.spec.account != other.account && held >= after + own.spec.memory_mb
    }

    /// Whether another account that holds less waits for the node's memory, or will be given some.
    pub(super) fn is_behind_others(&self, account: AccountId) -> bool {
        let wants = |id: PoolId| {
            let Some(pool) = self.pools.get(&id) else {
                return false;
            };
            let exceeded = || self.capacity.exceeded_after_stops(&self.config, &pool.spec);
            pool.needs_start(&self.config) && matches!(exceeded(), None | Some(Limit::Node))
        };
        let held = self.capacity.held_mb(account);
        let mut at = None;
        while let Some(position) = self.queue.next(at).filter(|other| other.held_mb < held) {
            at = Some(position);
            if position.account != account && self.queue.of(position.account).any(wants) {
                return self.rules().hold(Rule::KeptComesAfter);
            }
        }
        false
    }

    /// Whether a pool must hand its instance over because the headroom is used up, and its account holds more than its share of
    /// the node. What idles is stopped first.
    pub(super) fn gives_headroom(&mut self, id: PoolId, out: &mut Vec<MachineEffect>) -> bool {
        let Some(own) = self
            .pools
            .get(&id)
            .filter(|own| own.live() > own.provisioned_min)
        else {
            return false;
        };
        if !self.rules().hold(Rule::HeadroomIsMadeAgain) {
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

    /// Stops idle instances that stand in the way of a start, as many as it takes and no more: those of the account that holds
    /// most first, and of each the least recently used first. An account that holds less than the one that wants it gives only
    /// what has idled until it was frozen: what it uses again and again is not idle. Says whether there was any.
    pub(super) fn evict_for(
        &mut self,
        spec: &PoolSpec,
        exceeded: impl Fn(&Capacity, &Config, &PoolSpec) -> Option<Limit>,
        out: &mut Vec<MachineEffect>,
    ) -> bool {
        let mut evicted = false;
        if !self.rules().hold(Rule::IdleGivesWay) {
            return false;
        }
        while let Some(limit) = exceeded(&self.capacity, &self.config, spec) {
            let wanting = self.capacity.held_mb(spec.account);
            let rank = |pool: &Pool, frozen: bool| {
                let held = self.capacity.held_mb(pool.spec.account);
                let gives = pool.spec.account == spec.account || held > wanting || frozen;
                let kept = !self.is_spare(pool) && self.rules().hold(Rule::KeptStays);
                let rank = match self.rules().hold(Rule::LargestGivesFirst) {
                    true => (kept, Reverse(held)),
                    false => (kept, Reverse(0)),
                };
                let concerns = self.concerns(limit, pool, spec);
                let may = if kept {
                    self.has_larger_share(pool, spec) && self.rules().hold(Rule::KeptGivesWay)
                } else {
                    gives
                };
                (concerns && may).then_some(rank)
            };
            let Some(id) = self.least_recent(rank) else {
                break;
            };
            self.stop(id, out);
            evicted = true;
        }
        evicted
    }

    /// The idle instance that has idled longest, of the pools with the lowest rank. The rank is told whether it is frozen.
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
