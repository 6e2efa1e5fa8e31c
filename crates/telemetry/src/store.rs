//! The log store: a searchable SQLite file with one row per finished invocation.
//!
//! Request ids are version 7 UUIDs and so sort by time. One primary key serves "the latest of this function", "between these
//! times" and "this request", and new rows are appended rather than scattered.

mod evict;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{AccountId, FunctionKey, FunctionName, Namespace, RequestId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use thiserror::Error;

use super::{Record, log_text};
use evict::{ACCOUNT_BYTES, RECOUNT, disk_bytes};

/// An error of the log store.
#[derive(Debug, Error)]
pub enum LogStoreError {
    /// SQLite failed.
    #[error("log store: {0}; check that the disk of the data directory is writable and not full")]
    Sqlite(#[from] rusqlite::Error),
}

/// Limits of the log store.
#[derive(Clone, Copy, Debug)]
pub struct LogStoreSettings {
    /// Time that rows are kept.
    pub retention: Duration,
    /// Maximum size of the store (bytes).
    pub max_bytes: u64,
}

/// A filter by outcome, the API's Filter.RetCode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeFilter {
    /// Every invocation.
    All,
    /// Invocations without an error.
    Succeeded,
    /// Invocations with an error.
    Failed,
    /// Invocations that exceeded their timeout.
    TimedOut,
    /// Invocations that exceeded their memory or got no instance.
    OutOfResources,
    /// Invocations whose code failed.
    Exceptions,
}

/// The key to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// Time of the request.
    StartTime,
    /// Duration of the run.
    Duration,
    /// Peak memory.
    MemUsage,
    /// Name of the function.
    FunctionName,
}

/// The sort direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortOrder {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// A search in the log store.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// The account whose log is searched.
    pub account: AccountId,
    /// The namespace of the functions.
    pub namespace: Namespace,
    /// Restricts the search to these functions.
    pub functions: Option<Vec<FunctionName>>,
    /// Invocations of this version only.
    pub version: Option<String>,
    /// The invocation with this request id only.
    pub request: Option<RequestId>,
    /// First time, inclusive.
    pub from: Timestamp,
    /// Last time, inclusive.
    pub to: Timestamp,
    /// Invocations with these outcomes only.
    pub outcomes: OutcomeFilter,
    /// The key by which rows are sorted.
    pub order_by: SortKey,
    /// The direction in which rows are sorted.
    pub order: SortOrder,
    /// Number of rows to skip.
    pub offset: u32,
    /// Maximum number of rows.
    pub limit: u32,
}

/// A row of a search result.
#[derive(Clone, Debug)]
pub struct LogRow {
    /// Name of the function.
    pub function: String,
    /// The request id.
    pub request: String,
    /// Time at which the request came in.
    pub started: Timestamp,
    /// The code of the outcome.
    pub status: u16,
    /// Duration of the run (µs).
    pub duration_us: u64,
    /// Billed duration (ms).
    pub billed_ms: u64,
    /// Peak memory (bytes).
    pub memory_peak: u64,
    /// The response, or the error document.
    pub answer: String,
    /// The output.
    pub log: String,
    /// Number of earlier attempts.
    pub retry: u32,
}

/// A page of rows and the total number of matches.
#[derive(Clone, Debug, Default)]
pub struct LogPage {
    /// Number of rows that match.
    pub total: u64,
    /// The rows of this page.
    pub rows: Vec<LogRow>,
}

/// The log store. Clones share one connection for writes and one for reads.
#[derive(Clone, Debug)]
pub struct LogStore {
    writer: Arc<Mutex<Writer>>,
    reader: Arc<Mutex<Connection>>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    settings: LogStoreSettings,
    cleaned: Option<Instant>,
    /// Closed accounts. Records of them are dropped.
    closed: HashSet<AccountId>,
}

/// Maximum bytes of a response stored with the log.
const ANSWER_KEPT: usize = 64 << 10;
/// Interval of the retention check.
pub(super) const CLEAN_EVERY: Duration = Duration::from_secs(60);
/// Rows removed per transaction. Small transactions succeed even on a full disk, within the existing size of the write-ahead log.
const ROWS_PER_COMMIT: i64 = 1000;
/// Upper bound of a count.
const COUNT_LIMIT: i64 = 100_000;
/// Pages returned to the file system per transaction, small for the same reason.
const PAGES_PER_COMMIT: u64 = 256;

