//! The embedded queue: the state machine of events over one SQLite file, fsynced before a write is answered.
//!
//! `replica` writes, with group commit: all commands that wait go into one transaction, so that one fsync serves all events that
//! came during the last one. A second thread reads for the runner over its own connection and never waits for an fsync. A third
//! serves the queries of the API, and a fourth counts usage and removes old history.

mod budget;
mod housekeeping;
mod queries;
mod reader;
#[cfg(test)]
mod tests;

pub use self::budget::Budget;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use dispatch::Time;
use dispatch::events::QueuePosition;
use futures_util::FutureExt;
use model::{AccountId, FailureKind, RequestId, outcome_number};
use replica::{Database, Limits, Replica, SubmitError, Submitted};
use rusqlite::{Connection, OptionalExtension};
use telemetry::FailureLog;
use tokio::sync::{mpsc, oneshot};

use self::housekeeping::{Announcer, Housekeeping, Task};
use self::reader::ReadJob;
use super::{
    AccountCounts, AttemptId, Backlog, Completion, EnqueuedEvent, EventOrigin, EventPage,
    EventQuery, EventRow, NewEvent, NextEvents, Queue, QueueClock, QueueError, QueueFuture,
    QueueKey, QueuedEvent,
};
use crate::machine::{
    self, Admission, AdmissionRule, EventCommand, EventMachine, EventOutput, ExceededLimit,
    Refusal, Totals,
};
use crate::usage::{PendingUsage, UsageEntry, UsageJournal, UsageKey, UsageQuery, UsageTotals};

/// Maximum number of commands that wait to be written.
const MAX_PENDING_WRITES: usize = 8192;
/// Maximum bytes of events that wait to be written.
const MAX_PENDING_BYTES: u64 = 64 << 20;
/// Minimum bytes that an event counts for while it waits to be written. It makes the byte quota bound the number of events too.
const MIN_PENDING_BYTES: u64 = MAX_PENDING_BYTES / MAX_PENDING_WRITES as u64;
/// Rows of an account that are removed per command.
const PURGE_ROWS: u32 = 1000;

/// A queue in one SQLite file.
#[derive(Debug)]
pub struct SqliteQueue {
    writes: Writes,
    runner_reads: SyncSender<ReadJob>,
    query_reads: SyncSender<ReadJob>,
    enqueued_events: Mutex<Option<mpsc::UnboundedReceiver<EnqueuedEvent>>>,
    totals: Arc<Totals>,
    pending: PendingUsage,
    last_seq_at_open: u64,
    clock: QueueClock,
    budget: Budget,
}

/// The threads that write. Dropping it ends them, and waits until the file is closed.
#[derive(Debug)]
struct Writes {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    replica: Replica<EventMachine>,
    tasks: Sender<Task>,
    housekeeping: JoinHandle<()>,
    writer: JoinHandle<Database<EventMachine>>,
}

impl Drop for Writes {
    fn drop(&mut self) {
        let Some(Running {
            replica,
            tasks,
            housekeeping,
            writer,
        }) = self.running.take()
        else {
            return;
        };
        // The writer holds a sender, too, so the thread is ended by a task.
        let _ = tasks.send(Task::End);
        let _ = housekeeping.join();
        drop(replica);
        let _ = writer.join();
    }
}

impl SqliteQueue {
    /// Opens or creates the file and starts the threads.
    ///
    /// # Errors
    /// The file cannot be opened or is of a newer version. The message says how to fix it.
    pub fn open(path: &Path, budget: Budget) -> Result<Self, QueueError> {
        Self::try_open(path, budget).map_err(|e| {
            QueueError::Unavailable(format!(
                "{}: {e}; check that the directory is writable and its disk is not full, or restore the file",
                path.display()
            ))
        })
    }

    fn try_open(path: &Path, budget: Budget) -> Result<Self, Box<dyn std::error::Error>> {
        let connection = machine::connect(path)?;
        let totals = Totals::new(budget.bytes, MAX_PENDING_BYTES);
        let (tasks, inbox) = channel();
        let (enqueued, enqueued_events) = mpsc::unbounded_channel();
        let checking = Arc::new(AtomicBool::new(false));
        let announcer = Announcer::new(
            enqueued,
            tasks.clone(),
            totals.clone(),
            budget,
            checking.clone(),
        );
        let machine = EventMachine::with_listener(totals.clone(), Box::new(announcer));
        let database = Database::open(connection, machine)?;
        let last_seq_at_open = database.last_number();
        let clock = QueueClock::starting(Time(database.time().0));
        let directory = path.parent().unwrap_or(Path::new("."));
        let journal = UsageJournal::id_of(directory)?;
        let counted = machine::counted(database.connection(), journal)?;
        let (journal, uncounted) = UsageJournal::open(directory, journal, counted)?;
        let pending = PendingUsage::starting(journal, uncounted, counted);
        let runner_reads = reader::start("events-reader", machine::connect(path)?)?;
        let query_reads = reader::start("events-queries", machine::connect(path)?)?;
        let limits = Limits {
            waiting: MAX_PENDING_WRITES,
            ..Limits::default()
        };
        let now = move || replica::Time(clock.now().0);
        let (replica, writer) = Replica::embedded(database, now, limits, "events")?;
        let housekeeping = Housekeeping {
            replica: replica.clone(),
            pending: pending.clone(),
            totals: totals.clone(),
            budget,
            clock,
            failure_log: FailureLog::default(),
            checking,
        };
        let housekeeping = std::thread::Builder::new()
            .name("events-keeping".into())
            .spawn(move || housekeeping.run(&inbox))?;
        let running = Running {
            replica,
            tasks,
            housekeeping,
            writer,
        };
        Ok(Self {
            writes: Writes {
                running: Some(running),
            },
            runner_reads,
            query_reads,
            enqueued_events: Mutex::new(Some(enqueued_events)),
            totals,
            pending,
            last_seq_at_open,
            clock,
            budget,
        })
    }

