//! The index: one SQLite file.
//!
//! `object` holds the current version of each key; `version` holds older versions and delete markers, so a listing of
//! objects reads nothing else. Keys are bytes, so that the next key after a prefix can be computed. The bytes of small
//! objects are in `inline`, apart from the rows that listings scan. Larger objects are blobs with a reference count,
//! so that copies share them. `orphan` holds the orphaned lists of `piece`.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

/// Version of the file format.
const VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS bucket (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, record BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS object (
        bucket INTEGER NOT NULL, key BLOB NOT NULL, record BLOB NOT NULL, PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS version (
        bucket INTEGER NOT NULL, key BLOB NOT NULL, seq INTEGER NOT NULL, named INTEGER NOT NULL, marker INTEGER NOT NULL,
        record BLOB NOT NULL, PRIMARY KEY (bucket, key, seq DESC)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS inline (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS piece (
        object INTEGER NOT NULL, start INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (object, start)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS orphan (object INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS blob (id TEXT PRIMARY KEY, size INTEGER NOT NULL, refs INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS upload (
        bucket INTEGER NOT NULL, key BLOB NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (bucket, key, id)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS part (
        upload TEXT NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (upload, number)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS completed (
        upload TEXT PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, at INTEGER NOT NULL, record BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS completed_at ON completed (at);
    CREATE TABLE IF NOT EXISTS restoring (
        bucket INTEGER NOT NULL, key BLOB NOT NULL, seq INTEGER NOT NULL, due INTEGER NOT NULL, origin BLOB NOT NULL,
        PRIMARY KEY (bucket, key, seq)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, recipient TEXT NOT NULL, body BLOB NOT NULL,
        account INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), ceiling INTEGER NOT NULL);
    INSERT OR IGNORE INTO counter VALUES (1, 1);
    CREATE TABLE IF NOT EXISTS store (id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL);
    INSERT OR IGNORE INTO store VALUES (1, 'virga-' || lower(hex(randomblob(8))));
    PRAGMA user_version = 2;
";

/// The first files of version 1 stored no account with a notice. Their pending notices count for account 0.
const OUTBOX_ACCOUNT: &str = "ALTER TABLE outbox ADD COLUMN account INTEGER NOT NULL DEFAULT 0";

/// Migrates version 1, which had another name for orphaned lists. One transaction, so that a kill leaves the file at either version.
const FROM_VERSION_1: &str = "
    BEGIN;
    ALTER TABLE leaving RENAME TO orphan;
    PRAGMA user_version = 2;
    COMMIT;
";

fn has_account(connection: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('outbox') WHERE name = 'account')";
    connection.query_row(query, [], |row| row.get(0))
}

/// Opens or creates the file for the writer thread.
pub(super) fn writer(path: &Path) -> Result<Connection, Box<dyn std::error::Error>> {
    let connection = reader(path)?;
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA wal_autocheckpoint = 4000;",
    )?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > VERSION {
        return Err(format!(
            "it was written by a newer virga (format {version}, this one reads up to {VERSION}); upgrade"
        )
        .into());
    }
    if version == 1 {
        connection.execute_batch(FROM_VERSION_1)?;
    }
    connection.execute_batch(SCHEMA)?;
    if !has_account(&connection)? {
        connection.execute_batch(OUTBOX_ACCOUNT)?;
    }
    Ok(connection)
}

/// Opens the file for reading.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of version 1 that later versions changed. Never edit: they represent files on users' disks.
    const VERSION_1: &str = "
        CREATE TABLE outbox (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, recipient TEXT NOT NULL, body BLOB NOT NULL
        );
        CREATE TABLE leaving (object INTEGER PRIMARY KEY);
        INSERT INTO leaving VALUES (7);
        PRAGMA user_version = 1;
    ";

    #[test]
    fn version_1_file_is_migrated_and_newer_file_is_rejected() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index.sqlite");
        let old = Connection::open(&path).expect("a file");
        old.execute_batch(VERSION_1).expect("version 1");
        for _ in 0..2 {
            let migrated = writer(&path).expect("migrated");
            let orphan: i64 = migrated
                .query_row("SELECT object FROM orphan", [], |row| row.get(0))
                .expect("an orphan");
            assert_eq!(orphan, 7);
            assert!(has_account(&migrated).expect("columns"));
        }
        let newer = format!("PRAGMA user_version = {}", VERSION + 1);
        old.execute_batch(&newer).expect("set");
        let refused = writer(&path).expect_err("a newer file");
        assert!(refused.to_string().contains("newer virga"), "{refused}");
    }
}
