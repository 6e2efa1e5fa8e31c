//! Memory accounting: what accounts, functions and the node use, and which limits a start would exceed.

use crate::ids::Map;
use crate::rule::{Rule, Rules};
use crate::{AccountId, Config, GroupId, Limit, PoolSpec};

/// Memory use of all instances.
#[derive(Debug, Default)]
pub(crate) struct Capacity {
    node: MemoryUse,
    accounts: Map<AccountId, AccountUse>,
    groups: Map<GroupId, GroupUse>,
    pub(crate) starting: u32,
    /// Number of accounts that hold memory.
    holding: usize,
    /// Number of accounts in total.
    known: usize,
    /// Counts waits that began and accounts that became empty.
    turn: u64,
    pub(crate) rules: Rules,
}

/// Memory use of an account.
#[derive(Debug, Default)]
struct AccountUse {
    /// Use by functions without reserved memory.
    unreserved: MemoryUse,
    /// Use by all functions.
    all: MemoryUse,
    /// Unreserved quota; `None` = the configured quota of an account.
    unreserved_mb: Option<u64>,
    starting: u32,
    pools: u32,
    /// Turn at which it became empty.
    emptied: u64,
}

/// Headroom per account is at most one part in this many of the node's memory.
const HEADROOM_PART: u64 = 4;

/// The pools of one function. The latest reservation applies to older revisions, too: otherwise an old revision could
/// stay above a lowered limit and starve its successor.
#[derive(Debug, Default)]
struct GroupUse {
    used: MemoryUse,
    reserved_mb: Option<u64>,
    pools: u32,
}

/// Memory in use, and the part of it that stopping instances will release.
#[derive(Clone, Copy, Debug, Default)]
struct MemoryUse {
    mb: u64,
    stopping_mb: u64,
}

impl Capacity {
    /// Returns the first limit that another instance would exceed.
    pub(crate) fn exceeded(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        let node_mb = self.node_mb(config, spec);
        self.exceeded_limit(config, node_mb, spec, |used| used.mb)
    }

    /// Returns the first limit that another provisioned instance would exceed. Provisioned instances may not use the
    /// headroom.
    pub(crate) fn exceeded_by_provisioned(
        &self,
        config: &Config,
        spec: &PoolSpec,
    ) -> Option<Limit> {
        let node_mb = config.node_mb.saturating_sub(config.headroom_mb);
        self.exceeded_limit(config, node_mb, spec, |used| used.mb)
    }

    /// Returns the same once all stopping instances have ended.
    pub(crate) fn exceeded_by_provisioned_after_stops(
        &self,
        config: &Config,
        spec: &PoolSpec,
    ) -> Option<Limit> {
        let node_mb = config.node_mb.saturating_sub(config.headroom_mb);
        self.exceeded_limit(config, node_mb, spec, MemoryUse::held_mb)
    }

    /// Returns the same as [`Capacity::exceeded`] once all stopping instances have ended.
    pub(crate) fn exceeded_after_stops(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        let node_mb = self.node_mb(config, spec);
        self.exceeded_limit(config, node_mb, spec, MemoryUse::held_mb)
    }

    /// Returns the limit that even a single instance would exceed.
    pub(crate) fn never_fits(&self, config: &Config, spec: &PoolSpec) -> Option<Limit> {
        let headroom_mb = match spec.headroom {
            true => 0,
            false => self.largest_headroom_mb(config),
        };
        let node_mb = config.node_mb.saturating_sub(headroom_mb);
        self.exceeded_limit(config, node_mb, spec, |_| 0)
    }

    /// Returns the node memory that an account may fill: all of it with its first instance, all but the headroom with
    /// further ones.
    fn node_mb(&self, config: &Config, spec: &PoolSpec) -> u64 {
        let is_first = self.held_mb(spec.account) == 0;
        let may = spec.headroom || !self.rules.in_force(Rule::BuildsLeaveHeadroom);
        if (is_first && may) || !self.rules.in_force(Rule::Headroom) {
            config.node_mb
        } else {
            config.node_mb.saturating_sub(self.headroom_mb(config))
        }
    }

    /// Returns the memory that accounts with instances leave to accounts without, MB.
    pub(crate) fn headroom_mb(&self, config: &Config) -> u64 {
        headroom_for(config, self.known.saturating_sub(self.holding))
    }