    fn write(&self, command: EventCommand) -> Submitted<EventOutput> {
        self.writes.replica().submit(command)
    }

    /// Writes a command whose output is whether it applied.
    fn write_if(&self, command: EventCommand) -> QueueFuture<'static, bool> {
        let written = self.write(command);
        Box::pin(async move { Ok(written.await? == EventOutput::Applied(true)) })
    }

    /// Reserves what an event takes, in the store and in memory until then.
    fn admit(&self, event: &NewEvent, least: u64) -> Result<Admission, QueueError> {
        let (account, length) = (event.function.account, event.event.len() as u64);
        let admitted = self.totals.admit(account, length, least, rule(event));
        admitted.map_err(|refusal| match refusal {
            Refusal::Stored(excess) => stored(excess, self.budget.bytes),
            Refusal::Pending(ExceededLimit::Store { .. }) => QueueError::Busy,
            Refusal::Pending(ExceededLimit::Quota { .. }) => QueueError::AccountBusy,
        })
    }
}

impl Writes {
    fn running(&self) -> &Running {
        // It is taken only when this is dropped.
        match &self.running {
            Some(running) => running,
            None => unreachable!("a queue that is dropped is not used"),
        }
    }

    fn replica(&self) -> &Replica<EventMachine> {
        &self.running().replica
    }
}

fn rule(event: &NewEvent) -> AdmissionRule {
    match event.source {
        EventOrigin::DeadLetter => AdmissionRule::DeadLetter,
        EventOrigin::Api | EventOrigin::Trigger(_) => AdmissionRule::Quota,
    }
}

fn stored(excess: ExceededLimit, budget: u64) -> QueueError {
    match excess {
        ExceededLimit::Store { used } => QueueError::Full { used, budget },
        ExceededLimit::Quota { held } => QueueError::Quota { held, budget },
    }
}

impl From<SubmitError> for QueueError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Busy(_) | SubmitError::Full(_) => Self::Busy,
            SubmitError::Unavailable(reason) | SubmitError::Stopped(reason) => {
                Self::Unavailable(reason)
            }
            SubmitError::Closed => gone(),
        }
    }
}

fn read<T: Send + 'static>(
    thread: &SyncSender<ReadJob>,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> QueueFuture<'static, T> {
    let (sender, answer) = oneshot::channel();
    let job: ReadJob = Box::new(move |connection| {
        let _ = sender.send(read(connection).map_err(|error| unavailable(&error)));
    });
    let sent = thread.try_send(job);
    Box::pin(async move {
        sent.map_err(|_| QueueError::Busy)?;
        answer.await.map_err(|_| gone())?
    })
}

impl Queue for SqliteQueue {
    fn accept(&self, event: NewEvent) -> QueueFuture<'static, ()> {
        match self.admit(&event, MIN_PENDING_BYTES) {
            Ok(admission) => {
                let replica = self.writes.replica();
                let written = replica.submit_holding(EventCommand::Accept(event), admission);
                Box::pin(async move { Ok(written.await.map(drop)?) })
            }
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn accept_batch(&self, events: Vec<NewEvent>) -> Vec<QueueFuture<'static, ()>> {
        let mut commands = Vec::with_capacity(events.len());
        let mut held: Option<Admission> = None;
        let admitted = events.into_iter().map(|event| {
            // No minimum size: the whole batch is one submission.
            let admission = self.admit(&event, 0)?;
            match &mut held {
                Some(held) => held.join(admission),
                None => held = Some(admission),
            }
            commands.push(EventCommand::Accept(event));
            Ok(())
        });
        let admitted: Vec<Result<(), QueueError>> = admitted.collect();
        let written = held.map(|held| {
            let replica = self.writes.replica();
            let written = replica.submit_together_holding(commands, held);
            async move { written.await.map(drop).map_err(QueueError::from) }
                .boxed()
                .shared()
        });
        let answers = admitted
            .into_iter()
            .map(|admitted| match (admitted, &written) {
                (Ok(()), Some(written)) => written.clone().boxed(),
                (admitted, _) => std::future::ready(admitted).boxed(),
            });
        answers.collect()
    }

