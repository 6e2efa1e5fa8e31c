//! The connection that writes, and the insertion of records.

use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use model::{AccountId, FunctionKey, outcome_number};
use rusqlite::{Connection, OptionalExtension, params};

use super::error::LogStoreError;
use super::schema::disk_bytes;
use crate::{Record, log_text};

/// Interval of the retention check.
pub(super) const CLEAN_EVERY: Duration = Duration::from_secs(60);
/// Rows removed per transaction. Small transactions succeed even on a full disk, within the existing size of the write-ahead log.
pub(super) const ROWS_PER_COMMIT: i64 = 1000;
/// Maximum bytes of a response stored with the log.
const ANSWER_KEPT: usize = 64 << 10;

/// Limits of the log store.
#[derive(Clone, Copy, Debug)]
pub struct LogStoreSettings {
    /// Time that rows are kept.
    pub retention: Duration,
    /// Maximum size of the store (bytes).
    pub max_bytes: u64,
}

/// The connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) settings: LogStoreSettings,
    /// Time of the last retention check.
    pub(super) cleaned: Option<Instant>,
    /// Closed accounts. Records of them are dropped.
    pub(super) closed: HashSet<AccountId>,
}

impl Writer {
    /// Inserts a batch in one transaction.
    pub(super) fn insert<R: Borrow<Record>>(&mut self, batch: &[R]) -> Result<(), LogStoreError> {
        let transaction = self.connection.transaction()?;
        {
            // Nearly all rows are new. REPLACE runs the trigger and costs a third more even if there is nothing to replace.
            let mut insert = transaction.prepare_cached(
                "INSERT OR IGNORE INTO invocation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?;
            let mut replace = transaction.prepare_cached(
                "INSERT OR REPLACE INTO invocation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?;
            // Creates an account's counter first, because a record that replaces another of the same batch subtracts from it.
            let mut count =
                transaction.prepare_cached("INSERT OR IGNORE INTO account_bytes VALUES (?, 0)")?;
            let mut added: HashMap<AccountId, u64> = HashMap::new();
            let mut known: HashMap<&FunctionKey, i64> = HashMap::new();
            let kept = batch.iter().map(R::borrow);
            for record in kept.filter(|record| !self.closed.contains(&record.function.account)) {
                let function = match known.entry(&record.function) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => *new.insert(function_id(&transaction, &record.function)?),
                };
                let answer = &record.answer[..record.answer.len().min(ANSWER_KEPT)];
                let answer = String::from_utf8_lossy(answer);
                let log = log_text(record);
                let bytes = disk_bytes(&log, &answer);
                match added.entry(record.function.account) {
                    Entry::Occupied(mut added) => *added.get_mut() += bytes,
                    Entry::Vacant(new) => {
                        count.execute([record.function.account.0 as i64])?;
                        new.insert(bytes);
                    }
                }
                let version = record.version.to_string();
                let row = params![
                    function,
                    record.request.as_bytes(),
                    record.started,
                    version,
                    outcome_number(record.failure),
                    record.usage.duration_us as i64,
                    record.billed_ms() as i64,
                    record.usage.memory_peak as i64,
                    answer,
                    log,
                    record.retry,
                ];
                if insert.execute(row)? == 0 {
                    replace.execute(row)?;
                }
            }
            let mut add = transaction
                .prepare_cached("UPDATE account_bytes SET bytes = bytes + ? WHERE account = ?")?;
            for (account, bytes) in added {
                add.execute(params![bytes as i64, account.0 as i64])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Returns a number that SQLite knows of its file.
    pub(super) fn number(&self, pragma: &str) -> Result<u64, rusqlite::Error> {
        self.connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map(|number| number as u64)
    }
}

fn function_id(connection: &Connection, key: &FunctionKey) -> Result<i64, rusqlite::Error> {
    let key = params![
        key.account.0 as i64,
        key.namespace.as_str(),
        key.name.as_str()
    ];
    let mut find = connection.prepare_cached(
        "SELECT id FROM function WHERE account = ? AND namespace = ? AND name = ?",
    )?;
    if let Some(id) = find.query_row(key, |row| row.get(0)).optional()? {
        return Ok(id);
    }
    connection.execute(
        "INSERT INTO function (account, namespace, name) VALUES (?, ?, ?)",
        key,
    )?;
    Ok(connection.last_insert_rowid())
}
