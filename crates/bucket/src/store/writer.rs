//! The thread that writes the index.
//!
//! What waits together is committed together, so that one sync serves as many writes as came during the last one. A write is a
//! closure with a savepoint of its own: one that is refused leaves the others as they are. What a write does outside of the
//! index (bytes that are kept or removed, what memory knows) it leaves as effects, which are carried out after the commit.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::error;

use super::Settings;
use super::blobs::{BlobUpload, Blobs};
use super::notice_quota::NoticeCounts;
use super::record::{BlobId, Bucket};
use crate::error::StoreError;
use crate::names::BucketName;
use crate::notice::ChangeObserver;

/// Writes in one transaction.
const BATCH: usize = 1024;
/// Writes that may wait for the thread; more callers wait before it.
pub(super) const WAITING: usize = 1024;
/// How many numbers are set aside at a time, so that the counter is seldom written.
const NUMBERS: u64 = 1 << 21;

/// What the thread is told.
pub(super) enum Command {
    Write(Job),
    /// To end, after what was told before.
    Stop,
}

type Job = Box<dyn FnOnce(&mut Txn<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type BucketMap = HashMap<BucketName, (i64, Arc<Bucket>)>;

/// What memory knows of the index, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    pub(super) buckets: RwLock<BucketMap>,
    /// Accounts whose buckets are as if they were not there.
    pub(super) closed: RwLock<HashSet<u64>>,
    /// Bytes of the index's file that are in use.
    pub(super) index_bytes: AtomicU64,
    pub(super) notices: AtomicU64,
    /// Told when there is a notice.
    pub(super) notices_changed: watch::Sender<()>,
    /// Told when there are pieces that no object has any more, or when nobody reads them any more.
    pub(super) orphaned: Notify,
    /// Told when an object is on its way back from an archive.
    pub(super) restoring: Notify,
}

impl IndexCache {
    pub(super) fn bucket(&self, name: &BucketName) -> Option<(i64, Arc<Bucket>)> {
        if self.is_closed(name.app_id()) {
            return None;
        }
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned()
    }
}

impl IndexCache {
    /// Whether an account's buckets are as if they were not there.
    pub(super) fn is_closed(&self, app_id: u64) -> bool {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        !closed.is_empty() && closed.contains(&app_id)
    }
}

/// What a write does outside of the index.
#[derive(Debug)]
pub(super) enum Effect {
    /// Bytes that have a name now.
    Keep(BlobUpload),
    /// Bytes that have none any more, and how many.
    Drop(BlobId, u64),
    /// There is a notice.
    NoticeAdded,
    /// Pieces are in a list that no object has any more.
    Orphaned,
    /// An object is on its way back.
    Restoring,
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) cache: Arc<IndexCache>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) observer: Arc<dyn ChangeObserver>,
    pub(super) settings: Settings,
    /// Notices by account.
    pub(super) notices: NoticeCounts,
    /// The next number; none is ever used again.
    pub(super) next: u64,
    /// Up to which numbers are set aside.
    pub(super) ceiling: u64,
    /// Told when the thread has ended.
    pub(super) ended: watch::Sender<bool>,
}

/// The transaction that a write is part of.
pub(super) struct Txn<'a> {
    pub(super) sql: &'a Transaction<'a>,
    pub(super) observer: &'a dyn ChangeObserver,
    pub(super) settings: &'a Settings,
    pub(super) cache: &'a IndexCache,
    pub(super) now_ms: u64,
    notices: &'a mut NoticeCounts,
    next: &'a mut u64,
    changes: Changes,
    /// Why nothing of it can be committed, once it cannot.
    broken: Option<StoreError>,
}

/// A bucket, by its number in the index.
type BucketEntry = (i64, Arc<Bucket>);

/// What is to be done once the transaction is committed.
#[derive(Debug, Default)]
struct Changes {
    effects: Vec<Effect>,
    /// Buckets as they are then.
    buckets: Vec<(BucketName, Option<BucketEntry>)>,
}

