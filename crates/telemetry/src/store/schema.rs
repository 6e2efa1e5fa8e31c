//! The tables of the log store and their migrations.
//!
//! The table `account_bytes` holds the bytes of each account. A batch adds to it and a trigger subtracts deleted rows, both in the
//! transaction of the rows themselves.

use rusqlite::Connection;

use super::error::LogStoreError;

/// Creates missing tables and migrates older versions.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), LogStoreError> {
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
    Ok(())
}

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

/// Bytes of a row besides its log and its response.
const ROW_BYTES: usize = 64;

/// SQL for the size of a row. The argument is a prefix for its columns.
macro_rules! size {
    ($row:literal) => {
        concat!(
            "(octet_length(",
            $row,
            "log) + octet_length(",
            $row,
            "answer) + 64)"
        )
    };
}

/// SQL equivalent of [`disk_bytes`].
macro_rules! disk_bytes {
    ($row:literal) => {
        concat!(
            "(min(",
            size!($row),
            ", 1002) + (max(",
            size!($row),
            " - 1002, 0) + 4091) / 4092 * 4096)"
        )
    };
}

/// Returns the approximate bytes of a row on disk.
///
/// SQLite stores up to 1,002 bytes of a row inline and the rest in overflow pages, so a row of 1,100 bytes takes more space than four
/// of 1,000. Counted by length, it would occupy four times its quota. Source: "Database File Format", 1.6, for pages of 4,096 bytes.
pub(super) fn disk_bytes(log: &str, answer: &str) -> u64 {
    let size = log.len() + answer.len() + ROW_BYTES;
    (size.min(1002) + size.saturating_sub(1002).div_ceil(4092) * 4096) as u64
}

/// Table and trigger that version 3 added.
const ACCOUNT_BYTES: &str = concat!(
    "CREATE TABLE IF NOT EXISTS account_bytes (account INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
    CREATE TRIGGER IF NOT EXISTS invocation_deleted AFTER DELETE ON invocation BEGIN
        UPDATE account_bytes SET bytes = bytes - ", disk_bytes!("old."), "
        WHERE account = (SELECT account FROM function WHERE id = old.function);
    END;"
);

/// Recounts all rows, for stores that a version before 3 wrote last.
const RECOUNT: &str = concat!(
    "DELETE FROM account_bytes;
    INSERT INTO account_bytes
        SELECT f.account, SUM(",
    disk_bytes!("i."),
    ")
        FROM function f CROSS JOIN invocation i ON i.function = f.id GROUP BY f.account;
    PRAGMA user_version = 3;"
);

/// Selects the rows of an account, oldest first.
pub(super) const OLDEST: &str = concat!(
    "SELECT i.request, ", disk_bytes!("i."), "
    FROM function f CROSS JOIN invocation i ON i.function = f.id WHERE f.account = ? ORDER BY i.request"
);
