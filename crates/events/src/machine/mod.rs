//! The state machine of events, their history and the usage ledger.
//!
//! Commands are the only way to change its tables. Applying one depends on the command and the tables alone, so all replicas of a log have
//! equal tables. Accepting an event is never refused here: bounds are checked before it is submitted.

mod codec;
mod command;
mod events;
mod memory;
mod purge;
mod quota;
mod retention;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod usage;

pub use self::command::{Completed, EventCommand, EventOutput, Removed, Trim, UsageCount};
pub use self::memory::{Admission, Changes, Totals};
pub use self::schema::{OpenError, connect};

pub(crate) use self::memory::{Listener, Refusal};
pub(crate) use self::purge::account_counts;
pub(crate) use self::quota::{AdmissionRule, ExceededLimit};
pub(crate) use self::usage::counted;
#[cfg(test)]
pub(crate) use self::{quota::ROW_BYTES, schema::VERSION};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::AccountId;
use replica::{Apply, Durability, Machine};
use rusqlite::Connection;

use self::rows::Rows;

/// The state machine of events.
#[derive(Debug)]
pub struct EventMachine {
    totals: Arc<Totals>,
    listener: Box<dyn Listener>,
    /// Ids of queues that were used since the machine was opened.
    queue_ids: HashMap<String, i64>,
    /// Closed accounts. Whatever arrives for them is dropped.
    closed: HashSet<AccountId>,
}

impl EventMachine {
    /// Creates a machine whose totals are kept in `totals`.
    pub fn new(totals: Arc<Totals>) -> Self {
        Self::with_listener(totals, Box::new(()))
    }

    /// Creates a machine that announces what it has committed.
    pub(crate) fn with_listener(totals: Arc<Totals>, listener: Box<dyn Listener>) -> Self {
        Self {
            totals,
            listener,
            queue_ids: HashMap::new(),
            closed: HashSet::new(),
        }
    }
}

impl Machine for EventMachine {
    type Command = EventCommand;
    type Output = EventOutput;
    type Held = Admission;
    type Changes = Changes;

    fn open(&mut self, connection: &mut Connection) -> rusqlite::Result<()> {
        schema::migrate(connection)?;
        self.closed = purge::closed(connection)?;
        self.totals.load(connection)
    }

    fn apply(
        &self,
        record: &Apply<'_>,
        command: &EventCommand,
        changes: &mut Changes,
    ) -> rusqlite::Result<EventOutput> {
        let mut rows = Rows {
            record,
            known: &self.queue_ids,
            closed: &self.closed,
            changes,
        };
        rows.apply(command)
    }

    fn committed(&mut self, changes: Changes) {
        for gone in &changes.queues_removed {
            self.queue_ids.remove(gone);
        }
        self.queue_ids.extend(changes.queue_ids);
        self.closed.extend(changes.closed);
        self.totals.apply(&changes.totals);
        for enqueued_event in changes.enqueued_events {
            self.listener.enqueued(enqueued_event);
        }
        self.listener.committed();
    }

    fn durability(command: &EventCommand) -> Durability {
        match command {
            EventCommand::Count(_) | EventCommand::Trim(_) => Durability::Later,
            _ => Durability::Sync,
        }
    }

    fn adds_work(command: &EventCommand) -> bool {
        matches!(command, EventCommand::Accept(_))
    }

    fn encode(command: &EventCommand, bytes: &mut Vec<u8>) {
        codec::encode(command, bytes);
    }

    fn decode(bytes: &[u8]) -> Result<EventCommand, String> {
        codec::decode(bytes)
    }
}
