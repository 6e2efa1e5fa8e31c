//! Rate limits of an account's actions, and of failed authentications per source address.
//!
//! Both are the generic cell rate algorithm, which is a token bucket in one number: the time at which the next request
//! is due. A bucket allows a burst of one second. There is no lock, and a bucket without a limit costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use model::Source;

use crate::action::Action;

const SECOND: u64 = 1_000_000_000;
const MOST: u32 = 1_000_000;

/// Requests per second of each account: for named actions, and for all others. 0 = unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    named: BTreeMap<String, u32>,
    others: u32,
}

impl RateLimits {
    /// Returns the limit of an action in requests per second; 0 = unlimited.
    pub fn of(&self, action: &str) -> u32 {
        self.named.get(action).copied().unwrap_or(self.others)
    }

    fn is_none(&self) -> bool {
        self.others == 0 && self.named.values().all(|rate| *rate == 0)
    }
}

/// Parses `Invoke=100,*=50`. `is_action` says which names of actions exist.
///
/// # Errors
/// The invalid pair, and the allowed form.
pub fn parse_rates<'a>(
    pairs: impl Iterator<Item = &'a str>,
    is_action: impl Fn(&str) -> bool,
) -> Result<RateLimits, (String, String)> {
    let mut rates = RateLimits::default();
    for pair in pairs {
        let wrong = |allowed: &str| (pair.to_owned(), allowed.to_owned());
        let (action, rate) = pair
            .split_once('=')
            .ok_or_else(|| wrong("ACTION=NUMBER, or *=NUMBER for all others"))?;
        let rate = rate.trim().parse().ok().filter(|rate| *rate <= MOST);
        let rate = rate.ok_or_else(|| wrong("a number of requests a second up to 1000000"))?;
        match action.trim() {
            "*" => rates.others = rate,
            action if is_action(action) => {
                rates.named.insert(action.to_owned(), rate);
            }
            _ => return Err(wrong("a name of an action of the API, as Invoke")),
        }
    }
    Ok(rates)
}

/// A token bucket: the time at which the next request is due, in nanoseconds.
#[derive(Debug, Default)]
struct TokenBucket(AtomicU64);

