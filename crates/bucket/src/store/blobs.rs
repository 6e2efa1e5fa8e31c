//! Blobs: the bytes of objects that are too large for the index. They are stored through `object_store`, in files by
//! default or in external storage.
//!
//! A blob is fsynced before the index references it, and removed after the index has dropped its last reference. Blobs
//! that a crash left unreferenced are swept at the next start. A reader pins its blobs, so it can finish while the
//! object is replaced.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    GetOptions, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload,
};
use rusqlite::Connection;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::cache::IndexCache;
use super::reader::Readers;
use super::record::BlobId;
use super::reserve::DiskReserve;
use crate::error::StoreError;

/// Bytes per read from a file.
const READ_BYTES: u64 = 256 * 1024;
/// Concurrent removals.
const CONCURRENT_REMOVALS: usize = 8;
/// Random bytes in a blob's name.
const NAME_BYTES: usize = 16;

/// Storage of blobs.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Files below this directory.
    Files(PathBuf),
    /// External storage. Each store has a prefix of its own, so that stores can share it.
    Remote(Arc<dyn ObjectStore>),
}

#[derive(Debug)]
pub(super) struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Directory of the files; `None` for external storage.
    directory: Option<PathBuf>,
    /// Bytes per write.
    chunk: usize,
    budget: u64,
    reserve: Arc<DiskReserve>,
    used: AtomicU64,
    cache: Arc<IndexCache>,
    state: Mutex<State>,
    /// Readers hold it shared from their index lookup until they have pinned the result.
    lookups: RwLock<()>,
    runtime: Handle,
}

#[derive(Debug, Default)]
struct State {
    /// Blobs that are being written and that the index does not reference yet.
    in_progress: HashSet<BlobId>,
    pins: HashMap<BlobId, Pin>,
    /// Lists of pieces in use, with their number of readers.
    lists: HashMap<u64, usize>,
}

#[derive(Debug, Default)]
struct Pin {
    readers: usize,
    /// Size of the blob if it is to be removed after its last reader.
    remove_after: Option<u64>,
}

impl Blobs {
    pub(super) fn open(
        backend: Backend,
        name: String,
        (budget, reserve): (u64, Arc<DiskReserve>),
        cache: Arc<IndexCache>,
    ) -> Result<Arc<Self>, StoreError> {
        let (store, directory, chunk): (Arc<dyn ObjectStore>, _, _) = match backend {
            Backend::Files(directory) => {
                make_directory(&directory).map_err(|e| {
                    StoreError::Unavailable(format!(
                        "make the directory {}: {e}",
                        directory.display()
                    ))
                })?;
                let files = LocalFileSystem::new_with_prefix(&directory)?.with_fsync(true);
                (Arc::new(files), Some(directory), 1 << 20)
            }
            // S3 requires at least 5 MB per part of a multipart upload.
            Backend::Remote(store) => (Arc::new(PrefixStore::new(store, name)), None, 8 << 20),
        };
        Ok(Arc::new(Self {
            store,
            directory,
            chunk,
            budget,
            reserve,
            used: AtomicU64::new(0),
            cache,
            state: Mutex::default(),
            lookups: RwLock::default(),
            runtime: Handle::current(),
        }))
    }

