//! The handle by which commands are submitted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use crate::appender::Appender;
use crate::checkpoint::{Checkpoint, CheckpointError, Checkpoints, Request};
use crate::control::Control;
use crate::database::Database;
use crate::embedded::Embedded;
use crate::follower::Follower;
use crate::log::{Log, Position};
use crate::machine::{Clock, Machine};
use crate::record::WriterId;
use crate::status::Status;
use crate::submission::{Answer, Batch, Limits, Slot, Submission, SubmitError, Submitted};
use crate::time::Time;

/// A handle to a machine. Clones submit to the same one.
#[derive(Debug)]
pub struct Replica<M: Machine> {
    inbox: Inbox<M>,
    waiting: Arc<AtomicUsize>,
    limits: Limits,
    status: watch::Receiver<Status>,
    /// Whether the log is nearly full.
    low: Arc<AtomicBool>,
    checkpoints: Checkpoints,
}

#[derive(Debug)]
enum Inbox<M: Machine> {
    Embedded(std::sync::mpsc::Sender<Submission<M>>),
    OnLog(mpsc::UnboundedSender<Submission<M>>),
}

/// The parts of a replica on a log. Both futures have to run; the appender ends when the last handle is gone and every command is answered,
/// and the follower after it.
#[derive(Debug)]
pub struct Parts<M: Machine, A, F> {
    /// The handle.
    pub replica: Replica<M>,
    /// Gathers commands and appends them.
    pub appender: A,
    /// Applies what the log has, and returns the database in the end. It works on the disk, so it needs a thread of its own.
    pub follower: F,
}

