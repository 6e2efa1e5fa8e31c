//! The commands of the event store and their outputs.

use dispatch::Time;
use model::{AccountId, RequestId};

use crate::usage::{JournalId, UsageEntry};
use crate::{AttemptId, Completion, NewEvent};

/// A change of the event store. Times, ids and budgets are in it, put there by the submitter.
#[derive(Clone, Debug, PartialEq)]
pub enum EventCommand {
    /// Adds an event to its function's queue. Never refused; a known request id and a closed account's event change nothing.
    Accept(NewEvent),
    /// Records the completion of an attempt, with its usage. Any but the first completion of an attempt changes nothing.
    Complete {
        /// The attempt that ended.
        attempt: AttemptId,
        /// Its status code.
        status: u16,
        /// The event's next state.
        completion: Completion,
        /// Its usage, counted with the completion.
        usage: Option<UsageEntry>,
    },
    /// Moves an event that failed permanently back to its function's queue.
    Replay(RequestId),
    /// Cancels an event that waits, whatever its attempt.
    Terminate {
        /// The event.
        request: RequestId,
        /// The status code that it gets.
        status: u16,
    },
    /// Drops an event that failed permanently and whose dead letter was not delivered.
    Discard(RequestId),
    /// Closes an account: whatever arrives for it from now on is dropped.
    Close(AccountId),
    /// Removes some rows of an account: events first, then usage, then queues.
    Purge {
        /// The account.
        account: AccountId,
        /// The maximum number of rows.
        rows: u32,
    },
    /// Adds usage of synchronous calls to the ledger, unless it is there already.
    Count(UsageCount),
    /// Removes old history.
    Trim(Trim),
}

/// Usage of synchronous calls, as a journal has it.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageCount {
    /// The journal.
    pub journal: JournalId,
    /// The number up to which the ledger must include the journal, or nothing is added.
    pub from: u64,
    /// The number up to which the ledger includes it afterwards.
    pub to: u64,
    /// The entries to add.
    pub sums: Vec<UsageEntry>,
}

/// Bounds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// Events that ended before this go.
    pub ended_before: Time,
    /// The number of completed events that go, oldest first; those that ended too long ago are among them.
    pub surplus: u64,
    /// Usage before this hour goes.
    pub usage_before: i64,
    /// The maximum number of rows of each kind that go.
    pub rows: u32,
}

/// The output of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventOutput {
    /// The event is in the store, or its account is closed.
    Accepted,
    /// The output of [`EventCommand::Complete`].
    Completed(Completed),
    /// Whether the event was in a state in which the command applies.
    Applied(bool),
    /// The number of rows that were purged.
    Purged(u64),
    /// The number up to which the ledger includes the journal, and whether the command added anything.
    Counted {
        /// The number.
        to: u64,
        /// Whether the usage was added.
        added: bool,
    },
    /// The numbers of events that were removed.
    Trimmed(Removed),
}

/// The effect of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Whether it was the first one of its attempt, so that it and its usage were recorded.
    pub first: bool,
    /// When the event is due again, if it waits in a queue.
    pub due: Option<Time>,
}

/// Numbers of events that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Events that failed permanently and were kept for inspection.
    pub dead: u64,
    /// Completed events.
    pub completed: u64,
}
