//! Removal of old history.

use rusqlite::params;

use super::command::{EventOutput, Removed, Trim};
use super::quota::ROW_BYTES;
use super::rows::Rows;
use crate::QueueKey;

/// Pages that a removal gives back to the file system.
const VACUUM: &str = "PRAGMA incremental_vacuum(1024)";

impl Rows<'_> {
    /// Removes events that ended too long ago or are too many, dead events among the former, and old usage.
    ///
    /// `state >= 2` stands in each query for SQLite to use the index `ended`.
    pub(super) fn trim(&mut self, trim: &Trim) -> rusqlite::Result<EventOutput> {
        let transaction = self.record.transaction;
        let oldest = i64::try_from(trim.ended_before.0).unwrap_or(i64::MAX);
        let mut dead = transaction.prepare_cached(
            "DELETE FROM event WHERE seq IN (
                 SELECT seq FROM event WHERE state >= 2 AND state = 2 AND ended < ? ORDER BY ended, seq LIMIT ?
             ) RETURNING (SELECT key FROM queue WHERE id = function), LENGTH(body)",
        )?;
        let lengths = dead.query_map(params![oldest, trim.rows], |row| {
            let account = QueueKey::account(row.get::<_, Option<String>>(0)?.as_deref());
            Ok((account, row.get::<_, Option<i64>>(1)?.unwrap_or(0)))
        })?;
        let lengths: Vec<_> = lengths.collect::<Result<_, _>>()?;
        let removed_dead = lengths.len() as u64;
        for (account, length) in lengths {
            self.changes
                .totals
                .bytes
                .add(account, -(length + ROW_BYTES as i64));
        }
        let old = transaction
            .prepare_cached(
                "DELETE FROM event WHERE seq IN (
                     SELECT seq FROM event WHERE state >= 2 AND state >= 10 AND ended < ? ORDER BY ended, seq LIMIT ?
                 )",
            )?
            .execute(params![oldest, trim.rows])? as u64;
        let surplus = trim.surplus.saturating_sub(old).min(trim.rows.into());
        let more = transaction
            .prepare_cached(
                "DELETE FROM event WHERE seq IN (
                     SELECT seq FROM event WHERE state >= 2 AND state >= 10 ORDER BY ended, seq LIMIT ?
                 )",
            )?
            .execute([surplus as i64])? as u64;
        transaction
            .prepare_cached("DELETE FROM usage WHERE hour < ?")?
            .execute([trim.usage_before])?;
        transaction.execute_batch(VACUUM)?;
        self.changes.totals.history -= (old + more) as i64;
        Ok(EventOutput::Trimmed(Removed {
            dead: removed_dead,
            completed: old + more,
        }))
    }
}
