//! The thread of a machine whose database is its only record: group commit.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::database::Database;
use crate::machine::{Clock, Durability, Machine};
use crate::status::Status;
use crate::submission::{Limits, Submission, SubmitError};

/// How long commands that nobody waits for are gathered, and how soon they are synced after their commit.
const LATER: Duration = Duration::from_secs(1);

pub(crate) struct Embedded<M: Machine, C> {
    database: Database<M>,
    clock: C,
    limits: Limits,
    inbox: Receiver<Submission<M>>,
    status: watch::Sender<Status>,
    /// Whether every commit is on stable storage, and not only in the page cache.
    synced: bool,
    /// The time of the last commit.
    committed: Option<Instant>,
}

impl<M: Machine, C: Clock> Embedded<M, C> {
    pub(crate) fn new(
        database: Database<M>,
        clock: C,
        limits: Limits,
        inbox: Receiver<Submission<M>>,
        status: watch::Sender<Status>,
    ) -> Self {
        Self {
            database,
            clock,
            limits,
            inbox,
            status,
            synced: true,
            committed: None,
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
        let applied = self.database.apply_own(self.clock.now(), commands, sync);
        self.committed = Some(Instant::now());
        let position = self.database.position();
        match applied {
            Ok(outputs) => {
                self.synced = sync;
                self.report(Status::Following { applied: position });
                let mut outputs = outputs.into_iter();
                for Submission {
                    commands,
                    answer,
                    slot,
                } in submissions
                {
                    // Released before the answer, so that the submitter can use it at once.
                    drop(slot);
                    answer.succeed(commands.as_slice().len(), &mut outputs);
                }
            }
            Err(error) => {
                let reason = error.to_string();
                self.report(Status::Waiting {
                    applied: position,
                    reason: reason.clone(),
                });
                let error = SubmitError::Unavailable(reason);
                for submission in submissions {
                    submission.answer.fail(&error);
                }
            }
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

fn waits<M: Machine>(submission: &Submission<M>) -> bool {
    let commands = submission.commands.as_slice();
    commands.is_empty()
        || commands
            .iter()
            .any(|command| M::durability(command) == Durability::Sync)
}