    /// Returns the headroom if no account had instances, MB.
    pub(crate) fn largest_headroom_mb(&self, config: &Config) -> u64 {
        headroom_for(config, self.known)
    }

    /// Returns whether less than the headroom will be free once all stopping instances have ended.
    pub(crate) fn lacks_headroom(&self, config: &Config) -> bool {
        self.node.held_mb() + self.headroom_mb(config) > config.node_mb
    }

    /// Returns whether an account holds more than an equal share of the node among all accounts with instances and one
    /// more.
    pub(crate) fn is_above_fair_share(&self, config: &Config, account: AccountId) -> bool {
        let accounts = self.holding as u64 + 1;
        self.held_mb(account).saturating_mul(accounts) > config.node_mb
    }

    /// Returns the memory of an account's instances that are not stopping, MB.
    pub(crate) fn held_mb(&self, account: AccountId) -> u64 {
        let account = self.accounts.get(&account);
        account.map_or(0, |account| account.all.held_mb())
    }

    /// Returns the turn since which an account has been empty, if it is.
    pub(crate) fn empty_since(&self, account: AccountId) -> Option<u64> {
        match self.accounts.get(&account) {
            Some(account) => (account.all.held_mb() == 0).then_some(account.emptied),
            None => Some(0),
        }
    }

    /// Returns the next position in the order of waits.
    pub(crate) fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Sets the number of accounts.
    pub(crate) fn set_known(&mut self, accounts: usize) {
        self.known = accounts;
    }

    /// Counts a start of an account.
    pub(crate) fn start(&mut self, account: AccountId) {
        self.starting += 1;
        self.accounts.entry(account).or_default().starting += 1;
    }

    /// Counts the end of a start.
    pub(crate) fn end_start(&mut self, account: AccountId) {
        self.starting -= 1;
        if let Some(account) = self.accounts.get_mut(&account) {
            account.starting -= 1;
        }
    }

    /// Counts an account's starting instances.
    pub(crate) fn starting_of(&self, account: AccountId) -> u32 {
        let account = self.accounts.get(&account);
        account.map_or(0, |account| account.starting)
    }

    /// Adds a pool or applies its new settings, including the reservation of its function.
    pub(crate) fn open(&mut self, spec: &PoolSpec, new: bool) {
        let group = self.groups.entry(spec.group).or_default();
        group.pools += u32::from(new);
        self.accounts.entry(spec.account).or_default().pools += u32::from(new);
        self.reserve(spec.account, spec.group, spec.reserved_mb);
    }

    /// Removes a pool.
    pub(crate) fn close(&mut self, spec: &PoolSpec) {
        if let Some(group) = self.groups.get_mut(&spec.group) {
            group.pools -= 1;
            if group.pools == 0 {
                self.groups.remove(&spec.group);
            }
        }
        if let Some(account) = self.accounts.get_mut(&spec.account) {
            account.pools -= 1;
        }
        self.forget(spec.account);
    }

    /// Sets or removes the reservation of a function. The memory that it uses moves between the reservation and the
    /// unreserved quota.
    pub(crate) fn reserve(&mut self, account: AccountId, group: GroupId, mb: Option<u64>) {
        let Some(group) = self.groups.get_mut(&group) else {
            return;
        };
        let was = std::mem::replace(&mut group.reserved_mb, mb);
        let shared = &mut self.accounts.entry(account).or_default().unreserved;
        match (was, mb) {
            (None, Some(_)) => shared.subtract(group.used),
            (Some(_), None) => shared.add(group.used),
            _ => {}
        }
        self.forget(account);
    }

    /// Sets the unreserved quota of an account.
    pub(crate) fn set_unreserved(&mut self, account: AccountId, mb: u64) {
        self.accounts.entry(account).or_default().unreserved_mb = Some(mb);
    }

    /// Returns whether a function has reserved memory.
    pub(crate) fn is_reserved(&self, group: GroupId) -> bool {
        self.groups
            .get(&group)
            .is_some_and(|group| group.reserved_mb.is_some())
    }

    /// Returns whether a pool's function or account uses more than its limit, which must have been lowered.
    pub(crate) fn is_over(&self, config: &Config, spec: &PoolSpec) -> bool {
        if self.is_reserved(spec.group) {
            self.is_over_reserved(spec.group)
        } else {
            self.is_over_unreserved(config, spec.account)
        }
    }

