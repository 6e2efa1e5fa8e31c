//! The entries of the ledger, by connection, source and account, and their sums.

use std::collections::{HashMap, HashSet};

use model::{AccountId, Source};

/// Connections evicted at a time, so that a flood of new connections does not scan all others for each.
pub(super) const EVICTION_BATCH: usize = 16;
/// Divisor of the holdings of a verified source in comparisons.
const VERIFIED_DISCOUNT: u64 = 8;

/// The budgets.
#[derive(Clone, Copy, Debug)]
pub struct LedgerLimits {
    /// Largest number of connections.
    pub connections: usize,
    /// The part of them reserved for recently verified sources.
    pub reserve: usize,
    /// Largest number of connections of one source, and of one verified account.
    pub(crate) per_source: usize,
    pub(crate) per_account: usize,
    /// Bytes held by connections without a verified request; in total, and of one source.
    pub(crate) unverified: u64,
    pub(crate) unverified_per_source: u64,
    /// Bytes held by verified connections; in total, and of one account.
    pub verified: u64,
    pub(crate) verified_per_account: u64,
    /// Bytes of bodies on disk; in total, and of one source.
    pub(crate) spool: u64,
    pub(crate) spool_per_source: u64,
}

/// The activity of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Activity {
    /// Idle since a time in seconds.
    Idle(u64),
    /// Waiting for the peer to send.
    Sending,
    /// Waiting for the peer to read.
    Reading,
    /// Serving a request.
    Serving,
}

/// Access to a connection's activity.
pub(crate) trait Active {
    fn activity(&self) -> Activity;
}

/// The medium in which bytes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    Memory,
    Disk,
}

/// The id of a connection; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(u64);

#[cfg(test)]
impl ConnectionId {
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// The entry of a connection.
#[derive(Debug)]
pub(super) struct Member<C> {
    pub(super) connection: C,
    pub(super) source: Source,
    pub(super) account: Option<AccountId>,
    pub(super) memory: u64,
    pub(super) disk: u64,
}

/// A source or an account, with its connections and what they hold.
#[derive(Debug, Default)]
pub(super) struct Holder {
    pub(super) members: HashSet<ConnectionId>,
    pub(super) memory: u64,
    pub(super) disk: u64,
    /// Until when a source counts as verified, in seconds.
    pub(super) trusted: u64,
}

/// The ledger.
#[derive(Debug)]
pub(crate) struct Ledger<C> {
    pub(super) limits: LedgerLimits,
    pub(super) next: u64,
    pub(super) members: HashMap<ConnectionId, Member<C>>,
    pub(super) sources: HashMap<Source, Holder>,
    pub(super) accounts: HashMap<AccountId, Holder>,
    pub(super) unverified: u64,
    pub(super) verified: u64,
    pub(super) disk: u64,
}

impl<C> Ledger<C> {
    pub(crate) fn new(limits: LedgerLimits) -> Self {
        Self {
            limits,
            next: 0,
            members: HashMap::new(),
            sources: HashMap::new(),
            accounts: HashMap::new(),
            unverified: 0,
            verified: 0,
            disk: 0,
        }
    }

    /// Returns the number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.members.len()
    }

    /// Returns the connections.
    pub(crate) fn all(&self) -> impl Iterator<Item = &C> {
        self.members.values().map(|member| &member.connection)
    }

    /// Returns a new id, also for a connection outside the ledger.
    pub(crate) fn next_id(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId(self.next)
    }

    /// Records that a request of a connection's source was verified.
    pub(crate) fn trust(&mut self, id: ConnectionId, until: u64) {
        let member = self.members.get(&id);
        let source = member.and_then(|member| self.sources.get_mut(&member.source));
        if let Some(holder) = source {
            holder.trusted = holder.trusted.max(until);
        }
    }

    /// Subtracts a member's memory from the holder for which it counts.
    pub(super) fn take(
        &mut self,
        source: Source,
        account: Option<AccountId>,
        id: ConnectionId,
        bytes: u64,
    ) {
        match account {
            None => {
                self.unverified = self.unverified.saturating_sub(bytes);
                if let Some(holder) = self.sources.get_mut(&source) {
                    holder.memory = holder.memory.saturating_sub(bytes);
                }
            }
            Some(account) => {
                self.verified = self.verified.saturating_sub(bytes);
                if let Some(holder) = self.accounts.get_mut(&account) {
                    holder.memory = holder.memory.saturating_sub(bytes);
                    holder.members.remove(&id);
                    if holder.members.is_empty() {
                        self.accounts.remove(&account);
                    }
                }
            }
        }
    }

    /// Releases bytes of a connection.
    pub(crate) fn release(&mut self, id: ConnectionId, store: Medium, bytes: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let (source, account) = (member.source, member.account);
        match store {
            Medium::Disk => {
                let bytes = bytes.min(member.disk);
                member.disk -= bytes;
                self.disk = self.disk.saturating_sub(bytes);
                if let Some(holder) = self.sources.get_mut(&source) {
                    holder.disk = holder.disk.saturating_sub(bytes);
                }
            }
            Medium::Memory => {
                let bytes = bytes.min(member.memory);
                member.memory -= bytes;
                let holder = match account {
                    None => {
                        self.unverified = self.unverified.saturating_sub(bytes);
                        self.sources.get_mut(&source)
                    }
                    Some(account) => {
                        self.verified = self.verified.saturating_sub(bytes);
                        self.accounts.get_mut(&account)
                    }
                };
                if let Some(holder) = holder {
                    holder.memory = holder.memory.saturating_sub(bytes);
                }
            }
        }
    }

    /// Removes a connection with all that it holds.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<C> {
        let member = self.members.remove(&id)?;
        self.take(member.source, member.account, id, member.memory);
        self.disk = self.disk.saturating_sub(member.disk);
        if let Some(holder) = self.sources.get_mut(&member.source) {
            holder.disk = holder.disk.saturating_sub(member.disk);
            holder.members.remove(&id);
            // A verified source is kept until it expires; see [`Self::forget`].
            if holder.members.is_empty() && holder.trusted == 0 {
                self.sources.remove(&member.source);
            }
        }
        Some(member.connection)
    }

    /// Removes expired sources without connections.
    pub(crate) fn forget(&mut self, now: u64) {
        self.sources.retain(|_, holder| {
            if holder.trusted <= now {
                holder.trusted = 0;
            }
            holder.trusted != 0 || !holder.members.is_empty()
        });
    }
}

/// Returns the weight of a holder in comparisons.
pub(super) fn weigh(held: u64, trusted: bool) -> u64 {
    if trusted {
        held.div_ceil(VERIFIED_DISCOUNT)
    } else {
        held
    }
}
