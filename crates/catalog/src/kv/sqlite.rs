//! The embedded store: SQLite in WAL mode, synced to disk before a write is acknowledged.
//!
//! One thread owns the connection; callers await its answer without blocking a runtime thread. Queued writes are
//! committed in one transaction (group commit), so that they share a single fsync.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use super::{Kv, KvEntry, KvError, KvEvent, KvFuture, Precondition, Revision, Watch};

/// Maximum number of queued calls. Beyond it, calls fail at once (backpressure).
const QUEUE: usize = 1024;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA journal_size_limit = 16777216;
    PRAGMA secure_delete = ON;
    CREATE TABLE IF NOT EXISTS entry (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS last (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);
    INSERT OR IGNORE INTO last VALUES (1, 0);
    PRAGMA user_version = 1;
";

/// A store in a single SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteKv {
    calls: SyncSender<Call>,
}

enum Call {
    Get(String, oneshot::Sender<Result<Option<KvEntry>, KvError>>),
    List(String, oneshot::Sender<Result<Vec<KvEntry>, KvError>>),
    Watch(oneshot::Sender<Result<Watch, KvError>>),
    Write(Write),
}

struct Write {
    key: String,
    /// `None` deletes.
    value: Option<Vec<u8>>,
    on: Precondition,
    answer: oneshot::Sender<Result<Revision, KvError>>,
}

impl SqliteKv {
    /// Opens or creates the file and starts the thread.
    ///
    /// # Errors
    /// [`KvError::Unavailable`], with the cause and how to fix it.
    pub fn open(path: &Path) -> Result<Self, KvError> {
        let connection = open(path).map_err(|e| {
            KvError::Unavailable(format!(
                "{}: {e}; check that the directory is writable and its disk is not full, or restore the file from a backup",
                path.display()
            ))
        })?;
        let (calls, inbox) = sync_channel(QUEUE);
        let thread = StoreThread {
            connection,
            watchers: Vec::new(),
        };
        std::thread::Builder::new()
            .name("catalog".into())
            .spawn(move || thread.run(&inbox))
            .map_err(|e| KvError::Unavailable(format!("failed to start its thread: {e}")))?;
        Ok(Self { calls })
    }

    fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<T, KvError>>) -> Call,
    ) -> KvFuture<'_, T> {
        let (sender, answer) = oneshot::channel();
        let sent = self.calls.try_send(call(sender));
        Box::pin(async move {
            let gone = || KvError::Unavailable("its thread has exited".into());
            sent.map_err(|_| KvError::Unavailable("too many queued calls; try again".into()))?;
            answer.await.map_err(|_| gone())?
        })
    }
}

impl Kv for SqliteKv {
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<KvEntry>> {
        self.ask(|answer| Call::Get(key.to_owned(), answer))
    }

    fn put<'a>(&'a self, key: &'a str, value: Vec<u8>, on: Precondition) -> KvFuture<'a, Revision> {
        self.ask(|answer| {
            Call::Write(Write {
                key: key.to_owned(),
                value: Some(value),
                on,
                answer,
            })
        })
    }

