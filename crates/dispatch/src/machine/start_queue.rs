//! The start queue: accounts ordered by the memory that they hold, and the pending pools of each in turn.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::Map;
use crate::{AccountId, PoolId};

/// Position of an account: its memory, MB, then the order in which it began to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AccountPosition {
    pub(super) held_mb: u64,
    turn: u64,
    pub(super) account: AccountId,
}

/// Pools with a pending start. The account that holds the least memory comes first, so that released memory is divided
/// max-min fairly.
#[derive(Debug, Default)]
pub(super) struct StartQueue {
    order: BTreeSet<AccountPosition>,
    accounts: Map<AccountId, Pending>,
    turn: u64,
}

#[derive(Debug)]
struct Pending {
    pools: VecDeque<PoolId>,
    position: AccountPosition,
}

impl StartQueue {
    /// Appends a pool to its account's queue.
    pub(super) fn push(&mut self, account: AccountId, held_mb: u64, pool: PoolId) {
        if let Some(pending) = self.accounts.get_mut(&account) {
            return pending.pools.push_back(pool);
        }
        self.turn += 1;
        let position = AccountPosition {
            held_mb,
            turn: self.turn,
            account,
        };
        self.order.insert(position);
        let pools = VecDeque::from([pool]);
        self.accounts.insert(account, Pending { pools, position });
    }

    /// Returns an account's pending pools in order.
    pub(super) fn of(&self, account: AccountId) -> impl Iterator<Item = PoolId> {
        let pending = self.accounts.get(&account);
        pending.into_iter().flat_map(|p| p.pools.iter().copied())
    }

    /// Returns an account's pending pool by index.
    pub(super) fn get(&self, account: AccountId, index: usize) -> Option<PoolId> {
        self.accounts.get(&account)?.pools.get(index).copied()
    }

    /// Removes an account's pending pool by index.
    pub(super) fn take(&mut self, account: AccountId, index: usize) {
        if let Some(pending) = self.accounts.get_mut(&account) {
            pending.pools.remove(index);
            self.forget_if_empty(account);
        }
    }

    /// Removes a pool, if it is queued.
    pub(super) fn remove(&mut self, account: AccountId, pool: PoolId) {
        if let Some(pending) = self.accounts.get_mut(&account) {
            pending.pools.retain(|other| *other != pool);
            self.forget_if_empty(account);
        }
    }

    /// Returns the account after a position, or the first one.
    pub(super) fn next(&self, after: Option<AccountPosition>) -> Option<AccountPosition> {
        use std::ops::Bound;
        let Some(after) = after else {
            return self.order.first().copied();
        };
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        self.order.range(behind).next().copied()
    }

    /// Updates the memory that an account holds.
    pub(super) fn set_held(&mut self, account: AccountId, held_mb: u64) {
        if let Some(pending) = self.accounts.get_mut(&account)
            && pending.position.held_mb != held_mb
        {
            self.order.remove(&pending.position);
            // It goes behind accounts with equal memory.
            self.turn += 1;
            pending.position.held_mb = held_mb;
            pending.position.turn = self.turn;
            self.order.insert(pending.position);
        }
    }

    fn forget_if_empty(&mut self, account: AccountId) {
        if let Some(pending) = self.accounts.get(&account)
            && pending.pools.is_empty()
        {
            self.order.remove(&pending.position);
            self.accounts.remove(&account);
        }
    }
}
