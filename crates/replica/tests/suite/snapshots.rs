//! Snapshots: stored, confirmed by another replica, followed by trimming, and what a replica starts from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use replica::snapshot::{Confirmation, Manifest, Snapshots, Start};
use replica::{
    AppendError, BlobError, Blobs, Control, Entry, Header, Limits, Log, LogError, LogIdentity,
    ObjectBlobs, Position, Record, Replica, Status, SubmitError, Time, Usage, Vault, WriterId,
};
use rusqlite::Connection;
use seeded::Random;
use tempfile::TempDir;
use testlog::{Faults, Simulated, clock, dump, paused};

use crate::bank::{Bank, Change, Outcome, deposit};
use crate::world::{Node, check, directory};

/// The snapshots that all nodes of a test see.
struct Store {
    directory: TempDir,
    blobs: Arc<ObjectBlobs>,
    snapshots: Snapshots,
}

impl Store {
    fn new() -> Self {
        let directory = directory();
        let blobs = Arc::new(ObjectBlobs::directory(&directory.path().join("blobs")).unwrap());
        let snapshots = Snapshots::new::<Bank>(Vault::new(blobs.clone(), None), "bank");
        Self {
            directory,
            blobs,
            snapshots,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Keeps a database as it is now on the disk.
    fn keep(&self, name: &str) {
        std::fs::copy(self.path(name), self.path(&format!("old-{name}"))).unwrap();
    }

    /// Removes a database, puts the one that was kept in its place, or leaves it.
    fn forget(&self, name: &str, random: &mut Random) {
        let old = self.path(&format!("old-{name}"));
        let choice = random.below(3);
        if choice == 2 || (choice == 1 && !old.exists()) {
            return;
        }
        for suffix in ["", "-wal", "-shm"] {
            // The last two may not be there.
            let _ = std::fs::remove_file(self.path(&format!("{name}{suffix}")));
        }
        if choice == 1 {
            std::fs::copy(old, self.path(name)).unwrap();
        }
    }

    async fn start(&self, name: &str, log: &Simulated) -> Node {
        self.snapshots.prepare(&self.path(name), log).await.unwrap();
        Node::start(&self.path(name), log)
    }

    async fn snapshot(&self, node: &Node, log: &Simulated) -> Position {
        let copy = self.path("copy");
        let stored = self
            .snapshots
            .store(&node.replica, log, &copy, Confirmation::Replica);
        let stored = stored.await.unwrap();
        assert!(!copy.exists());
        Position(stored.at)
    }
}

async fn deposits(node: &Node, ids: std::ops::Range<u64>) {
    for id in ids {
        node.replica.submit(deposit(id, 0, 1)).await.unwrap();
    }
}

/// Balances and history are equal; the tables of the replica go on growing.
async fn equal(one: Node, other: Node) {
    one.replica.barrier().await.unwrap();
    other.replica.barrier().await.unwrap();
    let (one, other) = (one.close().await, other.close().await);
    let (one, other) = (dump(one.connection()), dump(other.connection()));
    assert!(one[..2] == other[..2], "databases differ");
}

#[test]
fn replicas_that_start_from_nothing_or_an_old_copy_load_the_snapshot_of_a_trimmed_log() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
        deposits(&a, 0..50).await;
        std::fs::copy(&a.path, store.path("old")).unwrap();
        deposits(&a, 50..100).await;
        let at = store.snapshot(&a, &log).await;
        assert_eq!(log.trimmed().await.unwrap(), Position(100));
        deposits(&b, 100..150).await;

        for (name, from) in [("new", "nothing"), ("old", "an old copy")] {
            let start = store.snapshots.prepare(&store.path(name), &log).await;
            assert_eq!(start.unwrap(), Start::Snapshot(at), "{from}");
            let node = Node::start(&store.path(name), &log);
            let id = 1000 + name.len() as u64 + u64::from(name == "old");
            deposits(&node, id..id + 1).await;
            drop(node.close().await);
            let again = store.snapshots.prepare(&store.path(name), &log).await;
            assert_eq!(again.unwrap(), Start::Own, "it is up to date");
        }
        let new = store.start("new", &log).await;
        assert_eq!(
            new.replica.submit(deposit(2000, 0, 1)).await,
            Ok(Outcome::Balance(153))
        );
        equal(a, new).await;
    });
}

