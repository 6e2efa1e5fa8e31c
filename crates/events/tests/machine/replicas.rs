//! The machine behind a replica: embedded, on a simulated log at its worst, and on NATS.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use events::machine::{Completed, EventCommand, EventMachine, EventOutput, UsageCount, connect};
use events::usage::{JournalId, UsageEntry};
use events::{AttemptId, Completion, Failures};
use model::RequestId;
use replica::{Clock, Database, Limits, Log, Replica, SubmitError, Time};
use rusqlite::Connection;
use seeded::Random;
use testlog::{Cluster, Faults, Simulated, clock, dump, paused};

use crate::history::{ledger, machine};
use crate::random;

const SCHEDULES: u64 = 40;
const NODES: usize = 3;
const EVENTS: u64 = 12;
/// In simulated time.
const LONGEST: Duration = Duration::from_hours(2);
/// Set to a seed to repeat its schedule alone.
const SEED: &str = "VIRGA_EVENTS_SEED";

type Node = testlog::Node<EventMachine>;

fn start(path: &Path, log: impl Log, clock: impl Clock) -> Node {
    Node::start(path, connect(path).unwrap(), machine(), log, clock)
}

/// Usage that was recorded, by the answers.
#[derive(Default)]
struct Recorded {
    /// Usage of completions that were the first of their attempt, and of counts that were added.
    certain: Vec<UsageEntry>,
    /// Usage of commands without an answer: recorded once, or not.
    uncertain: Vec<UsageEntry>,
    /// The completions that were the first of their attempt.
    firsts: Vec<AttemptId>,
}

impl Recorded {
    fn complete(
        &mut self,
        attempt: AttemptId,
        usage: UsageEntry,
        answer: Result<EventOutput, SubmitError>,
    ) {
        match answer {
            Ok(EventOutput::Completed(Completed { first: true, .. })) => {
                self.certain.push(usage);
                self.firsts.push(attempt);
            }
            Ok(EventOutput::Completed(Completed { first: false, .. })) => {}
            Err(SubmitError::Closed) => self.uncertain.push(usage),
            other => panic!("{attempt:?} was answered with {other:?}"),
        }
    }

    fn count(&mut self, usage: UsageEntry, answer: Result<EventOutput, SubmitError>) {
        match answer {
            Ok(EventOutput::Counted { added: true, .. }) => self.certain.push(usage),
            Ok(EventOutput::Counted { added: false, .. }) => {}
            Err(SubmitError::Closed) => self.uncertain.push(usage),
            other => panic!("a count was answered with {other:?}"),
        }
    }

    fn join(&mut self, other: Self) {
        self.certain.extend(other.certain);
        self.uncertain.extend(other.uncertain);
        self.firsts.extend(other.firsts);
    }

    /// Checks that the ledger has all usage that was certainly recorded, and no more than the uncertain usage beyond it.
    fn check(&self, run: &str, connection: &Connection) {
        let mut firsts = self.firsts.clone();
        firsts.sort_by_key(|attempt| (*attempt.request.as_bytes(), attempt.number));
        let count = firsts.len();
        firsts.dedup();
        assert_eq!(firsts.len(), count, "{run}: an attempt was completed twice");
        let (least, most) = (sums(&self.certain), sums(&self.uncertain));
        let mut found: BTreeMap<_, _> = ledger(connection)
            .into_iter()
            .map(|(queue, version, hour, invocations, _)| ((queue, version, hour), invocations))
            .collect();
        for (row, least) in &least {
            let found = found.remove(row).unwrap_or(0);
            let most = least + most.get(row).unwrap_or(&0);
            assert!(
                (*least..=most).contains(&found),
                "{run}: {row:?}: {found} of {least} to {most}"
            );
        }
        for (row, found) in found {
            let most = most.get(&row).copied().unwrap_or(0);
            assert!(found <= most, "{run}: {row:?}: {found} of at most {most}");
        }
    }
}

fn sums(entries: &[UsageEntry]) -> BTreeMap<(String, String, i64), i64> {
    let mut sums = BTreeMap::new();
    for UsageEntry { key, totals } in entries {
        let function = &key.function;
        let queue = format!(
            "function/{}/{}/{}",
            function.account, function.namespace, function.name
        );
        *sums
            .entry((queue, key.version.to_string(), key.hour))
            .or_default() += totals.invocations as i64;
    }
    sums
}

fn name(number: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    RequestId::from_bytes(bytes)
}

/// Accepts events on a node and completes their attempts, which other nodes do at the same time.
async fn work(replica: Replica<EventMachine>, seed: u64, node: u64) -> Recorded {
    let mut random = Random::new(seed * 100 + node);
    let mut recorded = Recorded::default();
    let journal = JournalId([node as u8; 16]);
    for number in 0..EVENTS {
        let request = name(number);
        let accepted = EventCommand::Accept(random::event(&mut random, request));
        if replica.submit(accepted).await.is_err() {
            return recorded;
        }
        for attempt in 1..=3 {
            let attempt = AttemptId {
                request,
                number: attempt,
            };
            let usage = random::usage(&mut random);
            let completion = if random.one_in(3) {
                Completion::Succeeded
            } else {
                Completion::Retry {
                    delay: 1000,
                    failures: Failures::default(),
                }
            };
            let answer = replica.submit(EventCommand::Complete {
                attempt,
                status: 200,
                completion,
                usage: Some(usage.clone()),
            });
            recorded.complete(attempt, usage, answer.await);
        }
        let usage = random::usage(&mut random);
        let answer = replica.submit(EventCommand::Count(UsageCount {
            journal,
            from: number,
            to: number + 1,
            sums: vec![usage.clone()],
        }));
        recorded.count(usage, answer.await);
    }
    recorded
}

