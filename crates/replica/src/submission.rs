//! A submission: commands on their way to a machine, and the answer on its way back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use thiserror::Error;
use tokio::sync::oneshot;

use crate::control::Control;
use crate::machine::Machine;

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

/// Commands on their way, and who waits for them.
#[derive(Debug)]
pub(crate) struct Submission<M: Machine> {
    pub(crate) commands: Batch<M::Command>,
    pub(crate) answer: Answer<M::Output>,
    pub(crate) slot: Slot<M::Held>,
}

/// One command, which is almost every submission, or several.
#[derive(Debug)]
pub(crate) enum Batch<C> {
    One(C),
    Together(Vec<C>),
    /// No command.
    Control(Control),
}

impl<C> Batch<C> {
    pub(crate) fn control(&self) -> Option<&Control> {
        match self {
            Self::Control(control) => Some(control),
            _ => None,
        }
    }

    pub(crate) fn as_slice(&self) -> &[C] {
        match self {
            Self::One(command) => std::slice::from_ref(command),
            Self::Together(commands) => commands,
            Self::Control(_) => &[],
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

/// One of the submissions that may wait, with what its submitter holds for it.
#[derive(Debug)]
pub(crate) struct Slot<H> {
    waiting: Arc<AtomicUsize>,
    _held: Option<H>,
}

impl<H> Slot<H> {
    pub(crate) fn take(waiting: &Arc<AtomicUsize>, limit: usize, held: Option<H>) -> Option<Self> {
        let slot = Self {
            waiting: waiting.clone(),
            _held: held,
        };
        // The slot is dropped, and so given back, if there are too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < limit).then_some(slot)
    }
}

impl<H> Drop for Slot<H> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The output of submitted commands, once they are durable and applied.
#[derive(Debug)]
pub struct Submitted<T>(pub(crate) oneshot::Receiver<Result<T, SubmitError>>);

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
    /// The log is nearly full; nothing was done. Try again when it was trimmed.
    #[error("the log is full: {0}")]
    Full(String),
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
