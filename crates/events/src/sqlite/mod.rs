//! The embedded queue: one SQLite file with a write-ahead log, fsynced before a write is answered.
//!
//! One thread writes, with group commit: all commands that wait go into one transaction, so that one fsync serves all events that
//! came during the last one. A second thread reads for the runner over its own connection and never waits for an fsync. A third
//! serves the queries of the API.

mod batch;
mod purge;
mod queries;
mod quota;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatch::Time;
use dispatch::events::QueuePosition;
use model::{AccountId, FailureKind, RequestId};
use rusqlite::{Connection, OptionalExtension};
use telemetry::FailureLog;
use tokio::sync::{mpsc, oneshot};

use self::quota::{AccountQuotas, AdmissionRule, Deltas, ExceededLimit};
use self::reader::ReadJob;
use self::writer::{Command, Writer, WriterMessage};
use super::{
    AccountCounts, Backlog, Completion, EnqueuedEvent, EventOrigin, EventPage, EventQuery,
    EventRow, NewEvent, NextEvents, Queue, QueueClock, QueueError, QueueFuture, QueueKey,
    QueuedEvent,
};
use crate::usage::{PendingUsage, UsageEntry, UsageJournal, UsageKey, UsageQuery, UsageTotals};

/// Maximum number of commands that wait for the writer.
const MAX_PENDING_WRITES: usize = 8192;
/// Maximum bytes of events that wait for the writer.
const MAX_PENDING_BYTES: u64 = 64 << 20;
/// Minimum bytes that an event counts for while it waits for the writer. It makes the byte quota bound the number of events too.
const MIN_PENDING_BYTES: u64 = MAX_PENDING_BYTES / MAX_PENDING_WRITES as u64;
/// Approximate bytes of an event on disk besides its body.
const ROW_BYTES: u64 = 256;

const SCHEMA: &str = "
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA wal_autocheckpoint = 4000;
    CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS event (
        seq INTEGER PRIMARY KEY, request BLOB NOT NULL UNIQUE, function INTEGER NOT NULL, queue INTEGER NOT NULL,
        due INTEGER NOT NULL, state INTEGER NOT NULL, source TEXT NOT NULL, qualifier TEXT NOT NULL, routing TEXT,
        accepted INTEGER NOT NULL, ended INTEGER, user_failures INTEGER NOT NULL, system_failures INTEGER NOT NULL,
        status INTEGER, message TEXT, body BLOB, depth INTEGER NOT NULL DEFAULT 0, trace TEXT
    );
    CREATE INDEX IF NOT EXISTS queued ON event (queue, due, seq) WHERE state <= 1;
    CREATE INDEX IF NOT EXISTS history ON event (function, accepted);
    CREATE INDEX IF NOT EXISTS ended ON event (ended) WHERE state >= 2;
    CREATE TABLE IF NOT EXISTS usage (
        function INTEGER NOT NULL, version TEXT NOT NULL, hour INTEGER NOT NULL, invocations INTEGER NOT NULL,
        errors INTEGER NOT NULL, throttles INTEGER NOT NULL, billed_ms INTEGER NOT NULL, mb_ms INTEGER NOT NULL,
        out_bytes INTEGER NOT NULL, PRIMARY KEY (function, version, hour)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reached (id INTEGER PRIMARY KEY CHECK (id = 1), time INTEGER NOT NULL);
    INSERT OR IGNORE INTO reached VALUES (1, 0);
    CREATE TABLE IF NOT EXISTS counted (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL);
    INSERT OR IGNORE INTO counted VALUES (1, 0);
    PRAGMA user_version = 4;
";

/// The schema version of this build.
const VERSION: i64 = 1 + MIGRATIONS.len() as i64;

/// The migration from each version to the next, starting with version 1. Each is one transaction, so that a kill leaves the file at
/// either version. Never edit one: it has run on users' disks.
const MIGRATIONS: &[&str] = &[
    // Version 1 did not store the recursion depth.
    "ALTER TABLE event ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
     PRAGMA user_version = 2;",
    // Version 2 had other names for queues and for the keys of dead letters.
    "ALTER TABLE lane RENAME TO queue;
     ALTER TABLE event RENAME COLUMN lane TO queue;
     UPDATE queue SET key = 'dead-letters/' || substr(key, 9) WHERE key LIKE 'letters/%';
     PRAGMA user_version = 3;",
    // Version 3 did not store the trace context.
    "ALTER TABLE event ADD COLUMN trace TEXT;
     PRAGMA user_version = 4;",
];

/// Limits of the stored data.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Maximum bytes of events that have not completed and of dead events.
    pub bytes: u64,
    /// Retention of completed events.
    pub history: Duration,
    /// Maximum number of completed events.
    pub history_events: u64,
    /// Retention of the usage ledger.
    pub usage: Duration,
}

