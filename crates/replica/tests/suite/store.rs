//! The store of snapshots that all nodes of a test share.

use std::sync::Arc;

use replica::snapshot::{Confirmation, Snapshots};
use replica::{ObjectBlobs, Position, Vault};
use seeded::Random;
use tempfile::TempDir;
use testlog::{Simulated, dump};

use crate::bank::{Bank, deposit};
use crate::world::{Node, directory, start_node};

/// The snapshots that all nodes of a test see.
pub(crate) struct Store {
    directory: TempDir,
    pub(crate) blobs: Arc<ObjectBlobs>,
    pub(crate) snapshots: Snapshots,
}

impl Store {
    pub(crate) fn new() -> Self {
        let directory = directory();
        let blobs = Arc::new(ObjectBlobs::directory(&directory.path().join("blobs")).unwrap());
        let snapshots = Snapshots::new::<Bank>(Vault::new(blobs.clone(), None), "bank");
        Self {
            directory,
            blobs,
            snapshots,
        }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Keeps a database as it is now on the disk.
    pub(crate) fn keep(&self, name: &str) {
        std::fs::copy(self.path(name), self.path(&format!("old-{name}"))).unwrap();
    }

    /// Removes a database, puts the one that was kept in its place, or leaves it.
    pub(crate) fn forget(&self, name: &str, random: &mut Random) {
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

    pub(crate) async fn start(&self, name: &str, log: &Simulated) -> Node {
        self.snapshots.prepare(&self.path(name), log).await.unwrap();
        start_node(&self.path(name), log)
    }

    pub(crate) async fn snapshot(&self, node: &Node, log: &Simulated) -> Position {
        let copy = self.path("copy");
        let stored = self
            .snapshots
            .store(&node.replica, log, &copy, Confirmation::Replica);
        let stored = stored.await.unwrap();
        assert!(!copy.exists());
        Position(stored.at)
    }
}

pub(crate) async fn deposits(node: &Node, ids: std::ops::Range<u64>) {
    for id in ids {
        node.replica.submit(deposit(id, 0, 1)).await.unwrap();
    }
}

/// Balances and history are equal; the tables of the replica go on growing.
pub(crate) async fn equal(one: Node, other: Node) {
    one.replica.barrier().await.unwrap();
    other.replica.barrier().await.unwrap();
    let (one, other) = (one.close().await, other.close().await);
    let (one, other) = (dump(one.connection()), dump(other.connection()));
    assert!(one[..2] == other[..2], "databases differ");
}