#[test]
fn a_snapshot_is_stored_when_enough_was_written() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
        let writes = async {
            for id in 0..150 {
                let large = Change {
                    padding: 500_000,
                    ..deposit(id, 0, 1)
                };
                a.replica.submit(large).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            while log.trimmed().await.unwrap() == Position(0) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let keep = store
            .snapshots
            .keep(&a.replica, &log, &a.path, Confirmation::Replica);
        tokio::select! {
            () = keep => {}
            () = writes => {}
        }
        let trimmed = log.trimmed().await.unwrap().0;
        assert!((134..=155).contains(&trimmed), "{trimmed}");
        equal(a, b).await;
    });
}

#[test]
fn a_log_is_trimmed_only_when_another_replica_had_the_same_contents() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let a = store.start("a", &log).await;
        deposits(&a, 0..10).await;
        let stored = store.snapshot(&a, &log);
        let alone = tokio::time::timeout(Duration::from_secs(600), stored).await;
        assert!(alone.is_err(), "nobody confirms it");
        assert_eq!(log.trimmed().await.unwrap(), Position(0));
        let b = store.start("b", &log).await;
        let at = store.snapshot(&a, &log).await;
        assert_eq!(log.trimmed().await.unwrap(), Position(at.0 - 1));
        equal(a, b).await;

        // A cluster of one reads it again.
        let log = Simulated::new(2, Faults::NONE);
        let one = store.start("one", &log).await;
        deposits(&one, 0..10).await;
        let copy = store.path("copy");
        let read = store
            .snapshots
            .store(&one.replica, &log, &copy, Confirmation::Reading);
        read.await.unwrap();
        assert_eq!(log.trimmed().await.unwrap(), Position(10));
    });
}

#[test]
fn snapshots_are_stored_and_confirmed_while_the_log_is_at_its_worst() {
    for seed in 1..=5 {
        paused(async {
            let (store, log) = (Store::new(), Simulated::new(seed, Faults::MANY));
            let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
            for round in 0..3 {
                deposits(&a, round * 10..round * 10 + 5).await;
                deposits(&b, round * 10 + 5..round * 10 + 10).await;
                store.snapshot(&a, &log).await;
            }
            log.calm();
            let c = store.start("c", &log).await;
            assert_eq!(
                c.replica.submit(deposit(99, 0, 1)).await,
                Ok(Outcome::Balance(31)),
                "seed {seed}"
            );
            equal(a, c).await;
            let kept = store.blobs.list("snapshots/").await.unwrap();
            let manifests = kept.iter().filter(|name| name.ends_with("manifest"));
            assert_eq!(manifests.count(), 2, "seed {seed}: {kept:?}");
        });
    }
}

/// Set to a seed to repeat its run alone.
const SEED: &str = "VIRGA_SNAPSHOT_SEED";

#[test]
fn nodes_that_die_and_come_back_with_less_lose_nothing_while_the_log_is_trimmed() {
    let one = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let mut trimmed = 0;
    for seed in one.map_or(1..=12, |seed| seed..=seed) {
        let run = async { tokio::time::timeout(Duration::from_hours(2), schedule(seed)).await };
        trimmed += paused(run).unwrap_or_else(|_| panic!("seed {seed} does not end"));
    }
    assert!(
        one.is_some() || trimmed > 10,
        "the log was trimmed {trimmed} times"
    );
}