#[test]
fn replicas_on_a_log_at_its_worst_are_equal_and_count_each_attempt_once() {
    let one = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    for seed in one.map_or(1..=SCHEDULES, |seed| seed..=seed) {
        let run = async { tokio::time::timeout(LONGEST, schedule(seed)).await };
        paused(run).unwrap_or_else(|_| panic!("seed {seed} does not end"));
    }
}

async fn schedule(seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let log = Simulated::new(seed, Faults::MANY);
    let path = |node: usize| directory.path().join(format!("{node}.sqlite"));
    let clock = clock();
    let mut nodes: Vec<_> = (0..NODES)
        .map(|node| start(&path(node), log.clone(), clock.clone()))
        .collect();
    let workers: Vec<_> = nodes
        .iter()
        .zip(0..)
        .map(|(node, index)| tokio::spawn(work(node.replica.clone(), seed, index)))
        .collect();
    // One replica is killed while commands are under way, and starts again on what its disk has.
    tokio::time::sleep(Duration::from_millis(50 + seed * 137 % 9000)).await;
    let killed = nodes.remove((seed % NODES as u64) as usize);
    let killed_path = killed.path.clone();
    killed.kill().await;
    nodes.push(start(&killed_path, log.clone(), clock.clone()));
    let mut recorded = Recorded::default();
    for worker in workers {
        recorded.join(worker.await.unwrap());
    }
    log.calm();
    nodes.push(start(&path(NODES), log.clone(), clock));
    for node in &nodes {
        node.replica.barrier().await.unwrap();
    }
    // Late duplicates still arrive; then nothing is appended any more, and every follower reaches the same end.
    tokio::time::sleep(Duration::from_mins(2)).await;
    let mut contents = Vec::new();
    for node in nodes {
        let database = node.close().await;
        recorded.check(&format!("seed {seed}"), database.connection());
        contents.push(dump(database.connection()));
    }
    for other in &contents[1..] {
        assert!(contents[0] == *other, "seed {seed}: replicas differ");
    }
}

#[test]
fn embedded_counts_each_attempt_once() {
    for seed in 0..2 {
        let directory = tempfile::tempdir().unwrap();
        let connection = connect(&directory.path().join("events.sqlite")).unwrap();
        let database = Database::open(connection, machine()).unwrap();
        let clock = || Time(7);
        let (replica, thread) =
            Replica::embedded(database, clock, Limits::default(), "events").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut recorded = Recorded::default();
        runtime.block_on(async {
            let workers: Vec<_> = (0..NODES as u64)
                .map(|node| tokio::spawn(work(replica.clone(), seed, node)))
                .collect();
            for worker in workers {
                recorded.join(worker.await.unwrap());
            }
        });
        drop(replica);
        let database = thread.join().unwrap();
        recorded.check(&format!("seed {seed}"), database.connection());
        assert!(recorded.uncertain.is_empty());
    }
}

#[test]
fn replicas_on_three_nats_servers_are_equal_while_each_is_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start(3).await;
        let wall = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            Time(now.unwrap().as_micros() as u64)
        };
        let mut nodes = Vec::new();
        for index in 0..NODES {
            let log = cluster.log("events", 1 << 28).await;
            let path = directory.path().join(index.to_string());
            nodes.push(start(&path, log, wall));
        }
        let mut workers = Vec::new();
        for (node, index) in nodes.iter().zip(0..) {
            workers.push(tokio::spawn(work(node.replica.clone(), 1, index)));
        }
        for server in 0..3 {
            cluster.kill(server);
            for node in &nodes {
                node.replica.barrier().await.unwrap();
            }
            cluster.restart(server);
        }
        let mut recorded = Recorded::default();
        for worker in workers {
            recorded.join(worker.await.unwrap());
        }
        assert!(recorded.uncertain.is_empty(), "a kill is waited for");
        // A barrier is a record, so each node awaits those of all.
        let mut last = replica::Position(0);
        for node in &nodes {
            node.replica.barrier().await.unwrap();
            last = last.max(position(node));
        }
        let mut contents = Vec::new();
        for node in nodes {
            node.applied(last).await;
            let database = node.close().await;
            recorded.check("nats", database.connection());
            contents.push(dump(database.connection()));
        }
        for other in &contents[1..] {
            assert!(contents[0] == *other, "replicas differ");
        }
    });
}

fn position(node: &Node) -> replica::Position {
    match &*node.replica.status().borrow() {
        replica::Status::Following { applied } => *applied,
        other => panic!("{other:?}"),
    }
}
