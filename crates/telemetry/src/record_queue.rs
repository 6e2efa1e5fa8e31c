//! A bounded queue of records for the writer of a slow destination, with max-min fairness between accounts.
//!
//! On overflow the account with the most queued bytes loses its newest records. The writer takes records round-robin by account. So
//! the output of one account neither drops nor delays the records of another, however slow the disk is.
//!
//! While less than half of the capacity is used, a record goes through a channel without a lock. Above that, the reporting thread
//! takes a lock, sorts the channel's records by account and drops the excess.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::AccountId;

use super::record::{RECORD_BYTES, Record};

/// Notified once all earlier records are written.
pub(super) type Flushed = SyncSender<()>;

/// The queue of records.
#[derive(Debug)]
pub(super) struct RecordQueue {
    sender: SyncSender<Message>,
    sorted: Mutex<SortedRecords>,
    /// Bytes of all queued records.
    bytes: AtomicUsize,
    capacity: usize,
}

#[derive(Debug)]
enum Message {
    Record(Arc<Record>),
    /// A request to write the records of one account, or of all.
    Flush(Option<AccountId>, Flushed),
    /// Wakes the writer because the sorted records are not empty.
    Wake,
}

/// A batch for the writer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Arc<Record>>,
    /// Notified once the records are written.
    pub(super) flushed: Vec<Flushed>,
    /// Whether a flush waits for later records.
    pub(super) urgent: bool,
}

impl RecordQueue {
    pub(super) fn new(capacity: usize) -> Self {
        let (sender, inbox) = sync_channel(capacity / 2 / RECORD_BYTES);
        Self {
            sender,
            sorted: Mutex::new(SortedRecords {
                inbox,
                accounts: HashMap::new(),
                sizes: BTreeSet::new(),
                turns: VecDeque::new(),
                flushes: Vec::new(),
                bytes: 0,
                next: 0,
            }),
            bytes: AtomicUsize::new(0),
            capacity,
        }
    }

    /// Adds a record. Returns the number of records dropped for it, itself included.
    pub(super) fn push(&self, record: Arc<Record>) -> usize {
        let weight = record.weight();
        let bytes = self.bytes.fetch_add(weight, Ordering::Relaxed) + weight;
        let mut message = Message::Record(record);
        if bytes <= self.capacity / 2 {
            match self.sender.try_send(message) {
                Ok(()) => return 0,
                Err(refused) => message = refused.into(),
            }
        } else {
            // The writer may hold the lock while it waits for a message. If the channel is full, it is not waiting.
            let _ = self.sender.try_send(Message::Wake);
        }
        let mut sorted = self.sorted();
        sorted.drain();
        sorted.take(message);
        let (dropped, freed) = sorted.shed(self.capacity);
        drop(sorted);
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
        dropped
    }

    /// Requests a notification once the earlier records of an account, or of all, are written.
    pub(super) fn flush(&self, account: Option<AccountId>, flushed: Flushed) {
        // Cannot fail: the receiver lives as long as `self`.
        let _ = self.sender.send(Message::Flush(account, flushed));
    }

    /// Takes up to `most` records, round-robin by account.
    pub(super) fn next(&self, most: usize) -> Batch {
        let mut sorted = self.sorted();
        sorted.drain();
        let batch = sorted.next(most);
        drop(sorted);
        let weight = batch.records.iter().map(|record| record.weight()).sum();
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
        batch
    }

