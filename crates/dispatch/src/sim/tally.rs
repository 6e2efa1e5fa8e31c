//! Instance and memory counts per pool and account, computed once per check.

use std::collections::BTreeMap;

use super::{Instance, World};
use dispatch::{AccountId, PoolId};

/// The counts at one moment.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pools: BTreeMap<PoolId, Counts>,
    accounts: BTreeMap<AccountId, (u64, u32)>,
    /// Memory of all instances, including stopping ones.
    pub(crate) taken: u64,
    /// Number of starting instances.
    pub(crate) starting: u32,
}

/// Instance counts of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) starting: u64,
    pub(crate) busy: u64,
    pub(crate) idle: u64,
    pub(crate) stopping: u64,
}

impl Counts {
    pub(crate) fn all(self) -> u64 {
        self.live() + self.stopping
    }

    fn live(self) -> u64 {
        self.starting + self.busy + self.idle
    }
}

impl World {
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (pool, state) in self.instances.values() {
            let counts = tally.pools.entry(*pool).or_default();
            match state {
                Instance::Starting => counts.starting += 1,
                Instance::Busy => counts.busy += 1,
                Instance::Idle => counts.idle += 1,
                Instance::Stopping => counts.stopping += 1,
            }
        }
        for (pool, counts) in &tally.pools {
            let spec = &self.specs[pool];
            let (held, starting) = tally.accounts.entry(spec.account).or_default();
            *held += counts.live() * spec.memory_mb;
            *starting += counts.starting as u32;
            tally.starting += counts.starting as u32;
            tally.taken += counts.all() * spec.memory_mb;
        }
        tally
    }
}

impl Tally {
    pub(crate) fn of(&self, pool: PoolId) -> Counts {
        self.pools.get(&pool).copied().unwrap_or_default()
    }

    /// Number of a pool's instances that are not stopping.
    pub(crate) fn live(&self, pool: PoolId) -> u64 {
        self.of(pool).live()
    }

    /// Memory of an account's instances that are not stopping.
    pub(crate) fn held(&self, account: AccountId) -> u64 {
        self.accounts.get(&account).map_or(0, |(held, _)| *held)
    }

    pub(crate) fn starting_of(&self, account: AccountId) -> u32 {
        let account = self.accounts.get(&account);
        account.map_or(0, |(_, starting)| *starting)
    }
}
