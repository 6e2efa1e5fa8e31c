//! The store behind the catalog: keys, values, revisions, and every change in order.

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

/// Counts the store's changes; each write gets the next one.
pub type Revision = u64;

/// What a write asks of the value that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    Any,
    /// That there is none.
    Absent,
    /// That it was written by this revision.
    Revision(Revision),
}

/// A value and the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
    /// The write that it is from.
    pub revision: Revision,
}

/// One change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvent {
    /// The key.
    pub key: String,
    /// The new value; `None` when it was deleted.
    pub value: Option<Vec<u8>>,
    /// The change's number.
    pub revision: Revision,
}

/// Everything there is, and every change after it.
#[derive(Debug)]
pub struct Watch {
    /// The entries at the moment when the watch began.
    pub snapshot: Vec<Entry>,
    /// The changes since, in order, own writes included.
    pub events: mpsc::UnboundedReceiver<KvEvent>,
}

/// Why a write or read failed.
#[derive(Debug, Error)]
pub enum KvError {
    /// The precondition does not hold.
    #[error("the entry {key} has changed meanwhile")]
    Conflict {
        /// The entry.
        key: String,
    },
    /// A value is sealed with a master key that is not there.
    #[error("the catalog's store is sealed with the master key {id}, which is not here")]
    Locked {
        /// What the key is called.
        id: String,
    },
    /// A sealed value is not what was written.
    #[error("the entry {key} was changed where it is stored; restore the store from a backup")]
    Damaged {
        /// The entry.
        key: String,
    },
    /// The store cannot do it now.
    #[error("the catalog's store: {0}")]
    Unavailable(String),
}

/// A call's answer, later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, KvError>> + Send + 'a>>;

/// A durable key-value store with revisions. A write is answered once it is on stable storage.
pub trait Kv: Send + Sync + 'static {
    /// Reads an entry.
    fn get<'a>(&'a self, key: &'a str) -> Later<'a, Option<Entry>>;
    /// Writes an entry.
    fn put<'a>(&'a self, key: &'a str, value: Vec<u8>, on: Precondition) -> Later<'a, Revision>;
    /// Removes an entry.
    fn delete<'a>(&'a self, key: &'a str, on: Precondition) -> Later<'a, Revision>;
    /// Reads all entries whose key starts so, by key.
    fn list<'a>(&'a self, prefix: &'a str) -> Later<'a, Vec<Entry>>;
    /// Reads all entries and follows what changes.
    fn watch(&self) -> Later<'_, Watch>;
}

#[cfg(test)]
mod suite {
    //! What every store does, asked of each in the same way.

    use super::*;

    async fn behaves(kv: &dyn Kv) {
        let mut watch = kv.watch().await.expect("a watch");
        assert!(watch.snapshot.is_empty());

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
        assert!(gone.is_ok(), "removing what is not there is no error");

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
        assert!(watch.events.try_recv().is_err(), "another change");
        assert_eq!(seen, expected, "every change, in order, and no failed one");
        let keys: Vec<_> = kv
            .watch()
            .await
            .expect("a watch")
            .snapshot
            .into_iter()
            .map(|e| e.key)
            .collect();
        assert_eq!(keys, ["b/1"]);
    }

    #[tokio::test]
    async fn memory() {
        behaves(&MemoryKv::default()).await;
    }

    #[tokio::test]
    async fn sealed() {
        let keys = crate::MasterKeys {
            first: crate::MasterKey::new([7; 32]),
            older: Vec::new(),
        };
        let inner = std::sync::Arc::new(MemoryKv::default());
        behaves(&SealedKv::open(inner, &keys).await.expect("a store")).await;
    }

    #[tokio::test]
    async fn sqlite() {
        let directory = tempfile::tempdir().expect("a directory");
        behaves(&SqliteKv::open(&directory.path().join("catalog.db")).expect("a store")).await;
    }
}
