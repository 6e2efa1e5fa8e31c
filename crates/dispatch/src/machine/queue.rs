//! The start queue: accounts by the memory that they hold, and the pools of each in turn.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::Map;
use crate::{AccountId, PoolId};

/// An account's position: the memory that it holds, MB, and among equals the order in which they began to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) held_mb: u64,
    turn: u64,
    pub(super) account: AccountId,
}

/// Pools that want a start. The account that holds least comes first, which is max-min fairness: memory that is given back goes
/// to whoever has least of it.
#[derive(Debug, Default)]
pub(super) struct StartQueue {
    order: BTreeSet<Position>,
    accounts: Map<AccountId, Pending>,
    turn: u64,
}

#[derive(Debug)]
struct Pending {
    pools: VecDeque<PoolId>,
    position: Position,
}

impl StartQueue {
    /// Adds a pool behind the others of its account.
    pub(super) fn push(&mut self, account: AccountId, held_mb: u64, pool: PoolId) {
        if let Some(pending) = self.accounts.get_mut(&account) {
            return pending.pools.push_back(pool);
        }
        self.turn += 1;
        let position = Position {
            held_mb,
            turn: self.turn,
            account,
        };
        self.order.insert(position);
        let pools = VecDeque::from([pool]);
        self.accounts.insert(account, Pending { pools, position });
    }

    /// The pools of an account that want a start, in turn.
    pub(super) fn of(&self, account: AccountId) -> impl Iterator<Item = PoolId> {
        let pending = self.accounts.get(&account);
        pending.into_iter().flat_map(|p| p.pools.iter().copied())
    }

    /// One of an account's pools by its index.
    pub(super) fn get(&self, account: AccountId, index: usize) -> Option<PoolId> {
        self.accounts.get(&account)?.pools.get(index).copied()
    }

    /// Removes one of an account's pools by its index.
    pub(super) fn take(&mut self, account: AccountId, index: usize) {
        if let Some(pending) = self.accounts.get_mut(&account) {
            pending.pools.remove(index);
            self.forget_if_empty(account);
        }
    }

    /// Removes a pool, if it is there.
    pub(super) fn remove(&mut self, account: AccountId, pool: PoolId) {
        if let Some(pending) = self.accounts.get_mut(&account) {
            pending.pools.retain(|other| *other != pool);
            self.forget_if_empty(account);
        }
    }

    /// The account behind a position; the first one without.
    pub(super) fn next(&self, after: Option<Position>) -> Option<Position> {
        use std::ops::Bound;
        let Some(after) = after else {
            return self.order.first().copied();
        };
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        self.order.range(behind).next().copied()
    }

    /// An account holds more or less than before.
    pub(super) fn set_held(&mut self, account: AccountId, held_mb: u64) {
        if let Some(pending) = self.accounts.get_mut(&account)
            && pending.position.held_mb != held_mb
        {
            self.order.remove(&pending.position);
            // Among those that hold as much it is the last.
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
