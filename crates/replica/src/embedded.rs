//! The thread of a machine whose database is its only record: group commit.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, info};

use crate::checkpoint::{Checkpoint, Checkpoints, Job};
use crate::control::Control;
use crate::database::{Database, explain};
use crate::log::Position;
use crate::machine::{Clock, Durability, Machine};
use crate::status::Status;
use crate::submission::{Answer, Limits, Submission, SubmitError};

/// How long commands that nobody waits for are gathered, and how soon they are synced after their commit.
const LATER: Duration = Duration::from_secs(1);

/// Interval between log lines of a lasting failure.
const FAILURE_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) struct Embedded<M: Machine, C> {
    database: Database<M>,
    clock: C,
    limits: Limits,
    inbox: Receiver<Submission<M>>,
    status: watch::Sender<Status>,
    checkpoints: Checkpoints,
    /// Whether every commit is on stable storage, and not only in the page cache.
    synced: bool,
    /// The time of the last commit.
    committed: Option<Instant>,
    /// Commits that failed since the last log line about it, and the time of that.
    failures: u64,
    failure_logged: Option<Instant>,
}

impl<M: Machine, C: Clock> Embedded<M, C> {
    pub(crate) fn new(
        database: Database<M>,
        clock: C,
        limits: Limits,
        inbox: Receiver<Submission<M>>,
        status: watch::Sender<Status>,
        checkpoints: Checkpoints,
    ) -> Self {
        Self {
            database,
            clock,
            limits,
            inbox,
            status,
            checkpoints,
            synced: true,
            committed: None,
            failures: 0,
            failure_logged: None,
        }
    }

    /// Serves until the last handle is gone, and returns the database, synced.
    pub(crate) fn run(mut self) -> Database<M> {
        loop {
            let first = if self.synced {
                self.inbox
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.inbox.recv_timeout(LATER)
            };
            match first {
                Ok(first) => {
                    let submissions = self.gather(first);
                    let sync = submissions.iter().any(waits);
                    self.commit(submissions, sync);
                }
                Err(RecvTimeoutError::Timeout) => self.commit(Vec::new(), true),
                Err(RecvTimeoutError::Disconnected) => {
                    if !self.synced {
                        self.commit(Vec::new(), true);
                    }
                    return self.database;
                }
            }
        }
    }

    /// Takes what waits. While only commands are there that nobody waits for, lingers for more, so that they share a commit.
    fn gather(&self, first: Submission<M>) -> Vec<Submission<M>> {
        let until = self.committed.map(|last| last + LATER);
        let mut size = first.commands.as_slice().len();
        let mut submissions = vec![first];
        loop {
            while size < self.limits.batch
                && let Ok(next) = self.inbox.try_recv()
            {
                size += next.commands.as_slice().len();
                submissions.push(next);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match left {
                Some(left)
                    if !left.is_zero()
                        && size < self.limits.batch
                        && !submissions.iter().any(waits) =>
                {
                    match self.inbox.recv_timeout(left) {
                        Ok(next) => {
                            size += next.commands.as_slice().len();
                            submissions.push(next);
                        }
                        Err(_) => return submissions,
                    }
                }
                _ => return submissions,
            }
        }
    }

    /// Applies submissions as one record, then answers them.
    fn commit(&mut self, submissions: Vec<Submission<M>>, sync: bool) {
        let commands = submissions
            .iter()
            .flat_map(|submission| submission.commands.as_slice());
        let controls = submissions
            .iter()
            .filter_map(|submission| submission.commands.control().cloned());
        let controls: Vec<_> = controls.collect();
        let through = self.database.position();
        let now = self.clock.now();
        let applied = self.database.apply_own(now, commands, &controls, sync);
        self.committed = Some(Instant::now());
        let position = self.database.position();
        match applied {
            Ok(outputs) => {
                self.synced = sync;
                self.log_success();
                self.report(Status::Following { applied: position });
                for control in &controls {
                    self.control(control, through);
                }
                let mut outputs = outputs.into_iter();
                for (commands, answer) in release(submissions) {
                    answer.succeed(commands, &mut outputs);
                }
            }
            Err(error) => {
                let reason = explain(&error);
                self.log_failure(&reason);
                self.report(Status::Waiting {
                    applied: position,
                    reason: reason.clone(),
                });
                let error = SubmitError::Unavailable(reason);
                for (_, answer) in release(submissions) {
                    answer.fail(&error);
                }
            }
        }
    }

    fn control(&self, control: &Control, through: Position) {
        match control {
            Control::Checkpoint { id } => self.take_checkpoint(id, through),
            Control::Backup { .. } => self.checkpoints.backup(self.database.backup_until()),
            // There is no log, and so no other replica.
            Control::Check { .. } | Control::Founded | Control::Snapshot { .. } => {}
        }
    }

    /// Copies the database as it is at a checkpoint, in a thread of its own.
    fn take_checkpoint(&self, id: &str, through: Position) {
        let checkpoint = Checkpoint {
            position: self.database.position(),
            through,
            digest: String::new(),
            tables: M::VERSION,
            log: None,
        };
        let request = self.checkpoints.requests.remove(id);
        let path = self.database.path();
        if let Some(job) = Job::begin(path.as_deref(), checkpoint, request) {
            let thread = std::thread::Builder::new().name("checkpoint".to_owned());
            // The job answers the request, or its end does.
            if let Err(error) = thread.spawn(move || job.run()) {
                error!(%error, "failed to start a thread for a checkpoint");
            }
        }
    }

    /// Logs a failure: the first, and one line every 30 s, since a full disk fails thousands of commits a minute.
    fn log_failure(&mut self, reason: &str) {
        self.failures += 1;
        if self
            .failure_logged
            .is_none_or(|logged| logged.elapsed() >= FAILURE_INTERVAL)
        {
            self.failure_logged = Some(Instant::now());
            let times = std::mem::take(&mut self.failures);
            error!(
                store = name(),
                error = reason,
                times,
                "changes could not be written"
            );
        }
    }

    fn log_success(&mut self) {
        self.failures = 0;
        if self.failure_logged.take().is_some() {
            info!(store = name(), "changes are written again");
        }
    }

    fn report(&self, status: Status) {
        // A watcher is interested in whether it works, not in each position.
        self.status.send_if_modified(|last| {
            let same = matches!(
                (&*last, &status),
                (Status::Following { .. }, Status::Following { .. })
            );
            let changed = !same && *last != status;
            *last = status;
            changed
        });
    }
}

/// Returns the name of the replica, which its thread has.
fn name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// Releases the slots of submissions before any is answered, so that a submitter can use them at once. Returns the number of commands
/// and the answer of each.
fn release<M: Machine>(submissions: Vec<Submission<M>>) -> Vec<(usize, Answer<M::Output>)> {
    let answers = submissions
        .into_iter()
        .map(|submission| (submission.commands.as_slice().len(), submission.answer));
    answers.collect()
}

fn waits<M: Machine>(submission: &Submission<M>) -> bool {
    let commands = submission.commands.as_slice();
    commands.is_empty()
        || commands
            .iter()
            .any(|command| M::durability(command) == Durability::Sync)
}
