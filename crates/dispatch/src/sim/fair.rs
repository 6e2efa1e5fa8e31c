//! Fairness between accounts: invariants checked by the random schedules, and cases that those rarely reach.

use std::collections::BTreeSet;

use dispatch::{AccountId, InstanceId, MachineEvent, PoolId, PoolSpec};

use super::tally::Tally;
use super::{Instance, LARGEST, World};

/// Limit of starting instances as a multiple of the start slots, where each account beyond them starts just one.
const START_SLOT_FACTOR: u32 = 4;

impl World {
    fn all(&self) -> impl Iterator<Item = AccountId> + use<> {
        (0..self.accounts).map(AccountId)
    }

    pub(crate) fn others(&self, account: AccountId) -> impl Iterator<Item = AccountId> + use<> {
        self.all().filter(move |other| *other != account)
    }

    pub(crate) fn has_start_slot(&self, tally: &Tally, account: AccountId) -> bool {
        let most = self.config.max_starting;
        tally.starting < most
            || (tally.starting_of(account) == 0 && tally.starting < START_SLOT_FACTOR * most)
    }

    fn headroom(&self, tally: &Tally) -> u64 {
        let holding = self.all().filter(|account| tally.held(*account) > 0);
        let each = self.known.saturating_sub(holding.count() as u64) * self.config.first_mb;
        let least = self.config.headroom_mb;
        least.max(each.min(self.config.node_mb / 4))
    }

    /// The headroom if no account had instances.
    pub(crate) fn largest_headroom(&self) -> u64 {
        let each = (self.known * self.config.first_mb).min(self.config.node_mb / 4);
        each.max(self.config.headroom_mb)
    }

    /// Memory that can be provisioned besides the headroom and any one instance, for this many accounts.
    pub(crate) fn provisionable_mb(&self, known: u64) -> u64 {
        let each = (known * self.config.first_mb).min(self.config.node_mb / 4);
        let left = self.config.node_mb - each.max(self.config.headroom_mb);
        (left / 10 * 9).min(left.saturating_sub(LARGEST))
    }

    /// Reports the number of accounts, if the provisioned instances still fit besides the headroom.
    pub(crate) fn report_accounts(&mut self, known: u64) {
        let kept = self
            .provisioned_pools
            .iter()
            .map(|(pool, n)| n * self.specs[pool].memory_mb);
        if kept.sum::<u64>() <= self.provisionable_mb(known) {
            self.known = known;
            // Starts that were blocked may be possible now.
            for account in self.all() {
                self.disturb(account);
            }
            let count = known as usize;
            self.step(MachineEvent::Accounts { count });
        }
    }

    fn free(&self, tally: &Tally) -> u64 {
        self.config.node_mb - tally.taken
    }

    /// Memory that must stay free after a start.
    fn left(&self, tally: &Tally, spec: &PoolSpec) -> u64 {
        match tally.held(spec.account) {
            0 if spec.headroom => 0,
            _ => self.headroom(tally),
        }
    }

    /// Whether more requests wait than starting instances can serve. Short-request detection may hold them back.
    pub(crate) fn needs_start(&self, tally: &Tally, pool: PoolId) -> bool {
        let starting = tally.of(pool).starting as usize;
        let line = self.queues.get(&pool).map_or(0, |line| line.len());
        line > starting * self.specs[&pool].slots as usize
    }

    /// Whether the same holds and short-request detection does not apply.
    pub(crate) fn needs_start_now(&self, tally: &Tally, pool: PoolId) -> bool {
        let (spec, most) = (&self.specs[&pool], self.config.short_request_concurrency);
        let counts = tally.of(pool);
        let short = most > 0 && spec.slots == 1 && (counts.starting + counts.busy) as usize >= most;
        !short && self.needs_start(tally, pool)
    }

    fn pools_of(&self, account: AccountId) -> impl Iterator<Item = (PoolId, &PoolSpec)> {
        let of = self.specs.iter();
        let of = of.filter(move |(_, spec)| spec.account == account);
        of.map(|(pool, spec)| (*pool, spec))
    }

    /// Whether an account's start rate allows another start now.
    fn has_token(&self, account: AccountId) -> bool {
        let rate = u64::from(self.config.starts_per_minute);
        let Some(each) = 60_000_000u64.checked_div(rate) else {
            return true;
        };
        let full_at = self.tokens.get(&account).copied().unwrap_or(0);
        full_at.saturating_sub(each * (rate - 1)) <= self.now
    }

