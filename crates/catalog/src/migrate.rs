//! Migration of the keys that earlier versions wrote.
//!
//! They kept an account under `tenant/<account>` and its concurrency settings under `account/<account>`. Each step copies a
//! record before it deletes the old key, and the two kinds of record under `account/` have different fields. So a migration that was
//! interrupted at any write is completed by the next start. The tests stop it after each number of writes.

use std::sync::Arc;

use model::{Account, AccountSettings};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::format::{decode, encode};
use crate::kv::{Kv, KvEntry, KvError, Precondition};

/// Version of the keys.
const VERSION: u32 = 2;
/// The key of the [`KeyVersion`]. Versions without it reject a catalog that has it.
const VERSION_KEY: &str = "format/0";
/// Number of writes in progress. The store commits them together.
const CONCURRENT_WRITES: usize = 256;

/// The version of the keys of a catalog that was migrated.
#[derive(Serialize, Deserialize)]
struct KeyVersion {
    version: u32,
}

/// Renames the keys of earlier versions.
///
/// # Errors
/// A newer virga wrote the catalog, or an error of the store.
pub(crate) async fn migrate(kv: &Arc<dyn Kv>) -> Result<(), Error> {
    let invalid = |why: String| Error::Format {
        key: VERSION_KEY.to_owned(),
        why,
    };
    if let Some(entry) = kv.get(VERSION_KEY).await? {
        let KeyVersion { version } = decode(&entry.value).map_err(invalid)?;
        if version > VERSION {
            return Err(invalid(format!(
                "written by a newer virga (format {version}, this one reads up to {VERSION}); upgrade"
            )));
        }
    }
    let accounts = kv.list("tenant/").await?;
    let mut settings = kv.list("account/").await?;
    settings.retain(|entry| is_settings(&entry.value));
    if accounts.is_empty() && settings.is_empty() {
        return Ok(());
    }
    let version = encode(&KeyVersion { version: VERSION }).map_err(|e| invalid(e.to_string()))?;
    kv.put(VERSION_KEY, version, Precondition::Any).await?;
    // The settings first, because the accounts take their keys.
    rename(kv, "settings/", settings).await?;
    rename(kv, "account/", accounts).await?;
    Ok(())
}

fn is_settings(value: &[u8]) -> bool {
    decode::<Account>(value).is_err() && decode::<AccountSettings>(value).is_ok()
}

/// Moves entries to keys with another prefix: first copies all of them, then deletes the old keys.
async fn rename(kv: &Arc<dyn Kv>, to: &str, entries: Vec<KvEntry>) -> Result<(), KvError> {
    for some in entries.chunks(CONCURRENT_WRITES) {
        let mut writes = JoinSet::new();
        for entry in some {
            let account = entry.key.split('/').nth(1).unwrap_or_default();
            let (kv, key, value) = (kv.clone(), format!("{to}{account}"), entry.value.clone());
            writes.spawn(async move { kv.put(&key, value, Precondition::Any).await });
        }
        all(writes).await?;
        let mut deletions = JoinSet::new();
        for entry in some {
            let (kv, key) = (kv.clone(), entry.key.clone());
            deletions.spawn(async move { kv.delete(&key, Precondition::Any).await });
        }
        all(deletions).await?;
    }
    Ok(())
}

