//! The catalog's typed tables over a key-value store.
//!
//! Keys: `function/<account>/<namespace>/<name>`, `namespace/<account>/<name>`, `layer/<account>/<name>`,
//! `domain/<account>/<name>` and `settings/<account>` (an account's concurrency settings). [`crate::access`] has the tables of
//! accounts, API keys and roles, and [`crate::ids`] those of account ids.
//!
//! Resources of a closed account are hidden from every reader except [`Catalog::owned`]. The namespace `default` and the
//! settings of an account exist even without an entry.

mod bucket;
mod bytes;
mod domain;
mod follow;
mod functions;
mod inner;
mod layers;
mod namespaces;
mod owned;
mod quota;

pub use bucket::TriggerConflict;
pub use owned::OwnedResources;
pub(crate) use quota::settings_key;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use model::AccountId;
use tokio::sync::{Mutex, broadcast, watch};

use self::inner::Inner;
use crate::error::Error;
use crate::format;
use crate::kv::{Kv, KvError, Precondition, Revision};
use crate::migrate::migrate;
use crate::view::View;

/// Changes buffered for a slow subscriber. If it lags further, it must reload everything.
const SUBSCRIBER_BUFFER: usize = 4096;

/// Longest time until a stored write is in the view. It is exceeded only while the store cannot be watched.
const VIEW_TIMEOUT: Duration = Duration::from_secs(60);

/// A handle to the catalog. Clones are cheap and share it.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}

impl Catalog {
    /// Loads all entries and follows the store's changes, without a size quota.
    ///
    /// # Errors
    /// An error of the store, or the first entry that cannot be decoded.
    pub async fn open(kv: Arc<dyn Kv>) -> Result<Self, Error> {
        Self::open_bounded(kv, 0).await
    }

    /// Opens the catalog with a quota on the size of an account's records (bytes); 0 = unlimited. Existing records are loaded
    /// even if they exceed the quota.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn open_bounded(kv: Arc<dyn Kv>, account_bytes: u64) -> Result<Self, Error> {
        migrate(&kv).await?;
        let mut watched = kv.watch().await?;
        let mut view = View::default();
        for entry in std::mem::take(&mut watched.snapshot) {
            view.apply(&entry.key, Some(&entry.value), entry.revision)?;
        }
        let (changes, _) = broadcast::channel(SUBSCRIBER_BUFFER);
        let (applied, _) = watch::channel(watched.revision);
        let inner = Arc::new(Inner {
            kv,
            access: AtomicU64::new(view.access.revision),
            view: RwLock::new(view),
            applied,
            changes,
            admission: Mutex::new(()),
            account_bytes,
            reserved_bytes: std::sync::Mutex::default(),
        });
        tokio::spawn(follow::follow(Arc::downgrade(&inner), watched));
        Ok(Self { inner })
    }

    pub(crate) fn access_counter(&self) -> Revision {
        self.inner.access.load(Ordering::Acquire)
    }

    /// Takes the admission lock.
    pub(crate) async fn admission(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.admission.lock().await
    }

    /// Takes the admission lock to add a resource to an account, which must be open.
    pub(crate) async fn admission_for(
        &self,
        account: AccountId,
    ) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        let admission = self.admission().await;
        match self.is_open(account) {
            true => Ok(admission),
            false => Err(Error::Closed),
        }
    }

    pub(crate) fn read<T>(&self, run: impl FnOnce(&View) -> T) -> T {
        // A test counts these lines to check how often a warm call reads the catalog.
        #[cfg(debug_assertions)]
        tracing::trace!("catalog reads");
        run(&self
            .inner
            .view
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) async fn put<T: serde::Serialize>(
        &self,
        key: &str,
        record: &T,
        on: Precondition,
    ) -> Result<(), Error> {
        let bytes = encoded(key, record)?;
        let _reservation = self.reserve_bytes(key, bytes.len() as u64)?;
        self.write(key, bytes, on).await.map(drop)
    }

    /// Writes a record without a quota check; returns the revision of the write.
    pub(crate) async fn put_unchecked<T: serde::Serialize>(
        &self,
        key: &str,
        record: &T,
        on: Precondition,
    ) -> Result<Revision, Error> {
        self.write(key, encoded(key, record)?, on).await
    }

    async fn write(&self, key: &str, bytes: Vec<u8>, on: Precondition) -> Result<Revision, Error> {
        let revision = self.inner.kv.put(key, bytes, on).await?;
        self.wait_for(revision).await?;
        Ok(revision)
    }

    pub(crate) async fn delete(&self, key: &str, on: Precondition) -> Result<(), Error> {
        let revision = self.inner.kv.delete(key, on).await?;
        self.wait_for(revision).await
    }

    /// Waits until the view contains a write, so that writers read their own writes.
    async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        let mut applied = self.inner.applied.subscribe();
        let waited = applied.wait_for(|applied| *applied >= revision);
        match tokio::time::timeout(VIEW_TIMEOUT, waited).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Store(KvError::Unavailable(
                "the watch has stopped".into(),
            ))),
            Err(_) => Err(Error::Store(KvError::Unavailable(
                "the change is stored, but the catalog does not see its store's changes; see the log, and restart virga".into(),
            ))),
        }
    }
}

fn encoded<T: serde::Serialize>(key: &str, record: &T) -> Result<Vec<u8>, Error> {
    format::encode(record).map_err(|e| Error::Format {
        key: key.to_owned(),
        why: e.to_string(),
    })
}
