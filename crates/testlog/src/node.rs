//! A replica of a machine on a log.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use replica::{Clock, Database, Limits, Log, Machine, Position, Replica, Status};
use rusqlite::Connection;
use tokio::task::JoinHandle;

/// A replica that has not stopped by then does not stop.
const LONGEST: Duration = Duration::from_hours(1);

/// A replica on a log, with its database in a file.
pub struct Node<M: Machine> {
    /// Takes commands.
    pub replica: Replica<M>,
    /// The file.
    pub path: PathBuf,
    appender: JoinHandle<()>,
    follower: JoinHandle<Database<M>>,
}

impl<M: Machine> fmt::Debug for Node<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl<M: Machine> Node<M> {
    /// Starts a replica on a database that `connection` opens.
    pub fn start(
        path: &Path,
        connection: Connection,
        machine: M,
        log: impl Log,
        clock: impl Clock,
    ) -> Self {
        let database = Database::open(connection, machine).unwrap();
        let parts = Replica::on_log(database, Arc::new(log), clock, Limits::default()).unwrap();
        Self {
            replica: parts.replica,
            path: path.to_owned(),
            appender: tokio::spawn(parts.appender),
            follower: tokio::spawn(parts.follower),
        }
    }

    /// Waits until a position is applied.
    pub async fn applied(&self, position: Position) {
        let mut status = self.replica.status();
        let reached = |status: &Status| matches!(status, Status::Following { applied } if *applied >= position);
        status.wait_for(reached).await.unwrap();
    }

    /// Waits until it stops, and returns why.
    pub async fn stopped(&self) -> String {
        let mut status = self.replica.status();
        let has_stopped =
            |status: &Status| matches!(status, Status::Stopped { .. } | Status::Behind { .. });
        let stopped = tokio::time::timeout(LONGEST, status.wait_for(has_stopped)).await;
        format!("{:?}", *stopped.unwrap().unwrap())
    }

    /// Ends it at once, as a kill does.
    pub async fn kill(self) {
        self.appender.abort();
        self.follower.abort();
        for ended in [self.appender.await, self.follower.await.map(drop)] {
            // It may have stopped before.
            assert!(ended.map_or_else(|error| error.is_cancelled(), |()| true));
        }
    }

    /// Ends it once everything submitted is applied.
    pub async fn close(self) -> Database<M> {
        drop(self.replica);
        self.appender.await.unwrap();
        self.follower.await.unwrap()
    }
}
