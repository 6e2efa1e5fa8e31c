//! Who may hold bytes: charges, and the connections to shed when a budget is exceeded.

use std::cmp::Reverse;

use model::{AccountId, Source};

use super::state::{ConnectionId, EVICTION_BATCH, Holder, Ledger, Medium, Member, weigh};

/// A holder that exceeds a budget.
struct Excess {
    /// Bytes that must be shed, and bytes that may be shed besides.
    bytes: u64,
    slack: u64,
    members: Vec<(u64, Reverse<ConnectionId>)>,
}

/// The outcome of a charge: the connections to shed, and whether the charge was refused.
#[derive(Debug)]
pub(crate) struct Charged<C> {
    pub(crate) shed: Vec<C>,
    pub(crate) refused: bool,
}

impl<C> Ledger<C> {
    /// Charges a connection for more bytes. The largest holder sheds connections if a budget is exceeded. If that would
    /// be this connection itself, the charge is refused and reverted.
    pub(crate) fn charge(
        &mut self,
        id: ConnectionId,
        store: Medium,
        bytes: u64,
        now: u64,
    ) -> Charged<C> {
        let mut shed = Vec::new();
        let Some(member) = self.members.get_mut(&id) else {
            return Charged {
                shed,
                refused: true,
            };
        };
        let (source, account) = (member.source, member.account);
        match store {
            Medium::Memory => member.memory += bytes,
            Medium::Disk => member.disk += bytes,
        }
        match (store, account) {
            (Medium::Disk, _) => {
                self.disk += bytes;
                self.sources.entry(source).or_default().disk += bytes;
            }
            (Medium::Memory, None) => {
                self.unverified += bytes;
                self.sources.entry(source).or_default().memory += bytes;
            }
            (Medium::Memory, Some(account)) => {
                self.verified += bytes;
                self.accounts.entry(account).or_default().memory += bytes;
            }
        }
        let refused = !self.enforce(id, store, source, account, now, &mut shed);
        if refused {
            self.release(id, store, bytes);
        }
        Charged { shed, refused }
    }

    /// Sheds connections until the budgets touched by a charge hold again. Returns whether the charged connection may go
    /// on; it is not shed itself. Sheds some more than necessary, so that the next charges find capacity.
    fn enforce(
        &mut self,
        charged: ConnectionId,
        store: Medium,
        source: Source,
        account: Option<AccountId>,
        now: u64,
        shed: &mut Vec<C>,
    ) -> bool {
        while let Some(excess) = self.excess(store, source, account, now) {
            if excess.members.is_empty() {
                return true;
            }
            let mut left = excess.bytes;
            let mut slack = excess.slack;
            for (held, Reverse(id)) in excess.members {
                if left == 0 && slack == 0 {
                    break;
                }
                if id == charged {
                    if left > 0 {
                        return false;
                    }
                    continue;
                }
                shed.extend(self.remove(id));
                slack = slack.saturating_sub(held.saturating_sub(left));
                left = left.saturating_sub(held);
            }
        }
        true
    }

    /// Returns the holder to shed from, while a budget touched by a charge is exceeded.
    fn excess(
        &self,
        store: Medium,
        source: Source,
        account: Option<AccountId>,
        now: u64,
    ) -> Option<Excess> {
        let limits = &self.limits;
        if let (Medium::Memory, Some(account)) = (store, account) {
            let held = |member: &Member<C>| member.memory;
            let own = self.accounts.get(&account);
            if let Some(holder) = own.filter(|holder| holder.memory > limits.verified_per_account) {
                return Some(self.of(holder, held, holder.memory, limits.verified_per_account));
            }
            let over = self.verified > limits.verified;
            let holder = over.then(|| self.accounts.values().max_by_key(|holder| holder.memory));
            return Some(self.of(holder??, held, self.verified, limits.verified));
        }
        let (of_holder, all, most, each): (fn(&Holder) -> u64, _, _, _) = match store {
            Medium::Memory => (
                |holder| holder.memory,
                self.unverified,
                limits.unverified,
                limits.unverified_per_source,
            ),
            Medium::Disk => (
                |holder| holder.disk,
                self.disk,
                limits.spool,
                limits.spool_per_source,
            ),
        };
        let held = |member: &Member<C>| match store {
            // The bytes of verified connections count for their accounts.
            Medium::Memory if member.account.is_some() => 0,
            Medium::Memory => member.memory,
            Medium::Disk => member.disk,
        };
        let own = self.sources.get(&source);
        if let Some(holder) = own.filter(|holder| of_holder(holder) > each) {
            return Some(self.of(holder, held, of_holder(holder), each));
        }
        let weight = |holder: &&Holder| weigh(of_holder(holder), holder.trusted > now);
        let over = all > most;
        let holder = over.then(|| self.sources.values().max_by_key(weight));
        Some(self.of(holder??, held, all, most))
    }

    /// Returns a holder's connections, the largest first, then the oldest.
    fn of(&self, holder: &Holder, held: impl Fn(&Member<C>) -> u64, all: u64, most: u64) -> Excess {
        let members = holder.members.iter().filter_map(|id| {
            let held = held(self.members.get(id)?);
            (held > 0).then_some((held, Reverse(*id)))
        });
        let mut members: Vec<_> = members.collect();
        members.sort_unstable_by(|one, other| other.cmp(one));
        // A few at a time: another holder may be the largest then.
        members.truncate(EVICTION_BATCH.max(members.len() / 8));
        Excess {
            bytes: all - most,
            slack: most / 8,
            members,
        }
    }
}