/// Runs one schedule, and returns how often the log was trimmed.
async fn schedule(seed: u64) -> u64 {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let (store, log) = (Store::new(), Simulated::new(seed, Faults::MANY));
    let mut random = Random::new(seed);
    let mut nodes = Vec::new();
    for name in NAMES {
        nodes.push(store.start(name, &log).await);
    }
    let (mut answered, mut id, mut trimmed) = (Vec::new(), 0, 0);
    for _ in 0..8 {
        for (index, name) in NAMES.iter().enumerate() {
            if matches!(
                &*nodes[index].replica.status().borrow(),
                Status::Behind { .. }
            ) {
                drop(nodes.remove(index).close().await);
                nodes.insert(index, store.start(name, &log).await);
            }
        }
        let mut waiting = Vec::new();
        for node in &nodes {
            for _ in 0..random.below(6) {
                id += 1;
                let change = deposit(id, (id % 3) as u8, (id % 7) as i64 - 2);
                waiting.push((change.clone(), node.replica.submit(change)));
            }
        }
        // What is under way when a node dies has no answer.
        let which = random.below(3) as usize;
        match random.below(4) {
            0 => {
                let copy = store.path("copy");
                let snapshots = &store.snapshots;
                let replica = &nodes[which].replica;
                snapshots
                    .store(replica, &log, &copy, Confirmation::Replica)
                    .await
                    .unwrap();
                trimmed += 1;
            }
            1 => store.keep(NAMES[which]),
            _ => {
                let node = nodes.remove(which);
                node.kill().await;
                store.forget(NAMES[which], &mut random);
                nodes.insert(which, store.start(NAMES[which], &log).await);
            }
        }
        for (change, answer) in waiting {
            // A replica that fell behind says that it cannot know.
            let answer = answer.await.map_err(|error| match error {
                SubmitError::Stopped(_) => SubmitError::Closed,
                other => other,
            });
            answered.push((change, answer));
        }
    }
    log.calm();
    let last = store.start("last", &log).await;
    last.replica.barrier().await.unwrap();
    for node in nodes {
        if node.replica.barrier().await.is_err() {
            let status = node.replica.status().borrow().clone();
            assert!(
                matches!(status, Status::Behind { .. }),
                "seed {seed}: {status:?}"
            );
        }
    }
    let path = last.path.clone();
    drop(last.close().await);
    check(&format!("seed {seed}"), &path, &answered);
    trimmed
}

#[test]
fn a_replica_without_a_snapshot_that_reaches_the_log_is_refused_with_what_to_do() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
        deposits(&a, 0..10).await;
        store.snapshot(&a, &log).await;
        let elsewhere = Store::new();
        let refused = elsewhere.snapshots.prepare(&store.path("c"), &log).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("no snapshot"), "{refused}");

        // A bit of a part, or its manifest, is not what was stored.
        for name in store.blobs.list("snapshots/").await.unwrap() {
            let whole = store.blobs.get(&name).await.unwrap();
            let mut damaged = whole.to_vec();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 1;
            store.blobs.put(&name, damaged.into()).await.unwrap();
            let refused = store.snapshots.prepare(&store.path("c"), &log).await;
            assert!(refused.is_err(), "{name}");
            assert!(!store.path("c").exists(), "{name}");
            store.blobs.put(&name, whole).await.unwrap();
        }
        let start = store.snapshots.prepare(&store.path("c"), &log).await;
        assert!(matches!(start, Ok(Start::Snapshot(_))), "{start:?}");

        // Without the check at the start, a replica says so itself.
        let d = Node::start(&store.path("d"), &log);
        assert!(d.stopped().await.contains("Start from a snapshot"));
        equal(a, b).await;
    });
}

#[test]
fn copies_from_a_lost_logs_future_or_of_another_log_are_refused() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
        deposits(&a, 0..10).await;
        let at = store.snapshot(&a, &log).await;
        drop((a.close().await, b.close().await));
        // The log's servers came back without what the snapshot has.
        log.lose_last((log.length() - at.0 + 1) as usize);
        let future = store.start("c", &log).await;
        assert!(future.stopped().await.contains("has lost records"));

        // The log was made anew: snapshots of the old one are not taken, and its databases are refused.
        log.replace();
        assert_eq!(
            store
                .snapshots
                .prepare(&store.path("d"), &log)
                .await
                .unwrap(),
            Start::Own
        );
        let refused = store.snapshots.prepare(&store.path("a"), &log).await;
        assert!(refused.unwrap_err().to_string().contains("made anew"));

        let embedded = store.path("embedded");
        let database =
            replica::Database::open(Connection::open(&embedded).unwrap(), Bank::default());
        let (replica, thread) =
            Replica::embedded(database.unwrap(), clock(), Limits::default(), "bank").unwrap();
        replica.submit(deposit(1, 0, 1)).await.unwrap();
        drop(replica);
        drop(thread.join().unwrap());
        let refused = store.snapshots.prepare(&embedded, &log).await;
        assert!(refused.unwrap_err().to_string().contains("without a log"));
    });
}

