//! Accounting of connections and held bytes, and the choice of connections to evict. Pure: no clock, no I/O.
//!
//! Bytes of a connection count for its source address or, once one of its requests was verified, for the caller's
//! account. Both have budgets of their own, so that unverified callers cannot use up the budget of accounts. When a
//! budget is exceeded, the largest connections of the largest holder are shed. A source that was verified recently
//! counts for an eighth of what it holds.

use std::collections::{HashMap, HashSet};

use model::{AccountId, Source};

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

/// Bytes charged for a connection itself: its socket, its task and small buffers.
pub(crate) const BASE_COST: u64 = 12 << 10;
/// Divisor of the holdings of a verified source in comparisons.
const VERIFIED_DISCOUNT: u64 = 8;
/// Connections evicted at a time, so that a flood of new connections does not scan all others for each.
const EVICTION_BATCH: usize = 16;

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
    pub(super) fn of(number: u64) -> Self {
        Self(number)
    }
}

#[derive(Debug)]
struct Member<C> {
    connection: C,
    source: Source,
    account: Option<AccountId>,
    memory: u64,
    disk: u64,
}

#[derive(Debug, Default)]
struct Holder {
    members: HashSet<ConnectionId>,
    memory: u64,
    disk: u64,
    /// Until when a source counts as verified, in seconds.
    trusted: u64,
}

/// A holder that exceeds a budget.
struct Excess {
    /// Bytes that must be shed, and bytes that may be shed besides.
    bytes: u64,
    slack: u64,
    members: Vec<(u64, std::cmp::Reverse<ConnectionId>)>,
}

/// The ledger.
#[derive(Debug)]
pub(crate) struct Ledger<C> {
    limits: LedgerLimits,
    next: u64,
    members: HashMap<ConnectionId, Member<C>>,
    sources: HashMap<Source, Holder>,
    accounts: HashMap<AccountId, Holder>,
    unverified: u64,
    verified: u64,
    disk: u64,
}

/// The outcome of a charge: the connections to shed, and whether the charge was refused.
#[derive(Debug)]
pub(crate) struct Charged<C> {
    pub(crate) shed: Vec<C>,
    pub(crate) refused: bool,
}

impl<C: Active + Clone> Ledger<C> {
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

