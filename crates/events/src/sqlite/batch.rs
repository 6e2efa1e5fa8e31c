//! The row operations of a transaction.

use std::collections::{HashMap, HashSet};

use dispatch::Time;
use dispatch::events::QueuePosition;
use model::{AccountId, FailureKind, ending_number};
use rusqlite::{OptionalExtension, Transaction, params};

use super::ROW_BYTES;
use super::quota::Deltas;
use crate::usage::{UsageKey, UsageTotals};
use crate::{Completion, EnqueuedEvent, EventState, NewEvent, QueueKey};

/// An open transaction.
pub(super) struct Batch<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) known: &'a HashMap<String, i64>,
    pub(super) closed: &'a HashSet<AccountId>,
    pub(super) next: &'a mut u64,
    pub(super) now: Time,
    pub(super) changes: Changes,
}

/// Changes to the in-memory state, applied after the commit.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) enqueued_events: Vec<EnqueuedEvent>,
    /// Row ids of queues that were not cached before.
    pub(super) queue_ids: HashMap<String, i64>,
    /// Queues removed with their account.
    pub(super) queues_removed: Vec<String>,
    /// Change of the number of waiting events.
    pub(super) events: i64,
    /// Change of the bytes that count against the budget.
    pub(super) bytes: Deltas,
    /// Change of the number of completed events.
    pub(super) history: i64,
}

/// A stored event that still has its body.
struct StoredEvent {
    state: EventState,
    /// Bytes of the body.
    length: i64,
    account: AccountId,
}

impl StoredEvent {
    fn is_queued(&self) -> bool {
        matches!(self.state, EventState::Waiting | EventState::Undelivered)
    }
}