const SCHEMA: &str = "
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA journal_size_limit = 67108864;
    CREATE TABLE IF NOT EXISTS function (
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        UNIQUE (account, namespace, name)
    );
    CREATE TABLE IF NOT EXISTS invocation (
        function INTEGER NOT NULL, request BLOB NOT NULL, started INTEGER NOT NULL, version TEXT NOT NULL,
        status INTEGER NOT NULL, duration_us INTEGER NOT NULL, billed_ms INTEGER NOT NULL,
        memory_peak INTEGER NOT NULL, answer TEXT NOT NULL, log TEXT NOT NULL, retry INTEGER NOT NULL,
        PRIMARY KEY (function, request, retry)
    ) WITHOUT ROWID;
";

/// Migrates version 1, which stored one row per request instead of one per attempt.
const FROM_VERSION_1: &str = "
    ALTER TABLE invocation RENAME TO before;
    CREATE TABLE invocation (
        function INTEGER NOT NULL, request BLOB NOT NULL, started INTEGER NOT NULL, version TEXT NOT NULL,
        status INTEGER NOT NULL, duration_us INTEGER NOT NULL, billed_ms INTEGER NOT NULL,
        memory_peak INTEGER NOT NULL, answer TEXT NOT NULL, log TEXT NOT NULL, retry INTEGER NOT NULL,
        PRIMARY KEY (function, request, retry)
    ) WITHOUT ROWID;
    INSERT INTO invocation SELECT *, 0 FROM before;
    DROP TABLE before;
    PRAGMA user_version = 2;
";

impl LogStore {
    /// Opens or creates the store's file and migrates older versions.
    pub fn open(path: &Path, settings: LogStoreSettings) -> Result<Self, LogStoreError> {
        let mut connection = Connection::open(path)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == 1 {
            let transaction = connection.transaction()?;
            transaction.execute_batch(FROM_VERSION_1)?;
            transaction.commit()?;
        }
        // Needed for REPLACE to run the delete trigger, which subtracts the bytes of the replaced row.
        connection.pragma_update(None, "recursive_triggers", true)?;
        connection.execute_batch(SCHEMA)?;
        connection.execute_batch(ACCOUNT_BYTES)?;
        if version < 3 {
            let transaction = connection.transaction()?;
            transaction.execute_batch(RECOUNT)?;
            transaction.commit()?;
        }
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
    pub(super) fn write(&self, batch: &[Record]) -> Result<(), LogStoreError> {
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
        let named = named(&reader, account, namespace)?;
        let names = named.iter().map(|(_, name)| FunctionName::parse(name));
        Ok(names.flatten().collect())
    }

    /// Searches rows.
    pub(super) fn search(&self, query: &LogQuery) -> Result<LogPage, LogStoreError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let functions = functions(&reader, query)?;
        if functions.is_empty() {
            return Ok(LogPage::default());
        }
        let marks = vec!["?"; functions.len()].join(",");
        let outcomes = match query.outcomes {
            OutcomeFilter::All => "1",
            OutcomeFilter::Succeeded => "status = 200",
            OutcomeFilter::Failed => "status <> 200",
            OutcomeFilter::TimedOut => "status IN (433, 450)",
            OutcomeFilter::OutOfResources => "status IN (429, 432, 434, 449)",
            OutcomeFilter::Exceptions => "status IN (430, 443)",
        };
        let (from, to) = match query.request {
            Some(request) => (*request.as_bytes(), *request.as_bytes()),
            None => (first_id(query.from), last_id(query.to)),
        };
        let condition = format!(
            "FROM invocation JOIN function ON function.id = invocation.function
             WHERE invocation.function IN ({marks}) AND request BETWEEN ? AND ? AND {outcomes}
             AND (? IS NULL OR version = ? COLLATE NOCASE)"
        );
        let mut values: Vec<rusqlite::types::Value> =
            functions.into_iter().map(Into::into).collect();
        values.extend([from.to_vec().into(), to.to_vec().into()]);
        values.extend([query.version.clone().into(), query.version.clone().into()]);
        let total = reader.query_row(
            &format!("SELECT COUNT(*) {condition}"),
            params_from_iter(&values),
            |row| row.get::<_, i64>(0),
        )?;
        let column = match query.order_by {
            SortKey::StartTime => "request",
            SortKey::Duration => "duration_us",
            SortKey::MemUsage => "memory_peak",
            SortKey::FunctionName => "name",
        };
        let direction = match query.order {
            SortOrder::Ascending => "ASC",
            SortOrder::Descending => "DESC",
        };
        let select = format!(
            "SELECT name, request, started, status, duration_us, billed_ms, memory_peak, answer, log, retry {condition}
             ORDER BY {column} {direction}, request {direction}, retry {direction} LIMIT {} OFFSET {}",
            query.limit, query.offset
        );
        let mut statement = reader.prepare(&select)?;
        let rows = statement
            .query_map(params_from_iter(&values), read_row)?
            .collect::<Result<_, _>>()?;
        Ok(LogPage {
            total: total as u64,
            rows,
        })
    }
}

