//! What the tests share: databases in files, replicas on a log, and the contents of a database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use replica::simulated::Simulated;
use replica::{Database, Limits, Replica, Time};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::bank::Bank;

/// A replica on a simulated log, with its database in a file.
pub(crate) struct Node {
    pub(crate) replica: Replica<Bank>,
    pub(crate) path: PathBuf,
    appender: JoinHandle<()>,
    follower: JoinHandle<Database<Bank>>,
}

impl Node {
    pub(crate) fn start(path: &Path, log: &Simulated) -> Self {
        let connection = Connection::open(path).unwrap();
        let database = Database::open(connection, Bank::default()).unwrap();
        let parts =
            Replica::on_log(database, Arc::new(log.clone()), clock(), Limits::default()).unwrap();
        Self {
            replica: parts.replica,
            path: path.to_owned(),
            appender: tokio::spawn(parts.appender),
            follower: tokio::spawn(parts.follower),
        }
    }

    /// Ends it at once, as a kill does.
    pub(crate) async fn kill(self) {
        self.appender.abort();
        self.follower.abort();
        assert!(self.appender.await.unwrap_err().is_cancelled());
        assert!(self.follower.await.unwrap_err().is_cancelled());
    }

    /// Ends it once everything submitted is applied.
    pub(crate) async fn close(self) -> Database<Bank> {
        drop(self.replica);
        self.appender.await.unwrap();
        self.follower.await.unwrap()
    }
}

/// The writers' clock: tokio's, which tests pause.
pub(crate) fn clock() -> impl Fn() -> Time {
    let begun = tokio::time::Instant::now();
    move || Time(begun.elapsed().as_micros() as u64)
}

/// Runs a test under a paused clock, in one thread, so that a seed repeats it.
pub(crate) fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test)
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Everything in a database, table by table.
pub(crate) fn dump(connection: &Connection) -> Vec<(String, Vec<Vec<Value>>)> {
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap();
    let tables: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let contents = |table: &str| {
        let mut rows = connection
            .prepare(&format!("SELECT * FROM {table} ORDER BY 1"))
            .unwrap();
        let columns = rows.column_count();
        let rows = rows.query_map([], |row| {
            (0..columns).map(|column| row.get(column)).collect()
        });
        rows.unwrap().map(Result::unwrap).collect()
    };
    tables
        .iter()
        .map(|table| (table.clone(), contents(table)))
        .collect()
}
