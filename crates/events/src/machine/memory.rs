//! What the machine keeps in memory beside its tables: totals, by which events are admitted, and the listener to new events.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::AccountId;
use rusqlite::Connection;

use super::quota::{AccountQuotas, AdmissionRule, Deltas, ExceededLimit, ROW_BYTES};
use crate::{EnqueuedEvent, QueueKey};

/// Changes of the memory that a record makes, applied after its commit.
#[derive(Debug, Default)]
pub struct Changes {
    pub(super) enqueued_events: Vec<EnqueuedEvent>,
    /// Ids of queues that were not known before.
    pub(super) queue_ids: HashMap<String, i64>,
    /// Queues removed with their account.
    pub(super) queues_removed: Vec<String>,
    /// Accounts closed.
    pub(super) closed: Vec<AccountId>,
    pub(super) totals: TotalChanges,
}

/// Changes of [`Totals`].
#[derive(Debug, Default)]
pub(super) struct TotalChanges {
    /// The number of waiting events.
    pub(super) events: i64,
    /// The number of completed events.
    pub(super) history: i64,
    /// The bytes that count against the budget.
    pub(super) bytes: Deltas,
}

/// Is notified of commits, in order.
pub(crate) trait Listener: Debug + Send {
    /// An event was added to a queue.
    fn enqueued(&mut self, event: EnqueuedEvent);
    /// A record was committed.
    fn committed(&mut self);
}

impl Listener for () {
    fn enqueued(&mut self, _event: EnqueuedEvent) {}
    fn committed(&mut self) {}
}

/// Totals of the stored events, with the events that are about to be stored.
#[derive(Debug)]
pub struct Totals {
    events: AtomicU64,
    history: AtomicU64,
    held: Mutex<Held>,
}

/// Bytes by account.
#[derive(Debug)]
struct Held {
    /// Of events in the store and on their way to it, against its budget.
    stored: AccountQuotas,
    /// Of events on their way, against the memory that they may take.
    pending: AccountQuotas,
}

/// The reason why an event is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The store or the account's part of it is full.
    Stored(ExceededLimit),
    /// Too many events wait to be written.
    Pending(ExceededLimit),
}

impl Totals {
    /// Creates empty totals. The store takes `budget` bytes; events that take up to `pending` bytes may wait to be written.
    pub fn new(budget: u64, pending: u64) -> Arc<Self> {
        Arc::new(Self {
            events: AtomicU64::new(0),
            history: AtomicU64::new(0),
            held: Mutex::new(Held {
                stored: AccountQuotas::new(budget),
                pending: AccountQuotas::new(pending),
            }),
        })
    }

    /// Returns the number of events that wait or run.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Returns the number of completed events.
    pub(crate) fn history(&self) -> u64 {
        self.history.load(Ordering::Relaxed)
    }

    /// Returns the bytes that count against the budget.
    pub(crate) fn bytes(&self) -> u64 {
        self.held().stored.total()
    }

    /// Reserves an event's bytes in the store and, at least `pending`, on the way to it.
    pub(crate) fn admit(
        self: &Arc<Self>,
        account: AccountId,
        body: u64,
        pending: u64,
        rule: AdmissionRule,
    ) -> Result<Admission, Refusal> {
        let bytes = AdmittedBytes {
            stored: body + ROW_BYTES,
            pending: body.max(pending),
        };
        let mut held = self.held();
        held.stored
            .check(account, bytes.stored, rule)
            .map_err(Refusal::Stored)?;
        held.pending
            .check(account, bytes.pending, AdmissionRule::Quota)
            .map_err(Refusal::Pending)?;
        held.change(account, bytes, 1);
        drop(held);
        Ok(Admission {
            totals: self.clone(),
            first: (account, bytes),
            others: Vec::new(),
        })
    }

    /// Reads the totals from the tables.
    pub(super) fn load(&self, connection: &Connection) -> rusqlite::Result<()> {
        let count = |states: &str| {
            let count = format!("SELECT COUNT(*) FROM event WHERE {states}");
            connection.query_row(&count, [], |row| row.get::<_, i64>(0))
        };
        self.events
            .store(count("state <= 1")? as u64, Ordering::Relaxed);
        self.history
            .store(count("state >= 10")? as u64, Ordering::Relaxed);
        let mut sum = connection.prepare(
            "SELECT (SELECT key FROM queue WHERE id = function), SUM(COALESCE(LENGTH(body), 0)), COUNT(*)
             FROM event WHERE state <= 2 GROUP BY function",
        )?;
        let mut rows = sum.query([])?;
        let mut held = self.held();
        while let Some(row) = rows.next()? {
            let account = QueueKey::account(row.get::<_, Option<String>>(0)?.as_deref());
            let (bodies, events): (i64, i64) = (row.get(1)?, row.get(2)?);
            held.stored
                .change(account, bodies + events * ROW_BYTES as i64);
        }
        Ok(())
    }

    pub(super) fn apply(&self, changes: &TotalChanges) {
        add(&self.events, changes.events);
        add(&self.history, changes.history);
        if !changes.bytes.is_empty() {
            self.held().stored.apply(&changes.bytes);
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn change(&mut self, account: AccountId, bytes: AdmittedBytes, sign: i64) {
        self.stored.change(account, sign * bytes.stored as i64);
        self.pending.change(account, sign * bytes.pending as i64);
    }
}

/// The bytes that an event on its way to the store takes.
#[derive(Clone, Copy, Debug)]
struct AdmittedBytes {
    stored: u64,
    pending: u64,
}

/// Reserved bytes of events on their way to the store. Dropping it releases them; by then the stored events count themselves.
#[derive(Debug)]
pub struct Admission {
    totals: Arc<Totals>,
    first: (AccountId, AdmittedBytes),
    others: Vec<(AccountId, AdmittedBytes)>,
}

impl Admission {
    /// Takes over the bytes of another admission to the same store.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.others.push(other.first);
        self.others.append(&mut other.others);
        other.first.1 = AdmittedBytes {
            stored: 0,
            pending: 0,
        };
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut held = self.totals.held();
        for (account, bytes) in std::iter::once(&self.first).chain(&self.others) {
            held.change(*account, *bytes, -1);
        }
    }
}

fn add(count: &AtomicU64, change: i64) {
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
        Some(count.saturating_add_signed(change))
    });
}