/// A queue in one SQLite file.
#[derive(Debug)]
pub struct SqliteQueue {
    commands: SyncSender<WriterMessage>,
    runner_reads: SyncSender<ReadJob>,
    query_reads: SyncSender<ReadJob>,
    enqueued_events: Mutex<Option<mpsc::UnboundedReceiver<EnqueuedEvent>>>,
    counts: Arc<Counts>,
    pending_writes: Arc<Mutex<AccountQuotas>>,
    pending: PendingUsage,
    last_seq_at_open: u64,
    clock: QueueClock,
    budget: Budget,
}

/// Receives the result of a write.
type AnswerReceiver = oneshot::Receiver<Result<(), QueueError>>;

/// Totals of the stored events as of the last commit.
#[derive(Debug)]
struct Counts {
    events: AtomicU64,
    bytes: Mutex<AccountQuotas>,
}

impl Counts {
    fn bytes(&self) -> MutexGuard<'_, AccountQuotas> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The capacity that a waiting event occupies in the writer's inbox. Dropping it releases the capacity.
#[derive(Debug)]
struct WriteSlot {
    pending_writes: Arc<Mutex<AccountQuotas>>,
    account: AccountId,
    bytes: u64,
}

impl Drop for WriteSlot {
    fn drop(&mut self) {
        let mut pending_writes = self
            .pending_writes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pending_writes.change(self.account, -(self.bytes as i64));
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
        let connect = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            Ok(connection)
        };
        let connection = connect()?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > VERSION {
            return Err(format!(
                "a newer virga wrote it (format {version}, this one reads up to {VERSION}); upgrade"
            )
            .into());
        }
        // Version 0 is a new file.
        let applied = if version == 0 {
            MIGRATIONS.len()
        } else {
            version as usize - 1
        };
        for migration in &MIGRATIONS[applied..] {
            connection.execute_batch(&format!("BEGIN; {migration} COMMIT;"))?;
        }
        connection.execute_batch(SCHEMA)?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let last_seq_at_open = number("SELECT COALESCE(MAX(seq), 0) FROM event")? as u64;
        let reached = number("SELECT time FROM reached")? as u64;
        let clock = QueueClock::starting(Time(reached));
        let events = number("SELECT COUNT(*) FROM event WHERE state <= 1")? as u64;
        let counts = Arc::new(Counts {
            events: AtomicU64::new(events),
            bytes: Mutex::new(quotas(&connection, budget.bytes)?),
        });
        let history = number("SELECT COUNT(*) FROM event WHERE state >= 10")? as u64;
        let runner_reads = reader::start("events-reader", connect()?)?;
        let query_reads = reader::start("events-queries", connect()?)?;
        let (commands, inbox) = sync_channel(MAX_PENDING_WRITES);
        let (enqueued_sender, enqueued_events) = mpsc::unbounded_channel();
        let pending_writes = Arc::new(Mutex::new(AccountQuotas::new(MAX_PENDING_BYTES)));
        let committed = number("SELECT number FROM counted")? as u64;
        let directory = path.parent().unwrap_or(Path::new("."));
        let (journal, uncommitted) = UsageJournal::open(directory, committed)?;
        let pending = PendingUsage::starting(journal, uncommitted, committed);
        let writer = Writer {
            connection,
            budget,
            counts: counts.clone(),
            pending: pending.clone(),
            enqueued_sender,
            clock,
            next: last_seq_at_open + 1,
            history,
            cleaned: clock.now(),
            synced: true,
            level: None,
            failure_log: FailureLog::default(),
            metered: None,
            queue_ids: std::collections::HashMap::new(),
            closed: std::collections::HashSet::new(),
        };
        std::thread::Builder::new()
            .name("events".into())
            .spawn(move || writer.run(&inbox))?;
        Ok(Self {
            commands,
            runner_reads,
            query_reads,
            enqueued_events: Mutex::new(Some(enqueued_events)),
            counts,
            pending_writes,
            pending,
            last_seq_at_open,
            clock,
            budget,
        })
    }