#[test]
fn a_replica_whose_database_differs_stops_and_the_others_go_on() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let nodes = [
            store.start("a", &log).await,
            store.start("b", &log).await,
            store.start("c", &log).await,
        ];
        deposits(&nodes[0], 0..10).await;
        for node in &nodes {
            node.replica.barrier().await.unwrap();
        }
        // As a bit that flips on a disk, or a statement whose result depends on the machine.
        damage(&nodes[1].path);
        store.snapshot(&nodes[0], &log).await;
        let reason = nodes[1].stopped().await;
        assert!(reason.contains("differs from other replicas"), "{reason}");
        deposits(&nodes[2], 20..30).await;
        let [a, _, c] = nodes;
        equal(a, c).await;
    });
}

#[test]
fn two_replicas_that_differ_both_stop_and_the_log_is_not_trimmed() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
        deposits(&a, 0..10).await;
        b.replica.barrier().await.unwrap();
        damage(&b.path);
        let copy = store.path("copy");
        let stored = store
            .snapshots
            .store(&a.replica, &log, &copy, Confirmation::Replica);
        let both = async { (a.stopped().await, b.stopped().await) };
        tokio::select! {
            stored = stored => panic!("{stored:?}"),
            _ = both => {}
        }
        assert_eq!(log.trimmed().await.unwrap(), Position(0));
    });
}

#[test]
fn while_nodes_are_upgraded_only_databases_of_one_version_are_compared_and_loaded() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
        deposits(&a, 0..10).await;
        let at = store.snapshot(&a, &log).await;
        let check = |tables| {
            let header = Header {
                writer: WriterId([tables as u8; 16]),
                number: 1,
                base: 1,
                time: Time(1),
            };
            // As many differ as are equal.
            let check = |by: &str| Control::Check {
                at: at.0,
                digest: "another".to_owned(),
                by: by.to_owned(),
                tables,
            };
            [check("c"), check("d"), check("e")].map(|check| {
                let header = Header {
                    writer: WriterId::random().unwrap(),
                    ..header
                };
                Record::encode_control(&header, &check)
            })
        };
        for record in check(2) {
            log.append(record).await.unwrap();
        }
        tokio::time::sleep(Duration::from_mins(5)).await;
        deposits(&a, 10..20).await;

        let manifest = store.blobs.list("snapshots/").await.unwrap();
        let manifest = manifest.iter().find(|name| name.ends_with("manifest"));
        let vault = Vault::new(store.blobs.clone(), None);
        let mut later: Manifest = vault.get_json(manifest.unwrap()).await.unwrap();
        later.tables = 2;
        vault.put_json(manifest.unwrap(), &later).await.unwrap();
        let refused = store.snapshots.prepare(&store.path("c"), &log).await;
        assert!(refused.is_err(), "{refused:?}");

        for record in check(1) {
            log.append(record).await.unwrap();
        }
        assert!(a.stopped().await.contains("differs"));
        assert!(b.stopped().await.contains("differs"));
    });
}

fn damage(database: &Path) {
    let connection = Connection::open(database).unwrap();
    let changed = connection.execute("UPDATE history SET time = time + 1 WHERE id = 5", []);
    assert_eq!(changed.unwrap(), 1);
}

/// A store that fails now and then.
struct Flaky {
    blobs: Arc<ObjectBlobs>,
    random: std::sync::Mutex<Random>,
}