impl<M: Machine> Replica<M> {
    /// Runs a machine whose database is its only record, in a thread that ends when the last handle is gone.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn embedded(
        database: Database<M>,
        clock: impl Clock,
        limits: Limits,
        name: &str,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<Database<M>>)>
    where
        Database<M>: Send,
    {
        let (sender, inbox) = std::sync::mpsc::channel();
        let (report, status) = watch::channel(Status::Following {
            applied: database.position(),
        });
        let checkpoints = Checkpoints::default();
        checkpoints.backup(database.backup_until());
        let shared = checkpoints.clone();
        let embedded = Embedded::new(database, clock, limits, inbox, report, shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || embedded.run())?;
        let low = Arc::default();
        Ok((
            Self::new(Inbox::Embedded(sender), limits, status, low, checkpoints),
            thread,
        ))
    }

    /// Runs a machine on a log.
    ///
    /// # Errors
    /// Fails if the system has no random numbers, of which the writer's id is made.
    pub fn on_log<L: Log>(
        database: Database<M>,
        log: Arc<L>,
        clock: impl Clock,
        limits: Limits,
    ) -> Result<
        Parts<M, impl Future<Output = ()> + Send, impl Future<Output = Database<M>> + Send>,
        getrandom::Error,
    >
    where
        Database<M>: Send,
    {
        let writer = WriterId::random()?;
        let (sender, inbox) = mpsc::unbounded_channel();
        let (report, status) = watch::channel(Status::Following {
            applied: database.position(),
        });
        let appender = Appender::new(log.clone(), writer, clock, limits, inbox);
        let checkpoints = Checkpoints::default();
        checkpoints.backup(database.backup_until());
        let follower = Follower::new(
            database,
            log,
            writer,
            appender.submitted(),
            report,
            checkpoints.clone(),
        );
        let low = appender.low();
        Ok(Parts {
            replica: Self::new(Inbox::OnLog(sender), limits, status, low, checkpoints),
            appender: appender.run(),
            follower: follower.run(),
        })
    }

    fn new(
        inbox: Inbox<M>,
        limits: Limits,
        status: watch::Receiver<Status>,
        low: Arc<AtomicBool>,
        checkpoints: Checkpoints,
    ) -> Self {
        Self {
            inbox,
            waiting: Arc::default(),
            limits,
            status,
            low,
            checkpoints,
        }
    }

    /// Submits a command. The future returns its output once the command is durable and applied here. Dropping it takes nothing back.
    pub fn submit(&self, command: M::Command) -> Submitted<M::Output> {
        let (answer, output) = oneshot::channel();
        self.enqueue(Batch::One(command), None, Answer::One(answer));
        Submitted(output)
    }

    /// Submits a command with a value held for it. That is dropped before the output is returned, and not before the command is applied
    /// or refused, even if nobody waits for the output any more.
    pub fn submit_holding(&self, command: M::Command, held: M::Held) -> Submitted<M::Output> {
        let (answer, output) = oneshot::channel();
        self.enqueue(Batch::One(command), Some(held), Answer::One(answer));
        Submitted(output)
    }

    /// Submits commands that are applied together or not at all.
    pub fn submit_together(&self, commands: Vec<M::Command>) -> Submitted<Vec<M::Output>> {
        let (answer, outputs) = oneshot::channel();
        self.enqueue(Batch::Together(commands), None, Answer::Together(answer));
        Submitted(outputs)
    }

    /// Submits commands that are applied together or not at all, with a value held for them, as [`submit_holding`](Self::submit_holding)
    /// does.
    pub fn submit_together_holding(
        &self,
        commands: Vec<M::Command>,
        held: M::Held,
    ) -> Submitted<Vec<M::Output>> {
        let (answer, outputs) = oneshot::channel();
        self.enqueue(
            Batch::Together(commands),
            Some(held),
            Answer::Together(answer),
        );
        Submitted(outputs)
    }

    /// Waits until everything is applied here that was durable when this was called. A read afterwards sees it.
    pub fn barrier(&self) -> Submitted<Vec<M::Output>> {
        self.submit_together(Vec::new())
    }

    /// Returns how this replica stands, and every change of it.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Returns whether the log is nearly full, so that commands that [add work](Machine::adds_work) are refused.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Has every replica look at its database at one position of the log, and copies this one's to a file, which must not be there.
    ///
    /// # Errors
    /// Fails if the position cannot be reached, or if the copy cannot be written.
    pub async fn checkpoint(&self, copy: &Path) -> Result<Checkpoint, CheckpointError> {
        let id = WriterId::random().map_err(|error| CheckpointError::Failed(error.to_string()))?;
        let id = format!("{id:?}");
        let (answer, taken) = oneshot::channel();
        let request = Request {
            copy: copy.to_owned(),
            answer,
        };
        let requests = &self.checkpoints.requests;
        requests.insert(id.clone(), request);
        let submitted = self.submit_control(Control::Checkpoint { id: id.clone() });
        if let Err(error) = submitted.await {
            requests.remove(&id);
            return Err(error.into());
        }
        match taken.await {
            Ok(taken) => taken.map_err(CheckpointError::Failed),
            Err(_) => Err(CheckpointError::Failed(
                "the replica ended before".to_owned(),
            )),
        }
    }

    /// Waits until another replica has said that it had the same contents at a checkpoint, or at a later one.
    pub async fn confirmed(&self, at: Position) {
        let mut confirmed = self.checkpoints.confirmed.subscribe();
        // The handle has a sender, so the channel is open.
        let _ = confirmed.wait_for(|confirmed| *confirmed >= at).await;
    }

    /// Returns the bytes of the records that were applied here since the last snapshot.
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.checkpoints.since_snapshot.load(Ordering::Relaxed)
    }

    /// Returns whether a backup is being made. Meanwhile what moves to another log is not to be removed here: the backup may have the
    /// other log from before it came there.
    pub fn backup_is_open(&self, now: Time) -> bool {
        now.0 < self.checkpoints.backup_until.load(Ordering::Relaxed)
    }

    /// Submits a control.
    pub(crate) fn submit_control(&self, control: Control) -> Submitted<Vec<M::Output>> {
        let (answer, outputs) = oneshot::channel();
        self.enqueue(Batch::Control(control), None, Answer::Together(answer));
        Submitted(outputs)
    }

    fn enqueue(
        &self,
        commands: Batch<M::Command>,
        held: Option<M::Held>,
        answer: Answer<M::Output>,
    ) {
        if self.is_low() && commands.as_slice().iter().any(M::adds_work) {
            drop(held);
            answer.fail(&SubmitError::Full(
                "it takes what ends work until it is trimmed".to_owned(),
            ));
            return;
        }
        let Some(slot) = Slot::take(&self.waiting, self.limits.waiting, held) else {
            answer.fail(&SubmitError::Busy(self.limits.waiting));
            return;
        };
        let submission = Submission {
            commands,
            answer,
            slot,
        };
        let sent = match &self.inbox {
            Inbox::Embedded(inbox) => inbox.send(submission).map_err(|refused| refused.0),
            Inbox::OnLog(inbox) => inbox.send(submission).map_err(|refused| refused.0),
        };
        if let Err(submission) = sent {
            let Submission { answer, slot, .. } = submission;
            drop(slot);
            answer.fail(&SubmitError::Closed);
        }
    }
}

impl<M: Machine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        let inbox = match &self.inbox {
            Inbox::Embedded(inbox) => Inbox::Embedded(inbox.clone()),
            Inbox::OnLog(inbox) => Inbox::OnLog(inbox.clone()),
        };
        Self {
            inbox,
            waiting: self.waiting.clone(),
            limits: self.limits,
            status: self.status.clone(),
            low: self.low.clone(),
            checkpoints: self.checkpoints.clone(),
        }
    }
}
