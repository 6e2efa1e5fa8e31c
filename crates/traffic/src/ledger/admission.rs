//! Who may connect: admission, moves to another source, and eviction in favour of others.

use std::cmp::Reverse;

use model::{AccountId, Source};

use super::state::{Active, Activity, ConnectionId, EVICTION_BATCH, Ledger, Medium, Member, weigh};

/// Bytes charged for a connection itself: its socket, its task and small buffers.
pub(crate) const BASE_COST: u64 = 12 << 10;

impl<C: Active + Clone> Ledger<C> {
    /// Admits a connection, if there is capacity or another can be evicted. Evicted connections are pushed to `shed`. A
    /// source that is `exempt` has no limit of its own.
    pub(crate) fn admit(
        &mut self,
        source: Source,
        exempt: bool,
        now: u64,
        make: impl FnOnce(ConnectionId) -> C,
        shed: &mut Vec<C>,
    ) -> Option<C> {
        let limits = self.limits;
        let held = self.sources.get(&source);
        let trusted = held.is_some_and(|holder| holder.trusted > now);
        let own = held.map_or(0, |holder| holder.members.len());
        if !exempt && own >= limits.per_source && !self.evict(now, trusted, Some(source), shed) {
            return None;
        }
        let most = limits.connections - if trusted { 0 } else { limits.reserve };
        if self.members.len() >= most && !self.evict(now, trusted, None, shed) {
            return None;
        }
        let id = self.next_id();
        let connection = make(id);
        self.members.insert(
            id,
            Member {
                connection: connection.clone(),
                source,
                account: None,
                memory: 0,
                disk: 0,
            },
        );
        self.sources.entry(source).or_default().members.insert(id);
        let charged = self.charge(id, Medium::Memory, BASE_COST, now);
        shed.extend(charged.shed);
        if charged.refused {
            self.remove(id);
            return None;
        }
        Some(connection)
    }

    /// Moves a connection to another source, if that may have one more.
    pub(crate) fn move_to(
        &mut self,
        id: ConnectionId,
        source: Source,
        now: u64,
        shed: &mut Vec<C>,
    ) -> bool {
        let holder = self.sources.get(&source);
        let trusted = holder.is_some_and(|holder| holder.trusted > now);
        let own = holder.map_or(0, |holder| holder.members.len());
        let full = own >= self.limits.per_source;
        if full && !self.evict(now, trusted, Some(source), shed) {
            return false;
        }
        let Some(mut member) = self.members.remove(&id) else {
            return false;
        };
        let (memory, disk) = (member.memory, member.disk);
        let counted = if member.account.is_none() { memory } else { 0 };
        if let Some(before) = self.sources.get_mut(&member.source) {
            before.members.remove(&id);
            before.memory = before.memory.saturating_sub(counted);
            before.disk = before.disk.saturating_sub(disk);
        }
        member.source = source;
        self.members.insert(id, member);
        let holder = self.sources.entry(source).or_default();
        holder.members.insert(id);
        holder.memory += counted;
        holder.disk += disk;
        // The holdings may exceed the budget of the new source.
        let charged = self.charge(id, Medium::Memory, 0, now);
        shed.extend(charged.shed);
        !charged.refused
    }

    /// Evicts the connections that matter least: of the largest source, unverified, idle the longest. Returns whether
    /// any was evicted.
    fn evict(&mut self, now: u64, trusted: bool, of: Option<Source>, shed: &mut Vec<C>) -> bool {
        let ids: Vec<ConnectionId> = match of {
            Some(source) => {
                let holder = self.sources.get(&source);
                holder.map_or_else(Vec::new, |holder| holder.members.iter().copied().collect())
            }
            None => self.members.keys().copied().collect(),
        };
        let mut candidates: Vec<_> = ids
            .into_iter()
            .filter_map(|id| {
                let member = self.members.get(&id)?;
                let activity = member.connection.activity();
                let verified = member.account.is_some();
                let idle = matches!(activity, Activity::Idle(_));
                // A verified connection is evicted only while idle, and only for a recently verified source.
                if verified && !(idle && (trusted || of.is_some())) {
                    return None;
                }
                let holder = self.sources.get(&member.source)?;
                let size = weigh(holder.members.len() as u64, holder.trusted > now);
                Some((verified, Reverse(size), activity, id))
            })
            .collect();
        if candidates.is_empty() {
            return false;
        }
        // A few at a time: another source may be the largest then.
        let batch = match of {
            Some(_) => EVICTION_BATCH.min(self.limits.per_source.div_ceil(8)),
            None => EVICTION_BATCH.min(self.limits.connections.div_ceil(64)),
        };
        if candidates.len() > batch {
            candidates.select_nth_unstable(batch);
            candidates.truncate(batch);
        }
        for (_, _, _, id) in candidates {
            shed.extend(self.remove(id));
        }
        true
    }

    /// Records that a request of a connection was verified as an account's. If the account then has too many
    /// connections, its own are evicted on which nothing is served; failing that, this one.
    pub(crate) fn verified(&mut self, id: ConnectionId, account: AccountId, until: u64) -> Vec<C> {
        self.trust(id, until);
        let Some(member) = self.members.get_mut(&id) else {
            return Vec::new();
        };
        if member.account == Some(account) {
            return Vec::new();
        }
        let (memory, source) = (member.memory, member.source);
        let before = member.account.replace(account);
        self.take(source, before, id, memory);
        self.verified += memory;
        let holder = self.accounts.entry(account).or_default();
        holder.memory += memory;
        holder.members.insert(id);
        let over = holder.members.len().saturating_sub(self.limits.per_account);
        if over == 0 {
            return Vec::new();
        }
        let members = &self.members;
        let others = holder.members.iter().filter(|one| **one != id);
        let others = others.filter_map(|one| Some((members.get(one)?.connection.activity(), *one)));
        let mut others: Vec<_> = others
            .filter(|(activity, _)| *activity != Activity::Serving)
            .collect();
        // A few more than necessary, so that not every call scans all of them.
        let batch = over + EVICTION_BATCH.min(self.limits.per_account / 8);
        if others.len() > batch {
            others.select_nth_unstable(batch);
            others.truncate(batch);
        }
        let itself = others.is_empty().then_some(id);
        let gone = others.into_iter().map(|(_, one)| one).chain(itself);
        gone.filter_map(|one| self.remove(one)).collect()
    }
}
