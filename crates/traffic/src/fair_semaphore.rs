//! A weighted semaphore that shares a fixed amount fairly among keys, e.g. memory for bodies among accounts.
//!
//! A key may hold at most as much as it leaves free, unless it holds nothing yet. So one key alone gets half, two get a
//! third each, and a newcomer always finds capacity beside one greedy key. Waiters are served in the order of the least
//! holdings (max-min fairness); a waiter that would then hold more than one ahead of it does not overtake it.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The semaphore. Clones share the amount.
#[derive(Debug)]
pub struct FairSemaphore<K: Key>(Arc<Mutex<Allocations<K, oneshot::Sender<FairPermit<K>>>>>);

/// The key among which the amount is shared.
pub trait Key: Copy + Debug + Eq + Hash + Send + 'static {}

impl<K: Copy + Debug + Eq + Hash + Send + 'static> Key for K {}

/// A part of the amount, until dropped.
#[derive(Debug)]
pub struct FairPermit<K: Key> {
    semaphore: FairSemaphore<K>,
    key: K,
    amount: u64,
}

impl<K: Key> Clone for FairSemaphore<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Key> FairSemaphore<K> {
    /// Creates a semaphore that shares this amount.
    pub fn new(amount: u64) -> Self {
        Self(Arc::new(Mutex::new(Allocations::new(amount))))
    }

    /// Waits for a part of the amount. A request beyond the whole amount is reduced to it.
    pub async fn acquire(&self, key: K, amount: u64) -> FairPermit<K> {
        let wait = {
            let mut allocations = self.allocations();
            let amount = amount.min(allocations.all);
            if allocations.try_take(key, amount) {
                return self.permit(key, amount);
            }
            let (grant_sender, wait) = oneshot::channel();
            allocations.enqueue(key, amount, grant_sender);
            wait
        };
        self.grant_waiting();
        // The sender is not dropped while the semaphore exists.
        wait.await.unwrap_or_else(|_| self.permit(key, 0))
    }

    fn permit(&self, key: K, amount: u64) -> FairPermit<K> {
        FairPermit {
            semaphore: self.clone(),
            key,
            amount,
        }
    }

    /// Grants waiting requests as far as possible.
    fn grant_waiting(&self) {
        let granted = self
            .allocations()
            .grant(|grant_sender| !grant_sender.is_closed());
        for (key, amount, grant_sender) in granted {
            // A receiver that is gone drops the permit, which releases it.
            let _ = grant_sender.send(self.permit(key, amount));
        }
    }

    fn allocations(&self) -> MutexGuard<'_, Allocations<K, oneshot::Sender<FairPermit<K>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Key> Drop for FairPermit<K> {
    fn drop(&mut self) {
        self.semaphore.allocations().release(self.key, self.amount);
        self.semaphore.grant_waiting();
    }
}

/// The holdings and the waiting requests. Pure.
#[derive(Debug)]
struct Allocations<K, T> {
    all: u64,
    free: u64,
    held: HashMap<K, u64>,
    /// Waiting requests by key, first in first out, each with a growing number.
    waiting: HashMap<K, VecDeque<(u64, u64, T)>>,
    asked: u64,
}

impl<K: Key, T> Allocations<K, T> {
    fn new(all: u64) -> Self {
        Self {
            all,
            free: all,
            held: HashMap::new(),
            waiting: HashMap::new(),
            asked: 0,
        }
    }

    fn held(&self, key: K) -> u64 {
        self.held.get(&key).copied().unwrap_or(0)
    }

    fn may(&self, key: K, amount: u64) -> bool {
        let held = self.held(key);
        let after = self.free.checked_sub(amount);
        after.is_some_and(|left| held == 0 || held + amount <= left)
    }

    fn take(&mut self, key: K, amount: u64) {
        self.free = self.free.saturating_sub(amount);
        *self.held.entry(key).or_default() += amount;
    }

    /// Takes an amount at once if nothing waits.
    fn try_take(&mut self, key: K, amount: u64) -> bool {
        let takes = self.waiting.is_empty() && self.may(key, amount);
        if takes {
            self.take(key, amount);
        }
        takes
    }

    fn enqueue(&mut self, key: K, amount: u64, token: T) {
        self.asked += 1;
        let request = (self.asked, amount, token);
        self.waiting.entry(key).or_default().push_back(request);
    }

    fn release(&mut self, key: K, amount: u64) {
        self.free = (self.free + amount).min(self.all);
        if let Some(held) = self.held.get_mut(&key) {
            *held = held.saturating_sub(amount);
            if *held == 0 {
                self.held.remove(&key);
            }
        }
    }

