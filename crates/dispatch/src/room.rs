//! Memory and places: what is taken, and what is short.

use crate::ids::Map;
use crate::{AccountId, Config, GroupId, Limit, PoolSpec};

/// What all instances take up together.
#[derive(Debug, Default)]
pub(crate) struct Room {
    node: Taken,
    accounts: Map<AccountId, Taken>,
    groups: Map<GroupId, Group>,
    pub(crate) starting: u32,
}

/// A function's pools together. The limit is the one that was set last, for older revisions, too: else an
/// old one could go on above a new limit and starve its successor.
#[derive(Debug, Default)]
struct Group {
    taken: Taken,
    limit: Option<u32>,
    pools: u32,
}

/// What is taken of one limit, and what of it is about to be given back.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    mb: u64,
    count: u32,
    stopping_mb: u64,
    stopping: u32,
}

impl Room {
    /// The first limit that a further instance would pass.
    pub(crate) fn short(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        self.shortage(config, spec, |taken| (taken.mb, taken.count))
    }

    /// The same, once everything that is being stopped is gone.
    pub(crate) fn short_later(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        self.shortage(config, spec, |taken| {
            (taken.mb - taken.stopping_mb, taken.count - taken.stopping)
        })
    }

    /// The limit that even a single instance would pass.
    pub(crate) fn never(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        self.shortage(config, spec, |_| (0, 0))
    }

    /// A pool is there, or has new settings: its limit is the group's from now on.
    pub(crate) fn open(&mut self, spec: &PoolSpec, new: bool) {
        let group = self.groups.entry(spec.group).or_default();
        group.limit = spec.group_limit;
        group.pools += u32::from(new);
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

    fn shortage(
        &self,
        config: &Config,
        spec: &PoolSpec,
        count: impl Fn(Taken) -> (u64, u32),
    ) -> Option<Limit> {
        let group = self.groups.get(&spec.group);
        let (_, in_group) = count(group.map(|group| group.taken).unwrap_or_default());
        let (account_mb, _) = count(
            self.accounts
                .get(&spec.account)
                .copied()
                .unwrap_or_default(),
        );
        let (node_mb, _) = count(self.node);
        if group
            .and_then(|group| group.limit)
            .is_some_and(|limit| in_group >= limit)
        {
            Some(Limit::Group)
        } else if account_mb + spec.memory_mb > config.account_mb {
            Some(Limit::Account)
        } else if node_mb + spec.memory_mb > config.node_mb {
            Some(Limit::Node)
        } else {
            None
        }
    }

    pub(crate) fn take(&mut self, spec: &PoolSpec) {
        self.each(spec, |taken, mb| {
            taken.mb += mb;
            taken.count += 1;
        });
    }

    pub(crate) fn stopping(&mut self, spec: &PoolSpec) {
        self.each(spec, |taken, mb| {
            taken.stopping_mb += mb;
            taken.stopping += 1;
        });
    }

    pub(crate) fn give_back(&mut self, spec: &PoolSpec, was_stopping: bool) {
        self.each(spec, |taken, mb| {
            taken.mb -= mb;
            taken.count -= 1;
            if was_stopping {
                taken.stopping_mb -= mb;
                taken.stopping -= 1;
            }
        });
        if self
            .accounts
            .get(&spec.account)
            .is_some_and(|taken| taken.count == 0)
        {
            self.accounts.remove(&spec.account);
        }
    }

    fn each(&mut self, spec: &PoolSpec, change: impl Fn(&mut Taken, u64)) {
        change(&mut self.node, spec.memory_mb);
        change(
            self.accounts.entry(spec.account).or_default(),
            spec.memory_mb,
        );
        change(
            &mut self.groups.entry(spec.group).or_default().taken,
            spec.memory_mb,
        );
    }
}
