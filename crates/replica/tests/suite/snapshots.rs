//! A log that was trimmed: a replica starts from a snapshot.

use replica::{Log, Position, Status, snapshot};
use testlog::{Faults, Simulated, dump, paused};

use crate::bank::{Outcome, deposit};
use crate::world::{Node, directory};

#[test]
fn a_replica_that_starts_from_a_snapshot_equals_one_that_applied_everything() {
    paused(async {
        let directory = directory();
        let log = Simulated::new(1, Faults::NONE);
        let node = Node::start(&directory.path().join("a"), &log);
        for id in 0..100 {
            node.replica.submit(deposit(id, 0, 1)).await.unwrap();
        }
        let copy = directory.path().join("copy");
        let position = snapshot::take(&node.path, &copy).unwrap();
        assert_eq!(position, Position(100));
        for id in 100..150 {
            node.replica.submit(deposit(id, 0, 1)).await.unwrap();
        }
        log.trim(position).await.unwrap();

        let from_nothing = Node::start(&directory.path().join("b"), &log);
        let mut status = from_nothing.replica.status();
        let stopped = status.wait_for(|status| matches!(status, Status::Stopped { .. }));
        let stopped = stopped.await.unwrap().clone();
        assert!(
            matches!(&stopped, Status::Stopped { reason } if reason.contains("snapshot")),
            "{stopped:?}"
        );

        let restored = Node::start(&copy, &log);
        assert_eq!(
            restored.replica.submit(deposit(150, 0, 1)).await,
            Ok(Outcome::Balance(151))
        );
        node.replica.barrier().await.unwrap();
        restored.replica.barrier().await.unwrap();
        let (restored, node) = (restored.close().await, node.close().await);
        assert!(dump(restored.connection()) == dump(node.connection()));
    });
}