    /// Grants waiting requests, and removes cancelled ones.
    fn grant(&mut self, waits: impl Fn(&T) -> bool) -> Vec<(K, u64, T)> {
        let mut granted = Vec::new();
        self.waiting.retain(|_, requests| {
            requests.retain(|(_, _, token)| waits(token));
            !requests.is_empty()
        });
        while let Some(key) = self.next() {
            let Some(requests) = self.waiting.get_mut(&key) else {
                break;
            };
            let request = requests.pop_front();
            if requests.is_empty() {
                self.waiting.remove(&key);
            }
            if let Some((_, amount, token)) = request {
                self.take(key, amount);
                granted.push((key, amount, token));
            }
        }
        granted
    }

    /// Returns the key to be served next.
    fn next(&self) -> Option<K> {
        let first = self.waiting.iter().filter_map(|(key, requests)| {
            let (asked, amount, _) = requests.front()?;
            Some((self.held(*key), *asked, *amount, *key))
        });
        let mut first: Vec<_> = first.collect();
        first.sort_unstable_by_key(|(held, asked, _, _)| (*held, *asked));
        let mut bar = u64::MAX;
        for (held, _, amount, key) in first {
            if held + amount > bar {
                continue;
            }
            if self.may(key, amount) {
                return Some(key);
            }
            bar = held + amount;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn greedy_key_leaves_capacity_for_another() {
        let semaphore = FairSemaphore::new(100);
        let mut greedy = Vec::new();
        let more = |semaphore: &FairSemaphore<u8>| {
            let semaphore = semaphore.clone();
            async move { tokio::time::timeout(Duration::ZERO, semaphore.acquire(1, 10)).await }
        };
        while let Ok(permit) = more(&semaphore).await {
            greedy.push(permit);
        }
        assert_eq!(greedy.len(), 5);
        let other = semaphore.acquire(2, 40).await;
        // A released amount goes to the waiter.
        let waits = tokio::spawn({
            let semaphore = semaphore.clone();
            async move { semaphore.acquire(1, 10).await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(other);
        drop(greedy.pop());
        waits.await.expect("a permit");
        drop(greedy);
        let all = semaphore.acquire(3, 1000).await;
        assert_eq!(all.amount, 100);
    }

    #[tokio::test]
    async fn cancelled_waiter_blocks_no_other() {
        let semaphore = FairSemaphore::new(100);
        let held = semaphore.acquire(1, 60).await;
        let gone = tokio::spawn({
            let semaphore = semaphore.clone();
            async move { semaphore.acquire(2, 50).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.is_err());
        drop(semaphore.acquire(3, 40).await);
        drop(held);
        assert_eq!(semaphore.acquire(4, 100).await.amount, 100);
    }

    #[test]
    fn allocation_is_fair_for_random_requests() {
        for seed in 1..400u64 {
            let mut generator = testkit::Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut random = move |below: u64| generator.below(below);
            let mut allocations = Allocations::new(1000);
            let mut held: Vec<(u8, u64)> = Vec::new();
            for step in 0..300u64 {
                let key = random(4) as u8;
                if random(2) == 0 && !held.is_empty() {
                    let (key, amount) = held.swap_remove(random(held.len() as u64) as usize);
                    allocations.release(key, amount);
                } else {
                    // One key asks for much, the others for little.
                    let most = if key == 0 { 600 } else { 60 };
                    allocations.enqueue(key, 1 + random(most), step);
                }
                for (key, amount, asked) in allocations.grant(|_| true) {
                    let others = allocations.waiting.get(&key).into_iter().flatten();
                    assert!(
                        others.into_iter().all(|(_, _, later)| *later > asked),
                        "seed {seed}"
                    );
                    held.push((key, amount));
                }
                let sum: u64 = held.iter().map(|(_, amount)| amount).sum();
                assert_eq!(sum + allocations.free, 1000, "seed {seed}");
                for key in 0..4u8 {
                    let own = held.iter().filter(|(one, _)| *one == key);
                    let own: u64 = own.map(|(_, amount)| amount).sum();
                    assert_eq!(own, allocations.held(key), "seed {seed}");
                }
                // A key without holdings waits only while the others leave too little, or leave enough for a smaller
                // request.
                let first = allocations
                    .waiting
                    .iter()
                    .filter(|(key, _)| allocations.held(**key) == 0);
                let least = first
                    .filter_map(|(_, requests)| requests.front())
                    .map(|request| request.1)
                    .min();
                assert!(
                    least.is_none_or(|least| least > allocations.free),
                    "seed {seed}"
                );
            }
            while let Some((key, amount)) = held.pop() {
                allocations.release(key, amount);
                held.extend(
                    allocations
                        .grant(|_| true)
                        .into_iter()
                        .map(|(key, amount, _)| (key, amount)),
                );
            }
            assert!(
                allocations.waiting.is_empty() && allocations.held.is_empty(),
                "seed {seed}"
            );
        }
    }
}
