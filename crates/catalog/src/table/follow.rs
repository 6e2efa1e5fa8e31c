//! Follows the store's changes, so that the view contains every write.
//!
//! A watch that ends, for whatever reason, is replaced: the follower asks for another one and applies what its snapshot
//! has beyond the view. Writers that wait for their write meanwhile continue then.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tracing::{error, info, warn};

use super::inner::Inner;
use crate::kv::{Kv, KvEvent, Revision, Watch};
use crate::view::View;

/// Pause before the first further attempt to watch; doubled with each.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Follows a watch, and those that replace it, until the catalog is dropped.
pub(super) async fn follow(catalog: Weak<Inner>, mut watch: Watch) {
    loop {
        while let Some(event) = watch.events.recv().await {
            let Some(inner) = catalog.upgrade() else {
                return;
            };
            let revision = event.revision;
            inner.apply_all([event], revision);
        }
        let Some(next) = renewed(&catalog).await else {
            return;
        };
        watch = next;
    }
}

/// Starts another watch and brings the view up to date; `None` if the catalog was dropped.
async fn renewed(catalog: &Weak<Inner>) -> Option<Watch> {
    let mut pause = RETRY_MIN;
    // The end of the store is that of the catalog, too, and no fault.
    let kv = |catalog: &Weak<Inner>| catalog.upgrade().map(|inner| inner.kv.clone());
    let mut store: Arc<dyn Kv> = kv(catalog)?;
    warn!("the watch of the catalog store ended; starting another one");
    loop {
        let watched = store.watch().await;
        drop(store);
        match watched {
            Ok(mut watch) => {
                let inner = catalog.upgrade()?;
                let snapshot = std::mem::take(&mut watch.snapshot);
                let events = {
                    let view = inner.view.read().unwrap_or_else(PoisonError::into_inner);
                    let applied = *inner.applied.borrow();
                    missed(&view, snapshot, applied, watch.revision)
                };
                let changes = events.len();
                inner.apply_all(events, watch.revision);
                info!(changes, "the catalog follows its store again");
                return Some(watch);
            }
            Err(error) => {
                warn!(%error, "failed to watch the catalog store; changes wait for it; retrying");
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(RETRY_MAX);
                store = kv(catalog)?;
            }
        }
    }
}

/// Returns the changes between a view and a snapshot: entries written after the last applied revision, in order, then
/// deletions.
fn missed(
    view: &View,
    snapshot: Vec<crate::kv::KvEntry>,
    applied: Revision,
    revision: Revision,
) -> Vec<KvEvent> {
    let stored: HashSet<&str> = snapshot.iter().map(|entry| entry.key.as_str()).collect();
    let gone = view.sizes.keys().filter(|key| !stored.contains(key));
    let gone: Vec<_> = gone
        .map(|key| KvEvent {
            key: key.to_owned(),
            value: None,
            revision,
        })
        .collect();
    let written = snapshot
        .into_iter()
        .filter(|entry| entry.revision > applied);
    let mut events: Vec<_> = written
        .map(|entry| KvEvent {
            key: entry.key,
            value: Some(entry.value),
            revision: entry.revision,
        })
        .collect();
    events.sort_by_key(|event| event.revision);
    events.extend(gone);
    events
}

impl Inner {
    /// Applies changes at once, and then notifies the writers that the view contains everything up to a revision.
    fn apply_all(&self, events: impl IntoIterator<Item = KvEvent>, revision: Revision) {
        let mut changes = Vec::new();
        {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                let value = event.value.as_deref();
                match view.apply(&event.key, value, event.revision) {
                    Ok(more) => changes.extend(more),
                    Err(e) => error!(error = %e, "failed to apply a change of the catalog"),
                }
            }
            self.access.store(view.access.revision, Ordering::Release);
        }
        for change in changes {
            drop(self.changes.send(change));
        }
        self.applied.send_replace(revision);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use model::{AccountId, Namespace, NamespaceRecord, Timestamp};

