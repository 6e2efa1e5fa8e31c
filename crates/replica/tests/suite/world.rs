//! What the tests share: databases in files, and replicas on a log.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use replica::{Clock, Database, Limits, Log, Position, Replica, Status, SubmitError};
use rusqlite::Connection;
use tempfile::TempDir;
use testlog::{Simulated, clock};
use tokio::task::JoinHandle;

use crate::bank::{Bank, Change, Outcome};

/// A replica on a simulated log, with its database in a file.
pub(crate) struct Node {
    pub(crate) replica: Replica<Bank>,
    pub(crate) path: PathBuf,
    appender: JoinHandle<()>,
    follower: JoinHandle<Database<Bank>>,
}

impl Node {
    pub(crate) fn start(path: &Path, log: &Simulated) -> Self {
        Self::start_with(path, log.clone(), clock())
    }

    pub(crate) fn start_with(path: &Path, log: impl Log, clock: impl Clock) -> Self {
        let connection = Connection::open(path).unwrap();
        let database = Database::open(connection, Bank::default()).unwrap();
        let parts = Replica::on_log(database, Arc::new(log), clock, Limits::default()).unwrap();
        Self {
            replica: parts.replica,
            path: path.to_owned(),
            appender: tokio::spawn(parts.appender),
            follower: tokio::spawn(parts.follower),
        }
    }

    /// Waits until a position is applied.
    pub(crate) async fn applied(&self, position: Position) {
        let mut status = self.replica.status();
        let reached = |status: &Status| matches!(status, Status::Following { applied } if *applied >= position);
        status.wait_for(reached).await.unwrap();
    }

    /// Waits until it stops, and returns why.
    pub(crate) async fn stopped(&self) -> String {
        let mut status = self.replica.status();
        let stopped = status.wait_for(has_stopped);
        let stopped = tokio::time::timeout(Duration::from_hours(1), stopped).await;
        format!("{:?}", *stopped.unwrap().unwrap())
    }

    /// Ends it at once, as a kill does.
    pub(crate) async fn kill(self) {
        self.appender.abort();
        self.follower.abort();
        for ended in [self.appender.await, self.follower.await.map(drop)] {
            // It may have stopped before.
            assert!(ended.map_or_else(|error| error.is_cancelled(), |()| true));
        }
    }

    /// Ends it once everything submitted is applied.
    pub(crate) async fn close(self) -> Database<Bank> {
        drop(self.replica);
        self.appender.await.unwrap();
        self.follower.await.unwrap()
    }
}

fn has_stopped(status: &Status) -> bool {
    matches!(status, Status::Stopped { .. } | Status::Behind { .. })
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Checks answers against the history: each answered change once, with the balance that the changes before it make.
pub(crate) fn check(
    run: &str,
    database: &Path,
    answered: &[(Change, Result<Outcome, SubmitError>)],
) {
    let connection = Connection::open(database).unwrap();
    let mut history = connection
        .prepare("SELECT id FROM history ORDER BY number")
        .unwrap();
    let ids: Vec<u64> = history
        .query_map([], |row| row.get::<_, i64>(0).map(|id| id as u64))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let changes: HashMap<u64, &Change> = answered
        .iter()
        .map(|(change, _)| (change.id, change))
        .collect();
    let mut balances = BTreeMap::new();
    let mut outcomes = HashMap::new();
    for id in ids {
        // A change that was not answered may stand, or not.
        let change = changes[&id];
        let balance: &mut i64 = balances.entry(change.account).or_default();
        let outcome = if *balance + change.amount < 0 {
            Outcome::Refused
        } else {
            *balance += change.amount;
            Outcome::Balance(*balance)
        };
        assert!(
            outcomes.insert(id, outcome).is_none(),
            "{run}: change {id} was applied twice"
        );
    }
    for (change, answer) in answered {
        match answer {
            Ok(outcome) => assert_eq!(outcomes.get(&change.id), Some(outcome), "{run}: {change:?}"),
            Err(SubmitError::Closed) => {}
            Err(other) => panic!("{run}: {change:?} was answered with {other}"),
        }
    }
}
