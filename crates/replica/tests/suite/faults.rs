//! A log at its worst: every answered command was applied once, on every replica, in one order.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt;
use replica::{Log, Position, Record};
use testlog::{Faults, Simulated, dump, paused};

use crate::bank::deposit;
use crate::world::{check, directory, start_node};

const NODES: usize = 3;
const SUBMITTERS: u64 = 4;
const EACH: u64 = 12;
/// In simulated time.
const LONGEST: Duration = Duration::from_hours(1);

/// Set to a seed to repeat its run alone.
const SEED: &str = "VIRGA_REPLICA_SEED";

#[test]
fn whatever_is_answered_was_applied_once_on_every_replica() {
    let one = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let mut duplicates = 0;
    for seed in one.map_or(1..=100, |seed| seed..=seed) {
        let run = async { tokio::time::timeout(LONGEST, schedule(seed)).await };
        duplicates += paused(run).unwrap_or_else(|_| panic!("seed {seed} does not end"));
    }
    assert!(
        one.is_some() || duplicates > 0,
        "the log stored no duplicate, so nothing was proved"
    );
}

/// Runs one schedule, and returns how many records the log had more than once.
async fn schedule(seed: u64) -> u64 {
    let directory = directory();
    let log = Simulated::new(seed, Faults::MANY);
    let path = |node: usize| directory.path().join(format!("{node}.sqlite"));
    let mut nodes: Vec<_> = (0..NODES)
        .map(|node| start_node(&path(node), &log))
        .collect();
    let mut submitters = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        for submitter in 0..SUBMITTERS {
            let replica = node.replica.clone();
            let first = (index as u64 * SUBMITTERS + submitter) * EACH;
            submitters.push(tokio::spawn(async move {
                let mut answers = Vec::new();
                for id in first..first + EACH {
                    let amount = if id % 5 == 4 { -30 } else { (id % 7) as i64 };
                    let change = deposit(id, (id % 3) as u8, amount);
                    answers.push((change.clone(), replica.submit(change).await));
                }
                answers
            }));
        }
    }
    // One replica is killed while commands are under way, and starts again on what its disk has.
    tokio::time::sleep(Duration::from_millis(50 + seed * 37 % 5000)).await;
    let killed = nodes.remove((seed % NODES as u64) as usize);
    let path_of_killed = killed.path.clone();
    killed.kill().await;
    nodes.push(start_node(&path_of_killed, &log));

    let mut answered = Vec::new();
    for submitter in submitters {
        answered.extend(submitter.await.unwrap());
    }
    log.calm();
    nodes.push(start_node(&path(NODES), &log));
    for node in &nodes {
        node.replica.barrier().await.unwrap();
    }
    // Late duplicates still arrive; then nothing is appended any more, and every follower reaches the same end.
    tokio::time::sleep(Duration::from_mins(2)).await;
    let mut contents = Vec::new();
    for node in nodes {
        contents.push(dump(node.close().await.connection()));
    }
    for other in &contents[1..] {
        assert!(contents[0] == *other, "seed {seed}: replicas differ");
    }
    check(&format!("seed {seed}"), &path(0), &answered);
    duplicates(&log).await
}

/// Returns how many records the log has more than once.
async fn duplicates(log: &Simulated) -> u64 {
    let length = log.length();
    let entries = log.follow(Position(0)).await.unwrap().take(length as usize);
    let records = entries.map(|entry| {
        let header = Record::decode(entry.unwrap().record).unwrap().header;
        (header.writer, header.number)
    });
    let different: HashSet<_> = records.collect().await;
    length - different.len() as u64
}
