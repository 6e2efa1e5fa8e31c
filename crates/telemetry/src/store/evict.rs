//! Retention and eviction of the log store. Eviction is max-min fair between accounts: the largest account loses its oldest rows.

use std::time::Instant;

use rusqlite::{Connection, params};
use tracing::{info, warn};

use super::error::LogStoreError;
use super::ids::first_id;
use super::schema::OLDEST;
use super::writer::{CLEAN_EVERY, ROWS_PER_COMMIT, Writer};

/// Pages returned to the file system per transaction. Few, like the rows, so that it succeeds on a full disk.
const PAGES_PER_COMMIT: u64 = 256;

impl Writer {
    pub(super) fn clean(&mut self) -> Result<(), LogStoreError> {
        let due = self
            .cleaned
            .is_none_or(|cleaned| cleaned.elapsed() >= CLEAN_EVERY);
        if due {
            self.cleaned = Some(Instant::now());
            let oldest = clock::now_ms() - self.settings.retention.as_millis() as i64;
            let removed = self.remove_before(&first_id(oldest))?;
            if removed > 0 {
                info!(removed, "removed log records past their retention");
            }
        }
        let bound = self.settings.max_bytes / self.number("page_size")?.max(1);
        self.evict(bound)?;
        self.release_pages(bound)
    }

    /// Removes all rows with smaller request ids.
    fn remove_before(&self, id: &[u8; 16]) -> Result<usize, LogStoreError> {
        // Per function, because the key starts with it.
        let mut remove = self.connection.prepare_cached(
            "DELETE FROM invocation WHERE (function, request, retry) IN (
                 SELECT i.function, i.request, i.retry
                 FROM function f JOIN invocation i ON i.function = f.id AND i.request < ? LIMIT ?)",
        )?;
        in_small_commits(|| remove.execute(params![id, ROWS_PER_COMMIT]))
    }

    /// Evicts rows while more than `bound` pages are used: cuts the largest accounts down to one level, at which three quarters are
    /// used. Not just below the bound, because an eviction reads all keys of these accounts and must not follow every batch.
    fn evict(&self, bound: u64) -> Result<(), LogStoreError> {
        loop {
            let used = self.number("page_count")? - self.number("freelist_count")?;
            if used <= bound {
                return Ok(());
            }
            let held = account_bytes(&self.connection)?;
            let all: u128 = held.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
            let wanted = all * u128::from(bound / 4 * 3) / u128::from(used.max(1));
            let level = level(
                held.iter().map(|(_, bytes)| *bytes).collect(),
                wanted as u64,
            );
            let (mut accounts, mut removed) = (0, 0);
            for (account, bytes) in held.into_iter().filter(|(_, bytes)| *bytes > level) {
                accounts += 1;
                removed += self.remove_oldest(account, bytes - level)?;
            }
            if removed == 0 {
                return Ok(());
            }
            warn!(
                removed,
                accounts,
                "the log store exceeded log_store_mb; evicted the oldest records of the largest accounts"
            );
        }
    }

    /// Removes the oldest rows of an account that together hold at least `bytes`. Not by time, because a clock that was once years
    /// ahead or behind must not decide how much is evicted.
    fn remove_oldest(&self, account: i64, bytes: u64) -> Result<usize, LogStoreError> {
        let mut last = None;
        let mut found = 0;
        {
            let mut oldest = self.connection.prepare_cached(OLDEST)?;
            let mut rows = oldest.query([account])?;
            while found < bytes
                && let Some(row) = rows.next()?
            {
                last = Some(row.get::<_, [u8; 16]>(0)?);
                found += row.get::<_, i64>(1)? as u64;
            }
        }
        let Some(last) = last else {
            return Ok(0);
        };
        let mut remove = self.connection.prepare_cached(
            "DELETE FROM invocation WHERE (function, request, retry) IN (
                 SELECT i.function, i.request, i.retry
                 FROM function f CROSS JOIN invocation i ON i.function = f.id
                 WHERE f.account = ? AND i.request <= ? LIMIT ?)",
        )?;
        in_small_commits(|| remove.execute(params![account, last, ROWS_PER_COMMIT]))
    }

    /// Returns free pages beyond `bound` to the file system.
    fn release_pages(&self, bound: u64) -> Result<(), LogStoreError> {
        let mut pages = self.number("page_count")?;
        while pages > bound {
            self.connection
                .execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_PER_COMMIT})"))?;
            let left = self.number("page_count")?;
            if left == pages {
                break;
            }
            pages = left;
        }
        Ok(())
    }
}

/// Returns the max-min fair level: if each account is cut to it, all together hold `wanted` bytes. Smaller accounts keep everything.
fn level(mut held: Vec<u64>, wanted: u64) -> u64 {
    held.sort_unstable();
    let mut left = wanted;
    for (index, bytes) in held.iter().enumerate() {
        let share = left / (held.len() - index) as u64;
        if *bytes > share {
            return share;
        }
        left -= bytes;
    }
    u64::MAX
}

/// Repeats a statement that deletes up to [`ROWS_PER_COMMIT`] rows until it finds no more. Returns how many it deleted.
fn in_small_commits(
    mut delete: impl FnMut() -> Result<usize, rusqlite::Error>,
) -> Result<usize, LogStoreError> {
    let mut removed = 0;
    loop {
        let now = delete()?;
        removed += now;
        if now < ROWS_PER_COMMIT as usize {
            return Ok(removed);
        }
    }
}

/// Returns the bytes of each account.
fn account_bytes(connection: &Connection) -> Result<Vec<(i64, u64)>, rusqlite::Error> {
    let mut read = connection.prepare_cached("SELECT account, bytes FROM account_bytes")?;
    let rows = read.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0) as u64))
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests;