async fn all<T: 'static>(mut writes: JoinSet<Result<T, KvError>>) -> Result<(), KvError> {
    while let Some(written) = writes.join_next().await {
        written.map_err(|e| KvError::Unavailable(e.to_string()))??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::Catalog;
    use crate::kv::{KvFuture, MemoryKv, Revision, SealedKv, Watch};
    use model::{AccountId, Limits};

    /// A store that fails after a number of writes.
    struct Interrupted {
        inner: Arc<dyn Kv>,
        writes_left: AtomicI64,
    }

    impl Interrupted {
        fn write(&self) -> Result<(), KvError> {
            match self.writes_left.fetch_sub(1, Ordering::Relaxed) {
                1.. => Ok(()),
                _ => Err(KvError::Unavailable("interrupted".into())),
            }
        }
    }

    impl Kv for Interrupted {
        fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<KvEntry>> {
            self.inner.get(key)
        }

        fn put<'a>(
            &'a self,
            key: &'a str,
            value: Vec<u8>,
            on: Precondition,
        ) -> KvFuture<'a, Revision> {
            match self.write() {
                Ok(()) => self.inner.put(key, value, on),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }
        }

        fn delete<'a>(&'a self, key: &'a str, on: Precondition) -> KvFuture<'a, Revision> {
            match self.write() {
                Ok(()) => self.inner.delete(key, on),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }
        }

        fn list<'a>(&'a self, prefix: &'a str) -> KvFuture<'a, Vec<KvEntry>> {
            self.inner.list(prefix)
        }

        fn watch(&self) -> KvFuture<'_, Watch> {
            self.inner.watch()
        }
    }

    /// Entries of the first version. Never edit: they represent data on users' disks.
    const VERSION_1: &[(&str, &str)] = &[
        (
            "tenant/1",
            r#"{"v":1,"record":{"id":1,"uin":11,"name":"first","added":5}}"#,
        ),
        (
            "tenant/2",
            r#"{"v":1,"record":{"id":2,"uin":12,"name":"second","added":6,"closed":9}}"#,
        ),
        (
            "tenant/3",
            r#"{"v":1,"record":{"id":3,"uin":13,"name":"third","added":7}}"#,
        ),
        ("account/1", r#"{"v":1,"record":{"concurrency_mb":20000}}"#),
        ("account/3", r#"{"v":1,"record":{}}"#),
    ];

    async fn sealed(store: &Arc<MemoryKv>) -> Arc<dyn Kv> {
        let keys = crate::MasterKeys {
            first: crate::MasterKey::new([7; 32]),
            older: Vec::new(),
        };
        Arc::new(SealedKv::open(store.clone(), &keys).await.expect("a store"))
    }

    async fn version_1() -> Arc<MemoryKv> {
        let store = Arc::new(MemoryKv::default());
        let kv = sealed(&store).await;
        for (key, value) in VERSION_1 {
            let put = kv.put(key, value.as_bytes().to_vec(), Precondition::Absent);
            put.await.expect("written");
        }
        store
    }

    #[tokio::test]
    async fn migration_interrupted_at_any_write_is_completed_by_the_next_start() {
        let mut interruptions = 0;
        for writes in 0.. {
            let store = version_1().await;
            let interrupted: Arc<dyn Kv> = Arc::new(Interrupted {
                inner: sealed(&store).await,
                writes_left: AtomicI64::new(writes),
            });
            let done = migrate(&interrupted).await.is_ok();
            let catalog = Catalog::open(sealed(&store).await)
                .await
                .expect("a catalog");
            let names = catalog.accounts();
            let names: Vec<_> = names.iter().map(|one| one.value.name.to_string()).collect();
            assert_eq!(names, ["first", "second", "third"]);
            assert!(catalog.is_open(AccountId(1)) && !catalog.is_open(AccountId(2)));
            let limits = Limits::default();
            assert_eq!(catalog.total_mb(AccountId(1), &limits), 20_000);
            assert_eq!(
                catalog.total_mb(AccountId(3), &limits),
                limits.concurrency_mb
            );
            let entries = store.list("").await.expect("a list");
            let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
            let expected = [
                "account/1",
                "account/2",
                "account/3",
                "format/0",
                "settings/1",
                "settings/3",
            ];
            assert_eq!(keys, expected);
            if done {
                break;
            }
            interruptions += 1;
        }
        assert_eq!(interruptions, 11, "one for each write");
    }

    #[tokio::test]
    async fn migrated_catalog_is_not_written_again_and_a_newer_one_is_rejected() {
        let store = version_1().await;
        let kv = sealed(&store).await;
        migrate(&kv).await.expect("migrated");
        let before = store.list("").await.expect("a list");
        migrate(&kv).await.expect("migrated");
        assert_eq!(store.list("").await.expect("a list"), before);
        let newer = encode(&KeyVersion { version: 3 }).expect("bytes");
        let put = kv.put(VERSION_KEY, newer, Precondition::Any);
        put.await.expect("written");
        let refused = Catalog::open(kv).await.expect_err("a newer catalog");
        assert!(refused.to_string().contains("newer virga"), "{refused}");
    }
}