    fn write(&self, command: impl FnOnce(writer::Answer) -> Command) -> QueueFuture<'static, ()> {
        let (sender, answer) = oneshot::channel();
        answered(self.send(WriterMessage::One(command(sender))), answer)
    }

    /// Sends a message to the writer. Returns false if its inbox is full.
    fn send(&self, sent: WriterMessage) -> bool {
        self.commands.try_send(sent).is_ok()
    }

    /// Checks the quotas and returns the command that stores an event, with the receiver of its result.
    fn admit(&self, event: NewEvent, least: u64) -> Result<(Command, AnswerReceiver), QueueError> {
        let (account, length) = (event.function.account, event.event.len() as u64);
        let none = Deltas::default();
        // The writer checks again, because other events may be committed first.
        let stored = self
            .counts
            .bytes()
            .check(account, length + ROW_BYTES, rule(&event), &none);
        stored.map_err(|excess| refusal(excess, self.budget.bytes))?;
        let bytes = length.max(least);
        let mut pending_writes = self
            .pending_writes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match pending_writes.check(account, bytes, AdmissionRule::Quota, &none) {
            Ok(()) => pending_writes.change(account, bytes as i64),
            Err(ExceededLimit::Store { .. }) => return Err(QueueError::Busy),
            Err(ExceededLimit::Quota { .. }) => return Err(QueueError::AccountBusy),
        }
        drop(pending_writes);
        let slot = WriteSlot {
            pending_writes: self.pending_writes.clone(),
            account,
            bytes,
        };
        let (sender, answer) = oneshot::channel();
        Ok((Command::Accept(event, slot, sender), answer))
    }
}

fn rule(event: &NewEvent) -> AdmissionRule {
    match event.source {
        EventOrigin::DeadLetter => AdmissionRule::DeadLetter,
        EventOrigin::Api | EventOrigin::Trigger(_) => AdmissionRule::Quota,
    }
}

fn refusal(excess: ExceededLimit, budget: u64) -> QueueError {
    match excess {
        ExceededLimit::Store { used } => QueueError::Full { used, budget },
        ExceededLimit::Quota { held } => QueueError::Quota { held, budget },
    }
}

/// Sums the bytes that count against the budget by account.
fn quotas(connection: &Connection, budget: u64) -> rusqlite::Result<AccountQuotas> {
    let mut quotas = AccountQuotas::new(budget);
    let mut sum = connection.prepare(
        "SELECT (SELECT key FROM queue WHERE id = function), SUM(COALESCE(LENGTH(body), 0)), COUNT(*)
         FROM event WHERE state <= 2 GROUP BY function",
    )?;
    let mut rows = sum.query([])?;
    while let Some(row) = rows.next()? {
        let account = QueueKey::account(row.get::<_, Option<String>>(0)?.as_deref());
        let (bodies, events): (i64, i64) = (row.get(1)?, row.get(2)?);
        quotas.change(account, bodies + events * ROW_BYTES as i64);
    }
    Ok(quotas)
}

