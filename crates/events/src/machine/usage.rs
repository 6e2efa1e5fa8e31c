//! The usage ledger.

use rusqlite::{Connection, OptionalExtension, params};

use super::command::{EventOutput, UsageCount};
use super::rows::Rows;
use crate::QueueKey;
use crate::usage::{JournalId, UsageEntry};

/// Returns the number up to which the ledger includes a journal.
pub(crate) fn counted(connection: &Connection, journal: JournalId) -> rusqlite::Result<u64> {
    let number: Option<i64> = connection
        .prepare_cached("SELECT number FROM counted WHERE journal = ?")?
        .query_row([journal.0], |row| row.get(0))
        .optional()?;
    Ok(number.unwrap_or(0) as u64)
}

impl Rows<'_> {
    /// Adds usage that the ledger does not include yet.
    pub(super) fn count_journal(&mut self, count: &UsageCount) -> rusqlite::Result<EventOutput> {
        let to = counted(self.record.transaction, count.journal)?;
        if to != count.from {
            return Ok(EventOutput::Counted { to, added: false });
        }
        for entry in &count.sums {
            self.count(entry)?;
        }
        self.record
            .transaction
            .prepare_cached("INSERT OR REPLACE INTO counted VALUES (?, ?)")?
            .execute(params![count.journal.0, count.to as i64])?;
        Ok(EventOutput::Counted {
            to: count.to,
            added: true,
        })
    }

    /// Adds an entry to the ledger.
    pub(super) fn count(&mut self, entry: &UsageEntry) -> rusqlite::Result<()> {
        let UsageEntry { key, totals } = entry;
        if self.is_closed(key.function.account) {
            return Ok(());
        }
        let function = self.queue_id(&QueueKey::Function(key.function.clone()))?;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.record
            .transaction
            .prepare_cached(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                     invocations = invocations + excluded.invocations, errors = errors + excluded.errors,
                     throttles = throttles + excluded.throttles, billed_ms = billed_ms + excluded.billed_ms,
                     mb_ms = mb_ms + excluded.mb_ms, out_bytes = out_bytes + excluded.out_bytes",
            )?
            .execute(params![
                function,
                key.version.to_string(),
                key.hour,
                number(totals.invocations),
                number(totals.errors),
                number(totals.throttles),
                number(totals.billed_ms),
                number(totals.mb_ms),
                number(totals.out_bytes),
            ])?;
        Ok(())
    }
}
