//! The embedded queue: one file of SQLite with a write-ahead log, synced before anything is answered.
//!
//! One thread writes. What waits together is committed together, so that one sync serves as many events as came during the
//! last one. Another thread reads, with a connection of its own, and never waits for the disk's syncs.

mod reader;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dispatch::Time;
use dispatch::events::Order;
use model::{FunctionKey, StatusCode};
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, oneshot};

use self::reader::Reading;
use self::writer::{Call, Writer};
use super::{
    Arrival, Backlog, Kept, Later, NewEvent, Next, Queue, QueueClock, QueueError, Settled,
};

/// Writes that may wait for the thread.
const WAITING: usize = 8192;
/// Bytes of events that may wait for the thread.
const WAITING_BYTES: usize = 64 << 20;
/// What an event takes on disk beside its body, bytes, roughly.
const ROW: u64 = 256;

/// An event waits or runs.
const QUEUED: i64 = 0;
/// It was given up and is kept with its body.
const DEAD: i64 = 2;
/// It ran. This state and all above are history, without a body.
const FINISHED: i64 = 10;

const SCHEMA: &str = "
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA wal_autocheckpoint = 4000;
    CREATE TABLE IF NOT EXISTS lane (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS event (
        seq INTEGER PRIMARY KEY, request BLOB NOT NULL UNIQUE, lane INTEGER NOT NULL, due INTEGER NOT NULL,
        state INTEGER NOT NULL, source TEXT NOT NULL, qualifier TEXT NOT NULL, routing TEXT,
        accepted INTEGER NOT NULL, ended INTEGER, user_failures INTEGER NOT NULL, system_failures INTEGER NOT NULL,
        status INTEGER, message TEXT, body BLOB
    );
    CREATE INDEX IF NOT EXISTS queued ON event (lane, due, seq) WHERE state = 0;
    CREATE INDEX IF NOT EXISTS ended ON event (ended) WHERE state >= 2;
    CREATE TABLE IF NOT EXISTS reached (id INTEGER PRIMARY KEY CHECK (id = 1), time INTEGER NOT NULL);
    INSERT OR IGNORE INTO reached VALUES (1, 0);
    PRAGMA user_version = 1;
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
}

/// A queue in one file.
#[derive(Debug)]
pub(crate) struct SqliteQueue {
    calls: SyncSender<Call>,
    readings: SyncSender<Reading>,
    arrivals: Mutex<Option<mpsc::UnboundedReceiver<Arrival>>>,
    counts: Arc<Counts>,
    waiting_bytes: Arc<AtomicUsize>,
    old: u64,
    clock: QueueClock,
    budget: Budget,
}

/// What is on disk, as of the last commit.
#[derive(Debug, Default)]
struct Counts {
    events: AtomicU64,
    bytes: AtomicU64,
}