    /// The account's pools with a pending start that only the node or other accounts can block.
    fn ready(&self, tally: &Tally, account: AccountId) -> Vec<PoolId> {
        if self.drained || !self.has_token(account) {
            return Vec::new();
        }
        let below = |pool: PoolId| tally.live(pool) < self.provisioned_min(pool);
        // Pools that lack quota of the account block others of it from that quota, and so do its provisioned minimums.
        let first: Vec<_> = self
            .pools_of(account)
            .filter(|(pool, _)| {
                let lacks = self.needs_start(tally, *pool) && !self.fits_own_limits(tally, *pool);
                below(*pool) || lacks
            })
            .map(|(pool, spec)| (spec.memory_mb * tally.live(pool), pool, below(pool)))
            .collect();
        let concerns = |first: PoolId, pool: PoolId| {
            let (first, spec) = (&self.specs[&first], &self.specs[&pool]);
            match self.reserved(first) {
                Some(_) => first.group == spec.group,
                None => self.reserved(spec).is_none(),
            }
        };
        let ready = |pool: PoolId, spec: &PoolSpec| {
            let held = spec.memory_mb * tally.live(pool);
            let behind = first
                .iter()
                .any(|(of, first, below)| held >= *of && (*below || concerns(*first, pool)));
            self.needs_start_now(tally, pool)
                && self.fits_own_limits(tally, pool)
                && !self.fits_never(pool)
                && !behind
        };
        let pools = self.pools_of(account);
        let ready = pools.filter(|(pool, spec)| ready(*pool, spec));
        ready.map(|(pool, _)| pool).collect()
    }

    /// Memory reserved for a pool's function now.
    pub(crate) fn reserved(&self, spec: &PoolSpec) -> Option<u64> {
        let newest = self.current[spec.group.0 as usize]?;
        self.specs[&newest].reserved_mb
    }

    /// Whether the limits of a pool's function and account allow one more instance.
    fn fits_own_limits(&self, tally: &Tally, pool: PoolId) -> bool {
        let spec = &self.specs[&pool];
        let sum = |counts: &dyn Fn(&PoolSpec) -> bool| -> u64 {
            let counted = self.pools_of(spec.account).filter(|(_, spec)| counts(spec));
            let taken = counted.map(|(pool, spec)| tally.of(pool).all() * spec.memory_mb);
            taken.sum()
        };
        let (used, most) = match self.reserved(spec) {
            Some(mb) => (sum(&|other| other.group == spec.group), mb),
            None => (
                sum(&|other| self.reserved(other).is_none()),
                self.share_of(spec.account),
            ),
        };
        used + spec.memory_mb <= most
    }

    /// No account starts an instance while a smaller one waits for one, and only a first instance uses the headroom.
    pub(crate) fn check_fair_start(&self, pool: PoolId, provisioned: bool) {
        let tally = self.tally();
        let spec = &self.specs[&pool];
        let (account, held) = (spec.account, tally.held(spec.account));
        assert!(
            self.has_start_slot(&tally, account),
            "{account:?} starts too many"
        );
        let left = match provisioned {
            true => self.config.headroom_mb,
            false => self.left(&tally, spec),
        };
        let free = self.config.node_mb.saturating_sub(tally.taken);
        assert!(
            free >= spec.memory_mb + left,
            "{account:?} with {held} MB uses the headroom"
        );
        for other in self.others(account).filter(|_| !self.deploying) {
            // Provisioned instances start first, unless the other account waited for memory before.
            let last = self.short.borrow();
            let had = |account| last.1.get(&account).copied().unwrap_or(0);
            let waited = last.0.contains(&other) && had(other) < had(account);
            let before = tally.held(other) < held && (waited || !provisioned);
            assert!(
                !(before
                    && self.has_start_slot(&tally, other)
                    && !self.ready(&tally, other).is_empty()),
                "{account:?} with {held} MB starts before {other:?} with {} MB, {:?}, {provisioned}, {}",
                tally.held(other),
                self.ready(&tally, other),
                self.describe()
            );
        }
    }

