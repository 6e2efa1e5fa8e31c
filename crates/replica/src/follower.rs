//! Applies a log's records to the database as they come, and answers those of this process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, warn};

use crate::appender::SubmittedRecords;
use crate::checkpoint::{Checkpoint, Checkpoints, Checks, Job, Verdict};
use crate::control::Control;
use crate::database::{Database, DatabaseError};
use crate::log::{AppendError, Entry, Log, LogError, LogIdentity, Position};
use crate::machine::Machine;
use crate::record::{Contents, Header, Record, WriterId};
use crate::status::Status;
use crate::submission::SubmitError;
use crate::time::Time;

/// The pause before the log or the disk is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a stream of records may yield nothing while the log is known to have more.
const STALLED: Duration = Duration::from_secs(1);
/// Digests of other replicas that make this one's needless.
const CHECKS: usize = 3;
/// How long a third replica has to decide between two that differ.
const UNDECIDED: Duration = Duration::from_secs(30);

pub(crate) struct Follower<M: Machine, L> {
    database: Database<M>,
    log: Arc<L>,
    writer: WriterId,
    submitted: Arc<SubmittedRecords<M>>,
    status: watch::Sender<Status>,
    checkpoints: Checkpoints,
    checks: Checks,
    /// Whether a digest is being taken.
    taking: bool,
    notices: mpsc::UnboundedReceiver<Notice>,
    notify: mpsc::UnboundedSender<Notice>,
}

/// Messages of other tasks to the follower.
enum Notice {
    /// The digest of a checkpoint was taken.
    Taken(Result<Checkpoint, String>),
    /// A difference between replicas should be decided by now.
    Decide(Position),
}

type Entries = BoxStream<'static, Result<Entry, LogError>>;

