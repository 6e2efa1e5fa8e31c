//! The tables within a record's transaction, and what several commands do with them.

use std::collections::{HashMap, HashSet};

use dispatch::Time;
use dispatch::events::QueuePosition;
use model::{AccountId, RequestId};
use replica::Apply;
use rusqlite::{OptionalExtension, params};

use super::memory::Changes;
use super::quota::ROW_BYTES;
use crate::{EnqueuedEvent, EventState, QueueKey};

/// The tables within a record's transaction.
pub(super) struct Rows<'a> {
    pub(super) record: &'a Apply<'a>,
    /// Ids of queues, as of the last record.
    pub(super) known: &'a HashMap<String, i64>,
    /// Closed accounts, as of the last record.
    pub(super) closed: &'a HashSet<AccountId>,
    pub(super) changes: &'a mut Changes,
}

/// A stored event that still has its body.
pub(super) struct StoredEvent {
    pub(super) seq: i64,
    pub(super) state: EventState,
    /// The number of its next completion.
    pub(super) attempt: u32,
    pub(super) due: Time,
    /// Bytes of the body.
    pub(super) length: i64,
    pub(super) account: AccountId,
}

impl StoredEvent {
    /// Returns whether it waits or runs, so that it has an attempt that can end.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.state, EventState::Waiting | EventState::Undelivered)
    }
}

impl Rows<'_> {
    /// Returns the record's time.
    pub(super) fn now(&self) -> Time {
        Time(self.record.time.0)
    }

    pub(super) fn is_closed(&self, account: AccountId) -> bool {
        self.closed.contains(&account) || self.changes.closed.contains(&account)
    }

    /// Returns an event that still has its body.
    pub(super) fn find_stored(&self, request: RequestId) -> rusqlite::Result<Option<StoredEvent>> {
        let mut find = self.record.transaction.prepare_cached(
            "SELECT state, seq, attempt, due, LENGTH(body), (SELECT key FROM queue WHERE id = function) FROM event
             WHERE request = ? AND state <= 2",
        )?;
        let found = find.query_row([request.as_bytes()], |row| {
            let Some(state) = EventState::of(row.get(0)?) else {
                return Ok(None);
            };
            Ok(Some(StoredEvent {
                seq: row.get(1)?,
                state,
                attempt: row.get(2)?,
                due: Time(row.get::<_, i64>(3)? as u64),
                length: row.get::<_, Option<i64>>(4)?.unwrap_or(0),
                account: QueueKey::account(row.get::<_, Option<String>>(5)?.as_deref()),
            }))
        });
        Ok(found.optional()?.flatten())
    }

    /// Moves an event to the history and drops its body.
    pub(super) fn end(
        &mut self,
        stored: &StoredEvent,
        state: EventState,
        status: Option<u16>,
    ) -> rusqlite::Result<()> {
        self.record
            .transaction
            .prepare_cached(
                "UPDATE event SET state = ?, ended = COALESCE(ended, ?), status = COALESCE(?, status), body = NULL
                 WHERE seq = ?",
            )?
            .execute(params![
                state.number(),
                self.now().0 as i64,
                status,
                stored.seq
            ])?;
        let totals = &mut self.changes.totals;
        totals.events -= i64::from(stored.is_queued());
        totals
            .bytes
            .add(stored.account, -(stored.length + ROW_BYTES as i64));
        totals.history += 1;
        Ok(())
    }

    /// Takes the next position, due now.
    pub(super) fn next_position(&mut self) -> QueuePosition {
        QueuePosition {
            due: self.now(),
            seq: self.record.next_number(),
        }
    }

    pub(super) fn announce(&mut self, queue_key: QueueKey, order: QueuePosition) {
        self.changes
            .enqueued_events
            .push(EnqueuedEvent { queue_key, order });
    }

    /// Returns the id of a queue and creates its row if needed.
    pub(super) fn queue_id(&mut self, queue_key: &QueueKey) -> rusqlite::Result<i64> {
        let key = queue_key.write();
        if let Some(id) = self.known_id(&key) {
            return Ok(id);
        }
        let transaction = self.record.transaction;
        let mut find = transaction.prepare_cached("SELECT id FROM queue WHERE key = ?")?;
        let id = match find.query_row([&key], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                let id = self.record.next_number() as i64;
                transaction
                    .prepare_cached("INSERT INTO queue VALUES (?, ?)")?
                    .execute(params![id, key])?;
                id
            }
        };
        self.changes.queue_ids.insert(key, id);
        Ok(id)
    }

    /// Returns the id of a queue if it is in memory and its row was not removed by this record.
    fn known_id(&self, key: &String) -> Option<i64> {
        let removed = self.changes.queues_removed.contains(key);
        let earlier = self.known.get(key).filter(|_| !removed);
        self.changes.queue_ids.get(key).or(earlier).copied()
    }
}