    /// An empty account gets its first instance at once if the headroom is free and large enough. While an account
    /// waits for the node's memory, no evictable instance is idle.
    pub(crate) fn check_waits(&self, tally: &Tally) {
        let mut short = BTreeSet::new();
        for account in self.all() {
            let ready = self.ready(tally, account);
            if ready.is_empty() {
                continue;
            }
            let memory = |pool: &PoolId| self.specs[pool].memory_mb;
            let least = |pool: &PoolId| memory(pool) + self.left(tally, &self.specs[pool]);
            if ready.iter().all(|pool| self.free(tally) < least(pool)) {
                short.insert(account);
            }
            if self.deploying {
                continue;
            }
            self.check_first(tally, account, &ready);
            // Without a start slot, eviction would be premature.
            for pool in ready.iter().filter(|_| self.has_start_slot(tally, account)) {
                self.check_idle(tally, *pool);
            }
        }
        let held = self.all().map(|account| (account, tally.held(account)));
        self.short.replace((short, held.collect()));
    }

    fn check_first(&self, tally: &Tally, account: AccountId, ready: &[PoolId]) {
        let may = |pool: &&PoolId| {
            let spec = &self.specs[pool];
            spec.headroom && spec.memory_mb <= self.headroom(tally).min(self.free(tally))
        };
        let first = ready.iter().find(may);
        // An account that became empty again queues behind earlier waits of equally small accounts.
        let since = self.emptied.get(&account);
        let waited = |pool: PoolId| {
            let spec = &self.specs[&pool];
            let before = since.is_some_and(|since| self.wanted.get(&pool) <= Some(since));
            let nothing = tally.held(spec.account) == 0;
            let short = self.free(tally) < spec.memory_mb + self.left(tally, spec);
            before && nothing && short && self.needs_start(tally, pool)
        };
        let passed = self.specs.keys().copied().any(waited);
        assert!(
            tally.held(account) > 0
                || first.is_none()
                || passed
                || !self.has_start_slot(tally, account),
            "{account:?} has nothing, {first:?} waits, and {} MB are free",
            self.free(tally)
        );
    }

    /// Whether a pool is the smallest one that waits, among accounts and within its own.
    fn is_least(&self, tally: &Tally, pool: PoolId) -> bool {
        let spec = &self.specs[&pool];
        let own = tally.live(pool) * spec.memory_mb;
        let before = |(other, of): (&PoolId, &PoolSpec)| {
            let less = match of.account == spec.account {
                true => tally.live(*other) * of.memory_mb <= own,
                false => tally.held(of.account) <= tally.held(spec.account),
            };
            let needs_start_now = self.needs_start(tally, *other)
                || tally.live(*other) < self.provisioned_min(*other);
            *other != pool && less && needs_start_now
        };
        !self.specs.iter().any(before)
    }

    /// While a pool waits for the node's memory, no instance that must yield to it is idle.
    fn check_idle(&self, tally: &Tally, pool: PoolId) {
        let spec = &self.specs[&pool];
        let held = tally.held(spec.account);
        let used: u64 = self.all().map(|account| tally.held(account)).sum();
        let fits = used + spec.memory_mb + self.left(tally, spec) <= self.config.node_mb;
        if fits || !self.is_least(tally, pool) {
            return;
        }
        for (instance, (of, state)) in &self.instances {
            let idle = &self.specs[of];
            let theirs = tally.held(idle.account);
            let spare = tally.live(*of) > self.provisioned_min(*of);
            let frozen = !self.thawed.contains_key(instance);
            let gives = match spare {
                true => idle.account == spec.account || theirs > held || frozen,
                false => {
                    idle.account != spec.account && theirs >= held + spec.memory_mb + idle.memory_mb
                }
            };
            assert!(
                *state != Instance::Idle || !gives,
                "{instance:?} of {:?} with {theirs} MB idles, and {pool:?} of {:?} with {held} MB waits {}",
                idle.account,
                spec.account,
                self.describe()
            );
        }
    }

    /// An instance that has finished a request gets no other one if its account is above its fair share and the
    /// headroom is in use.
    pub(crate) fn check_headroom(&self, pool: PoolId) {
        let tally = self.tally();
        let account = self.specs[&pool].account;
        let used: u64 = self.all().map(|account| tally.held(account)).sum();
        let lacks = used + self.headroom(&tally) > self.config.node_mb;
        let holding = self.all().filter(|account| tally.held(*account) > 0);
        let above = tally.held(account) * (holding.count() as u64 + 1) > self.config.node_mb;
        assert!(
            !(lacks && above && tally.live(pool) > self.provisioned_min(pool)),
            "{account:?} with {} MB goes on in the headroom",
            tally.held(account)
        );
    }

