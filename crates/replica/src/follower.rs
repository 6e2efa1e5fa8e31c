//! Applies a log's records to the database as they come, and answers those of this process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::appender::SubmittedRecords;
use crate::database::{Applied, Database, DatabaseError};
use crate::log::{Entry, Log, LogError, LogIdentity, Position};
use crate::machine::Machine;
use crate::record::{Header, Record, WriterId};
use crate::status::Status;
use crate::submission::SubmitError;
use crate::time::Time;

/// The pause before the log or the disk is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a stream of records may yield nothing while the log is known to have more.
const STALLED: Duration = Duration::from_secs(1);

pub(crate) struct Follower<M: Machine, L> {
    database: Database<M>,
    log: Arc<L>,
    writer: WriterId,
    submitted: Arc<SubmittedRecords<M>>,
    status: watch::Sender<Status>,
}

type Entries = BoxStream<'static, Result<Entry, LogError>>;

/// Why applying ended.
enum Interrupted {
    /// It goes on after a pause.
    Wait(String),
    /// It goes on when the operator has acted.
    Stop(String),
}

impl<M: Machine, L: Log> Follower<M, L> {
    pub(crate) fn new(
        database: Database<M>,
        log: Arc<L>,
        writer: WriterId,
        submitted: Arc<SubmittedRecords<M>>,
        status: watch::Sender<Status>,
    ) -> Self {
        Self {
            database,
            log,
            writer,
            submitted,
            status,
        }
    }

    /// Serves until the appender has ended and its records are applied, or until it cannot go on.
    pub(crate) async fn run(mut self) -> Database<M> {
        let submitted = self.submitted.clone();
        let mut closed = std::pin::pin!(submitted.closed());
        loop {
            let interrupted = tokio::select! {
                biased;
                () = &mut closed => return self.database,
                interrupted = self.follow() => interrupted,
            };
            match interrupted {
                Interrupted::Wait(reason) => {
                    warn!(reason, "waiting for the log");
                    let applied = self.database.position();
                    self.status
                        .send_replace(Status::Waiting { applied, reason });
                    tokio::time::sleep(PAUSE).await;
                }
                Interrupted::Stop(reason) => {
                    error!(reason, "the log is not followed any more");
                    submitted.stop(&SubmitError::Stopped(reason.clone()));
                    self.status.send_replace(Status::Stopped { reason });
                    return self.database;
                }
            }
        }
    }

    /// Applies records until something interrupts it.
    async fn follow(&mut self) -> Interrupted {
        match self.try_follow().await {
            Err(interrupted) => interrupted,
            Ok(()) => Interrupted::Wait("its stream of records ended".to_owned()),
        }
    }

    async fn try_follow(&mut self) -> Result<(), Interrupted> {
        let identity = self.check_log().await?;
        self.check_trimmed().await?;
        let mut entries = self.log.follow(self.database.position()).await?;
        while let Some(entry) = self.next(&mut entries).await? {
            self.apply(&identity, entry)?;
            // So that others of this thread run while a long log is applied.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    /// Returns the next record. Fails if none comes although the log has one: then the server that sent them is gone or paused, and its
    /// client notices that late.
    async fn next(&mut self, entries: &mut Entries) -> Result<Option<Entry>, Interrupted> {
        loop {
            match tokio::time::timeout(STALLED, entries.next()).await {
                Ok(entry) => return Ok(entry.transpose()?),
                Err(_) if self.submitted.known() > self.database.position() => {
                    return Err(Interrupted::Wait(
                        "its stream of records stands still".to_owned(),
                    ));
                }
                Err(_) => {}
            }
        }
    }

    /// Checks that this is the log that was applied so far, and not one that has lost records.
    async fn check_log(&mut self) -> Result<LogIdentity, Interrupted> {
        let identity = self.log.identity().await?;
        let latest = self.log.latest().await?;
        let applied = self.database.position();
        if let Some(known) = self.database.log()
            && *known != identity
        {
            return Err(Interrupted::Stop(format!(
                "the database belongs to the log {}, and this log is {}: it was made anew, or another one is configured. Configure the right log, \
                 or restore a backup",
                known.0, identity.0
            )));
        }
        // A server without quorum may have answered. Where a write ends up is certain.
        if latest < applied && self.append_probe().await? <= applied {
            return Err(Interrupted::Stop(format!(
                "the database has applied record {} and the log ends at {}: the log has lost records. Restore the log's servers from their disks, \
                 or restore a backup",
                applied.0, latest.0
            )));
        }
        Ok(identity)
    }

    /// Checks that the next record which the log yields is the next one that was appended.
    async fn check_trimmed(&mut self) -> Result<(), Interrupted> {
        let (after, trimmed) = (self.database.position(), self.log.trimmed().await?);
        if after < trimmed {
            return Err(LogError::Trimmed { after, trimmed }.into());
        }
        Ok(())
    }

    /// Appends a record without commands, and returns its position.
    async fn append_probe(&mut self) -> Result<Position, Interrupted> {
        let writer = WriterId::random().map_err(|error| Interrupted::Wait(error.to_string()))?;
        let header = Header {
            writer,
            number: 1,
            base: 1,
            time: Time::default(),
        };
        let appended = self.log.append(Record::encode(&header, &[])).await;
        appended.map_err(|error| Interrupted::Wait(error.to_string()))
    }

    fn apply(&mut self, identity: &LogIdentity, entry: Entry) -> Result<(), Interrupted> {
        let Applied { header, outputs } = self.database.apply_entry(identity, entry)?;
        if header.writer == self.writer {
            match outputs {
                Some(outputs) => self.submitted.applied(header.number, outputs),
                None if self.submitted.awaits(header.number) => {
                    return Err(Interrupted::Stop(format!(
                        "record {} was taken for a duplicate before it was applied: this is a fault of virga, please report it",
                        header.number
                    )));
                }
                None => {}
            }
        }
        let applied = self.database.position();
        self.status.send_replace(Status::Following { applied });
        Ok(())
    }
}

impl From<LogError> for Interrupted {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(_) => Self::Wait(error.to_string()),
            LogError::Trimmed { .. } => Self::Stop(format!("{error}. Start from a snapshot")),
            LogError::Unreadable(_) => Self::Stop(error.to_string()),
        }
    }
}

impl From<DatabaseError> for Interrupted {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Environment(_) => Self::Wait(error.to_string()),
            DatabaseError::Record(_) => Self::Stop(error.to_string()),
        }
    }
}