    /// Returns a new id, also for a connection outside the ledger.
    pub(crate) fn next_id(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId(self.next)
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
                Some((verified, std::cmp::Reverse(size), activity, id))
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

    /// Records that a request of a connection's source was verified.
    pub(crate) fn trust(&mut self, id: ConnectionId, until: u64) {
        let member = self.members.get(&id);
        let source = member.and_then(|member| self.sources.get_mut(&member.source));
        if let Some(holder) = source {
            holder.trusted = holder.trusted.max(until);
        }
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

    /// Subtracts a member's memory from the holder for which it counts.
    fn take(&mut self, source: Source, account: Option<AccountId>, id: ConnectionId, bytes: u64) {
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
            for (held, std::cmp::Reverse(id)) in excess.members {
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
            (held > 0).then_some((held, std::cmp::Reverse(*id)))
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
fn weigh(held: u64, trusted: bool) -> u64 {
    if trusted {
        held.div_ceil(VERIFIED_DISCOUNT)
    } else {
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LedgerLimits = LedgerLimits {
        connections: 64,
        reserve: 8,
        per_source: 32,
        per_account: 24,
        unverified: 4 << 20,
        unverified_per_source: 2 << 20,
        verified: 8 << 20,
        verified_per_account: 4 << 20,
        spool: 64 << 20,
        spool_per_source: 32 << 20,
    };

    #[derive(Clone, Debug)]
    struct Fake(ConnectionId, Activity);

    impl Active for Fake {
        fn activity(&self) -> Activity {
            self.1
        }
    }

    fn enter(
        ledger: &mut Ledger<Fake>,
        source: u32,
        activity: Activity,
        now: u64,
    ) -> (Option<ConnectionId>, Vec<ConnectionId>) {
        let mut shed = Vec::new();
        let source = Source::V4(source);
        let entered = ledger.admit(source, false, now, |id| Fake(id, activity), &mut shed);
        (
            entered.map(|fake| fake.0),
            shed.into_iter().map(|fake| fake.0).collect(),
        )
    }

    #[test]
    fn idle_connections_of_the_largest_source_are_evicted_first() {
        let mut ledger = Ledger::new(LIMITS);
        let hostile: Vec<_> = (0..32)
            .filter_map(|n| enter(&mut ledger, 1, Activity::Idle(n), 100).0)
            .collect();
        assert_eq!(hostile.len(), 32);
        // The limit per source: its oldest idle connection is evicted.
        let (entered, shed) = enter(&mut ledger, 1, Activity::Idle(99), 100);
        assert!(entered.is_some());
        assert!(
            shed.contains(&hostile[0]) && !shed.contains(&hostile[31]),
            "{shed:?}"
        );
        // Other sources are admitted, however many connections it has.
        for source in 2..40 {
            let (entered, _) = enter(&mut ledger, source, Activity::Serving, 100);
            assert!(entered.is_some(), "{source}");
        }
    }

    #[test]
    fn verified_source_is_admitted_during_a_flood_of_unverified_ones() {
        let mut ledger = Ledger::new(LIMITS);
        let own = enter(&mut ledger, 1, Activity::Serving, 0)
            .0
            .expect("admitted");
        assert!(ledger.verified(own, AccountId(7), 1000).is_empty());
        for source in 2..500 {
            enter(&mut ledger, source, Activity::Serving, 10);
        }
        assert!(ledger.connections() <= LIMITS.connections - LIMITS.reserve + 1);
        for _ in 0..LIMITS.reserve {
            let (entered, shed) = enter(&mut ledger, 1, Activity::Serving, 10);
            assert!(entered.is_some() && !shed.contains(&own));
        }
    }

    #[test]
    fn account_connections_are_bounded() {
        let mut ledger = Ledger::new(LIMITS);
        let (mut served, mut gone) = (Vec::new(), 0);
        for number in 0..200 {
            let activity = match number % 2 {
                0 if number < 40 => Activity::Serving,
                _ => Activity::Idle(number),
            };
            let Some(id) = enter(&mut ledger, number as u32 % 8, activity, 10).0 else {
                continue;
            };
            let shed = ledger.verified(id, AccountId(7), 1000);
            gone += shed.len();
            if activity == Activity::Serving {
                served.push(id);
            }
            assert!(shed.iter().all(|fake| !served.contains(&fake.0)));
        }
        assert!(gone > 100 && served.len() == 20);
        // Another account is admitted, and has its own limit.
        let other = enter(&mut ledger, 99, Activity::Serving, 10).0;
        let other = other.expect("admitted");
        assert!(ledger.verified(other, AccountId(8), 1000).is_empty());
        // When all connections serve requests, the newest is refused.
        let mut ledger = Ledger::new(LIMITS);
        for number in 0..40u32 {
            let id = enter(&mut ledger, number % 8, Activity::Serving, 10).0;
            let id = id.expect("admitted");
            let shed = ledger.verified(id, AccountId(7), 1000);
            let expected = (number >= 24).then_some(id);
            assert_eq!(shed.first().map(|fake| fake.0), expected);
        }
    }

    #[test]
    fn largest_connection_of_the_largest_holder_is_shed_first() {
        let mut ledger = Ledger::new(LIMITS);
        let small = enter(&mut ledger, 1, Activity::Serving, 0)
            .0
            .expect("admitted");
        let (mut shed, mut hostile) = (Vec::new(), Vec::new());
        for number in 0..20u64 {
            let source = 2 + (number % 4) as u32;
            let id = enter(&mut ledger, source, Activity::Serving, 0)
                .0
                .expect("admitted");
            hostile.push(id);
            let charged = ledger.charge(id, Medium::Memory, 300_000 - number, 0);
            shed.extend(charged.shed.into_iter().map(|fake| fake.0));
        }
        assert!(!shed.is_empty() && shed.iter().all(|id| hostile.contains(id)));
        assert!(!ledger.charge(small, Medium::Memory, 500_000, 0).refused);
        // The largest holder is refused itself.
        assert!(ledger.charge(small, Medium::Memory, 2 << 20, 0).refused);
    }

    #[test]
    fn random_operations_never_exceed_the_budgets() {
        for seed in 1..300u64 {
            let mut random = testkit::Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut ledger = Ledger::new(LIMITS);
            let mut known: Vec<ConnectionId> = Vec::new();
            for now in 0..400 {
                let any =
                    (!known.is_empty()).then(|| known[random.below(known.len() as u64) as usize]);
                let store = if random.below(3) == 0 {
                    Medium::Disk
                } else {
                    Medium::Memory
                };
                match (random.below(7), any) {
                    (0 | 1, _) | (_, None) => {
                        let activity = match random.below(4) {
                            0 => Activity::Idle(now),
                            1 => Activity::Sending,
                            2 => Activity::Reading,
                            _ => Activity::Serving,
                        };
                        let source = random.below(12) as u32;
                        known.extend(enter(&mut ledger, source, activity, now).0);
                    }
                    (2, Some(id)) => {
                        let before = ledger.members.get(&id).map(|m| (m.memory, m.disk));
                        let charged = ledger.charge(id, store, random.below(1 << 20), now);
                        let after = ledger.members.get(&id).map(|m| (m.memory, m.disk));
                        assert!(!charged.refused || before == after, "seed {seed}");
                        assert!(charged.shed.iter().all(|shed| shed.0 != id), "seed {seed}");
                    }
                    (3, Some(id)) => ledger.release(id, store, random.below(1 << 20)),
                    (5, Some(id)) => {
                        let source = Source::V4(random.below(12) as u32);
                        if !ledger.move_to(id, source, now, &mut Vec::new()) {
                            ledger.remove(id);
                        }
                    }
                    (4, Some(id)) => {
                        let account = AccountId(random.below(4));
                        drop(ledger.verified(id, account, now + 20));
                    }
                    (_, Some(id)) => drop(ledger.remove(id)),
                }
                if now % 50 == 0 {
                    ledger.forget(now);
                }
                check(&ledger, seed);
            }
        }
    }

    fn check(ledger: &Ledger<Fake>, seed: u64) {
        let limits = &ledger.limits;
        let members = || ledger.members.values();
        let unverified: u64 = members()
            .filter(|m| m.account.is_none())
            .map(|m| m.memory)
            .sum();
        let verified: u64 = members()
            .filter(|m| m.account.is_some())
            .map(|m| m.memory)
            .sum();
        let disk: u64 = members().map(|m| m.disk).sum();
        assert_eq!(
            (unverified, verified, disk),
            (ledger.unverified, ledger.verified, ledger.disk),
            "seed {seed}"
        );
        assert!(ledger.members.len() <= limits.connections, "seed {seed}");
        assert!(
            unverified <= limits.unverified && disk <= limits.spool,
            "seed {seed}"
        );
        for (source, holder) in &ledger.sources {
            assert!(
                holder.members.len() <= limits.per_source,
                "seed {seed} {source:?}"
            );
            assert!(
                holder.memory <= limits.unverified_per_source
                    && holder.disk <= limits.spool_per_source,
                "seed {seed}"
            );
            let own: u64 = members()
                .filter(|m| m.source == *source)
                .map(|m| m.disk)
                .sum();
            assert_eq!(own, holder.disk, "seed {seed}");
        }
        for holder in ledger.accounts.values() {
            assert!(holder.members.len() <= limits.per_account, "seed {seed}");
            let own = holder.members.iter().map(|id| ledger.members[id].memory);
            assert_eq!(own.sum::<u64>(), holder.memory, "seed {seed}");
        }
    }
}
