//! What a state machine is.

use std::cell::Cell;
use std::fmt;

use rusqlite::{Connection, Transaction};

use crate::log::Position;
use crate::time::Time;

/// The clock of the process that submits commands.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Time;
}

impl<F: Fn() -> Time + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Time {
        self()
    }
}

/// A deterministic state machine whose state is tables of one SQLite database.
///
/// [`apply`](Self::apply) reads the command, the machine's own tables and what [`Apply`] carries, and nothing else: no clock, no
/// configuration, no randomness, no iteration order of a hash map. Whatever a command depends on (a limit, an id, the time of its
/// submission) is in the command, and whatever must hold for it is checked there and answered in its output.
pub trait Machine: Send + 'static {
    /// The version of the tables, raised with each migration. Replicas compare only databases of equal versions, and do not start from a
    /// snapshot of a later one.
    const VERSION: u32 = 1;

    /// A change of the state.
    type Command: Send + 'static;
    /// The answer to a command.
    type Output: Send + 'static;
    /// What a submitter holds until its commands are applied or refused, such as a reservation of the capacity that they take; `()` if
    /// nothing.
    type Held: Send + 'static;
    /// Changes of the machine's memory that a record makes, such as entries of a cache or events to announce.
    type Changes: Default + Send;

    /// Creates or migrates the tables. Data of a version that had no replica can set where its time and numbers begin, by
    /// [`begin_at`](crate::begin_at).
    ///
    /// # Errors
    /// Fails if the database does.
    fn open(&mut self, connection: &mut Connection) -> rusqlite::Result<()>;

    /// Applies a command within a record's transaction.
    ///
    /// # Errors
    /// An error of the environment alone (disk full, database busy): it rolls the whole record back. A command that cannot be done is an
    /// output.
    fn apply(
        &self,
        record: &Apply<'_>,
        command: &Self::Command,
        changes: &mut Self::Changes,
    ) -> rusqlite::Result<Self::Output>;

    /// Takes over the changes of a record after its commit. They are dropped if the record is rolled back.
    fn committed(&mut self, changes: Self::Changes);

    /// Returns whether the submitter waits until the command is on stable storage.
    fn durability(_command: &Self::Command) -> Durability {
        Durability::Sync
    }

    /// Returns whether a command is refused while the log is [nearly full](crate::Usage::is_low). What ends work, and so lets the log be
    /// trimmed, is not.
    fn adds_work(_command: &Self::Command) -> bool {
        false
    }

    /// Appends the stored form of a command.
    fn encode(command: &Self::Command, bytes: &mut Vec<u8>);

    /// Reads the stored form of a command.
    ///
    /// # Errors
    /// Fails with the reason if this version of the machine cannot read it. The replica then stops instead of skipping it.
    fn decode(bytes: &[u8]) -> Result<Self::Command, String>;
}

/// A record that is being applied.
pub struct Apply<'a> {
    /// The transaction, which holds the whole record.
    pub transaction: &'a Transaction<'a>,
    /// The record's position in its log.
    pub position: Position,
    /// The record's time, which never goes back within a log.
    pub time: Time,
    /// The last number drawn.
    pub(crate) numbers: Cell<u64>,
}

impl Apply<'_> {
    /// Draws the next number of a sequence that never repeats. It is stored in the row of the record's position, so it costs no write.
    pub fn next_number(&self) -> u64 {
        let number = self.peek_number();
        self.numbers.set(number);
        number
    }

    /// Returns the number that would be drawn next.
    pub fn peek_number(&self) -> u64 {
        self.numbers.get() + 1
    }
}

impl fmt::Debug for Apply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apply")
            .field("position", &self.position)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// When a command must be on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before its output is returned.
    Sync,
    /// With a later record; nobody waits for it.
    Later,
}
