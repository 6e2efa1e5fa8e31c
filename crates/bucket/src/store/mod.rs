//! Where buckets and objects are kept.
//!
//! An index in SQLite says what there is; small objects lie in it, the bytes of others beside it, in files or in an S3
//! elsewhere. Whatever is answered is on stable storage. A change and the notices of it are one commit.

mod append;
mod blobs;
mod buckets;
mod copy;
mod list;
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
pub use self::copy::{CopyMeta, SourceObject};
pub use self::list::{ListQuery, ListedObject, Listing, UploadQuery, VersionQuery};
pub use self::multipart::{CompletedPart, Part, PartPage, StoredPart, Upload, UploadSpec};
pub use self::objects::{DeleteConditions, DeleteTarget, Deleted, Put, PutConditions};
pub use self::outbox::Outbox;
pub use self::purge::AccountContents;
pub use self::read::{ByteRange, Content, Get, GetOutput, ReadConditions};
pub use self::record::{
    Acl, Bucket, Checksums, CorsRule, Meta, Object, ObjectKind, Restore, StorageClass, Tags,
    Versioning,
};
pub use self::stage::{ChecksumKind, Staged};

use self::blobs::Blobs;
use self::notice_quota::NoticeCounts;
use self::reader::Readers;
use self::reserve::DiskReserve;
use self::writer::{Command, IndexCache, Txn, Writer};
use crate::error::StoreError;
use crate::names::BucketName;
use crate::notice::ChangeObserver;

/// How much is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of all objects and the index together.
    pub budget_bytes: u64,
    /// Buckets of an account.
    pub buckets_per_account: usize,
    /// Bytes of one request's body.
    pub body_bytes: u64,
    /// Uploads of a bucket that are not complete.
    pub uploads_per_bucket: u64,
    /// Notices that wait for their receiver; an account may have as many as it leaves free.
    pub notices: u64,
    /// Notices that an account may have waiting in any case.
    pub guaranteed_notices: u64,
    /// How long it takes to restore an object from an archive.
    pub restore_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            budget_bytes: 100 << 30,
            buckets_per_account: 200,
            body_bytes: 5 << 30,
            uploads_per_bucket: 10_000,
            notices: 200_000,
            guaranteed_notices: 256,
            restore_after: Duration::from_secs(1),
        }
    }
}

/// Where a change comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChangeOrigin {
    /// The id of the request.
    pub request: String,
    /// The address that it came from.
    pub source_ip: String,
    /// The id of the key that signed it.
    pub by: Option<String>,
    /// How deep in a chain of functions that cause each other it was made; 0 for the world outside.
    pub depth: u32,
}

/// Buckets and their objects. Clones are handles to the same.
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
    /// Opens or makes the store in a directory, and starts its thread. The bytes of objects are files there, too. To be called
    /// within a runtime.
    ///
    /// # Errors
    /// Says what is wrong and how to mend it.
    pub fn open(
        directory: &Path,
        settings: Settings,
        observer: Arc<dyn ChangeObserver>,
    ) -> Result<Self, StoreError> {
        let backend = Backend::Files(directory.join("blobs"));
        Self::open_on(directory, backend, settings, observer)
    }

    /// As `open`, with the bytes of objects elsewhere.
    ///
    /// # Errors
    /// Says what is wrong and how to mend it.
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
                "{}: {e}; check that the directory can be written and its disk has room, or restore the file",
                path.display()
            ))
        })?;
        let cache = Arc::new(IndexCache::default());
        // Whoever shares an S3 with others has names there that are theirs alone.
        let name = connection.query_row("SELECT name FROM store", [], |row| row.get(0))?;
        let reserve = Arc::new(DiskReserve::open_beside(path.clone()));
        let kept = (settings.budget_bytes, reserve.clone());
        let blobs = Blobs::open(backend, name, kept, cache.clone())?;
        let ceiling = cache.load(&connection, &blobs)?;
        let notices = waiting_notices(&connection)?;
        cache
            .notices
            .store(notices.total(), std::sync::atomic::Ordering::Relaxed);
        let (calls, inbox) = mpsc::channel(writer::WAITING);
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

    /// Waits until all writes that were asked for are done, and the index is closed. From then on it is unavailable.
    pub async fn close(&self) {
        // Where the thread has ended already, so has the wait.
        let _ = self.inner.calls.send(Command::Stop).await;
        let mut ended = self.inner.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Takes the bytes of an object or a part in. They are removed again unless a write takes what comes of it.
    ///
    /// # Errors
    /// The body breaks off or is too long, or there is no room.
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

    /// Whether a body of so many bytes may come at present.
    ///
    /// # Errors
    /// It is too long, or there is no room for it.
    pub fn check_capacity(&self, bytes: u64) -> Result<(), StoreError> {
        let most = self.inner.settings.body_bytes;
        if bytes > most {
            return Err(StoreError::TooLarge(most));
        }
        self.inner.blobs.check_budget(bytes)
    }

    /// Bytes that are in use.
    pub fn used_bytes(&self) -> u64 {
        self.inner.blobs.used()
    }

    /// How much is kept.
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

    /// As `write`, of what removes: a full disk has some room for that.
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

    /// Looks whether the disk has room for more.
    async fn ensure_reserve(&self) -> Result<(), StoreError> {
        let reserve = self.inner.reserve.clone();
        if reserve.check().is_err() {
            let again = tokio::task::spawn_blocking(move || reserve.acquire());
            // Where it was not taken, the next line says so.
            let _ = again.await;
        }
        self.inner.reserve.check()
    }

    fn bucket_id(&self, name: &BucketName) -> Result<(i64, Arc<Bucket>), StoreError> {
        let bucket = self.inner.cache.bucket(name);
        bucket.ok_or_else(|| StoreError::NoSuchBucket(name.clone()))
    }

    /// Looks, once, for bytes that a crash has left.
    fn spawn_sweep(&self) {
        let (blobs, readers) = (self.inner.blobs.clone(), self.inner.readers.clone());
        tokio::spawn(async move { blobs.sweep(&readers).await });
    }
}

impl IndexCache {
    /// Reads what memory knows. Returns the first number that was never used.
    fn load(&self, sql: &rusqlite::Connection, blobs: &Blobs) -> Result<u64, StoreError> {
        use std::sync::atomic::Ordering;
        let number = |query: &str| sql.query_row(query, [], |row| row.get::<_, i64>(0));
        let mut all = sql.prepare("SELECT id, record FROM bucket")?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut buckets = self
            .buckets
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for row in rows {
            let (id, record) = row?;
            let bucket: Bucket = record::decode(&record)?;
            buckets.insert(bucket.name.clone(), (id, Arc::new(bucket)));
        }
        self.index_bytes
            .store(writer::index_bytes(sql)?, Ordering::Relaxed);
        blobs.add_used(number("SELECT COALESCE(SUM(size), 0) FROM blob")? as u64);
        Ok(number("SELECT ceiling FROM counter")? as u64)
    }
}

/// Counts the notices of each account that wait.
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

/// What is done in the background waits: until it is told of more, or for so long if it tries again. Says whether the store goes on.
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