impl Flaky {
    fn fails(&self) -> Result<(), BlobError> {
        match self.random.lock().unwrap().one_in(4) {
            true => Err(BlobError::Unavailable("as the test wants it".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Blobs for Flaky {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.fails()?;
        self.blobs.put(name, bytes).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, BlobError> {
        self.fails()?;
        self.blobs.get(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        self.fails()?;
        self.blobs.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<(), BlobError> {
        self.fails()?;
        self.blobs.delete(name).await
    }
}

#[test]
fn a_store_that_fails_leaves_a_log_that_can_be_joined() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let flaky = Flaky {
            blobs: store.blobs.clone(),
            random: Random::new(1).into(),
        };
        let snapshots = Snapshots::new::<Bank>(Vault::new(Arc::new(flaky), None), "bank");
        let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
        let (mut stored, mut failed, mut tries) = (0, 0, 0);
        while stored < 5 || failed < 5 {
            tries += 1;
            deposits(&a, tries * 10..tries * 10 + 10).await;
            let copy = store.path("copy");
            let taken = snapshots.store(&a.replica, &log, &copy, Confirmation::Replica);
            match taken.await {
                Ok(_) => stored += 1,
                Err(_) => failed += 1,
            }
            let name = format!("joins-{tries}");
            let joins = store.start(&name, &log).await;
            let paid = joins.replica.submit(deposit(100_000 + tries, 1, 1)).await;
            assert_eq!(paid, Ok(Outcome::Balance(tries as i64)));
            drop(joins.close().await);
        }
        equal(a, b).await;
    });
}

/// A log whose first answer to `trimmed` is from before it was trimmed, as if the reader had stood still since.
struct Late {
    log: Simulated,
    asked: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Log for Late {
    async fn append(&self, record: Bytes) -> Result<Position, AppendError> {
        self.log.append(record).await
    }

    async fn follow(
        &self,
        after: Position,
    ) -> Result<BoxStream<'static, Result<Entry, LogError>>, LogError> {
        self.log.follow(after).await
    }

    async fn trim(&self, through: Position) -> Result<(), LogError> {
        self.log.trim(through).await
    }

    async fn trimmed(&self) -> Result<Position, LogError> {
        if !self.asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return Ok(Position(0));
        }
        self.log.trimmed().await
    }

    async fn usage(&self) -> Result<Usage, LogError> {
        self.log.usage().await
    }

    async fn latest(&self) -> Result<Position, LogError> {
        self.log.latest().await
    }

    async fn identity(&self) -> Result<LogIdentity, LogError> {
        self.log.identity().await
    }
}

#[test]
fn a_reader_that_lags_while_the_log_is_trimmed_notices_that_it_misses_records() {
    paused(async {
        let (store, log) = (Store::new(), Simulated::new(1, Faults::NONE));
        let (a, b) = (store.start("a", &log).await, store.start("b", &log).await);
        deposits(&a, 0..10).await;
        store.snapshot(&a, &log).await;
        let late = Late {
            log: log.clone(),
            asked: false.into(),
        };
        let lagging = Node::start_with(&store.path("late"), late, clock());
        let reason = lagging.stopped().await;
        assert!(reason.contains("trimmed up to record 10"), "{reason}");
        let database = lagging.close().await;
        assert_eq!(
            database.machine().applied,
            0,
            "nothing behind the gap is applied"
        );
        equal(a, b).await;
    });
}

#[tokio::test]
async fn an_embedded_database_is_copied_at_one_position_while_it_is_written() {
    let directory = directory();
    let path = directory.path().join("bank");
    let database = replica::Database::open(Connection::open(&path).unwrap(), Bank::default());
    let (replica, thread) =
        Replica::embedded(database.unwrap(), clock(), Limits::default(), "bank").unwrap();
    let before: Vec<_> = (0..100)
        .map(|id| replica.submit(deposit(id, 0, 1)))
        .collect();
    let copy = directory.path().join("copy");
    let (taken, after) = tokio::join!(replica.checkpoint(&copy), async {
        for id in 100..200 {
            replica.submit(deposit(id, 0, 1)).await.unwrap();
        }
    });
    let ((), taken) = (after, taken.unwrap());
    for before in before {
        before.await.unwrap();
    }
    let copied = Connection::open(&copy).unwrap();
    assert_eq!(replica::digest(&copied).unwrap(), taken.digest);
    let position = copied.query_row("SELECT position FROM replica", [], |row| row.get(0));
    assert_eq!(
        Position(position.map(|p: i64| p as u64).unwrap()),
        taken.position
    );
    let count = copied.query_row("SELECT count(*) FROM history", [], |row| row.get(0));
    let count: i64 = count.unwrap();
    assert!((100..=200).contains(&count), "{count}");
    drop(replica);
    assert_eq!(thread.join().unwrap().machine().applied, 200);
}