impl Writer {
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut stop = false;
        while !stop {
            let Some(first) = inbox.blocking_recv() else {
                break;
            };
            let mut jobs = Vec::new();
            let mut next = Some(first);
            while let Some(call) = next {
                match call {
                    Command::Write(job) => jobs.push(job),
                    Command::Stop => {
                        stop = true;
                        break;
                    }
                }
                next = if jobs.len() < BATCH {
                    inbox.try_recv().ok()
                } else {
                    None
                };
            }
            if !jobs.is_empty() {
                self.commit(jobs);
            }
        }
        if let Err(error) = self
            .connection
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        {
            error!(%error, "the index of buckets cannot be put in order; it will be at the next start");
        }
        drop(self.connection);
        let _ = self.ended.send(true);
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let mut answers = Vec::with_capacity(jobs.len());
        let result = self.try_commit(jobs, &mut answers);
        let result = match result {
            Ok(changes) => {
                self.apply(changes);
                Ok(())
            }
            Err(e) => {
                if e == StoreError::NoSpace {
                    // What is written next may go where this journal was.
                    let checkpoint = "PRAGMA wal_checkpoint";
                    let _ = self.connection.query_row(checkpoint, [], |_| Ok(()));
                } else {
                    error!(error = %e, writes = answers.len(), "buckets cannot be written");
                }
                Err(e)
            }
        };
        for answer in answers {
            answer(result.clone());
        }
    }

    fn try_commit(
        &mut self,
        jobs: Vec<Job>,
        answers: &mut Vec<Answer>,
    ) -> Result<Changes, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut ceiling = self.ceiling;
        if ceiling.saturating_sub(self.next) < NUMBERS / 2 {
            ceiling = self.next + NUMBERS;
            transaction
                .prepare_cached("UPDATE counter SET ceiling = ?")?
                .execute([ceiling as i64])?;
        }
        let mut txn = Txn {
            sql: &transaction,
            observer: &*self.observer,
            settings: &self.settings,
            cache: &self.cache,
            now_ms: now_ms(),
            notices: &mut self.notices,
            next: &mut self.next,
            changes: Changes::default(),
            broken: None,
        };
        answers.extend(jobs.into_iter().map(|job| job(&mut txn)));
        let Txn {
            changes, broken, ..
        } = txn;
        if let Some(why) = broken {
            self.notices.undo(0);
            return Err(why);
        }
        if let Err(e) = transaction.commit() {
            self.notices.undo(0);
            forget(changes.effects);
            return Err(e.into());
        }
        self.notices.commit();
        self.ceiling = ceiling;
        Ok(changes)
    }

    fn apply(&self, changes: Changes) {
        if !changes.buckets.is_empty() {
            let mut buckets = self
                .cache
                .buckets
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for (name, bucket) in changes.buckets {
                match bucket {
                    Some(bucket) => buckets.insert(name, bucket),
                    None => buckets.remove(&name),
                };
            }
        }
        let notices = self.notices.total();
        self.cache.notices.store(notices, Ordering::Relaxed);
        let mut dropped = Vec::new();
        for effect in changes.effects {
            match effect {
                Effect::Keep(upload) => upload.keep(),
                Effect::Drop(blob, size) => dropped.push((blob, size)),
                Effect::NoticeAdded => self.cache.notices_changed.send_replace(()),
                Effect::Orphaned => self.cache.orphaned.notify_one(),
                Effect::Restoring => self.cache.restoring.notify_one(),
            }
        }
        if !dropped.is_empty() {
            self.blobs.remove(dropped);
        }
        match index_bytes(&self.connection) {
            Ok(bytes) => self.cache.index_bytes.store(bytes, Ordering::Relaxed),
            Err(error) => error!(%error, "the size of the index of buckets cannot be read"),
        }
    }
}

/// Whether the commit took place is known at the next start; until then the bytes stay.
fn forget(effects: Vec<Effect>) {
    for effect in effects {
        if let Effect::Keep(upload) = effect {
            upload.forget();
        }
    }
}

/// Bytes of the file that are in use.
pub(super) fn index_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |sql: &str| {
        connection
            .prepare_cached(sql)?
            .query_row([], |row| row.get::<_, i64>(0))
    };
    let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
    Ok(pages as u64 * number("PRAGMA page_size")? as u64)
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as u64
}

