//! Persistent store of buckets and objects.
//!
//! A SQLite index holds all metadata and the bytes of small objects. The bytes of larger objects are blobs, in files
//! or in external storage. An acknowledged write is on stable storage. A change and its notices are one commit.

mod append;
mod blobs;
mod buckets;
mod cache;
mod complete;
mod copy;
mod delete;
mod list;
mod list_pin;
mod multipart;
mod notice_quota;
mod objects;
mod orphans;
mod outbox;
mod purge;
mod read;
mod reader;
mod record;
mod reserve;
mod restore;
mod schema;
mod settings;
mod stage;
mod tags;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{Notify, mpsc, watch};

pub use self::append::Appended;
pub use self::blobs::Backend;
pub use self::complete::CompletedPart;
pub use self::copy::{CopyMeta, SourceObject};
pub use self::delete::{DeleteConditions, DeleteTarget, Deleted};
pub use self::list::{ListQuery, ListedObject, Listing, UploadQuery, VersionQuery};
pub use self::multipart::{Part, PartPage, StoredPart, Upload, UploadSpec};
pub use self::objects::{Put, PutConditions};
pub use self::outbox::Outbox;
pub use self::purge::AccountContents;
pub use self::read::{ByteRange, Content, Get, GetOutput, ReadConditions};
pub use self::record::{
    Acl, Bucket, Checksums, CorsRule, Meta, Object, ObjectKind, Restore, StorageClass, Tags,
    Versioning,
};
pub use self::settings::Settings;
pub use self::stage::{ChecksumKind, Staged};

use self::blobs::Blobs;
use self::cache::IndexCache;
use self::notice_quota::NoticeCounts;
use self::reader::Readers;
use self::reserve::DiskReserve;
use self::writer::{Command, Txn, Writer};
use crate::error::StoreError;
use crate::names::BucketName;
use crate::notice::ChangeObserver;

/// Origin of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChangeOrigin {
    /// Request id.
    pub request: String,
    /// Source address.
    pub source_ip: String,
    /// Id of the key that signed the request.
    pub by: Option<String>,
    /// Depth in the call chain of functions; 0 for calls from outside.
    pub depth: u32,
}

/// A store of buckets and objects. Clones share the store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    calls: mpsc::Sender<Command>,
    readers: Arc<Readers>,
    blobs: Arc<Blobs>,
    cache: Arc<IndexCache>,
    reserve: Arc<DiskReserve>,
    settings: Settings,
    ended: watch::Receiver<bool>,
}

impl Store {
    /// Opens or creates the store in a directory, with blobs as files, and starts its writer thread. Call it inside a
    /// Tokio runtime.
    ///
    /// # Errors
    /// The store cannot be opened. The error says how to fix it.
    pub fn open(
        directory: &Path,
        settings: Settings,
        observer: Arc<dyn ChangeObserver>,
    ) -> Result<Self, StoreError> {
        let backend = Backend::Files(directory.join("blobs"));
        Self::open_on(directory, backend, settings, observer)
    }

    /// Like `open`, with the blobs in `backend`.
    ///
    /// # Errors
    /// The store cannot be opened. The error says how to fix it.
    pub fn open_on(
        directory: &Path,
        backend: Backend,
        settings: Settings,
        observer: Arc<dyn ChangeObserver>,
    ) -> Result<Self, StoreError> {
        let path = directory.join("index.sqlite");
        let opened = blobs::make_directory(directory)
            .map_err(Into::into)
            .and_then(|()| schema::writer(&path));
        let connection = opened.map_err(|e: Box<dyn std::error::Error>| {
            StoreError::Unavailable(format!(
                "{}: {e}; check that the directory is writable and its disk is not full, or restore the file",
                path.display()
            ))
        })?;
        let cache = Arc::new(IndexCache::default());
        // The store's random name is its prefix in external storage, which stores may share.
        let name = connection.query_row("SELECT name FROM store", [], |row| row.get(0))?;
        let reserve = Arc::new(DiskReserve::open_beside(path.clone()));
        let kept = (settings.budget_bytes, reserve.clone());
        let blobs = Blobs::open(backend, name, kept, cache.clone())?;
        let ceiling = cache.load(&connection)?;
        blobs.add_used(blob_bytes(&connection)?);
        let notices = waiting_notices(&connection)?;
        cache
            .notices
            .store(notices.total(), std::sync::atomic::Ordering::Relaxed);
        let (calls, inbox) = mpsc::channel(writer::QUEUE_CAPACITY);
        let (ended, has_ended) = watch::channel(false);
        let writer = Writer {
            connection,
            cache: cache.clone(),
            blobs: blobs.clone(),
            observer,
            settings: settings.clone(),
            notices,
            next: ceiling,
            ceiling,
            ended,
        };
        std::thread::Builder::new()
            .name("buckets".into())
            .spawn(move || writer.run(inbox))
            .map_err(|e| StoreError::Unavailable(format!("cannot start its thread: {e}")))?;
        let store = Self {
            inner: Arc::new(Inner {
                calls,
                readers: Readers::new(path),
                blobs,
                cache,
                reserve,
                settings,
                ended: has_ended,
            }),
        };
        store.spawn_sweep();
        store.spawn_restorer();
        store.spawn_orphan_remover();
        Ok(store)
    }