    /// An instance that has finished a request gets no other one if a smaller account has waited for memory long
    /// enough.
    pub(crate) fn check_yields(&self, own: PoolId) {
        let tally = self.tally();
        let spec = &self.specs[&own];
        let held = tally.held(spec.account);
        let used: u64 = self.all().map(|account| tally.held(account)).sum();
        let starves = |pool: &PoolId| {
            let other = &self.specs[pool];
            let theirs = tally.held(other.account);
            let since = self.waits.get(pool).copied().unwrap_or(self.now);
            let gives = tally.live(own) > self.provisioned_min(own)
                || held >= theirs + other.memory_mb + spec.memory_mb;
            let lacks = used + other.memory_mb + self.left(&tally, other) > self.config.node_mb;
            since + self.config.yield_after <= self.now && lacks && gives && theirs < held
        };
        for other in self.others(spec.account) {
            let ready = self.ready(&tally, other);
            let starved = ready.iter().find(|pool| starves(pool));
            assert!(
                starved.is_none() || self.deploying,
                "{own:?} goes on, and {starved:?} waits, {}",
                self.describe()
            );
        }
    }

    /// An evicted instance belongs to the largest account among those with frozen instances. The victim is no longer
    /// counted.
    pub(crate) fn check_eviction(&self, victim: PoolId) {
        let tally = self.tally();
        let spec = &self.specs[&victim];
        let had = tally.held(spec.account) + spec.memory_mb;
        let needs_start_now = |(pool, _): (PoolId, &PoolSpec)| {
            self.needs_start(&tally, pool) || tally.live(pool) < self.provisioned_min(pool)
        };
        if self.pools_of(spec.account).any(needs_start_now) {
            return; // It may be for itself, by its own limits.
        }
        for (instance, (pool, state)) in &self.instances {
            let other = self.specs[pool].account;
            let spare = *state == Instance::Idle && tally.live(*pool) > self.provisioned_min(*pool);
            let frozen = !self.thawed.contains_key(instance);
            assert!(
                !(spare && frozen && tally.held(other) > had),
                "{:?} with {had} MB gives way before {other:?} with {} MB",
                spec.account,
                tally.held(other)
            );
        }
    }

    /// Whether a waiting pool will get memory in the end: another account, or another pool of its own, holds more and
    /// not by its provisioned minimum.
    pub(crate) fn is_entitled(&self, tally: &Tally, pool: PoolId) -> bool {
        let spec = &self.specs[&pool];
        let held = tally.held(spec.account);
        let own = tally.live(pool) * spec.memory_mb;
        let own_limits = self.fits_own_limits(tally, pool);
        let more = |(other, of): (PoolId, &PoolSpec)| {
            let concerns = own_limits
                || match self.reserved(spec) {
                    Some(_) => of.group == spec.group,
                    None => self.reserved(of).is_none(),
                };
            other != pool
                && concerns
                && tally.live(other) > self.provisioned_min(other)
                && tally.live(other) * of.memory_mb > own
        };
        if self.pools_of(spec.account).any(more) {
            return true;
        }
        let used: u64 = self.all().map(|account| tally.held(account)).sum();
        let fits = used + spec.memory_mb + self.left(tally, spec) <= self.config.node_mb;
        let larger = |(other, of): (&PoolId, &PoolSpec)| {
            of.account != spec.account
                && tally.live(*other) > 0
                && tally.held(of.account) >= held + spec.memory_mb + of.memory_mb
        };
        own_limits && (fits || self.specs.iter().any(larger))
    }

    /// Records when a pool's account becomes empty.
    pub(crate) fn note_empty(&mut self, pool: PoolId) {
        let account = self.specs[&pool].account;
        if self.tally().held(account) == 0 {
            self.emptied.insert(account, self.steps);
        }
    }

    pub(crate) fn remove(&mut self, instance: InstanceId) -> Option<PoolId> {
        let (pool, state) = self.instances.remove(&instance)?;
        if state != Instance::Stopping {
            self.note_empty(pool);
        }
        Some(pool)
    }

    /// Whether another account needs memory and would hold no more even after a pool has handed over an instance.
    pub(crate) fn may_release_provisioned(&self, pool: PoolId) -> bool {
        let tally = self.tally();
        let account = self.specs[&pool].account;
        let held = tally.held(account);
        let less = |(pool, spec): (&PoolId, &PoolSpec)| {
            let other = spec.account;
            let needs_start_now =
                self.needs_start(&tally, *pool) || tally.live(*pool) < self.provisioned_min(*pool);
            other != account && needs_start_now && tally.held(other) + spec.memory_mb <= held
        };
        self.specs.iter().any(less)
    }
}