    /// Returns whether a function will use more than its reservation once all stopping instances have ended.
    pub(crate) fn is_over_reserved(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|group| {
            let left = group.used.held_mb();
            group.reserved_mb.is_some_and(|reserved| left > reserved)
        })
    }

    /// Returns whether an account will use more than its unreserved quota once all stopping instances have ended.
    pub(crate) fn is_over_unreserved(&self, config: &Config, account: AccountId) -> bool {
        self.accounts.get(&account).is_some_and(|account| {
            let left = account.unreserved.held_mb();
            left > account.unreserved_mb.unwrap_or(config.account_mb)
        })
    }

    fn exceeded_limit(
        &self,
        config: &Config,
        node_mb: u64,
        spec: &PoolSpec,
        count: impl Fn(MemoryUse) -> u64,
    ) -> Option<Limit> {
        let group = self.groups.get(&spec.group);
        let reserved = group.and_then(|group| group.reserved_mb);
        let in_group = group.map(|group| group.used).unwrap_or_default();
        let account = self.accounts.get(&spec.account);
        let shared = account
            .map(|account| account.unreserved)
            .unwrap_or_default();
        let unreserved_mb = account
            .and_then(|account| account.unreserved_mb)
            .unwrap_or(config.account_mb);
        let own = match reserved {
            _ if !self.rules.in_force(Rule::Quota) => None,
            Some(mb) if count(in_group) + spec.memory_mb > mb => Some(Limit::Group),
            None if count(shared) + spec.memory_mb > unreserved_mb => Some(Limit::Account),
            _ => None,
        };
        let node = count(self.node) + spec.memory_mb > node_mb && self.rules.in_force(Rule::Node);
        own.or(node.then_some(Limit::Node))
    }

    pub(crate) fn allocate(&mut self, spec: &PoolSpec) {
        self.each(spec, |used, mb| used.mb += mb);
    }

    pub(crate) fn mark_stopping(&mut self, spec: &PoolSpec) {
        self.each(spec, |used, mb| used.stopping_mb += mb);
    }

    pub(crate) fn release(&mut self, spec: &PoolSpec, was_stopping: bool) {
        self.each(spec, |used, mb| {
            used.mb -= mb;
            if was_stopping {
                used.stopping_mb -= mb;
            }
        });
        self.forget(spec.account);
    }

    /// Drops the entry of an account without pools, memory and quota of its own.
    fn forget(&mut self, account: AccountId) {
        let idle = |account: &AccountUse| {
            account.all.mb == 0 && account.unreserved_mb.is_none() && account.pools == 0
        };
        if self.accounts.get(&account).is_some_and(idle) {
            self.accounts.remove(&account);
        }
    }

    fn each(&mut self, spec: &PoolSpec, change: impl Fn(&mut MemoryUse, u64)) {
        change(&mut self.node, spec.memory_mb);
        let group = self.groups.entry(spec.group).or_default();
        change(&mut group.used, spec.memory_mb);
        let account = self.accounts.entry(spec.account).or_default();
        if group.reserved_mb.is_none() {
            change(&mut account.unreserved, spec.memory_mb);
        }
        let before = account.all.held_mb();
        change(&mut account.all, spec.memory_mb);
        match (before, account.all.held_mb()) {
            (0, 1..) => self.holding += 1,
            (1.., 0) => {
                self.holding -= 1;
                self.turn += 1;
                account.emptied = self.turn;
            }
            _ => {}
        }
    }
}

/// Returns the headroom for this many accounts without instances, MB.
fn headroom_for(config: &Config, accounts: usize) -> u64 {
    let each = (accounts as u64).saturating_mul(config.first_mb);
    let least = config.headroom_mb.min(config.node_mb);
    least.max(each.min(config.node_mb / HEADROOM_PART))
}

impl MemoryUse {
    /// Returns the memory that is not about to be released, MB.
    fn held_mb(self) -> u64 {
        self.mb - self.stopping_mb
    }

    fn add(&mut self, other: Self) {
        self.mb += other.mb;
        self.stopping_mb += other.stopping_mb;
    }

    fn subtract(&mut self, other: Self) {
        self.mb -= other.mb;
        self.stopping_mb -= other.stopping_mb;
    }
}