impl Batch<'_> {
    /// Inserts an event. A duplicate request id is ignored.
    pub(super) fn insert(&mut self, event: &NewEvent) -> rusqlite::Result<()> {
        if self.closed.contains(&event.function.account) {
            return Ok(());
        }
        let queue_key = QueueKey::Function(event.function.clone());
        let id = self.queue_id(&queue_key)?;
        let order = self.order();
        let routing = (!event.routing_key.is_empty())
            .then(|| serde_json::to_string(&event.routing_key).unwrap_or_default());
        let inserted = self
            .transaction
            .prepare_cached(
                "INSERT INTO event (seq, request, function, queue, due, state, source, qualifier, routing, accepted,
                     user_failures, system_failures, body, depth, trace)
                 VALUES (?1, ?2, ?3, ?3, ?4, 0, ?5, ?6, ?7, ?4, 0, 0, ?8, ?9, ?10) ON CONFLICT (request) DO NOTHING",
            )?
            .execute(params![
                order.seq as i64,
                event.request.as_bytes(),
                id,
                order.due.0 as i64,
                event.source.as_str(),
                event.qualifier.to_string(),
                routing,
                &event.event[..],
                event.depth.0,
                event.trace.as_ref().map(ToString::to_string),
            ])?;
        if inserted == 1 {
            self.changes.events += 1;
            let bytes = event.event.len() as u64 + ROW_BYTES;
            self.changes.bytes.add(event.function.account, bytes as i64);
            self.changes
                .enqueued_events
                .push(EnqueuedEvent { queue_key, order });
        }
        Ok(())
    }

    /// Records a completion. Returns false if the event had completed before.
    pub(super) fn complete(
        &mut self,
        seq: u64,
        failure: Option<FailureKind>,
        completion: &Completion,
    ) -> rusqlite::Result<bool> {
        let Some(stored) = self.find_stored(seq)? else {
            return Ok(false);
        };
        let (number, seq, now) = (ending_number(failure), seq as i64, self.now.0 as i64);
        let leaves = i64::from(stored.is_queued());
        match completion {
            Completion::Retry { due, failures } => {
                self.transaction
                    .prepare_cached(
                        "UPDATE event SET due = ?, user_failures = ?, system_failures = ?,
                             status = CASE state WHEN 0 THEN ? ELSE status END WHERE seq = ?",
                    )?
                    .execute(params![
                        due.0 as i64,
                        failures.user,
                        failures.system,
                        number,
                        seq
                    ])?;
            }
            Completion::Failed { why, to: None } => {
                self.transaction
                    .prepare_cached(
                        "UPDATE event SET state = 2, ended = ?, status = ?, message = ? WHERE seq = ?",
                    )?
                    .execute(params![now, number, why, seq])?;
                self.changes.events -= leaves;
            }
            Completion::Failed {
                why,
                to: Some(target),
            } => {
                // A queue is notified of events in the order of their numbers, so the event gets a new number.
                let (account, order) = (stored.account, self.order());
                let queue_key = QueueKey::DeadLetters(account, target.clone());
                let id = self.queue_id(&queue_key)?;
                self.transaction
                    .prepare_cached(
                        "UPDATE event SET seq = ?, queue = ?, due = ?, state = 1, ended = ?, status = ?, message = ?,
                             system_failures = 0 WHERE seq = ?",
                    )?
                    .execute(params![
                        order.seq as i64,
                        id,
                        order.due.0 as i64,
                        now,
                        number,
                        why,
                        seq
                    ])?;
                self.changes
                    .enqueued_events
                    .push(EnqueuedEvent { queue_key, order });
            }
            Completion::Succeeded => {
                self.end(seq, EventState::Finished, Some(number), &stored)?;
            }
            Completion::Aborted => self.end(seq, EventState::Aborted, Some(number), &stored)?,
            Completion::Delivered => self.end(seq, EventState::Failed, None, &stored)?,
        }
        Ok(true)
    }

    /// Moves an event to the history and drops its body.
    fn end(
        &mut self,
        seq: i64,
        state: EventState,
        status: Option<u16>,
        stored: &StoredEvent,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "UPDATE event SET state = ?, ended = COALESCE(ended, ?), status = COALESCE(?, status), body = NULL
                 WHERE seq = ?",
            )?
            .execute(params![state.number(), self.now.0 as i64, status, seq])?;
        self.changes.events -= i64::from(stored.is_queued());
        let bytes = stored.length + ROW_BYTES as i64;
        self.changes.bytes.add(stored.account, -bytes);
        self.changes.history += 1;
        Ok(())
    }

    /// Moves an event that failed permanently back to its function's queue.
    pub(super) fn replay(&mut self, seq: u64) -> rusqlite::Result<()> {
        let Some(StoredEvent { state, .. }) = self.find_stored(seq)? else {
            return Ok(());
        };
        if state == EventState::Waiting {
            return Ok(());
        }
        let order = self.order();
        let key: String = self.transaction.query_row(
            "UPDATE event SET seq = ?, queue = function, due = ?, accepted = ?, state = 0, ended = NULL, status = NULL,
                 message = NULL, user_failures = 0, system_failures = 0, depth = 0 WHERE seq = ?
             RETURNING (SELECT key FROM queue WHERE id = function)",
            params![order.seq as i64, order.due.0 as i64, order.due.0 as i64, seq as i64],
            |row| row.get(0),
        )?;
        self.changes.events += i64::from(state == EventState::Dead);
        if let Some(queue_key) = QueueKey::read(&key) {
            self.changes
                .enqueued_events
                .push(EnqueuedEvent { queue_key, order });
        }
        Ok(())
    }

    /// Adds totals to the usage ledger.
    pub(super) fn count(&mut self, key: &UsageKey, totals: &UsageTotals) -> rusqlite::Result<()> {
        if self.closed.contains(&key.function.account) {
            return Ok(());
        }
        let function = self.queue_id(&QueueKey::Function(key.function.clone()))?;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.transaction
            .prepare_cached(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                     invocations = invocations + excluded.invocations, errors = errors + excluded.errors,
                     throttles = throttles + excluded.throttles, billed_ms = billed_ms + excluded.billed_ms,
                     mb_ms = mb_ms + excluded.mb_ms, out_bytes = out_bytes + excluded.out_bytes",
            )?
            .execute(params![
                function,
                key.version.to_string(),
                key.hour,
                number(totals.invocations),
                number(totals.errors),
                number(totals.throttles),
                number(totals.billed_ms),
                number(totals.mb_ms),
                number(totals.out_bytes),
            ])?;
        Ok(())
    }

    /// Returns an event that still has its body.
    fn find_stored(&self, seq: u64) -> rusqlite::Result<Option<StoredEvent>> {
        let mut find = self.transaction.prepare_cached(
            "SELECT state, LENGTH(body), (SELECT key FROM queue WHERE id = function) FROM event
             WHERE seq = ? AND state <= 2",
        )?;
        let found = find.query_row([seq as i64], |row| {
            let length = row.get::<_, Option<i64>>(1)?.unwrap_or(0);
            let account = QueueKey::account(row.get::<_, Option<String>>(2)?.as_deref());
            Ok((row.get::<_, i64>(0)?, length, account))
        });
        let found = found.optional()?;
        Ok(found.and_then(|(state, length, account)| {
            let state = EventState::of(state)?;
            Some(StoredEvent {
                state,
                length,
                account,
            })
        }))
    }

    /// Allocates the next position, due now.
    fn order(&mut self) -> QueuePosition {
        let seq = *self.next;
        *self.next += 1;
        QueuePosition { due: self.now, seq }
    }

    /// Returns the row id of a queue and creates its row if needed.
    fn queue_id(&mut self, queue_key: &QueueKey) -> rusqlite::Result<i64> {
        let key = queue_key.write();
        if let Some(id) = self.known.get(&key).or(self.changes.queue_ids.get(&key)) {
            return Ok(*id);
        }
        let mut find = self
            .transaction
            .prepare_cached("SELECT id FROM queue WHERE key = ?")?;
        let id = match find.query_row([&key], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                self.transaction
                    .execute("INSERT INTO queue (key) VALUES (?)", [&key])?;
                self.transaction.last_insert_rowid()
            }
        };
        self.changes.queue_ids.insert(key, id);
        Ok(id)
    }
}