impl<'a> Txn<'a> {
    /// Does a write, and leaves nothing of it where it is refused. Where that cannot be had, nothing is committed at all.
    fn in_savepoint<T>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let sql = self.sql;
        let savepoint = |command: &str| {
            let done = sql
                .prepare_cached(command)
                .and_then(|mut command| command.execute([]));
            done.map_err(StoreError::from)
        };
        let changes = &self.changes;
        let (effects, buckets) = (changes.effects.len(), changes.buckets.len());
        let notices = self.notices.mark();
        let result = match savepoint("SAVEPOINT write") {
            Ok(_) => write(self),
            Err(why) => Err(why),
        };
        let ended = match &result {
            Ok(_) => savepoint("RELEASE write"),
            // The disk refused, and SQLite has taken everything back.
            Err(why) if sql.is_autocommit() => Err(why.clone()),
            Err(_) => savepoint("ROLLBACK TO write").and_then(|_| savepoint("RELEASE write")),
        };
        if result.is_err() {
            self.changes.effects.truncate(effects);
            self.changes.buckets.truncate(buckets);
            self.notices.undo(notices);
        }
        if let Err(why) = ended {
            self.broken = Some(why.clone());
            return Err(why);
        }
        result
    }

    /// A number that was never used.
    pub(super) fn number(&mut self) -> u64 {
        let number = *self.next;
        *self.next += 1;
        number
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.changes.effects.push(effect);
    }

    /// Says what a bucket is now, or that it is gone.
    pub(super) fn set_bucket(&mut self, name: BucketName, bucket: Option<(i64, Arc<Bucket>)>) {
        self.changes.buckets.push((name, bucket));
    }

    /// Notes that notices of an account came, or went.
    pub(super) fn notices_changed(&mut self, account: u64, change: i64) {
        self.notices.add(account, change);
        // Whatever went in the same commit: who waits for notices knows nothing of the one that came.
        if change > 0 {
            self.effect(Effect::NoticeAdded);
        }
    }

    /// A bucket as this transaction sees it.
    pub(super) fn bucket(&self, name: &BucketName) -> Result<(i64, Arc<Bucket>), StoreError> {
        let changed = self.changes.buckets.iter().rev();
        let changed = changed.into_iter().find(|(changed, _)| changed == name);
        let changed = changed.map(|(_, bucket)| bucket.clone());
        changed
            .unwrap_or_else(|| self.cache.bucket(name))
            .ok_or_else(|| StoreError::NoSuchBucket(name.clone()))
    }

    /// Notices by account, as this transaction sees them.
    pub(super) fn notices(&self) -> &NoticeCounts {
        self.notices
    }
}

/// Hands a write to the thread and waits for its commit.
pub(super) async fn write<T: Send + 'static>(
    calls: &mpsc::Sender<Command>,
    write: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (sender, answer) = oneshot::channel();
    let gone = || StoreError::Unavailable("its index could not be written; try again".into());
    let job: Job = Box::new(move |txn| {
        let result = txn.in_savepoint(write);
        Box::new(move |committed| {
            // Whoever asked may have gone; it is written all the same.
            let _ = sender.send(committed.and(result));
        })
    });
    calls.send(Command::Write(job)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Settings, Store};
    use super::*;
    use crate::notice::{Change, Notice};

    #[derive(Debug)]
    struct NoObserver;

    impl ChangeObserver for NoObserver {
        fn notices_of(&self, _: &Change) -> Vec<Notice> {
            Vec::new()
        }
    }

    async fn rows(store: &Store) -> i64 {
        let count = store
            .inner
            .readers
            .read(|sql| Ok(sql.query_row("SELECT COUNT(*) FROM inline", [], |row| row.get(0))?));
        count.await.expect("a number")
    }

    #[tokio::test]
    async fn failed_rollback_aborts_the_transaction() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), Settings::default(), Arc::new(NoObserver));
        let store = store.expect("a store");
        let refused = store.write(|txn| {
            txn.insert_inline(b"half")?;
            Err::<(), _>(StoreError::Invalid("refused".into()))
        });
        assert_eq!(refused.await, Err(StoreError::Invalid("refused".into())));
        assert_eq!(rows(&store).await, 0);
        // As if the disk had refused to undo it: its savepoint is gone.
        let refused = store.write(|txn| {
            txn.insert_inline(b"half")?;
            txn.sql.execute_batch("RELEASE write")?;
            Err::<(), _>(StoreError::Invalid("refused".into()))
        });
        assert!(matches!(refused.await, Err(StoreError::Unavailable(_))));
        assert_eq!(rows(&store).await, 0);
        // It goes on.
        store
            .write(|txn| txn.insert_inline(b"whole"))
            .await
            .expect("written");
        assert_eq!(rows(&store).await, 1);
    }
}
