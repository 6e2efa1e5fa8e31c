//! A log and snapshots that are encrypted.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use replica::snapshot::{Confirmation, Snapshots, Start};
use replica::{
    Blobs, Header, Log, ObjectBlobs, Position, Record, SealedLog, Time, Vault, WriterId,
};
use seal::{Key, Seals};
use testlog::{Faults, Simulated, clock, dump, paused};

use crate::bank::{Bank, Outcome, deposit};
use crate::world::{directory, start_node, start_node_with};

fn key(byte: u8) -> Key {
    Key {
        id: format!("key-{byte}"),
        bytes: [byte; 32],
    }
}

fn seals(first: u8, older: &[u8]) -> Arc<Seals> {
    Arc::new(Seals::new(key(first), older.iter().map(|byte| key(*byte))))
}

fn sealed(log: &Simulated, keys: &Arc<Seals>) -> SealedLog<Simulated> {
    SealedLog::new(log.clone(), keys.clone(), "bank")
}

async fn records(log: &Simulated) -> Vec<Bytes> {
    let entries = log.follow(Position(0)).await.unwrap();
    let entries = entries.take(log.length() as usize);
    entries.map(|entry| entry.unwrap().record).collect().await
}

/// The stored form of a change that is easily found.
const HUSH: u64 = u64::from_le_bytes(*b"hushhush");

#[test]
fn the_logs_servers_learn_nothing_of_commands_and_keys_can_be_changed() {
    paused(async {
        let directory = directory();
        let log = Simulated::new(1, Faults::MANY);
        let path = |name: &str| directory.path().join(name);
        let old = start_node_with(&path("a"), sealed(&log, &seals(1, &[])), clock());
        for id in 0..20 {
            old.replica.submit(deposit(HUSH + id, 0, 1)).await.unwrap();
        }
        // All nodes know the new key before one writes with it.
        let new = start_node_with(&path("b"), sealed(&log, &seals(2, &[1])), clock());
        let both = start_node_with(&path("c"), sealed(&log, &seals(1, &[2])), clock());
        for id in 0..20 {
            new.replica
                .submit(deposit(HUSH + 50 + id, 0, 1))
                .await
                .unwrap();
        }
        both.replica.barrier().await.unwrap();
        new.replica.barrier().await.unwrap();
        let (new, both) = (new.close().await, both.close().await);
        assert!(dump(new.connection())[..2] == dump(both.connection())[..2]);
        log.calm();
        for record in records(&log).await {
            let found = record.windows(7).any(|window| window == b"ushhush");
            assert!(!found, "{record:?}");
        }
        assert!(
            old.stopped()
                .await
                .contains("master key key-2, which is not here")
        );
    });
}

#[test]
fn records_that_are_plain_moved_or_modified_stop_the_replica() {
    paused(async {
        let directory = directory();
        let keys = seals(1, &[]);
        let source = Simulated::new(1, Faults::NONE);
        let node = start_node_with(&directory.path().join("a"), sealed(&source, &keys), clock());
        node.replica.submit(deposit(1, 0, 5)).await.unwrap();
        let good = records(&source).await.remove(0);

        let header = Header {
            writer: WriterId([1; 16]),
            number: 1,
            base: 1,
            time: Time(1),
        };
        let mut command = Vec::new();
        <Bank as replica::Machine>::encode(&deposit(9, 0, 1000), &mut command);
        let plain = Record::encode(&header, &[command]);
        let changed = |index: usize| {
            let mut changed = good.to_vec();
            changed[index] ^= 1;
            Bytes::from(changed)
        };
        let bad = [
            ("plain", plain, "not encrypted"),
            ("number", changed(17), "modified or moved"),
            ("time", changed(33), "modified or moved"),
            ("contents", changed(good.len() - 1), "modified or moved"),
            ("cut", good.slice(..good.len() - 1), "modified or moved"),
        ];
        for (name, record, expected) in bad {
            let log = Simulated::new(1, Faults::NONE);
            log.append(record).await.unwrap();
            let node = start_node_with(&directory.path().join(name), sealed(&log, &keys), clock());
            let reason = node.stopped().await;
            assert!(reason.contains(expected), "{name}: {reason}");
            assert_eq!(node.close().await.machine().applied, 0);
        }
        let elsewhere = Simulated::new(1, Faults::NONE);
        elsewhere.append(good).await.unwrap();
        let other = SealedLog::new(elsewhere.clone(), keys.clone(), "other");
        let node = start_node_with(&directory.path().join("other"), other, clock());
        assert!(node.stopped().await.contains("modified or moved"));
        let node = start_node(&directory.path().join("no key"), &elsewhere);
        assert!(node.stopped().await.contains("no master key"));
    });
}

#[test]
fn snapshots_are_encrypted_and_need_the_key() {
    paused(async {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        let blobs = Arc::new(ObjectBlobs::directory(&path("blobs")).unwrap());
        let keys = seals(1, &[]);
        let snapshots = |keys| Snapshots::new::<Bank>(Vault::new(blobs.clone(), keys), "bank");
        let log = Simulated::new(1, Faults::NONE);
        let a = start_node_with(&path("a"), sealed(&log, &keys), clock());
        let b = start_node_with(&path("b"), sealed(&log, &keys), clock());
        for id in 0..20 {
            a.replica.submit(deposit(HUSH + id, 0, 1)).await.unwrap();
        }
        let own = snapshots(Some(keys.clone()));
        let copy = path("copy");
        let stored = own.store(&a.replica, &log, &copy, Confirmation::Replica);
        stored.await.unwrap();
        for name in blobs.list("snapshots/").await.unwrap() {
            let bytes = blobs.get(&name).await.unwrap();
            assert!(
                !bytes.windows(6).any(|window| window == b"SQLite"),
                "{name}"
            );
        }
        for wrong in [None, Some(seals(2, &[]))] {
            let refused = snapshots(wrong).prepare(&path("c"), &log).await;
            assert!(refused.is_err(), "{refused:?}");
        }
        let start = own.prepare(&path("c"), &log).await.unwrap();
        assert!(matches!(start, Start::Snapshot(_)));
        let c = start_node_with(&path("c"), sealed(&log, &keys), clock());
        assert_eq!(
            c.replica.submit(deposit(1, 0, 1)).await,
            Ok(Outcome::Balance(21))
        );
        drop(b.close().await);
    });
}
