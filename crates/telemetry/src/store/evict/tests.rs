use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use model::{AccountId, FunctionKey, FunctionName, RequestId};

use super::super::ids::bound;
use super::super::schema::disk_bytes;
use super::super::{LogStore, LogStoreSettings};
use super::*;
use crate::Record;
use crate::text::tests::record;

const STORE_BYTES: u64 = 1 << 20;

fn open(path: &Path) -> LogStore {
    let settings = LogStoreSettings {
        retention: Duration::from_secs(3600),
        max_bytes: STORE_BYTES,
    };
    LogStore::open(path, settings).expect("a store")
}

/// A generator of records with increasing request ids.
struct Source {
    now: i64,
    next: u32,
}

impl Source {
    fn new() -> Self {
        Self {
            now: clock::now_ms(),
            next: 0,
        }
    }

    fn record(&mut self, account: u64, bytes: usize) -> Record {
        let mut id = bound(self.now, 0);
        id[6..10].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        let record = record();
        Record {
            request: RequestId::from_bytes(id),
            function: FunctionKey {
                account: AccountId(account),
                // Several functions per account, so that its oldest rows are not adjacent.
                name: FunctionName::parse(&format!("fun{}", self.next % 3)).expect("a name"),
                ..record.function.clone()
            },
            log: vec![b'x'; bytes].into(),
            answer: Bytes::from_static(b"caf\xe9"),
            ..record
        }
    }
}

/// Returns the stored request ids of an account, oldest first.
fn kept(path: &Path, account: u64) -> Vec<Vec<u8>> {
    let connection = Connection::open(path).expect("a file");
    let mut read = connection
        .prepare(
            "SELECT request FROM function JOIN invocation ON invocation.function = function.id
             WHERE account = ? ORDER BY request",
        )
        .expect("prepared");
    let rows = read.query_map([account as i64], |row| row.get(0));
    rows.expect("read").collect::<Result<_, _>>().expect("read")
}

/// Checks that the bytes of each account match its rows.
fn assert_counted(path: &Path) {
    let connection = Connection::open(path).expect("a file");
    let mut counted = account_bytes(&connection).expect("read");
    counted.retain(|(_, bytes)| *bytes > 0);
    let mut read = connection
        .prepare("SELECT account, log, answer FROM function JOIN invocation ON function = id")
        .expect("prepared");
    let rows = read.query_map([], |row| {
        let (log, answer): (String, String) = (row.get(1)?, row.get(2)?);
        Ok((row.get(0)?, disk_bytes(&log, &answer)))
    });
    let mut summed: BTreeMap<i64, u64> = BTreeMap::new();
    for row in rows.expect("read") {
        let (account, bytes) = row.expect("read");
        *summed.entry(account).or_default() += bytes;
    }
    assert_eq!(counted, Vec::from_iter(summed));
}

fn held(store: &LogStore) -> Vec<(i64, u64)> {
    account_bytes(&store.writer().connection).expect("read")
}

fn used_bytes(store: &LogStore) -> u64 {
    let writer = store.writer();
    let number = |name| writer.number(name).expect("a number");
    (number("page_count") - number("freelist_count")) * number("page_size")
}

#[test]
fn account_that_logs_ten_times_the_store_evicts_no_other_account() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("logs.sqlite");
    let mut source = Source::new();
    let mut store = open(&path);
    let quiet: Vec<_> = (0..20).map(|_| source.record(2, 2000)).collect();
    store.write(&quiet).expect("written");
    for round in 0..40 {
        let loud: Vec<_> = (0..64).map(|_| source.record(1, 4096)).collect();
        store.write(&loud).expect("written");
        store.clean().expect("cleaned");
        assert!(used_bytes(&store) <= STORE_BYTES, "{}", used_bytes(&store));
        if round == 20 {
            drop(store);
            store = open(&path);
        }
        assert_eq!(kept(&path, 2).len(), 20, "after round {round}");
        let loud_kept = kept(&path, 1);
        assert!(
            loud_kept.len() >= 64,
            "{} in round {round}",
            loud_kept.len()
        );
        let last = loud.last().expect("one").request;
        assert_eq!(
            loud_kept.last().expect("one"),
            last.as_bytes(),
            "the newest rows are kept"
        );
    }
    assert_counted(&path);
    drop(store);
    let bytes = std::fs::metadata(&path).expect("a file").len();
    assert!(bytes <= STORE_BYTES, "{bytes} bytes");
}