impl TokenBucket {
    /// Takes one token, if the request is not too early.
    fn try_acquire(&self, now: u64, interval: u64, early: u64) -> bool {
        let take = |due: u64| (due <= now.saturating_add(early)).then(|| due.max(now) + interval);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// The rate limiters of an account, one for each action with a limit.
#[derive(Debug)]
pub(super) struct RateLimiters {
    /// Sorted by action; empty without limits.
    limiters: Box<[RateLimiter]>,
}

/// The rate limiter of an action.
#[derive(Debug)]
struct RateLimiter {
    action: &'static str,
    /// The time that one request takes, in nanoseconds; 0 = unlimited.
    interval: u64,
    bucket: TokenBucket,
}

impl RateLimiters {
    pub(super) fn new(rates: &RateLimits, actions: &[Action<'static>]) -> Self {
        if rates.is_none() {
            return Self {
                limiters: Box::default(),
            };
        }
        let limiter = |action: &Action<'static>| RateLimiter {
            action: action.name(),
            interval: SECOND
                .checked_div(rates.of(action.name()).into())
                .unwrap_or(0),
            bucket: TokenBucket::default(),
        };
        let mut limiters: Box<[_]> = actions.iter().map(limiter).collect();
        limiters.sort_unstable_by_key(|limiter| limiter.action);
        Self { limiters }
    }

    /// Takes one token of an action's bucket. `now` is only called for an action with a limit.
    pub(super) fn try_acquire(&self, action: &str, now: impl FnOnce() -> u64) -> bool {
        let found = self
            .limiters
            .binary_search_by(|limiter| limiter.action.cmp(action));
        match found.ok().and_then(|at| self.limiters.get(at)) {
            // The burst is one second's worth, including this request.
            Some(limiter) if limiter.interval > 0 => {
                let early = SECOND - limiter.interval;
                limiter.bucket.try_acquire(now(), limiter.interval, early)
            }
            _ => true,
        }
    }
}

/// Failed authentications by source address. Each address is counted exactly, so none is blocked for another's failures.
/// The table is bounded and evicts the address with the fewest failures. A /48 IPv6 network, which one customer has,
/// counts as [`PREFIX48_WEIGHT`](Self::PREFIX48_WEIGHT) addresses.
#[derive(Debug)]
pub(super) struct AuthFailures {
    interval: u64,
    shards: Box<[Mutex<HashMap<FailureKey, u64>>]>,
    /// The latest time at which any address is blocked. After it nothing is looked up.
    blocked_until: AtomicU64,
    /// Fingerprints of (address, key) pairs that have authenticated. They stay admitted when others at their address
    /// fail.
    known: Box<[AtomicU64]>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FailureKey {
    Source(Source),
    Prefix48(Source),
}

impl AuthFailures {
    const SHARDS: usize = 16;
    const SHARD_MAX: usize = 1024;
    const KNOWN_MAX: usize = 4096;
    /// The burst of failures, in seconds' worth.
    const BURST: u64 = 10;
    const PREFIX48_WEIGHT: u64 = 16;

    pub(super) fn new(per_second: u32) -> Self {
        let interval = SECOND.checked_div(per_second.into()).unwrap_or(0);
        let (shards, known) = if interval == 0 {
            (0, 0)
        } else {
            (2 * Self::SHARDS, Self::KNOWN_MAX)
        };
        Self {
            interval,
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            blocked_until: AtomicU64::new(0),
            known: (0..known).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Returns whether a request of a key from an address is worth verifying.
    pub(super) fn may_authenticate(&self, from: IpAddr, key: &str, now: u64) -> bool {
        !self.is_blocked(from, now) || self.has_authenticated(from, key)
    }

    pub(super) fn is_blocked(&self, from: IpAddr, now: u64) -> bool {
        if now >= self.blocked_until.load(Ordering::Relaxed) {
            return false;
        }
        self.keys(from).any(|(failure_key, interval)| {
            let due = self.shard(failure_key).and_then(|shard| {
                let table = shard.lock().unwrap_or_else(PoisonError::into_inner);
                table.get(&failure_key).copied()
            });
            due.is_some_and(|due| due > now.saturating_add(Self::BURST * SECOND - interval))
        })
    }

    pub(super) fn record_failure(&self, from: IpAddr, now: u64) {
        for (failure_key, interval) in self.keys(from) {
            let Some(shard) = self.shard(failure_key) else {
                return;
            };
            let mut table = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if table.len() >= Self::SHARD_MAX && !table.contains_key(&failure_key) {
                table.retain(|_, due| *due > now);
                let least = table.iter().min_by_key(|(_, due)| **due);
                if let (Some((&least, _)), true) = (least, table.len() >= Self::SHARD_MAX) {
                    table.remove(&least);
                }
            }
            let most = now + Self::BURST * SECOND + interval;
            let due = table.entry(failure_key).or_default();
            *due = ((*due).max(now) + interval).min(most);
            let unblocked_at = due.saturating_sub(Self::BURST * SECOND - interval);
            self.blocked_until
                .fetch_max(unblocked_at, Ordering::Relaxed);
        }
    }

    /// Records a successful authentication of a key from an address.
    pub(super) fn record_success(&self, from: IpAddr, key: &str) {
        let (slot, print) = self.fingerprint(from, key);
        if let Some(slot) = self.known.get(slot)
            && slot.load(Ordering::Relaxed) != print
        {
            slot.store(print, Ordering::Relaxed);
        }
    }

    pub(super) fn has_authenticated(&self, from: IpAddr, key: &str) -> bool {
        let (slot, print) = self.fingerprint(from, key);
        let slot = self.known.get(slot);
        slot.is_some_and(|slot| slot.load(Ordering::Relaxed) == print)
    }

    fn fingerprint(&self, from: IpAddr, key: &str) -> (usize, u64) {
        let print = self.hasher.hash_one((Source::of(from), key)).max(1);
        (print as usize % Self::KNOWN_MAX, print)
    }

    /// Returns the entries that an address counts for, each with the interval that one failure takes.
    fn keys(&self, from: IpAddr) -> impl Iterator<Item = (FailureKey, u64)> {
        let (source, interval) = (Source::of(from), self.interval);
        let prefix48 = source.prefix48().map(FailureKey::Prefix48);
        let prefix48 = prefix48.map(|prefix48| (prefix48, interval / Self::PREFIX48_WEIGHT));
        std::iter::once((FailureKey::Source(source), interval)).chain(prefix48)
    }

    /// /48 networks have shards of their own, so that many single addresses cannot evict them.
    fn shard(&self, failure_key: FailureKey) -> Option<&Mutex<HashMap<FailureKey, u64>>> {
        let at = self.hasher.hash_one(failure_key) as usize % Self::SHARDS;
        let first = match failure_key {
            FailureKey::Source(_) => 0,
            FailureKey::Prefix48(_) => Self::SHARDS,
        };
        self.shards.get(first + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ACTIONS: [&str; 4] = ["ListFunctions", "Invoke", "GetFunction", "CopyFunction"];

    fn parse(text: &str) -> Result<RateLimits, (String, String)> {
        parse_rates(text.split(','), |action| ACTIONS.contains(&action))
    }

    fn limiters(text: &str) -> RateLimiters {
        let action = |name: &'static &str| Action {
            service: "scf",
            names: std::slice::from_ref(name),
        };
        let actions: Vec<_> = ACTIONS.iter().map(action).collect();
        RateLimiters::new(&parse(text).expect("rates"), &actions)
    }

    #[test]
    fn rate_limiter_allows_a_burst_of_one_second() {
        let limiters = limiters("Invoke=10");
        let passed = |from: u64, count: usize| {
            (0..count)
                .filter(|_| limiters.try_acquire("Invoke", || from))
                .count()
        };
        assert_eq!(passed(SECOND, 50), 10);
        assert_eq!(passed(SECOND + SECOND / 10, 50), 1);
        assert_eq!(passed(SECOND + SECOND / 2, 50), 4);
        assert_eq!(passed(100 * SECOND, 50), 10, "the burst is bounded");
    }

    #[test]
    fn each_action_has_its_own_token_bucket() {
        let limiters = limiters("Invoke=1,*=2,GetFunction=0");
        let passed = |action: &str| {
            (0..50)
                .filter(|_| limiters.try_acquire(action, || SECOND))
                .count()
        };
        assert_eq!(passed("Invoke"), 1);
        assert_eq!(passed("ListFunctions"), 2);
        assert_eq!(passed("GetFunction"), 50);
        assert_eq!(passed("Nothing"), 50);
        let unlimited = RateLimiters::new(&RateLimits::default(), &[]);
        assert!((0..50).all(|_| unlimited.try_acquire("Invoke", || 0)));
    }

    #[test]
    fn concurrent_calls_never_exceed_the_rate() {
        let limiters = limiters("Invoke=1000");
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1000)
                            .filter(|_| limiters.try_acquire("Invoke", || SECOND))
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|one| one.join().expect("its count"))
                .sum()
        });
        assert_eq!(passed, 1000);
    }

    #[test]
    fn repeated_auth_failures_block_source_ip() {
        let failures = AuthFailures::new(2);
        let [one, other] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("one"));
        for _ in 0..20 {
            assert!(!failures.is_blocked(one, SECOND));
            failures.record_failure(one, SECOND);
        }
        assert!(failures.is_blocked(one, SECOND));
        assert!(!failures.is_blocked(other, SECOND));
        assert!(!failures.is_blocked(one, 2 * SECOND));
        // A key that has authenticated from there is admitted all the same.
        failures.record_success(one, "AKID");
        assert!(
            failures.may_authenticate(one, "AKID", SECOND)
                && !failures.may_authenticate(one, "AKIDother", SECOND)
        );
        assert!(failures.may_authenticate(other, "AKIDother", SECOND));
        let none = AuthFailures::new(0);
        (0..1000).for_each(|_| none.record_failure(one, 0));
        assert!(!none.is_blocked(one, 0));
    }

    #[test]
    fn auth_failures_of_many_networks_block_no_other_source() {
        let failures = AuthFailures::new(2);
        let good: Vec<IpAddr> = (0..100u8).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        for network in 0..30_000u32 {
            let from = IpAddr::from((0x0a00_0000 + network).to_be_bytes());
            (0..3).for_each(|_| failures.record_failure(from, SECOND));
        }
        assert!(good.iter().all(|from| !failures.is_blocked(*from, SECOND)));
        let entries = failures
            .shards
            .iter()
            .map(|shard| shard.lock().expect("a table").len());
        assert!(entries.sum::<usize>() <= 2 * AuthFailures::SHARDS * AuthFailures::SHARD_MAX);
        // A table full of addresses with few failures does not evict the worst one.
        let worst = IpAddr::from([203, 0, 113, 1]);
        (0..50).for_each(|_| failures.record_failure(worst, SECOND));
        for network in 0..30_000u32 {
            failures.record_failure(IpAddr::from((0x0b00_0000 + network).to_be_bytes()), SECOND);
        }
        assert!(failures.is_blocked(worst, SECOND));
        // Many /64 networks of one customer count together.
        let customer = |n: u16| IpAddr::from([0x2001, 0xdb8, 1, n, 0, 0, 0, 1]);
        (0..1000).for_each(|n| failures.record_failure(customer(n), SECOND));
        assert!(failures.is_blocked(customer(2000), SECOND));
        assert!(!failures.is_blocked("2001:db8:2::1".parse().expect("one"), SECOND));
    }

    #[test]
    fn malformed_rate_limits_are_refused() {
        for (text, part) in [
            ("Invoke", "ACTION=NUMBER"),
            ("Invoke=x", "1000000"),
            ("Invoke=-1", "1000000"),
            ("Nothing=1", "name of an action"),
        ] {
            let (given, allowed) = parse(text).expect_err("refused");
            assert_eq!(given, text);
            assert!(allowed.contains(part), "{allowed}");
        }
    }
}
