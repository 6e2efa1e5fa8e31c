//! The log store: a searchable SQLite file with one row per finished invocation.
//!
//! Request ids are version 7 UUIDs and so sort by time. One primary key serves "the latest of this function", "between these
//! times" and "this request", and new rows are appended rather than scattered.

mod error;
mod evict;
mod ids;
mod query;
mod schema;
mod writer;

use std::borrow::Borrow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{AccountId, FunctionName, Namespace};
use rusqlite::{Connection, params};

pub use self::error::LogStoreError;
pub use self::query::{LogPage, LogQuery, LogRow, OutcomeFilter, SortKey, SortOrder};
pub use self::writer::LogStoreSettings;
use self::writer::{ROWS_PER_COMMIT, Writer};
use crate::Record;

/// Upper bound of a count.
const COUNT_LIMIT: i64 = 100_000;

/// The log store. Clones share one connection for writes and one for reads.
#[derive(Clone, Debug)]
pub struct LogStore {
    writer: Arc<Mutex<Writer>>,
    reader: Arc<Mutex<Connection>>,
}

impl LogStore {
    /// Opens or creates the store's file and migrates older versions.
    pub fn open(path: &Path, settings: LogStoreSettings) -> Result<Self, LogStoreError> {
        let mut connection = Connection::open(path)?;
        schema::prepare(&mut connection)?;
        let reader = Connection::open(path)?;
        reader.busy_timeout(Duration::from_secs(5))?;
        let writer = Writer {
            connection,
            settings,
            cleaned: None,
            closed: HashSet::new(),
        };
        Ok(Self {
            writer: Arc::new(Mutex::new(writer)),
            reader: Arc::new(Mutex::new(reader)),
        })
    }

    /// Writes a batch of records in one transaction.
    pub(super) fn write<R: Borrow<Record>>(&self, batch: &[R]) -> Result<(), LogStoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.writer().insert(batch)
    }

    /// Enforces the retention and the size limit.
    pub(super) fn clean(&self) -> Result<(), LogStoreError> {
        self.writer().clean()
    }

    /// Blocks all writes until the guard is dropped.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Drop + use<'_> {
        self.writer()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the highest account id that was ever stored, or 0.
    pub fn highest_account(&self) -> Result<u64, LogStoreError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = reader.query_row(
            "SELECT COALESCE(MAX(account), 0) FROM function",
            [],
            |row| row.get::<_, i64>(0),
        )?;
        Ok(highest as u64)
    }

    /// Closes an account for as long as this process runs: later records of it are dropped.
    pub fn close_account(&self, account: AccountId) {
        self.writer().closed.insert(account);
    }

    /// Counts the rows of an account, up to 100,000.
    pub fn account_counts(&self, account: AccountId) -> Result<u64, LogStoreError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let count = reader.query_row(
            "SELECT COUNT(*) FROM (SELECT 1 FROM function JOIN invocation ON invocation.function = function.id
             WHERE account = ? LIMIT ?)",
            params![account.0 as i64, COUNT_LIMIT],
            |row| row.get::<_, i64>(0),
        )?;
        Ok(count as u64)
    }

    /// Removes some rows of a closed account. Returns the number removed, 0 once nothing is left.
    pub fn purge_some(&self, account: AccountId) -> Result<u64, LogStoreError> {
        let writer = self.writer();
        let removed = writer.connection.execute(
            "DELETE FROM invocation WHERE (function, request, retry) IN
             (SELECT function, request, retry FROM function JOIN invocation ON invocation.function = function.id
              WHERE account = ? LIMIT ?)",
            params![account.0 as i64, ROWS_PER_COMMIT],
        )?;
        if removed > 0 {
            return Ok(removed as u64);
        }
        writer.connection.execute(
            "DELETE FROM account_bytes WHERE account = ?",
            [account.0 as i64],
        )?;
        let gone = writer
            .connection
            .execute("DELETE FROM function WHERE account = ?", [account.0 as i64])?;
        Ok(gone as u64)
    }

    /// Returns the functions of a namespace that ever had rows.
    pub(super) fn functions(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Result<Vec<FunctionName>, LogStoreError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let named = query::named(&reader, account, namespace)?;
        let names = named.iter().map(|(_, name)| FunctionName::parse(name));
        Ok(names.flatten().collect())
    }

    /// Searches rows.
    pub(super) fn search(&self, query: &LogQuery) -> Result<LogPage, LogStoreError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        query::search(&reader, query)
    }
}

#[cfg(test)]
mod tests;
