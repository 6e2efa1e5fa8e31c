//! Replicas on JetStream: three servers, any of which is killed under load.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use replica::nats::{
    ConnectError, Connection, Layout, NatsBlobs, NatsStreams, StreamError, connect, settings,
};
use replica::snapshot::{self, Confirmation, Snapshots, Start};
use replica::{BlobError, Blobs, Log, MAX_RECORD, Position, SealedLog, SubmitError, Time, Vault};
use seal::{Key, Seals};
use testlog::{Cluster, dump};

use crate::bank::{Bank, Change, Outcome, deposit};
use crate::world::{check, directory, start_node_with};

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
            nodes.push(start_node_with(
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
        let node = start_node_with(&directory.path().join("a"), log.clone(), clock);
        let mut id = 0;
        loop {
            id += 1;
            let large = Change {
                padding: MAX_RECORD / 2,
                ..deposit(id, 0, 0)
            };
            match node.replica.submit(large).await {
                Ok(_) => assert!(id < 100, "the stream is never full"),
                Err(SubmitError::Full(_)) => break,
                Err(other) => panic!("{other}"),
            }
        }
        let usage = log.usage().await.unwrap();
        assert!(usage.is_low() && usage.limit == 4 << 20, "{usage:?}");
        let copy = directory.path().join("copy");
        let position = snapshot::take(&node.path, &copy).unwrap();
        log.trim(position).await.unwrap();
        assert!(!log.usage().await.unwrap().is_low());
        let mut paid = node.replica.submit(deposit(1000, 1, 5)).await;
        while matches!(paid, Err(SubmitError::Full(_))) {
            tokio::task::yield_now().await;
            paid = node.replica.submit(deposit(1000, 1, 5)).await;
        }
        assert_eq!(paid, Ok(Outcome::Balance(5)));

        let from_nothing = start_node_with(&directory.path().join("b"), log.clone(), clock);
        assert!(from_nothing.stopped().await.contains("snapshot"));
        let restored = start_node_with(&copy, log.clone(), clock);
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
fn logs_that_share_a_stream_are_trimmed_apart_and_a_trimmed_one_knows_its_end() {
    run(async {
        let directory = directory();
        let cluster = Cluster::start(1).await;
        let streams = cluster.streams("acme", 64 << 20).await;
        // Shards 1 and 5 share a stream.
        let (one, five) = (
            streams.shard(1).await.unwrap(),
            streams.shard(5).await.unwrap(),
        );
        // virga's own user can neither remove streams nor single records.
        let mut context = async_nats::jetstream::new(connect(&cluster.connection()).await.unwrap());
        context.set_timeout(Duration::from_millis(300));
        let stream = context.get_stream("virga-acme-shards-1").await.unwrap();
        assert!(context.delete_stream("virga-acme-shards-1").await.is_err());
        assert!(stream.delete_message(1).await.is_err());
        assert!(stream.get_info().await.is_ok());

        assert_ne!(
            one.identity().await.unwrap(),
            five.identity().await.unwrap()
        );
        let again = cluster.streams("acme", 64 << 20).await;
        assert_eq!(
            again.shard(1).await.unwrap().identity().await.unwrap(),
            one.identity().await.unwrap()
        );
        let first = start_node_with(&directory.path().join("1"), one.clone(), clock);
        let fifth = start_node_with(&directory.path().join("5"), five.clone(), clock);
        for id in 0..20 {
            let (a, b) = tokio::join!(
                first.replica.submit(deposit(id, 0, 1)),
                fifth.replica.submit(deposit(id, 0, 2))
            );
            assert_eq!(a, Ok(Outcome::Balance(id as i64 + 1)));
            assert_eq!(b, Ok(Outcome::Balance(2 * id as i64 + 2)));
        }
        let end = one.latest().await.unwrap();
        one.trim(end).await.unwrap();
        assert_eq!(one.trimmed().await.unwrap(), end);
        assert_eq!(
            one.latest().await.unwrap(),
            end,
            "nothing is left, and the end is known"
        );
        assert_eq!(five.trimmed().await.unwrap(), Position(0));

        let copy = start_node_with(&directory.path().join("5a"), five.clone(), clock);
        copy.replica.barrier().await.unwrap();
        fifth.replica.barrier().await.unwrap();
        copy.replica.barrier().await.unwrap();
        assert!(
            dump(copy.close().await.connection())[0] == dump(fifth.close().await.connection())[0]
        );
        drop(first.close().await);
        let first = start_node_with(&directory.path().join("1"), one, clock);
        assert_eq!(
            first.replica.submit(deposit(99, 0, 1)).await,
            Ok(Outcome::Balance(21))
        );
    });
}

#[test]
fn a_trimmed_encrypted_log_is_joined_from_a_snapshot_in_jetstreams_object_store() {
    run(async {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        let cluster = Cluster::start(3).await;
        let client = connect(&cluster.connection()).await.unwrap();
        settings::check(&client, 3, false).await.unwrap();
        streams_grow(&cluster).await;
        let key = Key {
            id: "key".to_owned(),
            bytes: [7; 32],
        };
        let keys = Arc::new(Seals::new(key, []));
        let blobs = NatsBlobs::open(client, "virga-blobs", 3, 64 << 20);
        let blobs = Arc::new(blobs.await.unwrap());
        let snapshots =
            Snapshots::new::<Bank>(Vault::new(blobs.clone(), Some(keys.clone())), "shard-07");
        let streams = cluster.streams("sealed", 64 << 20).await;
        let log = SealedLog::new(streams.shard(7).await.unwrap(), keys, "shard-07");
        let a = start_node_with(&path("a"), log.clone(), clock);
        let b = start_node_with(&path("b"), log.clone(), clock);
        for id in 0..50 {
            a.replica.submit(deposit(id, 0, 1)).await.unwrap();
        }
        let copy = path("copy");
        for round in 0..3 {
            let stored = snapshots.store(&a.replica, &log, &copy, Confirmation::Replica);
            stored.await.unwrap();
            b.replica.submit(deposit(100 + round, 0, 1)).await.unwrap();
        }
        let kept = blobs.list("snapshots/").await.unwrap();
        let manifests = kept.iter().filter(|name| name.ends_with("manifest"));
        assert_eq!(manifests.count(), 2, "{kept:?}");
        let start = snapshots.prepare(&path("c"), &log).await.unwrap();
        assert!(matches!(start, Start::Snapshot(_)), "{start:?}");
        let c = start_node_with(&path("c"), log.clone(), clock);
        assert_eq!(
            c.replica.submit(deposit(200, 0, 1)).await,
            Ok(Outcome::Balance(54))
        );
        let missing = blobs.get("snapshots/none").await;
        assert_eq!(
            missing,
            Err(BlobError::Missing("snapshots/none".to_owned()))
        );
        drop((a.close().await, b.close().await, c.close().await));
    });
}

/// Streams that were made for trying out grow, and ones that are not virga's are refused.
async fn streams_grow(cluster: &Cluster) {
    let client = connect(&cluster.connection()).await.unwrap();
    let layout = |replicas, cluster_bytes| Layout {
        prefix: "virga.grown".to_owned(),
        replicas,
        cluster_bytes,
        shard_bytes: 16 << 20,
    };
    let small = NatsStreams::open(client.clone(), layout(1, 1 << 20)).await;
    let before = small.unwrap().cluster().await.unwrap();
    let large = NatsStreams::open(client.clone(), layout(3, 2 << 20)).await;
    let after = large.unwrap().cluster().await.unwrap();
    assert_eq!(
        before.identity().await.unwrap(),
        after.identity().await.unwrap()
    );
    assert_eq!(after.usage().await.unwrap().limit, 2 << 20);
    let context = async_nats::jetstream::new(client.clone());
    let stream = context.get_stream("virga-grown-cluster").await.unwrap();
    assert_eq!(stream.cached_info().config.num_replicas, 3);

    let foreign = async_nats::jetstream::stream::Config {
        name: "virga-foreign-cluster".to_owned(),
        subjects: vec!["virga.foreign.cluster.>".to_owned()],
        max_age: Duration::from_secs(60),
        ..async_nats::jetstream::stream::Config::default()
    };
    context.create_stream(foreign).await.unwrap();
    let foreign = Layout {
        prefix: "virga.foreign".to_owned(),
        ..layout(3, 1 << 20)
    };
    let refused = NatsStreams::open(client, foreign).await.unwrap_err();
    assert!(
        matches!(&refused, StreamError::Unsuitable { stream, .. } if stream == "virga-foreign-cluster"),
        "{refused}"
    );
}

#[test]
fn settings_that_may_lose_records_are_refused_and_allowed_when_trying_out() {
    run(async {
        let cluster = Cluster::start(1).await;
        let client = connect(&cluster.connection()).await.unwrap();
        settings::check(&client, 1, false).await.unwrap();
        let refused = settings::check(&client, 3, false).await.unwrap_err();
        assert!(refused.to_string().contains("a cluster of 1 NATS servers"));
        settings::check(&client, 3, true).await.unwrap();
        let wrong = Connection {
            servers: cluster
                .connection()
                .servers
                .iter()
                .map(|url| url.replace("virga:", "virga:x"))
                .collect(),
            ..Connection::default()
        };
        let refused = connect(&wrong).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
        assert!(!refused.to_string().contains("virga:"), "{refused}");
    });
}

#[test]
fn a_server_that_returns_is_used_at_once() {
    run(async {
        let directory = directory();
        let mut cluster = Cluster::start(1).await;
        let log = cluster.log("bank", 1 << 24).await;
        let node = start_node_with(&directory.path().join("a"), log, clock);
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
