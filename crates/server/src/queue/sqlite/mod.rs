//! The embedded queue: one file of SQLite with a write-ahead log, synced before anything is answered.
//!
//! One thread writes. What waits together is committed together, so that one sync serves as many events as came during the
//! last one. Another thread reads for the runner, with a connection of its own, and never waits for the disk's syncs; a third
//! reads for people.

mod purge;
mod reader;
mod settle;
mod share;
mod show;
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
use model::{AccountId, RequestId, StatusCode};
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, oneshot};

use self::reader::Reading;
use self::share::{Deltas, Excess, Rule, Shares};
use self::writer::{Call, Sent, Writer};
use super::{
    Arrival, Backlog, Belongings, EventQuery, EventRow, Found, Kept, LaneKey, Later, NewEvent,
    Next, Queue, QueueClock, QueueError, Settled, Source,
};
use crate::ailing::Ailing;
use crate::usage::{Account, Entry, Journal, Pending, Totals, UsageQuery};

/// Writes that may wait for the thread.
const WAITING: usize = 8192;
/// Bytes of events that may wait for the thread.
const WAITING_BYTES: u64 = 64 << 20;
/// The least that an event counts for among those that wait for the thread, bytes. With it the accounts share the places, too.
const WAITING_LEAST: u64 = WAITING_BYTES / WAITING as u64;
/// What an event takes on disk beside its body, bytes, roughly.
const ROW: u64 = 256;

