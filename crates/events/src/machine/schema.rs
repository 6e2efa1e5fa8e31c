//! The tables, and their earlier versions.

use std::path::Path;
use std::time::Duration;

use replica::Time;
use rusqlite::{Connection, Transaction};
use thiserror::Error;

/// Settings of a connection. They do not change what the tables contain. The first one must be set before there is a table.
const SETTINGS: &str = "
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA wal_autocheckpoint = 4000;
";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS event (
        seq INTEGER PRIMARY KEY, request BLOB NOT NULL UNIQUE, function INTEGER NOT NULL, queue INTEGER NOT NULL,
        due INTEGER NOT NULL, state INTEGER NOT NULL, source TEXT NOT NULL, qualifier TEXT NOT NULL, routing TEXT,
        accepted INTEGER NOT NULL, ended INTEGER, user_failures INTEGER NOT NULL, system_failures INTEGER NOT NULL,
        status INTEGER, message TEXT, body BLOB, depth INTEGER NOT NULL DEFAULT 0, trace TEXT,
        attempt INTEGER NOT NULL DEFAULT 1
    );
    CREATE INDEX IF NOT EXISTS queued ON event (queue, due, seq) WHERE state <= 1;
    CREATE INDEX IF NOT EXISTS history ON event (function, accepted);
    CREATE INDEX IF NOT EXISTS ended ON event (ended) WHERE state >= 2;
    CREATE TABLE IF NOT EXISTS usage (
        function INTEGER NOT NULL, version TEXT NOT NULL, hour INTEGER NOT NULL, invocations INTEGER NOT NULL,
        errors INTEGER NOT NULL, throttles INTEGER NOT NULL, billed_ms INTEGER NOT NULL, mb_ms INTEGER NOT NULL,
        out_bytes INTEGER NOT NULL, PRIMARY KEY (function, version, hour)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counted (journal BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS closed (account INTEGER PRIMARY KEY);
    PRAGMA user_version = 5;
";

/// The schema version of this build.
pub(crate) const VERSION: i64 = 1 + MIGRATIONS.len() as i64;

/// A migration from one version to the next.
type Migration = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// The migration from each version to the next, starting with version 1. Each is one transaction, so that a kill leaves the file at
/// either version. Never edit one: it has run on users' disks.
const MIGRATIONS: &[Migration] = &[
    // Version 1 did not store the recursion depth.
    |transaction| {
        transaction.execute_batch(
            "ALTER TABLE event ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
             PRAGMA user_version = 2;",
        )
    },
    // Version 2 had other names for queues and for the keys of dead letters.
    |transaction| {
        transaction.execute_batch(
            "ALTER TABLE lane RENAME TO queue;
             ALTER TABLE event RENAME COLUMN lane TO queue;
             UPDATE queue SET key = 'dead-letters/' || substr(key, 9) WHERE key LIKE 'letters/%';
             PRAGMA user_version = 3;",
        )
    },
    // Version 3 did not store the trace context.
    |transaction| {
        transaction.execute_batch(
            "ALTER TABLE event ADD COLUMN trace TEXT;
             PRAGMA user_version = 4;",
        )
    },
    become_a_machine,
];

/// Version 4 was not a state machine: numbers followed from the greatest one in the tables, there was one journal of usage, and the last
/// time had a table of its own.
fn become_a_machine(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS reached (id INTEGER PRIMARY KEY CHECK (id = 1), time INTEGER NOT NULL);
         INSERT OR IGNORE INTO reached VALUES (1, 0);
         CREATE TABLE IF NOT EXISTS counted (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL);
         INSERT OR IGNORE INTO counted VALUES (1, 0);",
    )?;
    let number = |query: &str| transaction.query_row(query, [], |row| row.get::<_, i64>(0));
    let time = number("SELECT time FROM reached")? as u64;
    let events = number("SELECT COALESCE(MAX(seq), 0) FROM event")? as u64;
    let queues = number("SELECT COALESCE(MAX(id), 0) FROM queue")? as u64;
    replica::begin_at(transaction, Time(time), events.max(queues))?;
    transaction.execute_batch(
        "DROP TABLE reached;
         ALTER TABLE counted RENAME TO counted_once;
         CREATE TABLE counted (journal BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
         INSERT INTO counted SELECT zeroblob(16), number FROM counted_once;
         DROP TABLE counted_once;
         ALTER TABLE event ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
         PRAGMA user_version = 5;",
    )
}

/// Why a file of events cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// A later version wrote the file.
    #[error("a newer virga wrote it (format {0}, this one reads up to {VERSION}); upgrade")]
    Newer(i64),
}

/// Opens a file of events, or makes it, and sets the connection up. The tables are made and migrated when the machine is opened.
///
/// # Errors
/// Fails if the file cannot be opened, or a later version wrote it.
pub fn connect(path: &Path) -> Result<Connection, OpenError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let version = version(&connection)?;
    if version > VERSION {
        return Err(OpenError::Newer(version));
    }
    connection.execute_batch(SETTINGS)?;
    Ok(connection)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Makes the tables, or brings those of an earlier version to this one.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    // Version 0 is a new file.
    let applied = match version(connection)? {
        0 => MIGRATIONS.len(),
        version => version as usize - 1,
    };
    for migration in MIGRATIONS.iter().skip(applied) {
        let transaction = connection.transaction()?;
        migration(&transaction)?;
        transaction.commit()?;
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.commit()
}
