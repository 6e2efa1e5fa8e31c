//! The key-value store interface behind the catalog: revisions, conditional writes, and an ordered watch.

mod memory;
mod sealed;
mod sqlite;

pub use memory::MemoryKv;
pub use sealed::SealedKv;
pub use sqlite::SqliteKv;

use std::future::Future;
use std::pin::Pin;

use thiserror::Error;
use tokio::sync::mpsc;

/// The revision of the store. Each write increments it.
pub type Revision = u64;

/// The precondition of a write (compare-and-swap).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Always writes.
    Any,
    /// The key must not exist.
    Absent,
    /// The current value must have been written at this revision.
    Revision(Revision),
}

/// A stored entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Vec<u8>,
    /// Revision of the last write.
    pub revision: Revision,
}

/// A change of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvent {
    /// Key.
    pub key: String,
    /// New value; `None` if the entry was deleted.
    pub value: Option<Vec<u8>>,
    /// Revision of the change.
    pub revision: Revision,
}

/// A watch: a snapshot, followed by every later change.
#[derive(Debug)]
pub struct Watch {
    /// Entries at the start of the watch.
    pub snapshot: Vec<KvEntry>,
    /// Revision of the store at the start of the watch.
    pub revision: Revision,
    /// Changes since the snapshot, in order, including the watcher's own writes.
    pub events: mpsc::UnboundedReceiver<KvEvent>,
}

/// An error of the store.
#[derive(Debug, Error)]
pub enum KvError {
    /// The precondition failed.
    #[error("entry {key} was changed concurrently")]
    Conflict {
        /// Key of the entry.
        key: String,
    },
    /// A value is encrypted with an unknown master key.
    #[error("the catalog store is encrypted with master key {id}, which is not available")]
    Locked {
        /// Id of the key.
        id: String,
    },
    /// An encrypted value fails authentication.
    #[error(
        "entry {key} of the catalog store was modified or corrupted; restore the store from a backup"
    )]
    Damaged {
        /// Key of the entry.
        key: String,
    },
    /// The store is unavailable.
    #[error("catalog store: {0}")]
    Unavailable(String),
}

/// The future of a store operation.
pub type KvFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KvError>> + Send + 'a>>;

/// A durable key-value store with revisions. A write is acknowledged only after it was synced to stable storage.
pub trait Kv: Send + Sync + 'static {
    /// Reads an entry.
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<KvEntry>>;
    /// Writes an entry.
    fn put<'a>(&'a self, key: &'a str, value: Vec<u8>, on: Precondition) -> KvFuture<'a, Revision>;
    /// Deletes an entry. Deleting a missing entry with [`Precondition::Any`] succeeds.
    fn delete<'a>(&'a self, key: &'a str, on: Precondition) -> KvFuture<'a, Revision>;
    /// Reads all entries with a key prefix, ordered by key.
    fn list<'a>(&'a self, prefix: &'a str) -> KvFuture<'a, Vec<KvEntry>>;
    /// Returns a snapshot of all entries and a stream of later changes.
    fn watch(&self) -> KvFuture<'_, Watch>;
}

#[cfg(test)]
mod suite {
    //! The conformance tests that every store implementation passes.

    use super::*;

    async fn conforms(kv: &dyn Kv) {
        let mut watch = kv.watch().await.expect("a watch");
        assert!(watch.snapshot.is_empty());
        assert_eq!(watch.revision, 0);

        let first = kv
            .put("a/1", b"x".to_vec(), Precondition::Absent)
            .await
            .expect("an insert");
        let again = kv.put("a/1", b"y".to_vec(), Precondition::Absent).await;
        assert!(matches!(again, Err(KvError::Conflict { .. })));
        let second = kv
            .put("a/1", b"y".to_vec(), Precondition::Revision(first))
            .await
            .expect("an update");
        assert!(second > first);
        let stale = kv
            .put("a/1", b"z".to_vec(), Precondition::Revision(first))
            .await;
        assert!(matches!(stale, Err(KvError::Conflict { .. })));
        let stale = kv.delete("a/1", Precondition::Revision(first)).await;
        assert!(matches!(stale, Err(KvError::Conflict { .. })));
        kv.put("b/1", b"w".to_vec(), Precondition::Any)
            .await
            .expect("a write");

        let entry = kv.get("a/1").await.expect("a read").expect("an entry");
        assert_eq!(
            (entry.value.as_slice(), entry.revision),
            (b"y".as_slice(), second)
        );
        let keys: Vec<_> = kv
            .list("a/")
            .await
            .expect("a list")
            .into_iter()
            .map(|entry| entry.key)
            .collect();
        assert_eq!(keys, ["a/1"]);

        kv.delete("a/1", Precondition::Revision(second))
            .await
            .expect("a removal");
        assert_eq!(kv.get("a/1").await.expect("a read"), None);
        let gone = kv.delete("a/1", Precondition::Any).await;
        assert!(gone.is_ok(), "deleting a missing entry is idempotent");

        let expected = [
            ("a/1", Some("x")),
            ("a/1", Some("y")),
            ("b/1", Some("w")),
            ("a/1", None),
        ]
        .map(|(key, value)| (key.to_owned(), value.map(|v| v.as_bytes().to_vec())));
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let event = watch.events.recv().await.expect("a change");
            seen.push((event.key, event.value));
        }
        assert!(watch.events.try_recv().is_err(), "an extra change");
        assert_eq!(seen, expected, "every successful change, in order");
        let again = kv.watch().await.expect("a watch");
        // Also a deletion is a revision.
        assert!(again.revision > second);
        let keys: Vec<_> = again.snapshot.into_iter().map(|e| e.key).collect();
        assert_eq!(keys, ["b/1"]);
    }

    #[tokio::test]
    async fn memory() {
        conforms(&MemoryKv::default()).await;
    }

    #[tokio::test]
    async fn sealed() {
        let keys = crate::MasterKeys {
            first: crate::MasterKey::new([7; 32]),
            older: Vec::new(),
        };
        let inner = std::sync::Arc::new(MemoryKv::default());
        conforms(&SealedKv::open(inner, &keys).await.expect("a store")).await;
    }

    #[tokio::test]
    async fn sqlite() {
        let directory = tempfile::tempdir().expect("a directory");
        conforms(&SqliteKv::open(&directory.path().join("catalog.db")).expect("a store")).await;
    }
}
