//! The thread that writes the index, with group commit.
//!
//! Writes that wait together are committed together, so one fsync serves all of them. A write is a closure with its
//! own savepoint: a failed one is rolled back alone. Effects outside the index (blobs to keep or remove, cache
//! updates) are collected and applied after the commit.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

use super::blobs::{BlobUpload, Blobs};
use super::cache::{IndexCache, index_bytes};
use super::notice_quota::NoticeCounts;
use super::record::{BlobId, Bucket};
use super::settings::Settings;
use crate::error::StoreError;
use crate::names::BucketName;
use crate::notice::ChangeObserver;

/// Maximum writes per transaction.
const BATCH: usize = 1024;
/// Capacity of the write queue. Further callers wait (backpressure).
pub(super) const QUEUE_CAPACITY: usize = 1024;
/// Numbers reserved at a time, so that the counter is rarely written.
const RESERVED_NUMBERS: u64 = 1 << 21;

/// A command to the writer thread.
pub(super) enum Command {
    Write(Job),
    /// Stop after the commands before this one.
    Stop,
}

type Job = Box<dyn FnOnce(&mut Txn<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// A side effect of a write outside the index.
#[derive(Debug)]
pub(super) enum Effect {
    /// The index references this blob now.
    Keep(BlobUpload),
    /// The index does not reference this blob of this size any more.
    Drop(BlobId, u64),
    /// A notice was added.
    NoticeAdded,
    /// A list of pieces lost its object.
    Orphaned,
    /// A restore started.
    Restoring,
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) cache: Arc<IndexCache>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) observer: Arc<dyn ChangeObserver>,
    pub(super) settings: Settings,
    /// Pending notices per account.
    pub(super) notices: NoticeCounts,
    /// Next number. Numbers are never reused.
    pub(super) next: u64,
    /// End of the reserved range of numbers.
    pub(super) ceiling: u64,
    /// Signals the end of the thread.
    pub(super) ended: watch::Sender<bool>,
}

/// The transaction that a write runs in.
pub(super) struct Txn<'a> {
    pub(super) sql: &'a Transaction<'a>,
    pub(super) observer: &'a dyn ChangeObserver,
    pub(super) settings: &'a Settings,
    pub(super) cache: &'a IndexCache,
    pub(super) now_ms: u64,
    notices: &'a mut NoticeCounts,
    next: &'a mut u64,
    changes: Changes,
    /// Set if the transaction can no longer be committed.
    broken: Option<StoreError>,
}

/// A bucket with its row id in the index.
type BucketEntry = (i64, Arc<Bucket>);

/// Changes to apply once the transaction is committed.
#[derive(Debug, Default)]
struct Changes {
    effects: Vec<Effect>,
    /// New state of changed buckets; `None` if deleted.
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
            error!(%error, "failed to checkpoint the bucket index; it will be checkpointed at the next start");
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
                    // A checkpoint frees the write-ahead log for the next writes.
                    let checkpoint = "PRAGMA wal_checkpoint";
                    let _ = self.connection.query_row(checkpoint, [], |_| Ok(()));
                } else {
                    error!(error = %e, writes = answers.len(), "failed to commit writes to the bucket index");
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
        if ceiling.saturating_sub(self.next) < RESERVED_NUMBERS / 2 {
            ceiling = self.next + RESERVED_NUMBERS;
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
            Err(error) => error!(%error, "failed to read the size of the bucket index"),
        }
    }
}

/// Keeps the blobs of a failed commit. Whether it took place is only known at the next start.
fn forget(effects: Vec<Effect>) {
    for effect in effects {
        if let Effect::Keep(upload) = effect {
            upload.forget();
        }
    }
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as u64
}

impl<'a> Txn<'a> {
    /// Runs a write in a savepoint, and rolls it back if it fails. If the rollback fails, the whole transaction is
    /// aborted.
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
            // The disk is full, and SQLite has rolled back the whole transaction.
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

    /// Returns an unused number.
    pub(super) fn number(&mut self) -> u64 {
        let number = *self.next;
        *self.next += 1;
        number
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.changes.effects.push(effect);
    }

    /// Records the new state of a bucket; `None` if it is deleted.
    pub(super) fn set_bucket(&mut self, name: BucketName, bucket: Option<(i64, Arc<Bucket>)>) {
        self.changes.buckets.push((name, bucket));
    }

    /// Records a change of an account's number of notices.
    pub(super) fn notices_changed(&mut self, account: u64, change: i64) {
        self.notices.add(account, change);
        // Signal even if others were removed in the same commit: the reader has not seen the new one.
        if change > 0 {
            self.effect(Effect::NoticeAdded);
        }
    }

    /// Returns a bucket as this transaction sees it.
    pub(super) fn bucket(&self, name: &BucketName) -> Result<(i64, Arc<Bucket>), StoreError> {
        let changed = self.changes.buckets.iter().rev();
        let changed = changed.into_iter().find(|(changed, _)| changed == name);
        let changed = changed.map(|(_, bucket)| bucket.clone());
        changed
            .unwrap_or_else(|| self.cache.bucket(name))
            .ok_or_else(|| StoreError::NoSuchBucket(name.clone()))
    }

    /// Returns the notices per account as this transaction sees them.
    pub(super) fn notices(&self) -> &NoticeCounts {
        self.notices
    }
}

/// Submits a write to the thread and waits for its commit.
pub(super) async fn write<T: Send + 'static>(
    calls: &mpsc::Sender<Command>,
    write: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (sender, answer) = oneshot::channel();
    let unavailable =
        || StoreError::Unavailable("its index could not be written; try again".into());
    let job: Job = Box::new(move |txn| {
        let result = txn.in_savepoint(write);
        Box::new(move |committed| {
            // The caller may have gone. The write is committed nevertheless.
            let _ = sender.send(committed.and(result));
        })
    });
    calls
        .send(Command::Write(job))
        .await
        .map_err(|_| unavailable())?;
    answer.await.map_err(|_| unavailable())?
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
        // As if a full disk had prevented the rollback: the savepoint is gone.
        let refused = store.write(|txn| {
            txn.insert_inline(b"half")?;
            txn.sql.execute_batch("RELEASE write")?;
            Err::<(), _>(StoreError::Invalid("refused".into()))
        });
        assert!(matches!(refused.await, Err(StoreError::Unavailable(_))));
        assert_eq!(rows(&store).await, 0);
        // The writer continues.
        store
            .write(|txn| txn.insert_inline(b"whole"))
            .await
            .expect("written");
        assert_eq!(rows(&store).await, 1);
    }
}
