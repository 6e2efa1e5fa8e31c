//! The invariants that hold after every event.

use std::collections::{BTreeMap, BTreeSet};

use dispatch::{AccountId, GroupId, PoolId, PoolSpec};

use super::tally::Tally;
use super::{GRACE, Instance, MAX_SHORT_WAIT, World};

impl World {
    pub(super) fn fits_never(&self, pool: PoolId) -> bool {
        let spec = &self.specs[&pool];
        // The latest reservation applies to all revisions.
        let newest = self.current[spec.group.0 as usize];
        let reserved = newest.and_then(|newest| self.specs[&newest].reserved_mb);
        let own = reserved.unwrap_or(self.share_of(spec.account));
        let headroom = match spec.headroom {
            true => 0,
            false => self.largest_headroom(),
        };
        spec.memory_mb > own.min(self.config.node_mb - headroom)
    }

    /// Pools that wait for memory to which they are not entitled do not count as waiting.
    pub(super) fn excuse_waits(&mut self, tally: &Tally) {
        let pools = self.queues.iter().filter(|(_, line)| !line.is_empty());
        let waits = pools.map(|(pool, _)| *pool);
        let excused: Vec<_> = waits
            .filter(|pool| !self.is_entitled(tally, *pool))
            .collect();
        for pool in excused {
            self.served.insert(pool, self.now);
        }
    }

    /// Describes the whole state, for debugging.
    pub(super) fn describe(&self) -> String {
        let tally = self.tally();
        let pools = self.specs.iter().map(|(pool, spec)| {
            let line = self.queues.get(pool).map_or(0, |line| line.len());
            let (provisioned_min, reserved, never) =
                (self.provisioned_min(*pool), self.reserved(spec), self.fits_never(*pool));
            let (counts, mb, account) = (tally.of(*pool), spec.memory_mb, spec.account);
            format!(
                "{pool:?} of {account:?} ({} MB): {counts:?} of {mb} MB, {line} waiting, provisioned minimum {provisioned_min}, reserved {reserved:?}, never {never}",
                tally.held(account)
            )
        });
        let pools: Vec<_> = pools.collect();
        format!(
            "at {}, {:?}, {} accounts\n{}\n{:?}",
            self.now,
            self.config,
            self.known,
            pools.join("\n"),
            self.machine
        )
    }

    pub(super) fn check(&mut self) {
        let tally = self.tally();
        let wanting = self
            .specs
            .keys()
            .filter(|pool| self.needs_start(&tally, **pool));
        for pool in wanting.copied().collect::<Vec<_>>() {
            self.wanted.entry(pool).or_insert(self.steps);
        }
        let wanting = self
            .specs
            .keys()
            .filter(|pool| self.needs_start_now(&tally, **pool));
        let wanting: BTreeSet<_> = wanting.copied().collect();
        self.waits.retain(|pool, _| wanting.contains(pool));
        for pool in wanting {
            self.waits.entry(pool).or_insert(self.now);
        }
        self.excuse_waits(&tally);
        self.check_limits(&tally);
        self.check_waits(&tally);
        // Unless a check is due right now.
        let looks = self.wake.is_some_and(|wake| wake <= self.now);
        for (instance, since) in self.thawed.iter().filter(|_| !looks) {
            if let Some((pool, Instance::Idle)) = self.instances.get(instance) {
                let until = since + self.specs[pool].freeze_after;
                assert!(self.now <= until, "{instance:?} is idle and not frozen");
            }
        }
        for (ticket, _, deadline) in self.queues.values().flatten() {
            assert!(
                self.now <= *deadline + GRACE,
                "{ticket:?} waits past its deadline"
            );
        }
        self.check_queues();
    }

