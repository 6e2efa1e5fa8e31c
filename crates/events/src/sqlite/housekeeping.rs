//! The thread that counts usage of synchronous calls and removes old history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use dispatch::Time;
use replica::{Replica, SubmitError, Submitted};
use telemetry::FailureLog;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::budget::Budget;
use crate::machine::{
    EventCommand, EventMachine, EventOutput, Listener, Removed, Totals, Trim, UsageCount,
};
use crate::usage::{PendingUsage, UsageBatch};
use crate::{EnqueuedEvent, QueueClock};

/// Minimum interval between commands that count usage. A commit takes up to 2 ms of CPU time, however many entries it has.
const COUNT_INTERVAL: Duration = Duration::from_millis(200);
/// Interval for retrying usage that failed to be counted.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the retention check.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);
/// Rows removed per retention check.
const TRIM_ROWS: u32 = 2000;
/// Microseconds of an hour.
const HOUR: u64 = 3_600_000_000;

/// A request to the thread.
#[derive(Debug)]
pub(super) enum Task {
    /// Usage waits to be counted.
    Count,
    /// History may be old or too long.
    Trim,
    /// End the thread.
    End,
    /// Count what waits now, and answer when it is durable.
    Flush(oneshot::Sender<Result<(), SubmitError>>),
}

/// Passes on commits: new events to the runner, and the time for a retention check to the thread.
#[derive(Debug)]
pub(super) struct Announcer {
    enqueued: mpsc::UnboundedSender<EnqueuedEvent>,
    tasks: Sender<Task>,
    totals: Arc<Totals>,
    budget: Budget,
    /// The time of the last retention check, and whether one is under way.
    trimmed: Instant,
    checking: Arc<AtomicBool>,
}

impl Announcer {
    pub(super) fn new(
        enqueued: mpsc::UnboundedSender<EnqueuedEvent>,
        tasks: Sender<Task>,
        totals: Arc<Totals>,
        budget: Budget,
        checking: Arc<AtomicBool>,
    ) -> Self {
        Self {
            enqueued,
            tasks,
            totals,
            budget,
            trimmed: Instant::now(),
            checking,
        }
    }
}

impl Listener for Announcer {
    fn enqueued(&mut self, event: EnqueuedEvent) {
        // Fails only while virga shuts down.
        let _ = self.enqueued.send(event);
    }

    fn committed(&mut self) {
        let limit = self.budget.history_events + u64::from(TRIM_ROWS);
        let due = self.totals.history() > limit || self.trimmed.elapsed() >= TRIM_INTERVAL;
        if due && !self.checking.swap(true, Ordering::Relaxed) {
            self.trimmed = Instant::now();
            // Fails only while the queue is closed.
            let _ = self.tasks.send(Task::Trim);
        }
    }
}

#[derive(Debug)]
pub(super) struct Housekeeping {
    pub(super) replica: Replica<EventMachine>,
    pub(super) pending: PendingUsage,
    pub(super) totals: Arc<Totals>,
    pub(super) budget: Budget,
    pub(super) clock: QueueClock,
    pub(super) failure_log: FailureLog,
    /// Whether a retention check is under way.
    pub(super) checking: Arc<AtomicBool>,
}

impl Housekeeping {
    /// Serves until the task to end. Entries that are not counted by then are in the journal.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        let mut counted = Instant::now();
        let mut count_at = Some(counted);
        loop {
            let next = match count_at {
                Some(at) => tasks.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(Task::Count) => {
                    count_at.get_or_insert(counted + COUNT_INTERVAL);
                }
                Ok(Task::Trim) => {
                    self.trim();
                    self.checking.store(false, Ordering::Relaxed);
                }
                Ok(Task::Flush(answer)) => {
                    let result = self.count(true);
                    counted = Instant::now();
                    count_at = result.is_err().then(|| counted + RETRY_INTERVAL);
                    let _ = answer.send(result);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let result = self.count(false);
                    counted = Instant::now();
                    count_at = result.is_err().then(|| counted + RETRY_INTERVAL);
                }
                Ok(Task::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Counts what waits. With `now` it waits for no other commands, and is durable when this returns.
    fn count(&mut self, now: bool) -> Result<(), SubmitError> {
        while let Some(batch) = self.pending.take() {
            match self.submit(&batch, now) {
                Ok((to, true)) => {
                    self.failure_log.success();
                    self.pending.counted(to);
                    return Ok(());
                }
                // An earlier process counted with this journal, and the ledger had not come so far when it was opened.
                Ok((to, false)) => {
                    if let Err(error) = self.pending.reload(to) {
                        warn!(%error, "failed to read the usage journal; usage of the last seconds is lost");
                    }
                }
                Err(error) => {
                    if !matches!(error, SubmitError::Stopped(_) | SubmitError::Closed) {
                        self.pending.restore(batch);
                    }
                    if let Some(times) = self.failure_log.failure() {
                        warn!(%error, times, "failed to count usage; will retry");
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Returns the journal number up to which the ledger includes the journal, and whether it added the batch.
    fn submit(&self, batch: &UsageBatch, now: bool) -> Result<(u64, bool), SubmitError> {
        let command = EventCommand::Count(UsageCount {
            journal: batch.journal,
            from: batch.from,
            to: batch.to,
            sums: batch.sums.clone(),
        });
        let counted = self.replica.submit(command);
        let barrier = now.then(|| self.replica.barrier());
        let output = counted.wait()?;
        barrier.map(Submitted::wait).transpose()?;
        match output {
            EventOutput::Counted { to, added } => Ok((to, added)),
            other => Err(SubmitError::Unavailable(format!(
                "the output {other:?} belongs to another command: this is a fault of virga, please report it"
            ))),
        }
    }

    /// Removes expired and surplus events, in small portions.
    fn trim(&self) {
        let now = self.clock.now();
        let before = |span: Duration| now.0.saturating_sub(span.as_micros() as u64);
        let history = self.totals.history();
        let trim = Trim {
            ended_before: Time(before(self.budget.history)),
            surplus: history.saturating_sub(self.budget.history_events),
            usage_before: (before(self.budget.usage) / HOUR) as i64,
            rows: TRIM_ROWS,
        };
        match self.replica.submit(EventCommand::Trim(trim)).wait() {
            Ok(EventOutput::Trimmed(Removed { dead, .. })) if dead > 0 => {
                warn!(events = dead, "removed dead events past their retention");
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "failed to remove expired events; will retry"),
        }
    }
}
