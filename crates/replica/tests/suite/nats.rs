//! Replicas on JetStream: three servers, any of which is killed under load.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use replica::{Log, MAX_RECORD, Position, Status, SubmitError, Time, snapshot};

use crate::bank::{Change, Outcome, deposit};
use crate::cluster::Cluster;
use crate::world::{Node, check, directory, dump};

const SUBMITTERS: u64 = 8;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

fn clock() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Time(now.as_micros() as u64)
}

#[test]
fn each_server_is_killed_in_turn_and_nothing_that_was_answered_is_lost() {
    run(async {
        let directory = directory();
        let mut cluster = Cluster::start(3).await;
        let mut nodes = Vec::new();
        for index in 0..3 {
            let log = cluster.log("bank", 1 << 28).await;
            nodes.push(Node::start_with(
                &directory.path().join(index.to_string()),
                log,
                clock,
            ));
        }
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut submitters = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            for submitter in 0..SUBMITTERS {
                let (replica, stopped) = (node.replica.clone(), stopped.clone());
                let first = (index as u64 * SUBMITTERS + submitter) << 32;
                submitters.push(tokio::spawn(async move {
                    let mut answers = Vec::new();
                    let mut id = first;
                    while !*stopped.borrow() {
                        let amount = if id % 5 == 4 { -30 } else { (id % 7) as i64 };
                        let change = deposit(id, (id % 3) as u8, amount);
                        answers.push((change.clone(), replica.submit(change).await));
                        id += 1;
                    }
                    answers
                }));
            }
        }
        for server in 0..3 {
            cluster.kill(server);
            // Writes go on with two servers.
            for node in &nodes {
                node.replica.barrier().await.unwrap();
            }
            cluster.restart(server);
            for node in &nodes {
                node.replica.barrier().await.unwrap();
            }
        }
        stop.send(true).unwrap();
        let mut answered = Vec::new();
        for submitter in submitters {
            answered.extend(submitter.await.unwrap());
        }
        assert!(
            answered.iter().all(|(_, answer)| answer.is_ok()),
            "a kill is waited for, not answered with an error"
        );
        let mut contents = Vec::new();
        let position = cluster.log("bank", 1 << 28).await.latest().await.unwrap();
        for node in nodes {
            node.applied(position).await;
            contents.push(dump(node.close().await.connection()));
        }
        for other in &contents[1..] {
            assert!(contents[0] == *other, "replicas differ");
        }
        check("nats", &directory.path().join("0"), &answered);
    });
}

#[test]
fn a_full_stream_refuses_commands_until_it_is_trimmed() {
    run(async {
        let directory = directory();
        let cluster = Cluster::start(1).await;
        let log = cluster.log("bank", 4 << 20).await;
        let node = Node::start_with(&directory.path().join("a"), log.clone(), clock);
        let mut id = 0;
        let reason = loop {
            id += 1;
            let large = Change {
                padding: MAX_RECORD / 2,
                ..deposit(id, 0, 1)
            };
            match node.replica.submit(large).await {
                Ok(_) => assert!(id < 100, "the stream is never full"),
                Err(SubmitError::Unavailable(reason)) => break reason,
                Err(other) => panic!("{other}"),
            }
        };
        assert!(reason.contains("maximum bytes"), "{reason}");
        let copy = directory.path().join("copy");
        let position = snapshot::take(&node.path, &copy).unwrap();
        log.trim(Position(position.0 + 1)).await.unwrap();
        assert_eq!(
            node.replica.submit(deposit(1000, 1, 5)).await,
            Ok(Outcome::Balance(5))
        );

        let from_nothing = Node::start_with(&directory.path().join("b"), log.clone(), clock);
        let mut status = from_nothing.replica.status();
        let stopped = status.wait_for(|status| matches!(status, Status::Stopped { .. }));
        assert!(format!("{:?}", *stopped.await.unwrap()).contains("snapshot"));
        let restored = Node::start_with(&copy, log.clone(), clock);
        assert_eq!(
            restored.replica.submit(deposit(1001, 1, 5)).await,
            Ok(Outcome::Balance(10))
        );
        node.replica.barrier().await.unwrap();
        restored.replica.barrier().await.unwrap();
        node.replica.barrier().await.unwrap();
        let (node, restored) = (node.close().await, restored.close().await);
        assert!(
            dump(node.connection())[0] == dump(restored.connection())[0],
            "balances differ"
        );
    });
}

#[test]
fn a_server_that_returns_is_used_at_once() {
    run(async {
        let directory = directory();
        let mut cluster = Cluster::start(1).await;
        let log = cluster.log("bank", 1 << 24).await;
        let node = Node::start_with(&directory.path().join("a"), log, clock);
        assert_eq!(
            node.replica.submit(deposit(1, 0, 5)).await,
            Ok(Outcome::Balance(5))
        );
        cluster.kill(0);
        let while_down = node.replica.submit(deposit(2, 0, 5));
        cluster.restart(0);
        let answer = tokio::time::timeout(Duration::from_secs(20), while_down).await;
        assert_eq!(answer.expect("an answer"), Ok(Outcome::Balance(10)));
        assert_eq!(node.close().await.machine().applied, 2);
    });
}
