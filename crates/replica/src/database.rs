//! A machine's database, and what every replica keeps in it: the position and time of the last record, and the writers' windows.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use thiserror::Error;

use crate::control::Control;
use crate::log::{LogIdentity, Position};
use crate::machine::{Apply, Machine};
use crate::record::{Contents, Header, Record, RecordError, WriterId};
use crate::time::Time;
use crate::window::Window;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS replica (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        position INTEGER NOT NULL,
        time INTEGER NOT NULL,
        log TEXT,
        numbers INTEGER NOT NULL
    );
    INSERT OR IGNORE INTO replica VALUES (0, 0, 0, NULL, 0);
    CREATE TABLE IF NOT EXISTS replica_writer (
        writer BLOB PRIMARY KEY,
        window BLOB NOT NULL,
        seen INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS replica_backup (
        id TEXT PRIMARY KEY,
        until INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// How long a writer's window is kept after its last record, in the log's time. A duplicate that is still later would be applied again.
const WRITER_KEPT: Duration = Duration::from_hours(7 * 24);

/// How long a backup that is not ended delays moves between logs, in the log's time.
const LONGEST_BACKUP: Duration = Duration::from_mins(10);

/// A machine with its tables.
#[derive(Debug)]
pub struct Database<M> {
    connection: Connection,
    machine: M,
    state: State,
    /// The windows of the writers that were seen since the database was opened.
    windows: HashMap<WriterId, Window>,
    /// The `synchronous` level set last: true for FULL.
    full: Option<bool>,
}

/// The row of `replica`.
#[derive(Clone, Debug)]
struct State {
    position: Position,
    time: Time,
    log: Option<LogIdentity>,
    /// The last number that the machine has drawn.
    numbers: u64,
}

/// Why a record is not applied.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The disk or the database failed; nothing of the record is applied.
    #[error("the database failed: {0}")]
    Environment(#[from] rusqlite::Error),
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl<M: Machine> Database<M> {
    /// Opens a machine's tables over a connection, and migrates them.
    ///
    /// # Errors
    /// Fails if the database does.
    pub fn open(mut connection: Connection, mut machine: M) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.execute_batch(TABLES)?;
        machine.open(&mut connection)?;
        let state = connection.query_row(
            "SELECT position, time, log, numbers FROM replica",
            [],
            |row| {
                Ok(State {
                    position: Position(row.get::<_, i64>(0)? as u64),
                    time: Time(row.get::<_, i64>(1)? as u64),
                    log: row.get::<_, Option<String>>(2)?.map(LogIdentity),
                    numbers: row.get::<_, i64>(3)? as u64,
                })
            },
        )?;
        Ok(Self {
            connection,
            machine,
            state,
            windows: HashMap::new(),
            full: None,
        })
    }

    /// Returns the position of the last record applied.
    pub fn position(&self) -> Position {
        self.state.position
    }

    /// Returns the time of the last record applied.
    pub fn time(&self) -> Time {
        self.state.time
    }

    /// Returns the last number that the machine has drawn.
    pub fn last_number(&self) -> u64 {
        self.state.numbers
    }

    /// Returns the identity of the log that was applied; none for an embedded database, or before the first record.
    pub fn log(&self) -> Option<&LogIdentity> {
        self.state.log.as_ref()
    }

    /// Returns the machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Returns until when a backup is open; 0 if none is.
    ///
    /// # Errors
    /// Fails if the database does.
    pub(crate) fn backup_until(&self) -> rusqlite::Result<Time> {
        let until = "SELECT COALESCE(MAX(until), 0) FROM replica_backup";
        let until = self
            .connection
            .query_row(until, [], |row| row.get::<_, i64>(0));
        Ok(Time(until? as u64))
    }

    /// Returns the file that the database is in, if it is in one.
    pub fn path(&self) -> Option<PathBuf> {
        let path = self.connection.path().filter(|path| !path.is_empty());
        path.map(PathBuf::from)
    }

    /// Returns the connection, to read.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Applies commands as one record, and syncs it if asked to. A replica does this in its thread; this is for a caller that has the database to
    /// itself.
    ///
    /// # Errors
    /// Fails if the database does; then nothing is applied.
    pub fn apply_alone(
        &mut self,
        now: Time,
        commands: &[M::Command],
        sync: bool,
    ) -> rusqlite::Result<Vec<M::Output>> {
        self.apply_own(now, commands, &[], sync)
    }

    /// Applies commands and controls as one record of this process's own, and syncs it if asked to.
    pub(crate) fn apply_own<'c>(
        &mut self,
        now: Time,
        commands: impl IntoIterator<Item = &'c M::Command>,
        controls: &[Control],
        sync: bool,
    ) -> rusqlite::Result<Vec<M::Output>>
    where
        M::Command: 'c,
    {
        self.sync_commits(sync)?;
        let next = State {
            position: Position(self.state.position.0 + 1),
            time: self.state.time.max(now),
            log: None,
            numbers: self.state.numbers,
        };
        let time = next.time;
        self.apply(next, commands, |transaction| {
            let mut controls = controls.iter();
            controls.try_for_each(|control| note(transaction, control, time))
        })
    }

    /// Applies a log's next record. Returns the commands' outputs, or `None` if it is a duplicate.
    pub(crate) fn apply_record(
        &mut self,
        log: &LogIdentity,
        position: Position,
        stored: Time,
        record: &Record,
    ) -> Result<Option<Vec<M::Output>>, DatabaseError> {
        let header = record.header;
        let commands = match &record.contents {
            Contents::Commands(commands) => commands.as_slice(),
            Contents::Control(_) => &[],
        };
        let commands = commands.iter().map(|bytes| M::decode(bytes));
        let commands: Vec<_> = commands.collect::<Result<_, _>>().map_err(|reason| {
            let Header { writer, number, .. } = header;
            RecordError::Command {
                writer,
                number,
                reason,
            }
        })?;
        // The log has it all: a commit that a power loss undoes is applied again.
        self.sync_commits(false)?;
        let next = State {
            position,
            time: self.state.time.max(header.time.min(stored)),
            log: Some(log.clone()),
            numbers: self.state.numbers,
        };
        let mut window = self.window(header.writer)?;
        let known = window.is_some();
        let window_after = window.get_or_insert_default();
        let first = window_after.admit(header.number, header.base);
        let seen = next.time;
        let commands = if first { commands.as_slice() } else { &[] };
        let outputs = self.apply(next, commands, |transaction| {
            if let (Contents::Control(control), true) = (&record.contents, first) {
                note(transaction, control, seen)?;
            }
            store_window(transaction, header.writer, window_after, seen, known)
        })?;
        self.windows
            .extend(window.map(|window| (header.writer, window)));
        Ok(first.then_some(outputs))
    }

    fn apply<'c>(
        &mut self,
        mut next: State,
        commands: impl IntoIterator<Item = &'c M::Command>,
        also: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<Vec<M::Output>>
    where
        M::Command: 'c,
    {
        let transaction = self.connection.transaction()?;
        let record = Apply {
            transaction: &transaction,
            position: next.position,
            time: next.time,
            numbers: Cell::new(next.numbers),
        };
        let mut changes = M::Changes::default();
        let outputs = commands
            .into_iter()
            .map(|command| self.machine.apply(&record, command, &mut changes))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        next.numbers = record.numbers.get();
        also(&transaction)?;
        transaction
            .prepare_cached("UPDATE replica SET position = ?, time = ?, log = ?, numbers = ?")?
            .execute(params![
                next.position.0 as i64,
                next.time.0 as i64,
                next.log.as_ref().map(|log| &log.0),
                next.numbers as i64
            ])?;
        transaction.commit()?;
        self.state = next;
        self.machine.committed(changes);
        Ok(outputs)
    }

    fn window(&self, writer: WriterId) -> rusqlite::Result<Option<Window>> {
        if let Some(window) = self.windows.get(&writer) {
            return Ok(Some(window.clone()));
        }
        let stored: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT window FROM replica_writer WHERE writer = ?")?
            .query_row([writer.0], |row| row.get(0))
            .optional()?;
        Ok(stored.as_deref().and_then(Window::decode))
    }

    /// Sets whether a commit is on stable storage when it returns.
    fn sync_commits(&mut self, sync: bool) -> rusqlite::Result<()> {
        if self.full != Some(sync) {
            let level = if sync { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.full = Some(sync);
        }
        Ok(())
    }
}

/// Sets the earliest time and the last number of a database, for data of a version that had no replica. It is meant for
/// [`Machine::open`], within the migration's transaction.
///
/// # Errors
/// Fails if the database does.
pub fn begin_at(connection: &Connection, time: Time, number: u64) -> rusqlite::Result<()> {
    let set = "UPDATE replica SET time = MAX(time, ?), numbers = MAX(numbers, ?)";
    connection.execute(set, [time.0 as i64, number as i64])?;
    Ok(())
}

/// Returns what an error of the database means to the operator, and what to do.
pub fn explain(error: &rusqlite::Error) -> String {
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "; the disk is full: free some space",
        Some(ErrorCode::DatabaseCorrupt) => "; the file is damaged: restore it",
        _ => "",
    };
    format!("{error}{remedy}")
}

/// Stores what a control changes.
fn note(transaction: &Transaction<'_>, control: &Control, time: Time) -> rusqlite::Result<()> {
    let Control::Backup { id, open } = control else {
        return Ok(());
    };
    let until = time.0.saturating_add(LONGEST_BACKUP.as_micros() as u64);
    transaction.execute(
        "DELETE FROM replica_backup WHERE id = ? OR until < ?",
        params![id, time.0 as i64],
    )?;
    if *open {
        let insert = "INSERT INTO replica_backup VALUES (?, ?)";
        transaction.execute(insert, params![id, until as i64])?;
    }
    Ok(())
}

fn store_window(
    transaction: &Transaction<'_>,
    writer: WriterId,
    window: &Window,
    seen: Time,
    known: bool,
) -> rusqlite::Result<()> {
    if !known {
        let expired = seen.0.saturating_sub(WRITER_KEPT.as_micros() as u64);
        transaction
            .prepare_cached("DELETE FROM replica_writer WHERE seen < ?")?
            .execute([expired as i64])?;
    }
    transaction
        .prepare_cached("INSERT OR REPLACE INTO replica_writer VALUES (?, ?, ?)")?
        .execute(params![writer.0, window.encode(), seen.0 as i64])?;
    Ok(())
}