impl SqliteQueue {
    /// Opens or makes the file, and starts the threads.
    ///
    /// # Errors
    /// Says what is wrong with the file and how to mend it.
    pub(crate) fn open(path: &Path, budget: Budget) -> Result<Self, QueueError> {
        let wrong = |e: rusqlite::Error| {
            QueueError::Unavailable(format!(
                "{}: {e}; check that the directory can be written and its disk has room, or restore the file",
                path.display()
            ))
        };
        let connection = Connection::open(path).map_err(wrong)?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(wrong)?;
        connection.execute_batch(SCHEMA).map_err(wrong)?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let old = number("SELECT COALESCE(MAX(seq), 0) FROM event").map_err(wrong)? as u64;
        let reached = number("SELECT time FROM reached").map_err(wrong)? as u64;
        let clock = QueueClock::starting(Time(reached));
        let counts = Arc::new(Counts::default());
        let sum = "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM event WHERE state";
        for (state, counted) in [(QUEUED, true), (DEAD, false)] {
            let (events, bytes): (i64, i64) = connection
                .query_row(&format!("{sum} = {state}"), [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .map_err(wrong)?;
            if counted {
                counts.events.store(events as u64, Ordering::Relaxed);
            }
            let bytes = bytes as u64 + events as u64 * ROW;
            counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let history = number("SELECT COUNT(*) FROM event WHERE state >= 10").map_err(wrong)? as u64;
        let reading = Connection::open(path).map_err(wrong)?;
        reading
            .busy_timeout(Duration::from_secs(5))
            .map_err(wrong)?;
        let readings = reader::start(reading)?;
        let (calls, inbox) = sync_channel(WAITING);
        let (told, arrivals) = mpsc::unbounded_channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            connection,
            budget,
            counts: counts.clone(),
            waiting_bytes: waiting_bytes.clone(),
            told,
            clock,
            next: old + 1,
            history,
            cleaned: clock.now(),
            lanes: std::collections::HashMap::new(),
        };
        std::thread::Builder::new()
            .name("events".into())
            .spawn(move || writer.run(&inbox))
            .map_err(|e| QueueError::Unavailable(format!("cannot start its thread: {e}")))?;
        Ok(Self {
            calls,
            readings,
            arrivals: Mutex::new(Some(arrivals)),
            counts,
            waiting_bytes,
            old,
            clock,
            budget,
        })
    }

    fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> Call,
    ) -> Later<'_, T> {
        let (sender, answer) = oneshot::channel();
        let sent = self.calls.try_send(call(sender));
        Box::pin(async move {
            sent.map_err(|_| QueueError::Busy)?;
            answer.await.map_err(|_| gone())?
        })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Later<'_, T> {
        let (sender, answer) = oneshot::channel();
        let reading: Reading = Box::new(move |connection| {
            let _ = sender.send(read(connection).map_err(unavailable));
        });
        let sent = self.readings.try_send(reading);
        Box::pin(async move {
            sent.map_err(|_| QueueError::Busy)?;
            answer.await.map_err(|_| gone())?
        })
    }
}

impl Queue for SqliteQueue {
    fn accept(&self, event: NewEvent) -> Later<'_, ()> {
        let length = event.event.len();
        let used = self.counts.bytes.load(Ordering::Relaxed);
        let budget = self.budget.bytes;
        if used + length as u64 + ROW > budget {
            return Box::pin(async move { Err(QueueError::Full { used, budget }) });
        }
        let waiting = self.waiting_bytes.fetch_add(length, Ordering::Relaxed) + length;
        if waiting > WAITING_BYTES {
            self.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
            return Box::pin(async { Err(QueueError::Busy) });
        }
        let (sender, answer) = oneshot::channel();
        let sent = self.calls.try_send(Call::Accept(event, sender));
        if sent.is_err() {
            self.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        Box::pin(async move {
            sent.map_err(|_| QueueError::Busy)?;
            answer.await.map_err(|_| gone())?
        })
    }

    fn arrivals(&self) -> Option<mpsc::UnboundedReceiver<Arrival>> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.take()
    }

    fn last_of_old(&self) -> u64 {
        self.old
    }

    fn lanes(&self) -> Later<'_, Vec<FunctionKey>> {
        self.read(reader::lanes)
    }

    fn next<'a>(
        &'a self,
        lane: &'a FunctionKey,
        after: Option<Order>,
        limit: usize,
    ) -> Later<'a, Next> {
        let lane = lane_key(lane);
        self.read(move |connection| reader::next(connection, &lane, after, limit))
    }

    fn get(&self, seq: u64) -> Later<'_, Option<Kept>> {
        self.read(move |connection| reader::get(connection, seq).optional())
    }

    fn settle(&self, seq: u64, status: StatusCode, settled: Settled) -> Later<'_, ()> {
        self.write(|answer| Call::Settle(seq, status, settled, answer))
    }

    fn backlog(&self) -> Later<'_, Backlog> {
        let events = self.counts.events.load(Ordering::Relaxed);
        let bytes = self.counts.bytes.load(Ordering::Relaxed);
        Box::pin(async move {
            let oldest = self.read(reader::longest_due).await?;
            Ok(Backlog {
                events,
                bytes,
                oldest,
            })
        })
    }

    fn clock(&self) -> &QueueClock {
        &self.clock
    }
}

fn lane_key(lane: &FunctionKey) -> String {
    format!("function/{}/{}/{}", lane.account, lane.namespace, lane.name)
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