    /// Waits for work, at most `within`.
    pub(super) fn wait(&self, within: Duration) {
        let mut sorted = self.sorted();
        if sorted.turns.is_empty() && sorted.flushes.is_empty() {
            match sorted.inbox.recv_timeout(within) {
                Ok(message) => sorted.take(message),
                // Disconnected cannot happen: the sender lives as long as `self`.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Returns the bytes of the queued records.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn sorted(&self) -> MutexGuard<'_, SortedRecords> {
        self.sorted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<std::sync::mpsc::TrySendError<Self>> for Message {
    fn from(error: std::sync::mpsc::TrySendError<Self>) -> Self {
        use std::sync::mpsc::TrySendError::{Disconnected, Full};
        match error {
            Full(message) | Disconnected(message) => message,
        }
    }
}

/// Records by account.
#[derive(Debug)]
struct SortedRecords {
    inbox: Receiver<Message>,
    accounts: HashMap<AccountId, AccountRecords>,
    /// Accounts by size, to find the largest.
    sizes: BTreeSet<(usize, AccountId)>,
    /// Accounts in round-robin order.
    turns: VecDeque<AccountId>,
    flushes: Vec<Flush>,
    bytes: usize,
    /// The number of the next record.
    next: u64,
}

/// The records of an account, oldest first, each with its number.
#[derive(Debug, Default)]
struct AccountRecords {
    records: VecDeque<(u64, Arc<Record>)>,
    bytes: usize,
}

#[derive(Debug)]
struct Flush {
    account: Option<AccountId>,
    /// Complete once all records with smaller numbers are written.
    before: u64,
    flushed: Flushed,
}

impl SortedRecords {
    fn drain(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Record(record) => self.add(record),
            Message::Flush(account, flushed) => self.flushes.push(Flush {
                account,
                before: self.next,
                flushed,
            }),
            Message::Wake => {}
        }
    }

    fn add(&mut self, record: Arc<Record>) {
        let (account, weight) = (record.function.account, record.weight());
        let queued = self.accounts.entry(account).or_default();
        if queued.records.is_empty() {
            self.turns.push_back(account);
        }
        queued.records.push_back((self.next, record));
        self.next += 1;
        self.resize(account, weight as isize);
    }

    fn resize(&mut self, account: AccountId, by: isize) {
        let Some(queued) = self.accounts.get_mut(&account) else {
            return;
        };
        self.sizes.remove(&(queued.bytes, account));
        queued.bytes = queued.bytes.saturating_add_signed(by);
        self.bytes = self.bytes.saturating_add_signed(by);
        if queued.records.is_empty() {
            self.accounts.remove(&account);
        } else {
            self.sizes.insert((queued.bytes, account));
        }
    }

    /// Drops the newest record of the largest account until the rest fits. Returns the number dropped, and their bytes.
    fn shed(&mut self, capacity: usize) -> (usize, usize) {
        let (mut dropped, mut freed) = (0, 0);
        while self.bytes > capacity
            && let Some((_, account)) = self.sizes.last().copied()
            && let Some(queued) = self.accounts.get_mut(&account)
            && let Some((_, record)) = queued.records.pop_back()
        {
            if queued.records.is_empty() {
                self.turns.retain(|other| *other != account);
            }
            let weight = record.weight();
            self.resize(account, -(weight as isize));
            dropped += 1;
            freed += weight;
        }
        (dropped, freed)
    }

    fn next(&mut self, most: usize) -> Batch {
        let mut batch = Batch::default();
        while batch.records.len() < most
            && let Some(account) = self.turns.pop_front()
            && let Some(queued) = self.accounts.get_mut(&account)
        {
            let Some((_, record)) = queued.records.pop_front() else {
                continue;
            };
            if !queued.records.is_empty() {
                self.turns.push_back(account);
            }
            self.resize(account, -(record.weight() as isize));
            batch.records.push(record);
        }
        let mut flushes = std::mem::take(&mut self.flushes);
        let waits = |flush: &Flush| {
            let before = |queued: &AccountRecords| {
                let first = queued.records.front();
                first.is_some_and(|(number, _)| *number < flush.before)
            };
            match flush.account {
                Some(account) => self.accounts.get(&account).is_some_and(before),
                None => self.accounts.values().any(before),
            }
        };
        let done = flushes.extract_if(.., |flush| !waits(flush));
        batch.flushed = done.map(|flush| flush.flushed).collect();
        batch.urgent = !flushes.is_empty();
        self.flushes = flushes;
        batch
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tests::of;
    use super::*;

    const CAPACITY: usize = 1 << 20;

    fn push(record_queue: &RecordQueue, account: u64, bytes: usize) -> usize {
        record_queue.push(of(account, 0, &Bytes::from(vec![b'x'; bytes])).into())
    }

    /// Returns the queued bytes of each account.
    fn held(record_queue: &RecordQueue) -> HashMap<u64, usize> {
        let mut sorted = record_queue.sorted();
        sorted.drain();
        assert_eq!(sorted.bytes, record_queue.bytes.load(Ordering::Relaxed));
        assert_eq!(sorted.accounts.len(), sorted.turns.len());
        assert_eq!(sorted.accounts.len(), sorted.sizes.len());
        let held = sorted.accounts.iter();
        held.map(|(account, queued)| (account.0, queued.bytes))
            .collect()
    }

    fn accounts(batch: &Batch) -> Vec<u64> {
        let records = batch.records.iter();
        records.map(|record| record.function.account.0).collect()
    }

    #[test]
    fn account_that_floods_loses_its_own_records_alone() {
        let record_queue = RecordQueue::new(CAPACITY);
        let mut lost = 0;
        for _ in 0..500 {
            lost += push(&record_queue, 1, 9000);
        }
        assert!(lost > 0 && held(&record_queue)[&1] <= CAPACITY);
        // Another account gets up to half of the capacity, although nothing is written meanwhile.
        let weight = of(2, 0, &Bytes::from(vec![b'x'; 9000])).weight();
        let half = CAPACITY / 2 / weight;
        for _ in 0..half {
            push(&record_queue, 2, 9000);
            push(&record_queue, 1, 9000);
        }
        assert_eq!(held(&record_queue)[&2], half * weight, "none of it is lost");
    }

    #[test]
    fn record_queue_is_max_min_fair_in_any_arrival_order() {
        for seed in 1..=20_u64 {
            let mut generator = testkit::Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut random = move |below: u64| generator.below(below);
            let record_queue = RecordQueue::new(CAPACITY);
            let accounts = 1 + random(12);
            let mut wanted: HashMap<u64, usize> = HashMap::new();
            for _ in 0..3000 {
                let account = random(accounts).min(random(accounts));
                *wanted.entry(account).or_default() += 4096 + RECORD_BYTES;
                push(&record_queue, account, 4096);
            }
            let held = held(&record_queue);
            let most = held.values().max().copied().unwrap_or(0);
            let slack = of(0, 0, &Bytes::from(vec![b'x'; 4096])).weight();
            for (account, wanted) in wanted {
                let got = held.get(&account).copied().unwrap_or(0);
                assert!(
                    got >= wanted || got + slack >= most,
                    "seed {seed}: account {account} has {got} of {wanted}, another one {most}"
                );
            }
            let all: usize = held.values().sum();
            assert!(all <= CAPACITY && all + slack > CAPACITY, "{all}");
        }
    }

    #[test]
    fn writer_takes_a_record_of_each_account_in_turn() {
        let record_queue = RecordQueue::new(CAPACITY);
        for account in [1, 1, 1, 1, 2, 3, 3] {
            push(&record_queue, account, 10);
        }
        assert_eq!(accounts(&record_queue.next(4)), [1, 2, 3, 1]);
        assert_eq!(accounts(&record_queue.next(4)), [3, 1, 1]);
        assert_eq!(held(&record_queue), HashMap::new());
    }

    #[test]
    fn flush_of_an_account_waits_for_no_other() {
        let record_queue = RecordQueue::new(CAPACITY);
        for account in [1, 1, 1, 1, 2] {
            push(&record_queue, account, 10);
        }
        let (own, own_done) = sync_channel(1);
        let (all, all_done) = sync_channel(1);
        record_queue.flush(Some(AccountId(2)), own);
        record_queue.flush(None, all);
        push(&record_queue, 2, 10);
        let first = record_queue.next(2);
        assert_eq!((accounts(&first), first.flushed.len()), (vec![1, 2], 1));
        assert!(first.urgent, "the other flush still waits");
        first.flushed[0].send(()).expect("notified");
        assert!(own_done.try_recv().is_ok() && all_done.try_recv().is_err());
        let second = record_queue.next(10);
        assert_eq!((second.flushed.len(), second.urgent), (1, false));
    }

    #[test]
    fn waiting_writer_is_woken_by_a_record_of_any_size() {
        let record_queue = std::sync::Arc::new(RecordQueue::new(CAPACITY));
        let writer = record_queue.clone();
        let thread = std::thread::spawn(move || writer.wait(Duration::from_secs(600)));
        push(&record_queue, 1, CAPACITY * 3 / 4);
        thread.join().expect("it goes on");
        assert_eq!(accounts(&record_queue.next(10)), [1]);
    }
}
