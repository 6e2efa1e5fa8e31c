//! How often an account may call an action, and how often an address may fail to authenticate.
//!
//! Both are the generic cell rate algorithm: one number per bucket, the time at which the next request is due when all
//! come evenly. A request may be a second's worth early. There is no lock; a bucket without a limit costs nothing.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use scf::ACTIONS;
use scf::action::position;

const SECOND: u64 = 1_000_000_000;
const MOST: u32 = 1_000_000;

/// Requests a second, of each account: by action, and for all that are not named. 0 is any number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateLimits {
    named: BTreeMap<String, u32>,
    others: u32,
}

impl RateLimits {
    pub(crate) fn of(&self, action: &str) -> u32 {
        self.named.get(action).copied().unwrap_or(self.others)
    }

    fn is_none(&self) -> bool {
        self.others == 0 && self.named.values().all(|rate| *rate == 0)
    }
}

/// Reads `Invoke=100,*=50`.
///
/// # Errors
/// The pair that is wrong, and what is allowed.
pub(crate) fn parse_rates<'a>(
    pairs: impl Iterator<Item = &'a str>,
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
            action if position(action).is_some() => {
                rates.named.insert(action.to_owned(), rate);
            }
            _ => return Err(wrong("a name of an action of the API, as Invoke")),
        }
    }
    Ok(rates)
}

/// One bucket: when the next request is due, nanoseconds.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one request, if it is not too early.
    fn pass(&self, now: u64, interval: u64, early: u64) -> bool {
        let take = |due: u64| (due <= now.saturating_add(early)).then(|| due.max(now) + interval);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    fn is_full(&self, now: u64, early: u64) -> bool {
        self.0.load(Ordering::Relaxed) > now.saturating_add(early)
    }
}

/// The buckets of an account, one for each action that has a limit.
#[derive(Debug)]
pub(super) struct Gates {
    /// Interval and bucket by the action's position; empty where nothing is limited.
    gates: Box<[(u64, Bucket)]>,
}

impl Gates {
    pub(super) fn new(rates: &RateLimits) -> Self {
        if rates.is_none() {
            return Self {
                gates: Box::default(),
            };
        }
        let gate = |action: &scf::ActionInfo| {
            let rate = u64::from(rates.of(action.name));
            (SECOND.checked_div(rate).unwrap_or(0), Bucket::default())
        };
        Self {
            gates: ACTIONS.iter().map(gate).collect(),
        }
    }

    /// Whether a call of an action is not too early. `now` is asked for only where that matters.
    pub(super) fn pass(&self, action: &str, now: impl FnOnce() -> u64) -> bool {
        if self.gates.is_empty() {
            return true;
        }
        let gate = position(action).and_then(|at| self.gates.get(at));
        match gate {
            // A burst is a second's worth, less the request that takes its turn.
            Some((interval, bucket)) if *interval > 0 => {
                bucket.pass(now(), *interval, SECOND - interval)
            }
            _ => true,
        }
    }
}

/// Failures by address. Addresses share buckets where their hashes meet, so memory is bounded.
#[derive(Debug)]
pub(super) struct Failures {
    buckets: Box<[Bucket]>,
    hasher: RandomState,
    interval: u64,
}

impl Failures {
    const BUCKETS: usize = 4096;
    /// How many seconds' worth may come at once.
    const BURST: u64 = 10;

    pub(super) fn new(per_second: u32) -> Self {
        let interval = SECOND.checked_div(per_second.into()).unwrap_or(0);
        let buckets = if interval == 0 { 0 } else { Self::BUCKETS };
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            hasher: RandomState::new(),
            interval,
        }
    }

    pub(super) fn too_many(&self, from: IpAddr, now: u64) -> bool {
        let bucket = self.bucket(from);
        bucket.is_some_and(|bucket| bucket.is_full(now, Self::BURST * SECOND - self.interval))
    }

    pub(super) fn note(&self, from: IpAddr, now: u64) {
        if let Some(bucket) = self.bucket(from) {
            bucket.pass(now, self.interval, Self::BURST * SECOND);
        }
    }

    fn bucket(&self, from: IpAddr) -> Option<&Bucket> {
        // Who has one address of version 6 has all of its network's.
        let network = match from.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        let at = self.hasher.hash_one(network) as usize % self.buckets.len().max(1);
        self.buckets.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(text: &str) -> RateLimits {
        parse_rates(text.split(',')).expect("rates")
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_per_interval() {
        let gates = Gates::new(&rates("Invoke=10"));
        let passed =
            |from: u64, count: usize| (0..count).filter(|_| gates.pass("Invoke", || from)).count();
        assert_eq!(passed(SECOND, 50), 10);
        assert_eq!(passed(SECOND + SECOND / 10, 50), 1);
        assert_eq!(passed(SECOND + SECOND / 2, 50), 4);
        assert_eq!(passed(100 * SECOND, 50), 10, "no more is saved up");
    }

    #[test]
    fn actions_have_their_own_buckets_and_without_a_rate_none() {
        let gates = Gates::new(&rates("Invoke=1,*=2,GetFunction=0"));
        let passed = |action: &str| (0..50).filter(|_| gates.pass(action, || SECOND)).count();
        assert_eq!(passed("Invoke"), 1);
        assert_eq!(passed("ListFunctions"), 2);
        assert_eq!(passed("GetFunction"), 50);
        assert_eq!(passed("Nothing"), 50);
        assert!((0..50).all(|_| Gates::new(&RateLimits::default()).pass("Invoke", || 0)));
    }

    #[test]
    fn many_threads_take_no_more_than_there_is() {
        let gates = Gates::new(&rates("Invoke=1000"));
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1000)
                            .filter(|_| gates.pass("Invoke", || SECOND))
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
    fn an_address_that_fails_often_is_not_heard_for_a_while() {
        let failures = Failures::new(2);
        let [one, other] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("one"));
        for _ in 0..20 {
            assert!(!failures.too_many(one, SECOND));
            failures.note(one, SECOND);
        }
        assert!(failures.too_many(one, SECOND));
        assert!(!failures.too_many(other, SECOND));
        assert!(!failures.too_many(one, 2 * SECOND));
        let none = Failures::new(0);
        (0..1000).for_each(|_| none.note(one, 0));
        assert!(!none.too_many(one, 0));
    }

    #[test]
    fn rates_are_checked() {
        for (text, part) in [
            ("Invoke", "ACTION=NUMBER"),
            ("Invoke=x", "1000000"),
            ("Invoke=-1", "1000000"),
            ("Nothing=1", "name of an action"),
        ] {
            let (given, allowed) = parse_rates(text.split(',')).expect_err("refused");
            assert_eq!(given, text);
            assert!(allowed.contains(part), "{allowed}");
        }
    }
}
