//! The thread that writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use dispatch::Time;
use dispatch::events::Order;
use model::StatusCode;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::{Budget, Counts, DEAD, FINISHED, QUEUED, ROW, lane_key, unavailable};
use crate::queue::{Arrival, NewEvent, QueueClock, QueueError, Settled};

/// Writes in one transaction.
const BATCH: usize = 2048;
/// How often history is looked at, microseconds.
const CLEAN_EVERY: u64 = 10_000_000;
/// Rows of history that are removed at a time.
const CLEAN_ROWS: usize = 2000;

type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// Something to be written.
#[derive(Debug)]
pub(super) enum Call {
    Accept(NewEvent, Answer<()>),
    Settle(u64, StatusCode, Settled, Answer<()>),
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) budget: Budget,
    pub(super) counts: Arc<Counts>,
    pub(super) waiting_bytes: Arc<AtomicUsize>,
    pub(super) told: mpsc::UnboundedSender<Arrival>,
    pub(super) clock: QueueClock,
    /// The next event's number; none is ever used again.
    pub(super) next: u64,
    /// Events that have ended and are remembered.
    pub(super) history: u64,
    pub(super) cleaned: Time,
    pub(super) lanes: HashMap<String, i64>,
}

/// What a transaction changes once it is on disk.
#[derive(Default)]
struct Changes {
    arrivals: Vec<Arrival>,
    /// Lanes that were not there before.
    lanes: Vec<(String, i64)>,
    events: i64,
    bytes: i64,
    history: i64,
}

impl Writer {
    pub(super) fn run(mut self, inbox: &Receiver<Call>) {
        while let Ok(first) = inbox.recv() {
            let calls: Vec<_> = std::iter::once(first)
                .chain(inbox.try_iter().take(BATCH - 1))
                .collect();
            let waited: usize = calls.iter().map(length).sum();
            self.commit(calls);
            self.waiting_bytes.fetch_sub(waited, Ordering::Relaxed);
            self.clean_sometimes();
        }
    }

    /// Writes all in one transaction, tells of what came, then answers.
    fn commit(&mut self, calls: Vec<Call>) {
        let now = self.clock.now();
        match self.try_commit(now, &calls) {
            Ok((results, changes)) => {
                self.lanes.extend(changes.lanes);
                add(&self.counts.events, changes.events);
                add(&self.counts.bytes, changes.bytes);
                self.history = self.history.saturating_add_signed(changes.history);
                for arrival in changes.arrivals {
                    // Nobody listens any more when virga stops.
                    let _ = self.told.send(arrival);
                }
                for (call, result) in calls.into_iter().zip(results) {
                    call.answer(result);
                }
            }
            Err(e) => {
                let why = unavailable(e);
                error!(error = %why, writes = calls.len(), "events cannot be written");
                for call in calls {
                    call.answer(Err(why.clone()));
                }
            }
        }
    }

    fn try_commit(
        &mut self,
        now: Time,
        calls: &[Call],
    ) -> rusqlite::Result<(Vec<Result<(), QueueError>>, Changes)> {
        let transaction = self.connection.transaction()?;
        let mut changes = Changes::default();
        let used = self.counts.bytes.load(Ordering::Relaxed);
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            results.push(match call {
                Call::Accept(event, _) => {
                    let used = used.saturating_add_signed(changes.bytes);
                    let budget = self.budget.bytes;
                    if used + event.event.len() as u64 + ROW > budget {
                        Err(QueueError::Full { used, budget })
                    } else {
                        let lane = lane(&transaction, &self.lanes, &mut changes, event)?;
                        let order = Order {
                            due: now,
                            seq: self.next,
                        };
                        self.next += 1;
                        insert(&transaction, &mut changes, lane, order, event)?;
                        Ok(())
                    }
                }
                Call::Settle(seq, status, settled, _) => {
                    settle(&transaction, &mut changes, now, *seq, *status, settled)?;
                    Ok(())
                }
            });
        }
        transaction
            .prepare_cached("UPDATE reached SET time = ?")?
            .execute([now.0 as i64])?;
        transaction.commit()?;
        Ok((results, changes))
    }

    /// Removes what has ended long ago, a little at a time.
    fn clean_sometimes(&mut self) {
        let now = self.clock.now();
        let over = self.history > self.budget.history_events + CLEAN_ROWS as u64;
        if !over && now < self.cleaned.after(CLEAN_EVERY) {
            return;
        }
        self.cleaned = now;
        let surplus = self.history.saturating_sub(self.budget.history_events);
        let oldest = now.0.saturating_sub(self.budget.history.as_micros() as u64);
        match self.clean(oldest, surplus.min(CLEAN_ROWS as u64)) {
            Ok((removed, bytes)) => {
                self.history = self.history.saturating_sub(removed);
                add(&self.counts.bytes, -(bytes as i64));
            }
            Err(error) => warn!(%error, "old events cannot be removed"),
        }
    }

    /// The events of history that were removed, and the bytes of those that had been given up.
    fn clean(&mut self, oldest: u64, surplus: u64) -> rusqlite::Result<(u64, u64)> {
        let transaction = self.connection.transaction()?;
        let dead: (i64, i64) = transaction.query_row(
            "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM event WHERE state = ? AND ended < ?",
            params![DEAD, oldest as i64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let removed = transaction.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE state >= 2 AND ended < ? ORDER BY ended LIMIT ?)",
            params![oldest as i64, CLEAN_ROWS as i64],
        )? as u64;
        let dead = if removed < CLEAN_ROWS as u64 {
            dead
        } else {
            (0, 0)
        };
        let more = transaction.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE state >= ? AND ended >= ? ORDER BY ended LIMIT ?)",
            params![FINISHED, oldest as i64, surplus.saturating_sub(removed) as i64],
        )? as u64;
        transaction.execute_batch("PRAGMA incremental_vacuum(1024)")?;
        transaction.commit()?;
        Ok((
            removed + more - dead.0 as u64,
            dead.1 as u64 + dead.0 as u64 * ROW,
        ))
    }
}