    /// Adds to the bytes in use.
    pub(super) fn add_used(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes in use, including the index.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed) + self.cache.index_bytes.load(Ordering::Relaxed)
    }

    /// Checks that the disk is not full and the budget allows more bytes.
    pub(super) fn check_capacity(&self, bytes: u64) -> Result<(), StoreError> {
        self.reserve.check()?;
        self.check_budget(bytes)
    }

    /// Checks that the budget allows more bytes.
    pub(super) fn check_budget(&self, bytes: u64) -> Result<(), StoreError> {
        let used = self.used();
        if used.saturating_add(bytes) > self.budget {
            return Err(StoreError::Full {
                used,
                budget: self.budget,
            });
        }
        Ok(())
    }

    /// Starts writing a blob.
    pub(super) fn upload(self: &Arc<Self>) -> Result<BlobUpload, StoreError> {
        let mut random = [0; NAME_BYTES];
        getrandom::fill(&mut random)
            .map_err(|e| StoreError::Unavailable(format!("draw a random name: {e}")))?;
        let id = BlobId(hex::encode(random));
        self.state().in_progress.insert(id.clone());
        Ok(BlobUpload {
            blobs: self.clone(),
            id,
            size: 0,
            buffered: Vec::new(),
            buffered_bytes: 0,
            multipart: None,
            writing: None,
            end: UploadOutcome::Discard,
        })
    }

    /// Runs an index lookup that can pin the blobs it finds.
    pub(super) fn with_pins<T>(
        self: &Arc<Self>,
        lookup: impl FnOnce(&mut dyn FnMut(&BlobId) -> PinnedBlob) -> T,
    ) -> T {
        let _lookup = self.lookups.read().unwrap_or_else(PoisonError::into_inner);
        lookup(&mut |id| {
            self.state().pins.entry(id.clone()).or_default().readers += 1;
            PinnedBlob {
                blobs: self.clone(),
                id: id.clone(),
            }
        })
    }

    /// Waits until all running lookups have pinned what they found.
    fn wait_for_lookups(&self) {
        drop(self.lookups.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a reader of a list of pieces.
    pub(super) fn pin_list(&self, list: u64) {
        *self.state().lists.entry(list).or_default() += 1;
    }

    /// Drops a reader of a list of pieces.
    pub(super) fn unpin_list(&self, list: u64) {
        let mut state = self.state();
        if let Entry::Occupied(mut readers) = state.lists.entry(list) {
            *readers.get_mut() -= 1;
            if *readers.get() == 0 {
                readers.remove();
                self.cache.orphaned.notify_one();
            }
        }
    }

    /// Returns those of the orphaned lists that have no reader.
    pub(super) fn unpinned(&self, mut lists: Vec<u64>) -> Vec<u64> {
        self.wait_for_lookups();
        let state = self.state();
        lists.retain(|list| !state.lists.contains_key(list));
        lists
    }

    /// Removes unreferenced blobs, each after its last reader.
    pub(super) fn remove(self: &Arc<Self>, mut blobs: Vec<(BlobId, u64)>) {
        self.wait_for_lookups();
        {
            let mut state = self.state();
            blobs.retain(|(id, size)| match state.pins.get_mut(id) {
                Some(pin) => {
                    pin.remove_after = Some(*size);
                    false
                }
                None => true,
            });
        }
        if blobs.is_empty() {
            return;
        }
        let this = self.clone();
        self.runtime.spawn(async move {
            stream::iter(blobs)
                .for_each_concurrent(CONCURRENT_REMOVALS, |(id, size)| this.unlink(id, size))
                .await;
        });
    }

    async fn unlink(&self, id: BlobId, size: u64) {
        match self.store.delete(&path(&id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            // virga ends; the next start sweeps the blob.
            Err(object_store::Error::JoinError { source }) if source.is_cancelled() => {}
            Err(error) => {
                warn!(%error, blob = id.0, "failed to remove a blob; it will be swept at the next start");
            }
        }
        self.used.fetch_sub(size, Ordering::Relaxed);
    }

    /// Removes all blobs that the index does not reference.
    pub(super) async fn sweep(&self, index: &Arc<Readers>) {
        let mut removed = self.sweep_unfinished();
        let mut listing = self.store.list(None).ready_chunks(1000);
        while let Some(chunk) = listing.next().await {
            let mut there = Vec::new();
            for meta in chunk {
                match meta {
                    Ok(meta) => there.extend(blob_at(&meta.location)),
                    Err(error) => warn!(%error, "failed to list some blobs; they are not swept"),
                }
            }
            // The order matters: a blob that is finished in between is already referenced by the index.
            let in_progress = self.state().in_progress.clone();
            there.retain(|id| !in_progress.contains(id));
            let unreferenced = match index.read(|sql| unreferenced(sql, there)).await {
                Ok(unreferenced) => unreferenced,
                Err(error) => {
                    warn!(%error, "failed to sweep unreferenced blobs; the next start tries again");
                    return;
                }
            };
            for id in unreferenced {
                removed += 1;
                self.unlink(id, 0).await;
            }
        }
        if removed > 0 {
            info!(
                blobs = removed,
                "removed unreferenced blobs that a crash had left"
            );
        }
    }

    /// Removes files of interrupted writes, which `list` does not return. Their name is the blob's name, `#` and a
    /// number.
    fn sweep_unfinished(&self) -> u64 {
        let Some(directory) = &self.directory else {
            return 0;
        };
        let entries =
            |path: &std::path::Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut removed = 0;
        for file in entries(directory).flat_map(|level| entries(&level.path())) {
            let name = file.file_name();
            let Some((id, _)) = name.to_str().and_then(|name| name.split_once('#')) else {
                continue;
            };
            let id = BlobId(id.to_owned());
            if !is_name(&id) || self.state().in_progress.contains(&id) {
                continue;
            }
            removed += u64::from(std::fs::remove_file(file.path()).is_ok());
        }
        removed
    }

    /// Reads a range of a blob.
    async fn read(
        self: Arc<Self>,
        id: BlobId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, ReadChunk>, StoreError> {
        let options = GetOptions {
            range: Some(range.into()),
            ..GetOptions::default()
        };
        let got = self.store.get_opts(&path(&id), options).await?;
        Ok(match got.payload {
            GetResultPayload::File(file, _) => {
                let file = Arc::new(file);
                stream::try_unfold(got.range, move |left| {
                    let file = file.clone();
                    async move {
                        if left.is_empty() {
                            return Ok(None);
                        }
                        let upto = left.end.min(left.start + READ_BYTES);
                        let read = tokio::task::spawn_blocking(move || {
                            let mut bytes = vec![0; (upto - left.start) as usize];
                            file.read_exact_at(&mut bytes, left.start).map(|()| bytes)
                        });
                        let bytes = read
                            .await
                            .map_err(std::io::Error::other)
                            .and_then(|read| read)
                            .map_err(|e| StoreError::Unavailable(format!("read an object: {e}")))?;
                        Ok(Some((Bytes::from(bytes), upto..left.end)))
                    }
                })
                .boxed()
            }
            GetResultPayload::Stream(stream) => stream.map_err(StoreError::from).boxed(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the blobs that the index does not reference.
fn unreferenced(sql: &Connection, there: Vec<BlobId>) -> Result<Vec<BlobId>, StoreError> {
    let mut find = sql.prepare_cached("SELECT 1 FROM blob WHERE id = ?")?;
    let mut unreferenced = Vec::new();
    for id in there {
        if !find.exists([&id.0])? {
            unreferenced.push(id);
        }
    }
    Ok(unreferenced)
}

type ReadChunk = Result<Bytes, StoreError>;

/// Uses two directory levels, so that no directory grows large.
fn path(id: &BlobId) -> Path {
    let level = id.0.get(..2).unwrap_or_default();
    Path::from(format!("{level}/{}", id.0))
}

/// Returns whether this is a valid blob name.
fn is_name(id: &BlobId) -> bool {
    id.0.len() == 2 * NAME_BYTES && id.0.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns the blob stored at a path. `None` if no store wrote it.
fn blob_at(location: &Path) -> Option<BlobId> {
    let id = BlobId(location.filename()?.to_owned());
    (is_name(&id) && path(&id) == *location).then_some(id)
}

/// Creates a directory and fsyncs it and its parents, so that it survives a power cut.
pub(super) fn make_directory(directory: &std::path::Path) -> std::io::Result<()> {
    let directory = std::path::absolute(directory)?;
    let there = directory.ancestors().find(|ancestor| ancestor.is_dir());
    let there = there.map(std::path::Path::to_path_buf);
    std::fs::create_dir_all(&directory)?;
    for made in directory.ancestors() {
        std::fs::File::open(made)?.sync_all()?;
        if Some(made) == there.as_deref() {
            break;
        }
    }
    Ok(())
}

/// A blob that is kept until this reader has finished.
#[derive(Debug)]
pub(super) struct PinnedBlob {
    blobs: Arc<Blobs>,
    id: BlobId,
}

impl PinnedBlob {
    /// Streams a range of the blob.
    pub(super) fn read(
        self,
        range: Range<u64>,
    ) -> impl futures_util::Stream<Item = ReadChunk> + Send {
        let start = async move {
            let bytes = self.blobs.clone().read(self.id.clone(), range).await?;
            // The stream owns the pin.
            Ok::<_, StoreError>(bytes.chain(stream::poll_fn(move |_| {
                let _ = &self;
                std::task::Poll::Ready(None)
            })))
        };
        stream::once(start).try_flatten()
    }
}

impl Drop for PinnedBlob {
    fn drop(&mut self) {
        let mut state = self.blobs.state();
        let Some(pin) = state.pins.get_mut(&self.id) else {
            return;
        };
        pin.readers -= 1;
        if pin.readers > 0 {
            return;
        }
        let remove_after = pin.remove_after;
        state.pins.remove(&self.id);
        drop(state);
        if let Some(size) = remove_after {
            let (blobs, id) = (self.blobs.clone(), self.id.clone());
            let runtime = blobs.runtime.clone();
            runtime.spawn(async move { blobs.unlink(id, size).await });
        }
    }
}

/// A blob that is being written. It is removed on drop unless it is kept.
pub(super) struct BlobUpload {
    blobs: Arc<Blobs>,
    id: BlobId,
    size: u64,
    buffered: Vec<Bytes>,
    buffered_bytes: usize,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// The write in progress while the next one is buffered.
    writing: Option<BoxFuture<'static, object_store::Result<()>>>,
    end: UploadOutcome,
}

/// State of a blob when its upload is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum UploadOutcome {
    Discard,
    Keep,
    Forget,
}

impl BlobUpload {
    pub(super) fn id(&self) -> &BlobId {
        &self.id
    }

    /// Buffers bytes, and writes them once the buffer is full.
    pub(super) async fn push(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.blobs.check_capacity(bytes.len() as u64)?;
        self.blobs.add_used(bytes.len() as u64);
        self.size += bytes.len() as u64;
        self.buffered_bytes += bytes.len();
        self.buffered.push(bytes);
        if self.buffered_bytes >= self.blobs.chunk {
            self.write_part().await?;
        }
        Ok(())
    }

    async fn write_part(&mut self) -> Result<(), StoreError> {
        let payload = self.take_buffer();
        if let Some(writing) = self.writing.take() {
            writing.await?;
        }
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => none.insert(self.blobs.store.put_multipart(&path(&self.id)).await?),
        };
        let writing = tokio::spawn(multipart.put_part(payload));
        self.writing = Some(Box::pin(async move {
            writing
                .await
                .map_err(|e| object_store::Error::JoinError { source: e })?
        }));
        Ok(())
    }

    fn take_buffer(&mut self) -> PutPayload {
        self.buffered_bytes = 0;
        std::mem::take(&mut self.buffered).into_iter().collect()
    }

    /// Writes the rest. Returns once the blob is on stable storage.
    pub(super) async fn finish(&mut self) -> Result<(), StoreError> {
        if self.multipart.is_none() {
            let payload = self.take_buffer();
            self.blobs.store.put(&path(&self.id), payload).await?;
            return Ok(());
        }
        if self.buffered_bytes > 0 {
            self.write_part().await?;
        }
        if let Some(writing) = self.writing.take() {
            writing.await?;
        }
        if let Some(multipart) = &mut self.multipart {
            multipart.complete().await?;
        }
        self.multipart = None;
        Ok(())
    }

    /// Marks the blob as referenced by the index.
    pub(super) fn keep(mut self) {
        self.end = UploadOutcome::Keep;
    }

    /// Marks the outcome of the commit as unknown, so that the blob is kept until the next sweep.
    pub(super) fn forget(mut self) {
        self.end = UploadOutcome::Forget;
    }
}

impl Drop for BlobUpload {
    fn drop(&mut self) {
        if self.end == UploadOutcome::Keep {
            self.blobs.state().in_progress.remove(&self.id);
            return;
        }
        if self.end == UploadOutcome::Forget {
            return;
        }
        let (blobs, id, size) = (self.blobs.clone(), self.id.clone(), self.size);
        let (multipart, writing) = (self.multipart.take(), self.writing.take());
        let runtime = blobs.runtime.clone();
        runtime.spawn(async move {
            if let Some(writing) = writing {
                // The blob is removed whether or not this part was written.
                let _ = writing.await;
            }
            if let Some(mut multipart) = multipart
                && let Err(error) = multipart.abort().await
            {
                warn!(%error, blob = id.0, "failed to abort an upload; its blob will be swept at the next start");
            }
            // The multipart upload may have been completed before.
            blobs.unlink(id.clone(), size).await;
            blobs.state().in_progress.remove(&id);
        });
    }
}

impl std::fmt::Debug for BlobUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("id", &self.id)
            .field("size", &self.size)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