/// Why applying ended.
enum Interrupted {
    /// It goes on after a pause.
    Wait(String),
    /// It goes on from a snapshot.
    Behind(String),
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
        checkpoints: Checkpoints,
    ) -> Self {
        let (notify, notices) = mpsc::unbounded_channel();
        Self {
            database,
            log,
            writer,
            submitted,
            status,
            checkpoints,
            checks: Checks::default(),
            taking: false,
            notices,
            notify,
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
                Interrupted::Behind(reason) => {
                    warn!(reason, "the database has to be replaced by a snapshot");
                    submitted.stop(&SubmitError::Stopped(reason.clone()));
                    self.status.send_replace(Status::Behind { reason });
                    return self.database;
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
            self.apply(&identity, entry).await?;
            // So that others of this thread run while a long log is applied.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    /// Returns the next record. Fails if none comes although the log has one: then the server that sent them is gone or paused, and its
    /// client notices that late.
    async fn next(&mut self, entries: &mut Entries) -> Result<Option<Entry>, Interrupted> {
        loop {
            let next = tokio::select! {
                biased;
                Some(notice) = self.notices.recv() => {
                    self.notice(notice)?;
                    continue;
                }
                next = tokio::time::timeout(STALLED, entries.next()) => next,
            };
            match next {
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

    async fn apply(&mut self, identity: &LogIdentity, entry: Entry) -> Result<(), Interrupted> {
        let Entry {
            position,
            stored,
            record: bytes,
        } = entry;
        let size = bytes.len() as u64;
        let record = Record::decode(bytes).map_err(DatabaseError::from)?;
        let Record { header, contents } = &record;
        if let Contents::Control(Control::Checkpoint { .. }) = contents {
            // The rest of a trimmed log begins with one.
            self.check_trimmed().await?;
        }
        let through = self.database.position();
        if matches!(contents, Contents::Control(Control::Founded)) && through == Position(0) {
            return Err(Interrupted::Behind(
                "the log begins with a database that was restored into it. Start from its snapshot"
                    .to_owned(),
            ));
        }
        let outputs = self
            .database
            .apply_record(identity, position, stored, &record)?;
        let since = &self.checkpoints.since_snapshot;
        since.fetch_add(size, Ordering::Relaxed);
        if let (Contents::Control(control), true) = (contents, outputs.is_some()) {
            self.control(identity, control, through)?;
        }
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

    fn control(
        &mut self,
        identity: &LogIdentity,
        control: &Control,
        through: Position,
    ) -> Result<(), Interrupted> {
        match control {
            Control::Checkpoint { id } => {
                let checkpoint = Checkpoint {
                    position: self.database.position(),
                    through,
                    digest: String::new(),
                    tables: M::VERSION,
                    log: Some(identity.clone()),
                };
                self.take_checkpoint(id, checkpoint);
            }
            Control::Check { by, tables, .. }
                if *tables != M::VERSION || *by == format!("{:?}", self.writer) => {}
            Control::Check { at, digest, by, .. } => {
                let at = Position(*at);
                let verdict = self.checks.other(at, by.clone(), digest.clone());
                self.judge(at, verdict)?;
            }
            Control::Snapshot { .. } => {
                self.checkpoints.since_snapshot.store(0, Ordering::Relaxed);
            }
            Control::Founded => {}
            Control::Backup { .. } => self.checkpoints.backup(self.database.backup_until()),
        }
        Ok(())
    }

    /// Takes the digest of the database as it is now, beside what follows. While one is taken, only those that were asked for here are.
    fn take_checkpoint(&mut self, id: &str, checkpoint: Checkpoint) {
        let request = self.checkpoints.requests.remove(id);
        if self.taking && request.is_none() {
            return;
        }
        let path = self.database.path();
        if let Some(job) = Job::begin(path.as_deref(), checkpoint, request) {
            self.taking = true;
            let notify = self.notify.clone();
            tokio::task::spawn_blocking(move || {
                // The follower may have ended.
                let _ = notify.send(Notice::Taken(job.run()));
            });
        }
    }

    fn notice(&mut self, notice: Notice) -> Result<(), Interrupted> {
        match notice {
            Notice::Taken(Ok(checkpoint)) => {
                self.taking = false;
                let (at, digest) = (checkpoint.position, checkpoint.digest);
                if self.checks.others(at) < CHECKS {
                    let check = Control::Check {
                        at: at.0,
                        digest: digest.clone(),
                        tables: M::VERSION,
                        by: format!("{:?}", self.writer),
                    };
                    let log = self.log.clone();
                    tokio::spawn(async move {
                        // Then it is not compared; the next checkpoint's is.
                        if let Err(error) = append_control(&*log, &check).await {
                            debug!(%error, "failed to append a digest");
                        }
                    });
                }
                let verdict = self.checks.own(at, digest);
                self.judge(at, verdict)
            }
            Notice::Taken(Err(reason)) => {
                self.taking = false;
                warn!(reason, "failed to take the digest of a database");
                Ok(())
            }
            Notice::Decide(at) => match self.checks.verdict(at) {
                Verdict::Tie | Verdict::Minority => Err(differs(at)),
                _ => Ok(()),
            },
        }
    }

    fn confirm(&self, at: Position) {
        self.checkpoints.confirmed.send_if_modified(|confirmed| {
            let before = *confirmed;
            *confirmed = before.max(at);
            before < at
        });
    }

    fn judge(&mut self, at: Position, verdict: Verdict) -> Result<(), Interrupted> {
        match verdict {
            Verdict::Unknown => {}
            Verdict::Confirmed => self.confirm(at),
            Verdict::Majority => {
                error!(
                    position = at.0,
                    "another replica's database differs from this one and a third; it stops"
                );
                self.confirm(at);
            }
            Verdict::Tie => {
                error!(
                    position = at.0,
                    "another replica's database differs from this one; a third decides within {UNDECIDED:?}, or both stop"
                );
                let notify = self.notify.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(UNDECIDED).await;
                    let _ = notify.send(Notice::Decide(at));
                });
            }
            Verdict::Minority => return Err(differs(at)),
        }
        Ok(())
    }
}

fn differs(at: Position) -> Interrupted {
    Interrupted::Stop(format!(
        "the database differs from other replicas' at record {}: this is a fault of virga or of this node's disk, please report it. Move the          database away, and start from a snapshot",
        at.0
    ))
}

/// Appends a control whose repetition is harmless, until the log answers.
pub(crate) async fn append_control(
    log: &impl Log,
    control: &Control,
) -> Result<Position, AppendError> {
    let writer = WriterId::random().map_err(|error| AppendError::Refused(error.to_string()))?;
    let header = Header {
        writer,
        number: 1,
        base: 1,
        time: Time::default(),
    };
    let record = Record::encode_control(&header, control);
    loop {
        match log.append(record.clone()).await {
            Err(AppendError::Unknown(reason)) => {
                debug!(reason, "a control has no answer; repeating it");
                tokio::time::sleep(PAUSE).await;
            }
            answered => return answered,
        }
    }
}

impl From<LogError> for Interrupted {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(_) => Self::Wait(error.to_string()),
            LogError::Trimmed { .. } => Self::Behind(format!("{error}. Start from a snapshot")),
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