/// Returns the future result of a command, or [`QueueError::Busy`] if it was not sent.
fn answered(sent: bool, answer: AnswerReceiver) -> QueueFuture<'static, ()> {
    Box::pin(async move {
        if !sent {
            return Err(QueueError::Busy);
        }
        answer.await.map_err(|_| gone())?
    })
}

fn read<T: Send + 'static>(
    thread: &SyncSender<ReadJob>,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> QueueFuture<'static, T> {
    let (sender, answer) = oneshot::channel();
    let job: ReadJob = Box::new(move |connection| {
        let _ = sender.send(read(connection).map_err(unavailable));
    });
    let sent = thread.try_send(job);
    Box::pin(async move {
        sent.map_err(|_| QueueError::Busy)?;
        answer.await.map_err(|_| gone())?
    })
}

impl Queue for SqliteQueue {
    fn accept(&self, event: NewEvent) -> QueueFuture<'static, ()> {
        match self.admit(event, MIN_PENDING_BYTES) {
            Ok((command, answer)) => answered(self.send(WriterMessage::One(command)), answer),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn accept_batch(&self, events: Vec<NewEvent>) -> Vec<QueueFuture<'static, ()>> {
        let mut commands = Vec::with_capacity(events.len());
        let admitted = events.into_iter().map(|event| {
            // No minimum size: the whole batch is one message in the inbox.
            let (command, answer) = self.admit(event, 0)?;
            commands.push(command);
            Ok(answer)
        });
        let admitted: Vec<Result<_, QueueError>> = admitted.collect();
        let sent = commands.is_empty() || self.send(WriterMessage::Together(commands));
        let answers = admitted.into_iter().map(|admitted| match admitted {
            Ok(answer) => answered(sent, answer),
            Err(error) => Box::pin(async { Err(error) }),
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
        self.write(|answer| Command::Close(account, answer))
    }

    fn account_counts(&self, account: AccountId) -> QueueFuture<'_, AccountCounts> {
        read(&self.query_reads, move |connection| {
            purge::account_counts(connection, account)
        })
    }

    fn purge_some(&self, account: AccountId) -> QueueFuture<'_, u64> {
        let removed = Arc::new(AtomicU64::new(0));
        let written = self.write(|answer| Command::Purge(account, removed.clone(), answer));
        Box::pin(async move {
            written.await?;
            Ok(removed.load(Ordering::Relaxed))
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
        seq: u64,
        failure: Option<FailureKind>,
        completion: Completion,
        usage: Option<UsageEntry>,
    ) -> QueueFuture<'_, ()> {
        self.write(|answer| Command::Complete(seq, failure, completion, usage, answer))
    }

    fn replay(&self, seq: u64) -> QueueFuture<'_, ()> {
        self.write(|answer| Command::Replay(seq, answer))
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
        let events = self.counts.events.load(Ordering::Relaxed);
        let bytes = self.counts.bytes().total();
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
            // If the inbox is full, the writer is about to commit and includes this entry.
            let _ = self.commands.try_send(WriterMessage::One(Command::Meter));
        }
    }

    fn usage(&self, query: UsageQuery) -> QueueFuture<'_, Vec<(UsageKey, UsageTotals)>> {
        read(&self.query_reads, move |connection| {
            queries::usage(connection, &query)
        })
    }

    fn flush(&self) -> QueueFuture<'_, ()> {
        self.write(Command::Flush)
    }

    fn clock(&self) -> &QueueClock {
        &self.clock
    }
}

fn gone() -> QueueError {
    QueueError::Unavailable("its thread has stopped; restart virga".into())
}

fn unavailable(error: rusqlite::Error) -> QueueError {
    let remedy = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "; the disk is full: free some space",
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => "; the file is damaged: restore it",
        _ => "",
    };
    QueueError::Unavailable(format!("{error}{remedy}"))
}
