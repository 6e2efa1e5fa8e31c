//! Bytes of records that wait for the log store's writer, bounded fairly between accounts.
//!
//! An account may have up to twice as many bytes waiting as are free ("dynamic thresholds", Choudhury and Hahne 1998).
//! So the account with most bytes waiting is the first whose records are dropped. One account alone has two thirds of
//! the queue at most, and what is left takes the records of others. What waits is not taken back: where many accounts in
//! turn fill the queue of a writer that stands still, each leaves a third of the rest. Nothing here locks or allocates.

use std::sync::atomic::{AtomicUsize, Ordering};

use model::AccountId;

/// Counters, one an account. Ids are given in turn: two accounts share a counter, and so a share, when their ids are a
/// multiple of this apart.
const COUNTERS: usize = 4096;

/// How many times the free bytes an account may have waiting.
const TIMES_FREE: usize = 2;

/// The bytes that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    capacity: usize,
    all: AtomicUsize,
    accounts: Box<[AtomicUsize]>,
}

impl Waiting {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            all: AtomicUsize::new(0),
            accounts: (0..COUNTERS).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// Adds a record of so many bytes, unless the account has too many waiting. Says whether it did.
    pub(super) fn reserve(&self, account: AccountId, bytes: usize) -> bool {
        // The account's counter first: a record that is refused takes nothing from other accounts, not even for a moment.
        let own = self.account(account).fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = |all| fits(self.capacity, all, own, bytes);
        let reserved = self
            .all
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if reserved.is_err() {
            self.account(account).fetch_sub(bytes, Ordering::Relaxed);
        }
        reserved.is_ok()
    }

    /// Subtracts a record that waits no more.
    pub(super) fn release(&self, account: AccountId, bytes: usize) {
        self.account(account).fetch_sub(bytes, Ordering::Relaxed);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn account(&self, account: AccountId) -> &AtomicUsize {
        &self.accounts[account.0 as usize % COUNTERS]
    }
}

/// Returns the bytes of all with this record, where its account may have `own` bytes waiting, this record included.
fn fits(capacity: usize, all: usize, own: usize, bytes: usize) -> Option<usize> {
    let all = all + bytes;
    let free = capacity.checked_sub(all)?;
    (own <= free * TIMES_FREE).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 64 << 20;
    const RECORD: usize = 10_000;

    fn fill(waiting: &Waiting, account: u64) -> usize {
        let mut taken = 0;
        while waiting.reserve(AccountId(account), RECORD) {
            taken += RECORD;
        }
        taken
    }

    #[test]
    fn account_that_fills_its_share_drops_no_record_of_another() {
        let waiting = Waiting::new(CAPACITY);
        let loud = fill(&waiting, 1);
        assert!(
            loud > CAPACITY * 6 / 10 && loud <= CAPACITY * 2 / 3,
            "{loud}"
        );
        for _ in 0..500 {
            assert!(waiting.reserve(AccountId(2), RECORD));
            assert!(!waiting.reserve(AccountId(1), RECORD));
        }
    }

    #[test]
    fn ten_accounts_that_print_at_once_share_alike_and_leave_room_for_one_more() {
        let waiting = Waiting::new(CAPACITY);
        let mut held = [0; 10];
        for _ in 0..2 * CAPACITY / RECORD / 10 {
            for (account, held) in held.iter_mut().enumerate() {
                *held += usize::from(waiting.reserve(AccountId(account as u64), RECORD));
            }
        }
        let (least, most) = (held.iter().min(), held.iter().max());
        assert!(
            most.zip(least)
                .is_some_and(|(most, least)| most - least <= 1),
            "{held:?}"
        );
        assert!(waiting.all.load(Ordering::Relaxed) <= CAPACITY);
        assert!(waiting.reserve(AccountId(11), RECORD), "a first record");
    }

    #[test]
    fn loud_account_gets_what_is_free_again() {
        let waiting = Waiting::new(CAPACITY);
        let first = fill(&waiting, 1);
        for _ in 0..first / RECORD {
            waiting.release(AccountId(1), RECORD);
        }
        assert_eq!(waiting.all.load(Ordering::Relaxed), 0);
        assert_eq!(fill(&waiting, 1), first);
    }

    #[test]
    fn whoever_has_less_waiting_is_refused_only_where_those_with_more_are() {
        for seed in 1..=20_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let waiting = Waiting::new(1 << 20);
            let accounts = 1 + random(12);
            let mut queue = std::collections::VecDeque::new();
            let mut held = vec![0; accounts as usize];
            for _ in 0..5000 {
                let account = random(accounts).min(random(accounts));
                let bytes = 1024 + random(20_000) as usize;
                let all: usize = held.iter().sum();
                assert_eq!(waiting.all.load(Ordering::Relaxed), all);
                assert!(all <= 1 << 20);
                if waiting.reserve(AccountId(account), bytes) {
                    queue.push_back((account, bytes));
                    held[account as usize] += bytes;
                } else {
                    let more =
                        (0..accounts).filter(|a| held[*a as usize] >= held[account as usize]);
                    for other in more {
                        assert!(!waiting.reserve(AccountId(other), bytes), "seed {seed}");
                    }
                }
                if random(3) == 0
                    && let Some((account, bytes)) = queue.pop_front()
                {
                    waiting.release(AccountId(account), bytes);
                    held[account as usize] -= bytes;
                }
            }
        }
    }
}