impl Call {
    fn answer(self, result: Result<(), QueueError>) {
        // Whoever asked may have gone; it is written all the same.
        let _ = match self {
            Self::Accept(_, answer) | Self::Settle(_, _, _, answer) => answer.send(result),
        };
    }
}

fn length(call: &Call) -> usize {
    match call {
        Call::Accept(event, _) => event.event.len(),
        Call::Settle(..) => 0,
    }
}

fn add(count: &std::sync::atomic::AtomicU64, change: i64) {
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
        Some(count.saturating_add_signed(change))
    });
}

/// The number of an event's lane, which is made if it is the first one there.
fn lane(
    transaction: &Transaction<'_>,
    known: &HashMap<String, i64>,
    changes: &mut Changes,
    event: &NewEvent,
) -> rusqlite::Result<i64> {
    let key = lane_key(&event.function);
    if let Some(id) = known.get(&key) {
        return Ok(*id);
    }
    let mut find = transaction.prepare_cached("SELECT id FROM lane WHERE key = ?")?;
    let id = match find.query_row([&key], |row| row.get(0)).optional()? {
        Some(id) => id,
        None => {
            transaction.execute("INSERT INTO lane (key) VALUES (?)", [&key])?;
            transaction.last_insert_rowid()
        }
    };
    changes.lanes.push((key, id));
    Ok(id)
}

fn insert(
    transaction: &Transaction<'_>,
    changes: &mut Changes,
    lane: i64,
    order: Order,
    event: &NewEvent,
) -> rusqlite::Result<()> {
    let routing = (!event.routing_key.is_empty())
        .then(|| serde_json::to_string(&event.routing_key).unwrap_or_default());
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO event (seq, request, lane, due, state, source, qualifier, routing, accepted, user_failures,
                 system_failures, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT (request) DO NOTHING",
        )?
        .execute(params![
            order.seq as i64,
            event.request.as_bytes(),
            lane,
            order.due.0 as i64,
            QUEUED,
            event.source.as_str(),
            event.qualifier.to_string(),
            routing,
            order.due.0 as i64,
            &event.event[..],
        ])?;
    // One that is known already is as good as kept.
    if inserted == 1 {
        changes.events += 1;
        changes.bytes += (event.event.len() as u64 + ROW) as i64;
        changes.arrivals.push(Arrival {
            lane: event.function.clone(),
            order,
        });
    }
    Ok(())
}

fn settle(
    transaction: &Transaction<'_>,
    changes: &mut Changes,
    now: Time,
    seq: u64,
    status: StatusCode,
    settled: &Settled,
) -> rusqlite::Result<()> {
    let status = status.as_u16();
    let (seq, now) = (seq as i64, now.0 as i64);
    let mut find =
        transaction.prepare_cached("SELECT LENGTH(body) FROM event WHERE seq = ? AND state = ?")?;
    let found: Option<i64> = find
        .query_row(params![seq, QUEUED], |row| row.get(0))
        .optional()?;
    // It was settled before, by an attempt whose answer was lost.
    let Some(length) = found else {
        return Ok(());
    };
    match settled {
        Settled::Again { due, failures } => {
            transaction
                .prepare_cached(
                    "UPDATE event SET due = ?, user_failures = ?, system_failures = ?, status = ? WHERE seq = ?",
                )?
                .execute(params![due.0 as i64, failures.user, failures.system, status, seq])?;
        }
        Settled::Finished => {
            transaction
                .prepare_cached(
                    "UPDATE event SET state = ?, ended = ?, status = ?, body = NULL WHERE seq = ?",
                )?
                .execute(params![FINISHED, now, status, seq])?;
            changes.events -= 1;
            changes.bytes -= length + ROW as i64;
            changes.history += 1;
        }
        Settled::Failed { why } => {
            transaction
                .prepare_cached(
                    "UPDATE event SET state = ?, ended = ?, status = ?, message = ? WHERE seq = ?",
                )?
                .execute(params![DEAD, now, status, why, seq])?;
            changes.events -= 1;
        }
    }
    Ok(())
}
