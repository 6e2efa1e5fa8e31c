//! Restores from an archive. Archived objects are stored like others, so the delay is simulated. Programs meet the
//! usual sequence: a request, a wait, and a completion event.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::{Connection, params};
use tracing::warn;

use super::record::{self, Object, Restore};
use super::writer::{Effect, Txn, now_ms};
use super::{ChangeOrigin, Inner, Store, read};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};
use crate::notice::ChangeKind;

const DAY_MS: u64 = 24 * 3_600_000;
/// Maximum days that a restored object stays readable.
const DAYS_MAX: u32 = 365;
/// Delay before a failed attempt is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);

impl Store {
    /// Requests that an archived object becomes readable for some days. Returns false if it is readable already; that
    /// extends the time.
    ///
    /// # Errors
    /// The object is not archived, or a restore is in progress.
    pub async fn restore(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
        days: u32,
        origin: ChangeOrigin,
    ) -> Result<bool, StoreError> {
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(StoreError::Invalid(format!(
                "Days is {days}; it may be 1 to {DAYS_MAX}"
            )));
        }
        let (bucket, key) = (bucket.clone(), key.clone());
        self.write(move |txn| {
            let (id, of) = txn.bucket(&bucket)?;
            let mut object = read::find(txn.sql, id, &key, version)?;
            if !object.class.is_archive() {
                return Err(StoreError::NotArchived(key.as_str().to_owned()));
            }
            if matches!(object.restore, Some(Restore::Ongoing { .. })) {
                return Err(StoreError::RestoreInProgress(key.as_str().to_owned()));
            }
            if !object.is_archived(txn.now_ms) {
                object.restore = Some(Restore::Until(txn.now_ms + u64::from(days) * DAY_MS));
                txn.rewrite(id, &key, &object)?;
                return Ok(false);
            }
            object.restore = Some(Restore::Ongoing { days });
            txn.rewrite(id, &key, &object)?;
            let due = txn.now_ms + txn.settings.restore_after.as_millis() as u64;
            txn.sql
                .prepare_cached("INSERT OR REPLACE INTO restoring (bucket, key, seq, due, origin) VALUES (?, ?, ?, ?, ?)")?
                .execute(params![
                    id,
                    key.as_str().as_bytes(),
                    object.seq as i64,
                    due as i64,
                    record::encode(&(of.name.clone(), &origin))?
                ])?;
            txn.add_notices(ChangeKind::RestorePost, &of, &key, &object, &origin)?;
            txn.effect(Effect::Restoring);
            Ok(true)
        })
        .await
    }

    /// Starts the task that completes restores when they are due.
    pub(super) fn spawn_restorer(&self) {
        tokio::spawn(restorer(Arc::downgrade(&self.inner)));
    }

    async fn next_due(&self) -> Result<Option<u64>, StoreError> {
        let read = |sql: &Connection| {
            let due: Option<i64> = sql
                .prepare_cached("SELECT MIN(due) FROM restoring")?
                .query_row([], |row| row.get(0))?;
            Ok(due.map(|due| due as u64))
        };
        self.inner.readers.read(read).await
    }
}

async fn restorer(store: Weak<Inner>) {
    loop {
        let Some(inner) = store.upgrade() else {
            return;
        };
        let cache = inner.cache.clone();
        let mut ended = inner.ended.clone();
        let store = Store { inner };
        let wait = match store.next_due().await {
            Ok(None) => None,
            Ok(Some(due)) if due > now_ms() => Some(Duration::from_millis(due - now_ms())),
            Ok(Some(_)) => match store.write(|txn| txn.complete_restores()).await {
                Ok(()) => continue,
                Err(error) => {
                    warn!(%error, "failed to restore archived objects; retrying");
                    Some(RETRY_DELAY)
                }
            },
            Err(error) => {
                warn!(%error, "failed to restore archived objects; retrying");
                Some(RETRY_DELAY)
            }
        };
        drop(store);
        if !super::wait_for_work(wait, &cache.restoring, &mut ended).await {
            return;
        }
    }
}

impl Txn<'_> {
    /// Completes the restores that are due.
    fn complete_restores(&mut self) -> Result<(), StoreError> {
        type Due = (i64, Vec<u8>, i64, Vec<u8>);
        let due: Vec<Due> = {
            let mut query = self.sql.prepare_cached(
                "SELECT bucket, key, seq, origin FROM restoring WHERE due <= ? LIMIT 100",
            )?;
            let rows = query.query_map([self.now_ms as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            rows.collect::<Result<_, _>>()?
        };
        for (bucket, key, seq, origin) in due {
            self.sql
                .prepare_cached("DELETE FROM restoring WHERE bucket = ? AND key = ? AND seq = ?")?
                .execute(params![bucket, key, seq])?;
            let (name, origin): (BucketName, ChangeOrigin) = record::decode(&origin)?;
            let key = String::from_utf8(key).unwrap_or_default();
            let Ok(key) = ObjectKey::parse(&key) else {
                continue;
            };
            let of = match self.bucket(&name) {
                Ok((id, of)) if id == bucket => of,
                _ => continue,
            };
            let Some(mut object) = self.find_by_seq(bucket, &key, seq as u64)? else {
                continue;
            };
            let Some(Restore::Ongoing { days }) = object.restore else {
                continue;
            };
            object.restore = Some(Restore::Until(self.now_ms + u64::from(days) * DAY_MS));
            self.rewrite(bucket, &key, &object)?;
            self.add_notices(ChangeKind::RestoreCompleted, &of, &key, &object, &origin)?;
        }
        Ok(())
    }

    fn find_by_seq(
        &self,
        bucket: i64,
        key: &ObjectKey,
        seq: u64,
    ) -> Result<Option<Object>, StoreError> {
        if let Some(object) = self
            .current(bucket, key)?
            .filter(|object| object.seq == seq)
        {
            return Ok(Some(object));
        }
        for version in [VersionId::Number(seq), VersionId::Null] {
            let found = read::version(self.sql, bucket, key, version)?;
            if let Some((object, false)) = found.filter(|(object, _)| object.seq == seq) {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }
}
