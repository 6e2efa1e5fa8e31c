//! Nodes that die, lag and start again while their log is trimmed, and a store that fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use replica::snapshot::{Confirmation, Snapshots};
use replica::{
    AppendError, BlobError, Blobs, Entry, Log, LogError, LogIdentity, ObjectBlobs, Position,
    Status, SubmitError, Usage, Vault,
};
use seeded::Random;
use testlog::{Faults, Simulated, clock, paused};

use crate::bank::{Bank, Outcome, deposit};
use crate::store::{Store, deposits, equal};
use crate::world::{check, start_node_with};

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
        // Commands under way when a node dies have no answer.
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

/// A store that fails now and then.
struct Flaky {
    blobs: Arc<ObjectBlobs>,
    random: std::sync::Mutex<Random>,
}

impl Flaky {
    fn fails(&self) -> Result<(), BlobError> {
        match self.random.lock().unwrap().one_in(4) {
            true => Err(BlobError::Unavailable("for the test".to_owned())),
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
        let lagging = start_node_with(&store.path("late"), late, clock());
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