    /// No account and no function has more memory than it may.
    fn check_limits(&self, tally: &Tally) {
        let node = tally.taken;
        let mut accounts: BTreeMap<AccountId, u64> = BTreeMap::new();
        let mut groups: BTreeMap<GroupId, u64> = BTreeMap::new();
        for (pool, spec) in &self.specs {
            let taken = tally.of(*pool).all() * spec.memory_mb;
            if taken > 0 && self.reserved(spec).is_none() {
                *accounts.entry(spec.account).or_default() += taken;
            }
            *groups.entry(spec.group).or_default() += taken;
        }
        assert!(node <= self.config.node_mb, "node: {node} MB");
        // When a reservation is removed, the function's memory counts towards the unreserved quota, even beyond it. It
        // must not grow then.
        let before = self.shared.replace(accounts.clone());
        let within = |(account, mb): (&AccountId, &u64)| {
            let had = before.get(account).copied().unwrap_or(0);
            *mb <= self.share_of(*account).max(had) || self.deploying
        };
        assert!(accounts.iter().all(within), "account: {accounts:?}");
        let before = self.held.replace(groups.clone());
        for pool in self.current.iter().flatten() {
            let spec = &self.specs[pool];
            let of =
                |groups: &BTreeMap<GroupId, u64>| groups.get(&spec.group).copied().unwrap_or(0);
            // The same for a lowered reservation.
            let limit = spec.reserved_mb.map(|mb| mb.max(of(&before)));
            let mine = of(&groups);
            assert!(
                self.deploying || limit.is_none_or(|limit| mine <= limit),
                "group: {mine} MB of {spec:?}"
            );
        }
        self.check_provisioned(tally, &accounts, &groups);
    }

    /// No instance is idle while requests of its pool wait, except briefly for short requests.
    fn check_queues(&self) {
        for (pool, line) in &self.queues {
            let idles = self
                .instances
                .values()
                .any(|(of, state)| of == pool && *state == Instance::Idle);
            let agrees = self
                .machine
                .stats(*pool)
                .is_none_or(|stats| stats.waiting == line.len());
            assert!(agrees, "the machine's queue differs from the simulation's");
            let may_wait = |stats: dispatch::PoolStats| {
                let most = self.config.short_request_concurrency;
                let came = line.front().map_or(self.now, |(_, came, _)| *came);
                let held = most > 0 && stats.busy >= most && self.now <= came + MAX_SHORT_WAIT;
                stats.idle == 0 || held
            };
            let stats = self.machine.stats(*pool);
            assert!(
                line.is_empty() || !idles || stats.is_some_and(may_wait),
                "{pool:?}"
            );
        }
    }

    /// If a single pool is below its provisioned minimum and capacity is free, it has just been given a start.
    pub(super) fn check_provisioned(
        &self,
        tally: &Tally,
        accounts: &BTreeMap<AccountId, u64>,
        groups: &BTreeMap<GroupId, u64>,
    ) {
        let node = tally.taken;
        let below = |pool: &&PoolId| tally.live(**pool) < self.provisioned_min(**pool);
        let below: Vec<_> = self.provisioned_pools.keys().filter(below).collect();
        let [pool] = below[..] else { return };
        let spec = &self.specs[pool];
        let used = match spec.reserved_mb {
            Some(mb) => (groups.get(&spec.group), mb),
            None => (accounts.get(&spec.account), self.share_of(spec.account)),
        };
        let fits = used.0.copied().unwrap_or(0) + spec.memory_mb <= used.1
            && node + spec.memory_mb + self.config.headroom_mb <= self.config.node_mb
            && self.has_start_slot(tally, spec.account);
        // Smaller accounts come first.
        let held = tally.held(spec.account);
        let less = |(pool, other): (&PoolId, &PoolSpec)| {
            other.account != spec.account
                && tally.held(other.account) < held
                && self.needs_start(tally, *pool)
        };
        let behind = self.specs.iter().any(less);
        // An evicted instance is replaced once it has ended.
        let ends = tally.of(*pool).stopping > 0;
        let failed = self.failed.contains(pool);
        let excused = self.drained || self.deploying || failed || behind || ends;
        assert!(
            !fits || excused,
            "{pool:?} with {held} MB has capacity for its provisioned minimum besides {node} MB"
        );
    }
}