const SCHEMA: &str = "
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA wal_autocheckpoint = 4000;
    CREATE TABLE IF NOT EXISTS lane (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS event (
        seq INTEGER PRIMARY KEY, request BLOB NOT NULL UNIQUE, function INTEGER NOT NULL, lane INTEGER NOT NULL,
        due INTEGER NOT NULL, state INTEGER NOT NULL, source TEXT NOT NULL, qualifier TEXT NOT NULL, routing TEXT,
        accepted INTEGER NOT NULL, ended INTEGER, user_failures INTEGER NOT NULL, system_failures INTEGER NOT NULL,
        status INTEGER, message TEXT, body BLOB, depth INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX IF NOT EXISTS queued ON event (lane, due, seq) WHERE state <= 1;
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
    PRAGMA user_version = 2;
";

/// The version of the file that is written.
const VERSION: i64 = 2;

/// Before, an event did not say how deep in a chain of functions it is.
const FROM_VERSION_1: &str = "
    BEGIN;
    ALTER TABLE event ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
    PRAGMA user_version = 2;
    COMMIT;
";

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Bytes of events that have not ended, and of those that were given up.
    pub(crate) bytes: u64,
    /// How long what has ended is remembered.
    pub(crate) history: Duration,
    /// How many that have ended are remembered.
    pub(crate) history_events: u64,
    /// How long the ledger is kept.
    pub(crate) usage: Duration,
}

/// A queue in one file.
#[derive(Debug)]
pub(crate) struct SqliteQueue {
    calls: SyncSender<Sent>,
    readings: SyncSender<Reading>,
    showings: SyncSender<Reading>,
    arrivals: Mutex<Option<mpsc::UnboundedReceiver<Arrival>>>,
    counts: Arc<Counts>,
    waiting: Arc<Mutex<Shares>>,
    pending: Pending,
    old: u64,
    clock: QueueClock,
    budget: Budget,
}

/// Who hears of a write.
type Answered = oneshot::Receiver<Result<(), QueueError>>;

/// What is on disk, as of the last commit.
#[derive(Debug)]
struct Counts {
    events: AtomicU64,
    bytes: Mutex<Shares>,
}

impl Counts {
    fn bytes(&self) -> MutexGuard<'_, Shares> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of an event among those that wait for the thread. Dropping it frees the place.
#[derive(Debug)]
struct Place {
    waiting: Arc<Mutex<Shares>>,
    account: AccountId,
    bytes: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.change(self.account, -(self.bytes as i64));
    }
}

impl SqliteQueue {
    /// Opens or makes the file, and starts the threads.
    ///
    /// # Errors
    /// Says what is wrong with the file and how to mend it.
    pub(crate) fn open(path: &Path, budget: Budget) -> Result<Self, QueueError> {
        Self::try_open(path, budget).map_err(|e| {
            QueueError::Unavailable(format!(
                "{}: {e}; check that the directory can be written and its disk has room, or restore the file",
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
        match version {
            1 => connection.execute_batch(FROM_VERSION_1)?,
            newer if newer > VERSION => {
                return Err(format!("a newer virga wrote it (format {newer}, this one reads up to {VERSION}); upgrade").into());
            }
            _ => {}
        }
        connection.execute_batch(SCHEMA)?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let old = number("SELECT COALESCE(MAX(seq), 0) FROM event")? as u64;
        let reached = number("SELECT time FROM reached")? as u64;
        let clock = QueueClock::starting(Time(reached));
        let events = number("SELECT COUNT(*) FROM event WHERE state <= 1")? as u64;
        let counts = Arc::new(Counts {
            events: AtomicU64::new(events),
            bytes: Mutex::new(shares(&connection, budget.bytes)?),
        });
        let history = number("SELECT COUNT(*) FROM event WHERE state >= 10")? as u64;
        let readings = reader::start("events-reader", connect()?)?;
        let showings = reader::start("events-shower", connect()?)?;
        let (calls, inbox) = sync_channel(WAITING);
        let (told, arrivals) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Shares::new(WAITING_BYTES)));
        let counted = number("SELECT number FROM counted")? as u64;
        let directory = path.parent().unwrap_or(Path::new("."));
        let (journal, lacking) = Journal::open(directory, counted)?;
        let pending = Pending::starting(journal, lacking, counted);
        let writer = Writer {
            connection,
            budget,
            counts: counts.clone(),
            pending: pending.clone(),
            told,
            clock,
            next: old + 1,
            history,
            cleaned: clock.now(),
            synced: true,
            level: None,
            ailing: Ailing::default(),
            metered: None,
            lanes: std::collections::HashMap::new(),
            closed: std::collections::HashSet::new(),
        };
        std::thread::Builder::new()
            .name("events".into())
            .spawn(move || writer.run(&inbox))?;
        Ok(Self {
            calls,
            readings,
            showings,
            arrivals: Mutex::new(Some(arrivals)),
            counts,
            waiting,
            pending,
            old,
            clock,
            budget,
        })
    }

    fn write(&self, call: impl FnOnce(writer::Answer) -> Call) -> Later<'static, ()> {
        let (sender, answer) = oneshot::channel();
        answered(self.send(Sent::One(call(sender))), answer)
    }

    /// Whether the thread will get it.
    fn send(&self, sent: Sent) -> bool {
        self.calls.try_send(sent).is_ok()
    }

    /// What keeps an event, if there is room for it, and who is to hear of it.
    fn admit(&self, event: NewEvent, least: u64) -> Result<(Call, Answered), QueueError> {
        let (account, length) = (event.function.account, event.event.len() as u64);
        let none = Deltas::default();
        // The thread asks again: others may come first.
        let stored = self
            .counts
            .bytes()
            .check(account, length + ROW, rule(&event), &none);
        stored.map_err(|excess| refusal(excess, self.budget.bytes))?;
        let bytes = length.max(least);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.check(account, bytes, Rule::Share, &none) {
            Ok(()) => waiting.change(account, bytes as i64),
            Err(Excess::Store { .. }) => return Err(QueueError::Busy),
            Err(Excess::Share { .. }) => return Err(QueueError::AccountBusy),
        }
        drop(waiting);
        let place = Place {
            waiting: self.waiting.clone(),
            account,
            bytes,
        };
        let (sender, answer) = oneshot::channel();
        Ok((Call::Accept(event, place, sender), answer))
    }
}

fn rule(event: &NewEvent) -> Rule {
    match event.source {
        Source::DeadLetter => Rule::Letter,
        Source::Api | Source::Cos | Source::Timer => Rule::Share,
    }
}

fn refusal(excess: Excess, budget: u64) -> QueueError {
    match excess {
        Excess::Store { used } => QueueError::Full { used, budget },
        Excess::Share { held } => QueueError::Share { held, budget },
    }
}

/// Sums up by account what counts against the budget.
fn shares(connection: &Connection, budget: u64) -> rusqlite::Result<Shares> {
    let mut shares = Shares::new(budget);
    let mut sum = connection.prepare(
        "SELECT (SELECT key FROM lane WHERE id = function), SUM(COALESCE(LENGTH(body), 0)), COUNT(*)
         FROM event WHERE state <= 2 GROUP BY function",
    )?;
    let mut rows = sum.query([])?;
    while let Some(row) = rows.next()? {
        let account = LaneKey::account(row.get::<_, Option<String>>(0)?.as_deref());
        let (bodies, events): (i64, i64) = (row.get(1)?, row.get(2)?);
        shares.change(account, bodies + events * ROW as i64);
    }
    Ok(shares)
}

/// The writer's answer, of a call that it was sent.
fn answered(sent: bool, answer: Answered) -> Later<'static, ()> {
    Box::pin(async move {
        if !sent {
            return Err(QueueError::Busy);
        }
        answer.await.map_err(|_| gone())?
    })
}

fn read<T: Send + 'static>(
    thread: &SyncSender<Reading>,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Later<'static, T> {
    let (sender, answer) = oneshot::channel();
    let reading: Reading = Box::new(move |connection| {
        let _ = sender.send(read(connection).map_err(unavailable));
    });
    let sent = thread.try_send(reading);
    Box::pin(async move {
        sent.map_err(|_| QueueError::Busy)?;
        answer.await.map_err(|_| gone())?
    })
}

