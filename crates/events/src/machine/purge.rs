//! Closes accounts, counts their rows and removes them.

use std::collections::HashSet;

use model::AccountId;
use rusqlite::{Connection, params};

use super::command::EventOutput;
use super::quota::ROW_BYTES;
use super::rows::Rows;
use crate::{AccountCounts, EventState};

/// Upper bound of a count.
const COUNT_LIMIT: i64 = 100_000;

/// Returns the half-open range of an account's queue keys of one kind.
fn key_range(kind: &str, account: AccountId) -> [String; 2] {
    // '0' is the character after '/'.
    [format!("{kind}/{account}/"), format!("{kind}/{account}0")]
}

pub(crate) fn account_counts(
    connection: &Connection,
    account: AccountId,
) -> rusqlite::Result<AccountCounts> {
    let [from, to] = key_range("function", account);
    let count = |rows: &str| {
        // Which rows are counted up to the limit makes no difference.
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

/// Returns the closed accounts.
pub(super) fn closed(connection: &Connection) -> rusqlite::Result<HashSet<AccountId>> {
    let mut find = connection.prepare("SELECT account FROM closed")?;
    let accounts = find.query_map([], |row| Ok(AccountId(row.get::<_, i64>(0)? as u64)))?;
    accounts.collect()
}

impl Rows<'_> {
    /// Closes an account. Its row stays for good: an id is never assigned twice, and a command may come late.
    pub(super) fn close(&mut self, account: AccountId) -> rusqlite::Result<EventOutput> {
        let closes = !self.is_closed(account);
        if closes {
            self.record
                .transaction
                .prepare_cached("INSERT INTO closed VALUES (?)")?
                .execute([account.0 as i64])?;
            self.changes.closed.push(account);
        }
        Ok(EventOutput::Applied(closes))
    }

    /// Removes some rows of an account. An attempt whose event is removed ends without effect.
    pub(super) fn purge(&mut self, account: AccountId, rows: u32) -> rusqlite::Result<EventOutput> {
        let mut removed = self.purge_events(account, rows)?;
        if removed == 0 {
            removed = self.purge_usage(account, rows)?;
        }
        if removed == 0 {
            removed = self.purge_queues(account)?;
        }
        Ok(EventOutput::Purged(removed))
    }

    fn purge_events(&mut self, account: AccountId, rows: u32) -> rusqlite::Result<u64> {
        let [from, to] = key_range("function", account);
        let mut delete = self.record.transaction.prepare_cached(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM queue CROSS JOIN event ON event.function = queue.id
             WHERE key >= ? AND key < ? ORDER BY key, accepted, seq LIMIT ?) RETURNING state, LENGTH(body)",
        )?;
        let deleted = delete.query_map(params![from, to, rows], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
        let deleted: Vec<_> = deleted.collect::<Result<_, _>>()?;
        let totals = &mut self.changes.totals;
        for (state, length) in &deleted {
            let state = EventState::of(*state);
            let is_queued = matches!(state, Some(EventState::Waiting | EventState::Undelivered));
            if is_queued || state == Some(EventState::Dead) {
                totals.events -= i64::from(is_queued);
                let bytes = length.unwrap_or(0) + ROW_BYTES as i64;
                totals.bytes.add(account, -bytes);
            } else {
                totals.history -= 1;
            }
        }
        Ok(deleted.len() as u64)
    }

    fn purge_usage(&mut self, account: AccountId, rows: u32) -> rusqlite::Result<u64> {
        let [from, to] = key_range("function", account);
        let removed = self
            .record
            .transaction
            .prepare_cached(
                "DELETE FROM usage WHERE (function, version, hour) IN
                 (SELECT function, version, hour FROM queue CROSS JOIN usage ON usage.function = queue.id
                  WHERE key >= ? AND key < ? ORDER BY key, version, hour LIMIT ?)",
            )?
            .execute(params![from, to, rows])?;
        Ok(removed as u64)
    }

    fn purge_queues(&mut self, account: AccountId) -> rusqlite::Result<u64> {
        let mut removed = 0;
        for kind in ["function", "dead-letters"] {
            let [from, to] = key_range(kind, account);
            let mut delete = self
                .record
                .transaction
                .prepare_cached("DELETE FROM queue WHERE key >= ? AND key < ? RETURNING key")?;
            let keys = delete.query_map(params![from, to], |row| row.get::<_, String>(0))?;
            for key in keys.collect::<Result<Vec<_>, _>>()? {
                removed += 1;
                self.changes.queue_ids.remove(&key);
                self.changes.queues_removed.push(key);
            }
        }
        Ok(removed)
    }
}
