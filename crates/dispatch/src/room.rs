//! Memory and places: what is taken, and what is short.

use crate::ids::Map;
use crate::{AccountId, Config, GroupId, Limit, PoolSpec};

/// What all instances take up together.
#[derive(Debug, Default)]
pub(crate) struct Room {
    node: Taken,
    accounts: Map<AccountId, Account>,
    groups: Map<GroupId, Group>,
    pub(crate) starting: u32,
}

/// What an account's functions share for which nothing is set aside.
#[derive(Debug, Default)]
struct Account {
    taken: Taken,
    /// `None` is what the configuration says.
    mb: Option<u64>,
}

/// A function's pools together. What is set aside is what was said last, for older revisions, too: else an
/// old one could go on above a new limit and starve its successor.
#[derive(Debug, Default)]
struct Group {
    taken: Taken,
    reserved_mb: Option<u64>,
    pools: u32,
}

/// What is taken of one limit, and what of it is about to be given back.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    mb: u64,
    stopping_mb: u64,
}

impl Room {
    /// The first limit that a further instance would pass.
    pub(crate) fn short(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        self.shortage(config, spec, |taken| taken.mb)
    }

    /// The same, once everything that is being stopped is gone.
    pub(crate) fn short_later(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        self.shortage(config, spec, |taken| taken.mb - taken.stopping_mb)
    }

    /// The limit that even a single instance would pass.
    pub(crate) fn never(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        self.shortage(config, spec, |_| 0)
    }

    /// A pool is there, or has new settings: what they set aside is the group's from now on.
    pub(crate) fn open(&mut self, spec: &PoolSpec, new: bool) {
        let group = self.groups.entry(spec.group).or_default();
        group.pools += u32::from(new);
        self.reserve(spec.account, spec.group, spec.reserved_mb);
    }

    /// A pool is gone.
    pub(crate) fn close(&mut self, spec: &PoolSpec) {
        if let Some(group) = self.groups.get_mut(&spec.group) {
            group.pools -= 1;
            if group.pools == 0 {
                self.groups.remove(&spec.group);
            }
        }
    }

    /// Sets memory aside for a group, or no longer. What it has taken moves with it.
    pub(crate) fn reserve(&mut self, account: AccountId, group: GroupId, mb: Option<u64>) {
        let Some(group) = self.groups.get_mut(&group) else {
            return;
        };
        let was = std::mem::replace(&mut group.reserved_mb, mb);
        let shared = &mut self.accounts.entry(account).or_default().taken;
        match (was, mb) {
            (None, Some(_)) => shared.subtract(group.taken),
            (Some(_), None) => shared.add(group.taken),
            _ => {}
        }
        self.forget(account);
    }

    /// What an account's functions share.
    pub(crate) fn share(&mut self, account: AccountId, mb: u64) {
        self.accounts.entry(account).or_default().mb = Some(mb);
    }

    /// Whether memory is set aside for a group.
    pub(crate) fn is_reserved(&self, group: GroupId) -> bool {
        self.groups
            .get(&group)
            .is_some_and(|group| group.reserved_mb.is_some())
    }

    /// Whether more is taken of a spec's limits than they allow, since they were lowered.
    pub(crate) fn is_over(&self, config: &Config, spec: &PoolSpec) -> bool {
        if self.is_reserved(spec.group) {
            self.is_over_reserved(spec.group)
        } else {
            self.is_over_share(config, spec.account)
        }
    }

    /// Whether a group has more than is set aside for it, once everything that is being stopped is gone.
    pub(crate) fn is_over_reserved(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|group| {
            let left = group.taken.mb - group.taken.stopping_mb;
            group.reserved_mb.is_some_and(|reserved| left > reserved)
        })
    }

    /// Whether an account's functions have more than they share, once everything that is being stopped is gone.
    pub(crate) fn is_over_share(&self, config: &Config, account: AccountId) -> bool {
        self.accounts.get(&account).is_some_and(|account| {
            let left = account.taken.mb - account.taken.stopping_mb;
            left > account.mb.unwrap_or(config.account_mb)
        })
    }

    fn shortage(
        &self,
        config: &Config,
        spec: &PoolSpec,
        count: impl Fn(Taken) -> u64,
    ) -> Option<Limit> {
        let group = self.groups.get(&spec.group);
        let reserved = group.and_then(|group| group.reserved_mb);
        let in_group = group.map(|group| group.taken).unwrap_or_default();
        let account = self.accounts.get(&spec.account);
        let shared = account.map(|account| account.taken).unwrap_or_default();
        let share = account
            .and_then(|account| account.mb)
            .unwrap_or(config.account_mb);
        let own = match reserved {
            Some(mb) if count(in_group) + spec.memory_mb > mb => Some(Limit::Group),
            None if count(shared) + spec.memory_mb > share => Some(Limit::Account),
            _ => None,
        };
        let node = count(self.node) + spec.memory_mb > config.node_mb;
        own.or(node.then_some(Limit::Node))
    }

    pub(crate) fn take(&mut self, spec: &PoolSpec) {
        self.each(spec, |taken, mb| taken.mb += mb);
    }

    pub(crate) fn stopping(&mut self, spec: &PoolSpec) {
        self.each(spec, |taken, mb| taken.stopping_mb += mb);
    }

    pub(crate) fn give_back(&mut self, spec: &PoolSpec, was_stopping: bool) {
        self.each(spec, |taken, mb| {
            taken.mb -= mb;
            if was_stopping {
                taken.stopping_mb -= mb;
            }
        });
        self.forget(spec.account);
    }

    /// Nothing is kept of an account that has nothing and of which nothing was said.
    fn forget(&mut self, account: AccountId) {
        let idle = |account: &Account| account.taken.mb == 0 && account.mb.is_none();
        if self.accounts.get(&account).is_some_and(idle) {
            self.accounts.remove(&account);
        }
    }

    fn each(&mut self, spec: &PoolSpec, change: impl Fn(&mut Taken, u64)) {
        change(&mut self.node, spec.memory_mb);
        let group = self.groups.entry(spec.group).or_default();
        change(&mut group.taken, spec.memory_mb);
        if group.reserved_mb.is_none() {
            let account = self.accounts.entry(spec.account).or_default();
            change(&mut account.taken, spec.memory_mb);
        }
    }
}

impl Taken {
    fn add(&mut self, other: Self) {
        self.mb += other.mb;
        self.stopping_mb += other.stopping_mb;
    }

    fn subtract(&mut self, other: Self) {
        self.mb -= other.mb;
        self.stopping_mb -= other.stopping_mb;
    }
}
