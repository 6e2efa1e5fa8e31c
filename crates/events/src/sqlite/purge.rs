//! Counts and purges the rows of an account.

use model::AccountId;
use rusqlite::{Connection, params};

use super::ROW_BYTES;
use super::batch::Batch;
use crate::{AccountCounts, EventState};

/// Rows removed per commit.
const ROWS_PER_COMMIT: i64 = 1000;
/// Upper bound of a count.
const COUNT_LIMIT: i64 = 100_000;

/// Returns the half-open range of an account's queue keys of one kind.
fn key_range(kind: &str, account: AccountId) -> [String; 2] {
    // '0' is the character after '/'.
    [format!("{kind}/{account}/"), format!("{kind}/{account}0")]
}

pub(super) fn account_counts(
    connection: &Connection,
    account: AccountId,
) -> rusqlite::Result<AccountCounts> {
    let [from, to] = key_range("function", account);
    let count = |rows: &str| {
        let query = format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM queue JOIN {rows} WHERE key >= ?1 AND key < ?2 LIMIT ?3)"
        );
        let mut count = connection.prepare_cached(&query)?;
        let count = count.query_row(params![from, to, COUNT_LIMIT], |row| row.get::<_, i64>(0))?;
        Ok::<_, rusqlite::Error>(count as u64)
    };
    Ok(AccountCounts {
        queued: count("event ON event.function = queue.id AND state <= 2")?,
        ended: count("event ON event.function = queue.id AND state > 2")?,
        usage: count("usage ON usage.function = queue.id")?,
    })
}

impl Batch<'_> {
    /// Removes some rows of an account. An attempt whose event is removed ends without effect.
    pub(super) fn purge(&mut self, account: AccountId) -> rusqlite::Result<u64> {
        let [from, to] = key_range("function", account);
        let mut delete = self.transaction.prepare_cached(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM queue JOIN event ON event.function = queue.id
             WHERE key >= ? AND key < ? LIMIT ?) RETURNING state, LENGTH(body)",
        )?;
        let rows = delete.query_map(params![from, to, ROWS_PER_COMMIT], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        for (state, length) in &rows {
            let state = EventState::of(*state);
            let is_queued = matches!(state, Some(EventState::Waiting | EventState::Undelivered));
            if is_queued || state == Some(EventState::Dead) {
                self.changes.events -= i64::from(is_queued);
                let bytes = length.unwrap_or(0) + ROW_BYTES as i64;
                self.changes.bytes.add(account, -bytes);
            } else {
                self.changes.history -= 1;
            }
        }
        if !rows.is_empty() {
            return Ok(rows.len() as u64);
        }
        let usage = self
            .transaction
            .prepare_cached(
                "DELETE FROM usage WHERE (function, version, hour) IN
                 (SELECT function, version, hour FROM queue JOIN usage ON usage.function = queue.id
                  WHERE key >= ? AND key < ? LIMIT ?)",
            )?
            .execute(params![from, to, ROWS_PER_COMMIT])?;
        if usage > 0 {
            return Ok(usage as u64);
        }
        let mut removed = 0;
        for kind in ["function", "dead-letters"] {
            let [from, to] = key_range(kind, account);
            let mut delete = self
                .transaction
                .prepare_cached("DELETE FROM queue WHERE key >= ? AND key < ? RETURNING key")?;
            let keys = delete.query_map(params![from, to], |row| row.get::<_, String>(0))?;
            let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
            removed += keys.len() as u64;
            self.changes.queues_removed.extend(keys);
        }
        Ok(removed)
    }
}