    fn enqueued_events(&self) -> Option<mpsc::UnboundedReceiver<EnqueuedEvent>> {
        let mut enqueued_events = self
            .enqueued_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        enqueued_events.take()
    }

    fn last_seq_at_open(&self) -> u64 {
        self.last_seq_at_open
    }

    fn highest_account(&self) -> QueueFuture<'_, u64> {
        read(&self.query_reads, queries::highest_account)
    }

    fn close(&self, account: AccountId) -> QueueFuture<'_, ()> {
        let written = self.write(EventCommand::Close(account));
        Box::pin(async move { Ok(written.await.map(drop)?) })
    }

    fn account_counts(&self, account: AccountId) -> QueueFuture<'_, AccountCounts> {
        read(&self.query_reads, move |connection| {
            machine::account_counts(connection, account)
        })
    }

    fn purge_some(&self, account: AccountId) -> QueueFuture<'_, u64> {
        let rows = PURGE_ROWS;
        let written = self.write(EventCommand::Purge { account, rows });
        Box::pin(async move {
            Ok(match written.await? {
                EventOutput::Purged(removed) => removed,
                _ => 0,
            })
        })
    }

    fn nonempty_queues(&self) -> QueueFuture<'_, Vec<QueueKey>> {
        read(&self.runner_reads, reader::nonempty_queues)
    }

    fn next<'a>(
        &'a self,
        queue_key: &'a QueueKey,
        after: Option<QueuePosition>,
        limit: usize,
    ) -> QueueFuture<'a, NextEvents> {
        let queue_key = queue_key.write();
        read(&self.runner_reads, move |connection| {
            reader::next(connection, &queue_key, after, limit)
        })
    }

    fn get(&self, seq: u64) -> QueueFuture<'_, Option<QueuedEvent>> {
        read(&self.runner_reads, move |connection| {
            reader::get(connection, seq).optional()
        })
    }

    fn complete(
        &self,
        attempt: AttemptId,
        failure: Option<FailureKind>,
        completion: Completion,
        usage: Option<UsageEntry>,
    ) -> QueueFuture<'_, Option<Time>> {
        let written = self.write(EventCommand::Complete {
            attempt,
            status: outcome_number(failure),
            completion,
            usage,
        });
        Box::pin(async move {
            Ok(match written.await? {
                EventOutput::Completed(completed) => completed.due,
                _ => None,
            })
        })
    }

    fn terminate(&self, request: RequestId, failure: FailureKind) -> QueueFuture<'_, bool> {
        let status = outcome_number(Some(failure));
        self.write_if(EventCommand::Terminate { request, status })
    }

    fn discard(&self, request: RequestId) -> QueueFuture<'_, bool> {
        self.write_if(EventCommand::Discard(request))
    }

    fn replay(&self, request: RequestId) -> QueueFuture<'_, bool> {
        self.write_if(EventCommand::Replay(request))
    }

    fn find(&self, query: EventQuery) -> QueueFuture<'_, EventPage> {
        read(&self.query_reads, move |connection| {
            queries::find(connection, &query)
        })
    }

    fn event(&self, request: RequestId) -> QueueFuture<'_, Option<EventRow>> {
        read(&self.query_reads, move |connection| {
            queries::event(connection, request).optional()
        })
    }

    fn backlog(&self) -> QueueFuture<'_, Backlog> {
        let (events, bytes) = (self.totals.events(), self.totals.bytes());
        Box::pin(async move {
            let oldest = read(&self.query_reads, queries::longest_due).await?;
            Ok(Backlog {
                events,
                bytes,
                oldest,
            })
        })
    }

    fn meter(&self, entry: UsageEntry) {
        if self.pending.add(entry) {
            // Fails only while the queue is closed. The entry is in the journal.
            let _ = self.writes.running().tasks.send(Task::Count);
        }
    }

    fn usage(&self, query: UsageQuery) -> QueueFuture<'_, Vec<(UsageKey, UsageTotals)>> {
        read(&self.query_reads, move |connection| {
            queries::usage(connection, &query)
        })
    }

    fn flush(&self) -> QueueFuture<'_, ()> {
        // What waits for company is written now, so that the thread does not wait for it.
        let earlier = self.writes.replica().barrier();
        let (sender, counted) = oneshot::channel();
        let sent = self.writes.running().tasks.send(Task::Flush(sender));
        Box::pin(async move {
            earlier.await?;
            sent.map_err(|_| gone())?;
            Ok(counted.await.map_err(|_| gone())??)
        })
    }

    fn clock(&self) -> &QueueClock {
        &self.clock
    }
}

fn gone() -> QueueError {
    QueueError::Unavailable("its thread has stopped; restart virga".into())
}

fn unavailable(error: &rusqlite::Error) -> QueueError {
    QueueError::Unavailable(replica::explain(error))
}