impl Writer {
    fn insert(&mut self, batch: &[Record]) -> Result<(), LogStoreError> {
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
            let kept = batch.iter();
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
                    record.status.as_u16(),
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

/// Returns the ids of the functions that a query covers.
fn functions(connection: &Connection, query: &LogQuery) -> Result<Vec<i64>, rusqlite::Error> {
    let wanted: Option<HashSet<&str>> = query
        .functions
        .as_ref()
        .map(|names| names.iter().map(FunctionName::as_str).collect());
    let named = named(connection, query.account, &query.namespace)?.into_iter();
    Ok(named
        .filter(|(_, name)| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.contains(name.as_str()))
        })
        .map(|(id, _)| id)
        .collect())
}

/// Returns the ids and names of the functions of a namespace.
fn named(
    connection: &Connection,
    account: AccountId,
    namespace: &Namespace,
) -> Result<Vec<(i64, String)>, rusqlite::Error> {
    let mut find = connection
        .prepare_cached("SELECT id, name FROM function WHERE account = ? AND namespace = ?")?;
    let key = params![account.0 as i64, namespace.as_str()];
    find.query_map(key, |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn read_row(row: &rusqlite::Row<'_>) -> Result<LogRow, rusqlite::Error> {
    Ok(LogRow {
        function: row.get(0)?,
        request: RequestId::from_bytes(row.get(1)?).to_string(),
        started: row.get(2)?,
        status: row.get(3)?,
        duration_us: row.get::<_, i64>(4)? as u64,
        billed_ms: row.get::<_, i64>(5)? as u64,
        memory_peak: row.get::<_, i64>(6)? as u64,
        answer: row.get(7)?,
        log: row.get(8)?,
        retry: row.get(9)?,
    })
}

/// Returns the smallest request id of a millisecond. A version 7 UUID starts with a 48-bit timestamp.
fn first_id(time: Timestamp) -> [u8; 16] {
    bound(time, 0)
}

/// Returns the largest request id of a millisecond.
fn last_id(time: Timestamp) -> [u8; 16] {
    bound(time, 0xff)
}

fn bound(time: Timestamp, rest: u8) -> [u8; 16] {
    let mut id = [rest; 16];
    id[..6].copy_from_slice(&time.clamp(0, (1 << 48) - 1).to_be_bytes()[2..]);
    id
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    /// A store of version 1. Never edit: it stands for files on users' disks.
    const V1: &str = "
        CREATE TABLE function (
            id INTEGER PRIMARY KEY, account INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
            UNIQUE (account, namespace, name)
        );
        CREATE TABLE invocation (
            function INTEGER NOT NULL, request BLOB NOT NULL, started INTEGER NOT NULL, version TEXT NOT NULL,
            status INTEGER NOT NULL, duration_us INTEGER NOT NULL, billed_ms INTEGER NOT NULL,
            memory_peak INTEGER NOT NULL, answer TEXT NOT NULL, log TEXT NOT NULL,
            PRIMARY KEY (function, request)
        ) WITHOUT ROWID;
        INSERT INTO function VALUES (1, 1, 'default', 'fun');
        INSERT INTO invocation VALUES (1, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '3', 'four');
        PRAGMA user_version = 1;
    ";

    #[test]
    fn oversized_store_evicts_the_oldest_regardless_of_clock_jumps() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("logs.sqlite");
        let settings = LogStoreSettings {
            retention: Duration::from_secs(3600),
            max_bytes: 1 << 20,
        };
        let store = LogStore::open(&path, settings).expect("a store");
        let now = clock::now_ms();
        let records = |from: u16| -> Vec<Record> {
            let record = |n: u16| {
                let mut id = bound(now, 0);
                id[6..8].copy_from_slice(&n.to_be_bytes());
                Record {
                    request: RequestId::from_bytes(id),
                    // Alternates between a clock one year behind and one year ahead.
                    started: now + [-1, 1][n as usize % 2] * 365 * 86_400_000,
                    log: vec![b'x'; 4000].into(),
                    ..text::tests::record()
                }
            };
            (from..from + 100).map(record).collect()
        };
        for batch in 0..20 {
            store.write(&records(batch * 100)).expect("written");
            store.clean().expect("cleaned");
        }
        let connection = Connection::open(&path).expect("a file");
        let count = |condition: &str| -> i64 {
            let query = format!("SELECT COUNT(*) FROM invocation WHERE {condition}");
            let count = connection.query_row(&query, [], |row| row.get(0));
            count.expect("counted")
        };
        let last = first_id(now);
        let youngest = format!(
            "request >= x'{}'",
            hex(&[&last[..6], &[0x07, 0x6c]].concat())
        );
        assert_eq!(count(&youngest), 100, "the newest hundred rows are kept");
        assert!((100..300).contains(&count("1")), "{}", count("1"));
        drop((store, connection));
        let bytes = std::fs::metadata(&path).expect("a file").len();
        assert!(bytes <= settings.max_bytes, "{bytes} bytes");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn version_1_store_is_migrated() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("logs.sqlite");
        let old = Connection::open(&path).expect("a file");
        old.execute_batch(V1).expect("made");
        drop(old);
        let settings = LogStoreSettings {
            retention: Duration::from_secs(1),
            max_bytes: 1 << 20,
        };
        for _ in 0..2 {
            let store = LogStore::open(&path, settings).expect("a store");
            let query = LogQuery {
                account: AccountId(1),
                namespace: Namespace::default(),
                functions: None,
                version: None,
                request: None,
                from: 0,
                to: 10,
                outcomes: OutcomeFilter::All,
                order_by: SortKey::StartTime,
                order: SortOrder::Ascending,
                offset: 0,
                limit: 10,
            };
            let found = store.search(&query).expect("found");
            assert_eq!((found.total, found.rows[0].log.as_str()), (1, "four"));
            assert_eq!(found.rows[0].retry, 0);
        }
    }

    /// A store of version 2 with rows of two accounts. Never edit, either.
    const V2: &str = "
        CREATE TABLE function (
            id INTEGER PRIMARY KEY, account INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
            UNIQUE (account, namespace, name)
        );
        CREATE TABLE invocation (
            function INTEGER NOT NULL, request BLOB NOT NULL, started INTEGER NOT NULL, version TEXT NOT NULL,
            status INTEGER NOT NULL, duration_us INTEGER NOT NULL, billed_ms INTEGER NOT NULL,
            memory_peak INTEGER NOT NULL, answer TEXT NOT NULL, log TEXT NOT NULL, retry INTEGER NOT NULL,
            PRIMARY KEY (function, request, retry)
        ) WITHOUT ROWID;
        INSERT INTO function VALUES (1, 7, 'default', 'a'), (2, 7, 'default', 'b'), (3, 8, 'default', 'a');
        INSERT INTO invocation VALUES
            (1, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '3', 'four', 0),
            (1, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '3', 'four', 1),
            (2, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '', 'é', 0),
            (3, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '3', hex(zeroblob(2500)), 0);
        PRAGMA user_version = 2;
    ";

    #[test]
    fn version_2_store_is_recounted_also_after_a_downgrade() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("logs.sqlite");
        let old = Connection::open(&path).expect("a file");
        old.execute_batch(V2).expect("made");
        let settings = LogStoreSettings {
            retention: Duration::from_secs(1),
            max_bytes: 1 << 20,
        };
        let counted = || {
            let store = LogStore::open(&path, settings).expect("a store");
            let writer = store.writer();
            let bytes = |account: i64| -> i64 {
                let query = "SELECT bytes FROM account_bytes WHERE account = ?";
                let bytes = writer
                    .connection
                    .query_row(query, [account], |row| row.get(0));
                bytes.expect("counted")
            };
            (bytes(7), bytes(8))
        };
        let long = 1002 + 4096;
        assert_eq!(counted(), (3 * 64 + 12, long));
        old.execute_batch(
            "INSERT INTO invocation VALUES (3, zeroblob(16), 5, '$LATEST', 200, 1, 1, 2, '', 'six', 1);
             PRAGMA user_version = 2;",
        )
        .expect("written by version 2");
        assert_eq!(counted(), (3 * 64 + 12, long + 64 + 3));
    }
}
