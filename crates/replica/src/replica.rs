//! The handle by which commands are submitted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::appender::Appender;
use crate::database::Database;
use crate::embedded::Embedded;
use crate::follower::Follower;
use crate::log::Log;
use crate::machine::{Clock, Machine};
use crate::record::WriterId;
use crate::status::Status;

/// Bounds of a replica.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of submissions that wait for their outputs.
    pub waiting: usize,
    /// Maximum number of commands in a record.
    pub batch: usize,
    /// Maximum number of appends under way.
    pub appends: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting: 65_536,
            batch: 2048,
            appends: 4,
        }
    }
}

/// A handle to a machine. Clones submit to the same one.
#[derive(Debug)]
pub struct Replica<M: Machine> {
    inbox: Inbox<M>,
    waiting: Arc<AtomicUsize>,
    limits: Limits,
    status: watch::Receiver<Status>,
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
        let embedded = Embedded::new(database, clock, limits, inbox, report);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || embedded.run())?;
        Ok((Self::new(Inbox::Embedded(sender), limits, status), thread))
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
        let follower = Follower::new(database, log, writer, appender.submitted(), report);
        Ok(Parts {
            replica: Self::new(Inbox::OnLog(sender), limits, status),
            appender: appender.run(),
            follower: follower.run(),
        })
    }

    fn new(inbox: Inbox<M>, limits: Limits, status: watch::Receiver<Status>) -> Self {
        Self {
            inbox,
            waiting: Arc::default(),
            limits,
            status,
        }
    }

    /// Submits a command. The future returns its output once the command is durable and applied here. Dropping it takes nothing back.
    pub fn submit(&self, command: M::Command) -> Submitted<M::Output> {
        let (answer, output) = oneshot::channel();
        self.enqueue(Batch::One(command), Answer::One(answer));
        Submitted(output)
    }

    /// Submits commands that are applied together or not at all.
    pub fn submit_together(&self, commands: Vec<M::Command>) -> Submitted<Vec<M::Output>> {
        let (answer, outputs) = oneshot::channel();
        self.enqueue(Batch::Together(commands), Answer::Together(answer));
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

    fn enqueue(&self, commands: Batch<M::Command>, answer: Answer<M::Output>) {
        let Some(slot) = Slot::take(&self.waiting, self.limits.waiting) else {
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
            submission.answer.fail(&SubmitError::Closed);
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
        }
    }
}

/// Commands on their way, and who waits for them.
#[derive(Debug)]
pub(crate) struct Submission<M: Machine> {
    pub(crate) commands: Batch<M::Command>,
    pub(crate) answer: Answer<M::Output>,
    pub(crate) slot: Slot,
}

/// One command, which is almost every submission, or several.
#[derive(Debug)]
pub(crate) enum Batch<C> {
    One(C),
    Together(Vec<C>),
}

impl<C> Batch<C> {
    pub(crate) fn as_slice(&self) -> &[C] {
        match self {
            Self::One(command) => std::slice::from_ref(command),
            Self::Together(commands) => commands,
        }
    }
}

/// Who waits for the outputs of a submission.
#[derive(Debug)]
pub(crate) enum Answer<O> {
    One(oneshot::Sender<Result<O, SubmitError>>),
    Together(oneshot::Sender<Result<Vec<O>, SubmitError>>),
}

impl<O> Answer<O> {
    /// Answers with the submission's part of its record's outputs, which follow each other in the order of submission.
    pub(crate) fn succeed(self, count: usize, outputs: &mut impl Iterator<Item = O>) {
        // The submitter may have gone; its command stands.
        match self {
            Self::One(answer) => {
                if let Some(output) = outputs.next() {
                    let _ = answer.send(Ok(output));
                }
            }
            Self::Together(answer) => {
                let _ = answer.send(Ok(outputs.by_ref().take(count).collect()));
            }
        }
    }

    pub(crate) fn fail(self, error: &SubmitError) {
        match self {
            Self::One(answer) => drop(answer.send(Err(error.clone()))),
            Self::Together(answer) => drop(answer.send(Err(error.clone()))),
        }
    }
}

/// One of the submissions that may wait.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(waiting: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let slot = Self(waiting.clone());
        // The slot is dropped, and so given back, if there are too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < limit).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The output of submitted commands, once they are durable and applied.
#[derive(Debug)]
pub struct Submitted<T>(oneshot::Receiver<Result<T, SubmitError>>);

impl<T> Submitted<T> {
    /// Waits in a thread that may block.
    ///
    /// # Errors
    /// As the future does.
    pub fn wait(self) -> Result<T, SubmitError> {
        self.0.blocking_recv().unwrap_or(Err(SubmitError::Closed))
    }
}

impl<T> Future for Submitted<T> {
    type Output = Result<T, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).unwrap_or(Err(SubmitError::Closed)))
    }
}

/// Why commands have no output.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SubmitError {
    /// Too many submissions wait; nothing was done. Try again later.
    #[error("{0} changes wait to be written; try again later")]
    Busy(usize),
    /// The disk or the log refused; nothing was done. Try again later.
    #[error("the change could not be written: {0}")]
    Unavailable(String),
    /// The replica stopped, and the operator has to act. The change may be in the log.
    #[error("changes are not applied here any more: {0}")]
    Stopped(String),
    /// The replica was closed. The change may be in the log.
    #[error("virga is shutting down")]
    Closed,
}