#[test]
fn eviction_takes_the_oldest_rows_of_the_largest_accounts() {
    /// Maximum bytes of a record on disk.
    const LONGEST: u64 = 16 << 10;
    let mut evicted = 0;
    for seed in 1..=8_u64 {
        let mut generator = testkit::Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut random = move |below: u64| generator.below(below);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("logs.sqlite");
        let mut source = Source::new();
        let mut store = open(&path);
        let accounts = 2 + random(8);
        let mut written: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for _ in 0..30 {
            let mut batch = Vec::new();
            for _ in 0..random(60) {
                // Account 1 logs most, the last one least.
                let account = 1 + random(accounts).min(random(accounts));
                let bytes = random(12_000 / account) as usize;
                let record = source.record(account, bytes);
                let row = record.request.as_bytes().to_vec();
                written.entry(account).or_default().push(row);
                if random(20) == 0 {
                    // A duplicate of another length, which counts once.
                    let log = Bytes::from(vec![b'y'; random(9000) as usize]);
                    batch.push(Record {
                        log,
                        ..record.clone()
                    });
                }
                batch.push(record);
            }
            store.write(&batch).expect("written");
            let before: BTreeMap<_, _> = held(&store).into_iter().collect();
            store.clean().expect("cleaned");
            let most = held(&store).iter().map(|(_, bytes)| *bytes).max();
            for (account, bytes) in held(&store) {
                // Cut to the level, or one row below it.
                let lost = bytes < before[&account];
                let behind = most.expect("an account").saturating_sub(bytes);
                assert!(
                    !lost || behind <= LONGEST,
                    "seed {seed}, {account}: {behind}"
                );
            }
            if random(5) == 0 {
                drop(store);
                store = open(&path);
            }
            assert!(used_bytes(&store) <= STORE_BYTES, "seed {seed}");
            assert_counted(&path);
            for (account, rows) in &written {
                let kept = kept(&path, *account);
                let youngest = &rows[rows.len() - kept.len()..];
                assert_eq!(kept, youngest, "seed {seed}, account {account}");
            }
        }
        evicted += written.values().map(Vec::len).sum::<usize>();
        evicted -= written
            .keys()
            .map(|account| kept(&path, *account).len())
            .sum::<usize>();
    }
    assert!(evicted > 100, "{evicted}");
}

#[test]
fn level_is_max_min_fair() {
    assert_eq!(level(vec![100, 10, 100], 110), 50);
    assert_eq!(level(vec![100, 10, 30], 90), 50);
    assert_eq!(level(vec![10, 20], 30), u64::MAX);
    assert_eq!(level(vec![10, 20], 0), 0);
    assert_eq!(level(vec![], 5), u64::MAX);
}

#[test]
fn purged_account_holds_no_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("logs.sqlite");
    let store = open(&path);
    let mut source = Source::new();
    let batch: Vec<_> = (0..10).map(|n| source.record(1 + n % 2, 100)).collect();
    store.write(&batch).expect("written");
    store.close_account(AccountId(1));
    while store.purge_some(AccountId(1)).expect("purged") > 0 {}
    let left = account_bytes(&store.writer().connection).expect("read");
    assert_eq!(
        left.iter().map(|(account, _)| *account).collect::<Vec<_>>(),
        [2]
    );
    assert_counted(&path);
}