    fn delete<'a>(&'a self, key: &'a str, on: Precondition) -> KvFuture<'a, Revision> {
        self.ask(|answer| {
            Call::Write(Write {
                key: key.to_owned(),
                value: None,
                on,
                answer,
            })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> KvFuture<'a, Vec<KvEntry>> {
        self.ask(|answer| Call::List(prefix.to_owned(), answer))
    }

    fn watch(&self) -> KvFuture<'_, Watch> {
        self.ask(Call::Watch)
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// State of the thread that owns the connection.
struct StoreThread {
    connection: Connection,
    watchers: Vec<mpsc::UnboundedSender<KvEvent>>,
}

impl StoreThread {
    fn run(mut self, inbox: &Receiver<Call>) {
        while let Ok(first) = inbox.recv() {
            let mut writes = Vec::new();
            for call in std::iter::once(first).chain(inbox.try_iter().take(QUEUE)) {
                match call {
                    Call::Write(write) => writes.push(write),
                    // Commit the writes queued before a read, so that the read observes them.
                    read => {
                        self.commit(std::mem::take(&mut writes));
                        self.answer(read);
                    }
                }
            }
            self.commit(writes);
        }
    }

    fn answer(&mut self, call: Call) {
        match call {
            Call::Get(key, answer) => drop(answer.send(self.get(&key).map_err(unavailable))),
            Call::List(prefix, answer) => {
                drop(answer.send(self.list(&prefix).map_err(unavailable)))
            }
            Call::Watch(answer) => {
                let (sender, events) = mpsc::unbounded_channel();
                let watch = self.list("").and_then(|snapshot| {
                    Ok(Watch {
                        snapshot,
                        revision: self.revision()?,
                        events,
                    })
                });
                self.watchers.push(sender);
                let _ = answer.send(watch.map_err(unavailable));
            }
            Call::Write(write) => self.commit(vec![write]),
        }
    }

    fn get(&self, key: &str) -> rusqlite::Result<Option<KvEntry>> {
        let mut find = self
            .connection
            .prepare_cached("SELECT key, value, revision FROM entry WHERE key = ?")?;
        find.query_row([key], read_entry).optional()
    }

    fn list(&self, prefix: &str) -> rusqlite::Result<Vec<KvEntry>> {
        let mut find = self.connection.prepare_cached(
            "SELECT key, value, revision FROM entry WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1 ORDER BY key",
        )?;
        find.query_map([prefix], read_entry)?.collect()
    }

    /// Returns the revision of the last commit.
    fn revision(&self) -> rusqlite::Result<Revision> {
        let last = self
            .connection
            .query_row("SELECT revision FROM last", [], |row| row.get::<_, i64>(0))?;
        Ok(last as Revision)
    }

    /// Commits writes in one transaction, then notifies the watchers, then the writers.
    fn commit(&mut self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        match self.try_commit(&writes) {
            Ok(results) => {
                for (write, result) in writes.into_iter().zip(results) {
                    if let Ok(Some(revision)) = result {
                        let event = KvEvent {
                            key: write.key,
                            value: write.value,
                            revision,
                        };
                        self.watchers
                            .retain(|watcher| watcher.send(event.clone()).is_ok());
                        let _ = write.answer.send(Ok(revision));
                    } else {
                        let _ = write
                            .answer
                            .send(result.map(|revision| revision.unwrap_or_default()));
                    }
                }
            }
            Err(e) => {
                let why = unavailable(e).to_string();
                for write in writes {
                    let _ = write.answer.send(Err(KvError::Unavailable(why.clone())));
                }
            }
        }
    }

    /// Returns for each write its revision, `None` if it changed nothing, or its conflict.
    fn try_commit(
        &mut self,
        writes: &[Write],
    ) -> rusqlite::Result<Vec<Result<Option<Revision>, KvError>>> {
        let transaction = self.connection.transaction()?;
        let mut last: i64 =
            transaction.query_row("SELECT revision FROM last", [], |row| row.get(0))?;
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let have: Option<i64> = transaction
                .prepare_cached("SELECT revision FROM entry WHERE key = ?")?
                .query_row([&write.key], |row| row.get(0))
                .optional()?;
            let holds = match write.on {
                Precondition::Any => true,
                Precondition::Absent => have.is_none(),
                Precondition::Revision(expected) => have == Some(expected as i64),
            };
            if !holds {
                results.push(Err(KvError::Conflict {
                    key: write.key.clone(),
                }));
                continue;
            }
            if write.value.is_none() && have.is_none() {
                results.push(Ok(None));
                continue;
            }
            last += 1;
            match &write.value {
                Some(value) => transaction
                    .prepare_cached("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)")?
                    .execute(params![write.key, value, last])?,
                None => transaction
                    .prepare_cached("DELETE FROM entry WHERE key = ?")?
                    .execute([&write.key])?,
            };
            results.push(Ok(Some(last as Revision)));
        }
        transaction.execute("UPDATE last SET revision = ?", [last])?;
        transaction.commit()?;
        Ok(results)
    }
}

fn read_entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<KvEntry> {
    Ok(KvEntry {
        key: row.get(0)?,
        value: row.get(1)?,
        revision: row.get::<_, i64>(2)? as Revision,
    })
}

fn unavailable(error: rusqlite::Error) -> KvError {
    let advice = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "; free space on the disk",
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => "; restore the file from a backup",
        _ => "",
    };
    KvError::Unavailable(format!("{error}{advice}"))
}