    use super::*;
    use crate::Catalog;
    use crate::kv::{KvEntry, KvError, KvFuture, MemoryKv, Precondition};

    /// A store whose watches can be ended, and whose next ones fail.
    #[derive(Default)]
    struct Unreliable {
        store: MemoryKv,
        failures: AtomicU32,
    }

    impl Kv for Unreliable {
        fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<KvEntry>> {
            self.store.get(key)
        }
        fn put<'a>(
            &'a self,
            key: &'a str,
            value: Vec<u8>,
            on: Precondition,
        ) -> KvFuture<'a, Revision> {
            self.store.put(key, value, on)
        }
        fn delete<'a>(&'a self, key: &'a str, on: Precondition) -> KvFuture<'a, Revision> {
            self.store.delete(key, on)
        }
        fn list<'a>(&'a self, prefix: &'a str) -> KvFuture<'a, Vec<KvEntry>> {
            self.store.list(prefix)
        }
        fn watch(&self) -> KvFuture<'_, Watch> {
            let left = self
                .failures
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                });
            match left {
                Ok(_) => Box::pin(std::future::ready(Err(KvError::Unavailable("no".into())))),
                Err(_) => self.store.watch(),
            }
        }
    }

    const ACCOUNT: AccountId = AccountId(125);

    fn namespace(name: &str) -> Namespace {
        Namespace::parse(name).expect("a namespace")
    }

    fn record(name: &str) -> NamespaceRecord {
        NamespaceRecord {
            name: namespace(name),
            description: String::new(),
            added: Timestamp::default(),
            modified: Timestamp::default(),
        }
    }

    /// Writes a namespace through the catalog, as an API call does. A write that is never seen fails the test.
    async fn create(catalog: &Catalog, name: &str) {
        let record = record(name);
        let key = format!("namespace/{ACCOUNT}/{name}");
        let written = catalog.put_unchecked(&key, &record, Precondition::Absent);
        let written = tokio::time::timeout(Duration::from_secs(20), written).await;
        written.expect("the write is seen").expect("written");
    }

    fn has(catalog: &Catalog, name: &str) -> bool {
        let key = (ACCOUNT, namespace(name));
        catalog.read(|view| view.namespaces.contains_key(&key))
    }

    #[tokio::test]
    async fn watch_that_ends_is_replaced_and_writes_are_seen_again() {
        let store = Arc::new(Unreliable::default());
        let catalog = Catalog::open(store.clone()).await.expect("a catalog");
        create(&catalog, "first").await;
        for round in ["second", "third"] {
            store.failures.store(3, Ordering::Relaxed);
            store.store.end_watches();
            create(&catalog, round).await;
            assert!(has(&catalog, "first") && has(&catalog, round));
        }
    }

    #[tokio::test]
    async fn changes_during_the_gap_are_applied() {
        let store = Arc::new(Unreliable::default());
        let catalog = Catalog::open(store.clone()).await.expect("a catalog");
        for name in ["kept", "gone"] {
            create(&catalog, name).await;
        }
        // The follower runs in this thread, so it notices nothing before the next wait.
        store.store.end_watches();
        let bytes = crate::format::encode(&record("added")).expect("bytes");
        let key = |name: &str| format!("namespace/{ACCOUNT}/{name}");
        let (added, gone) = (key("added"), key("gone"));
        let put = store.put(&added, bytes, Precondition::Absent);
        put.await.expect("written");
        let deleted = store.delete(&gone, Precondition::Any);
        let revision = deleted.await.expect("deleted");
        let mut applied = catalog.inner.applied.subscribe();
        let seen = applied.wait_for(|applied| *applied >= revision);
        let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
        assert!(seen.is_ok_and(|seen| seen.is_ok()));
        assert!(has(&catalog, "kept") && has(&catalog, "added") && !has(&catalog, "gone"));
        create(&catalog, "later").await;
    }
}