impl Queue for SqliteQueue {
    fn accept(&self, event: NewEvent) -> Later<'static, ()> {
        match self.admit(event, WAITING_LEAST) {
            Ok((call, answer)) => answered(self.send(Sent::One(call)), answer),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn accept_together(&self, events: Vec<NewEvent>) -> Vec<Later<'static, ()>> {
        let mut calls = Vec::with_capacity(events.len());
        let admitted = events.into_iter().map(|event| {
            // Together they take one place.
            let (call, answer) = self.admit(event, 0)?;
            calls.push(call);
            Ok(answer)
        });
        let admitted: Vec<Result<_, QueueError>> = admitted.collect();
        let sent = calls.is_empty() || self.send(Sent::Together(calls));
        let answers = admitted.into_iter().map(|admitted| match admitted {
            Ok(answer) => answered(sent, answer),
            Err(error) => Box::pin(async { Err(error) }),
        });
        answers.collect()
    }

    fn arrivals(&self) -> Option<mpsc::UnboundedReceiver<Arrival>> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.take()
    }

    fn last_of_old(&self) -> u64 {
        self.old
    }

    fn highest_account(&self) -> Later<'_, u64> {
        read(&self.showings, show::highest_account)
    }

    fn close(&self, account: AccountId) -> Later<'_, ()> {
        self.write(|answer| Call::Close(account, answer))
    }

    fn belongings(&self, account: AccountId) -> Later<'_, Belongings> {
        read(&self.showings, move |connection| {
            purge::belongings(connection, account)
        })
    }

    fn purge_some(&self, account: AccountId) -> Later<'_, u64> {
        let removed = Arc::new(AtomicU64::new(0));
        let written = self.write(|answer| Call::Purge(account, removed.clone(), answer));
        Box::pin(async move {
            written.await?;
            Ok(removed.load(Ordering::Relaxed))
        })
    }

    fn lanes(&self) -> Later<'_, Vec<LaneKey>> {
        read(&self.readings, reader::lanes)
    }

    fn next<'a>(
        &'a self,
        lane: &'a LaneKey,
        after: Option<QueuePosition>,
        limit: usize,
    ) -> Later<'a, Next> {
        let lane = lane.write();
        read(&self.readings, move |connection| {
            reader::next(connection, &lane, after, limit)
        })
    }

    fn get(&self, seq: u64) -> Later<'_, Option<Kept>> {
        read(&self.readings, move |connection| {
            reader::get(connection, seq).optional()
        })
    }

    fn settle(
        &self,
        seq: u64,
        status: StatusCode,
        settled: Settled,
        usage: Option<Entry>,
    ) -> Later<'_, ()> {
        self.write(|answer| Call::Settle(seq, status, settled, usage, answer))
    }

    fn replay(&self, seq: u64) -> Later<'_, ()> {
        self.write(|answer| Call::Replay(seq, answer))
    }

    fn find(&self, query: EventQuery) -> Later<'_, Found> {
        read(&self.showings, move |connection| {
            show::find(connection, &query)
        })
    }

    fn event(&self, request: RequestId) -> Later<'_, Option<EventRow>> {
        read(&self.showings, move |connection| {
            show::event(connection, request).optional()
        })
    }

    fn backlog(&self) -> Later<'_, Backlog> {
        let events = self.counts.events.load(Ordering::Relaxed);
        let bytes = self.counts.bytes().total();
        Box::pin(async move {
            let oldest = read(&self.showings, show::longest_due).await?;
            Ok(Backlog {
                events,
                bytes,
                oldest,
            })
        })
    }

    fn meter(&self, entry: Entry) {
        if self.pending.add(entry) {
            // Where its inbox is full, the thread is about to commit, and takes this along.
            let _ = self.calls.try_send(Sent::One(Call::Meter));
        }
    }

    fn usage(&self, query: UsageQuery) -> Later<'_, Vec<(Account, Totals)>> {
        read(&self.showings, move |connection| {
            show::usage(connection, &query)
        })
    }

    fn flush(&self) -> Later<'_, ()> {
        self.write(Call::Flush)
    }

    fn clock(&self) -> &QueueClock {
        &self.clock
    }
}

fn gone() -> QueueError {
    QueueError::Unavailable("its thread has ended".into())
}

fn unavailable(error: rusqlite::Error) -> QueueError {
    let mend = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "; the disk is full: make room",
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => "; the file is damaged: restore it",
        _ => "",
    };
    QueueError::Unavailable(format!("{error}{mend}"))
}
