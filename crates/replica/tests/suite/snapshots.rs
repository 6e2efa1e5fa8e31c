//! Snapshots: stored, confirmed by another replica, followed by trimming, and what a replica starts from.

use std::path::Path;
use std::time::Duration;

use replica::snapshot::{Confirmation, Manifest, Start};
use replica::{
    Blobs, Control, Header, Limits, Log, Position, Record, Replica, Time, Vault, WriterId,
};
use rusqlite::Connection;
use testlog::{Faults, Simulated, clock, paused};

use crate::bank::{Bank, Change, Outcome, deposit};
use crate::store::{Store, deposits, equal};
use crate::world::{directory, start_node};

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
            let node = start_node(&store.path(name), &log);
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

        // A bit of a part, or of the manifest, differs.
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
        let d = start_node(&store.path("d"), &log);
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