    /// Waits until all submitted writes are committed and the index is closed. Later operations fail.
    pub async fn close(&self) {
        // If the thread has ended already, `wait_for` returns at once.
        let _ = self.inner.calls.send(Command::Stop).await;
        let mut ended = self.inner.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Receives the bytes of an object or a part. They are removed again unless a write commits them.
    ///
    /// # Errors
    /// The body fails, exceeds the size limit or the budget, or the disk is full.
    pub async fn stage<S, E>(&self, body: S, kinds: &[ChecksumKind]) -> Result<Staged, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: fmt::Display,
    {
        self.ensure_reserve().await?;
        stage::stage(
            &self.inner.blobs,
            body,
            kinds,
            self.inner.settings.body_bytes,
        )
        .await
    }

    /// Checks whether a body of this size can be accepted now.
    ///
    /// # Errors
    /// The body exceeds the size limit, or the budget is exhausted.
    pub fn check_capacity(&self, bytes: u64) -> Result<(), StoreError> {
        let most = self.inner.settings.body_bytes;
        if bytes > most {
            return Err(StoreError::TooLarge(most));
        }
        self.inner.blobs.check_budget(bytes)
    }

    /// Returns the bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.inner.blobs.used()
    }

    /// Returns the limits.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ensure_reserve().await?;
        writer::write(&self.inner.calls, write).await
    }

    /// Like `write`, for removals. On a full disk it releases the reserve and retries.
    async fn write_removal<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        match writer::write(&self.inner.calls, write.clone()).await {
            Err(StoreError::NoSpace) => {
                self.inner.reserve.release();
                writer::write(&self.inner.calls, write).await
            }
            written => written,
        }
    }

    /// Checks that the disk reserve is held, and tries to acquire it again if it is not.
    async fn ensure_reserve(&self) -> Result<(), StoreError> {
        let reserve = self.inner.reserve.clone();
        if reserve.check().is_err() {
            let again = tokio::task::spawn_blocking(move || reserve.acquire());
            // If the reserve was not acquired, the check below fails.
            let _ = again.await;
        }
        self.inner.reserve.check()
    }

    fn bucket_id(&self, name: &BucketName) -> Result<(i64, Arc<Bucket>), StoreError> {
        let bucket = self.inner.cache.bucket(name);
        bucket.ok_or_else(|| StoreError::NoSuchBucket(name.clone()))
    }

    /// Removes the blobs that a crash left unreferenced. Runs once.
    fn spawn_sweep(&self) {
        let (blobs, readers) = (self.inner.blobs.clone(), self.inner.readers.clone());
        tokio::spawn(async move { blobs.sweep(&readers).await });
    }
}

/// Returns the bytes of all blobs.
fn blob_bytes(sql: &rusqlite::Connection) -> Result<u64, StoreError> {
    let sum = "SELECT COALESCE(SUM(size), 0) FROM blob";
    Ok(sql.query_row(sum, [], |row| row.get::<_, i64>(0))? as u64)
}

/// Counts the pending notices of each account.
fn waiting_notices(sql: &rusqlite::Connection) -> Result<NoticeCounts, StoreError> {
    let mut count = sql.prepare("SELECT account, COUNT(*) FROM outbox GROUP BY account")?;
    let counts = count.query_map([], |row| {
        Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
    })?;
    let counts: Vec<_> = counts.collect::<Result<_, _>>()?;
    Ok(NoticeCounts::committed(counts))
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

/// Waits for a wake-up, or for the retry delay. Returns false once the store has ended.
async fn wait_for_work(
    again: Option<Duration>,
    wake: &Notify,
    ended: &mut watch::Receiver<bool>,
) -> bool {
    let again = async {
        match again {
            Some(again) => tokio::time::sleep(again).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = again => true,
        () = wake.notified() => true,
        _ = ended.wait_for(|ended| *ended) => false,
    }
}
