//! Events: how they are accepted, end, are retried, and move between queues.

use model::RequestId;
use rusqlite::params;

use super::command::{Completed, EventCommand, EventOutput};
use super::quota::ROW_BYTES;
use super::rows::{Rows, StoredEvent};
use crate::usage::UsageEntry;
use crate::{AttemptId, Completion, EventState, NewEvent, QueueKey};

impl Rows<'_> {
    /// Applies a command.
    pub(super) fn apply(&mut self, command: &EventCommand) -> rusqlite::Result<EventOutput> {
        match command {
            EventCommand::Accept(event) => self.accept(event),
            EventCommand::Complete {
                attempt,
                status,
                completion,
                usage,
            } => self.complete(*attempt, *status, completion, usage.as_ref()),
            EventCommand::Replay(request) => self.replay(*request),
            EventCommand::Terminate { request, status } => {
                let waits = |state| state == EventState::Waiting;
                self.end_if(*request, waits, EventState::Aborted, Some(*status))
            }
            EventCommand::Discard(request) => {
                let failed = |state| state != EventState::Waiting;
                self.end_if(*request, failed, EventState::Failed, None)
            }
            EventCommand::Close(account) => self.close(*account),
            EventCommand::Purge { account, rows } => self.purge(*account, *rows),
            EventCommand::Count(count) => self.count_journal(count),
            EventCommand::Trim(trim) => self.trim(trim),
        }
    }

    fn accept(&mut self, event: &NewEvent) -> rusqlite::Result<EventOutput> {
        let account = event.function.account;
        if self.is_closed(account) {
            return Ok(EventOutput::Accepted);
        }
        let queue_key = QueueKey::Function(event.function.clone());
        let id = self.queue_id(&queue_key)?;
        let routing = (!event.routing_key.is_empty())
            .then(|| serde_json::to_string(&event.routing_key).unwrap_or_default());
        let inserted = self
            .record
            .transaction
            .prepare_cached(
                "INSERT INTO event (seq, request, function, queue, due, state, source, qualifier, routing, accepted,
                     user_failures, system_failures, body, depth, trace)
                 VALUES (?1, ?2, ?3, ?3, ?4, 0, ?5, ?6, ?7, ?4, 0, 0, ?8, ?9, ?10) ON CONFLICT (request) DO NOTHING",
            )?
            .execute(params![
                self.record.peek_number() as i64,
                event.request.as_bytes(),
                id,
                self.now().0 as i64,
                event.source.as_str(),
                event.qualifier.to_string(),
                routing,
                &event.event[..],
                event.depth.0,
                event.trace.as_ref().map(ToString::to_string),
            ])?;
        if inserted == 1 {
            let order = self.next_position();
            let totals = &mut self.changes.totals;
            totals.events += 1;
            let bytes = event.event.len() as u64 + ROW_BYTES;
            totals.bytes.add(account, bytes as i64);
            self.announce(queue_key, order);
        }
        Ok(EventOutput::Accepted)
    }

    fn complete(
        &mut self,
        attempt: AttemptId,
        status: u16,
        completion: &Completion,
        usage: Option<&UsageEntry>,
    ) -> rusqlite::Result<EventOutput> {
        let stored = self.find_stored(attempt.request)?;
        let Some(stored) = stored.filter(StoredEvent::is_queued) else {
            return Ok(EventOutput::Completed(Completed {
                first: false,
                due: None,
            }));
        };
        if stored.attempt != attempt.number {
            return Ok(EventOutput::Completed(Completed {
                first: false,
                due: Some(stored.due),
            }));
        }
        if let Some(entry) = usage {
            self.count(entry)?;
        }
        let due = self.end_attempt(&stored, status, completion)?;
        Ok(EventOutput::Completed(Completed { first: true, due }))
    }

    /// Ends the attempt of a queued event. Returns when the event is due again.
    fn end_attempt(
        &mut self,
        stored: &StoredEvent,
        status: u16,
        completion: &Completion,
    ) -> rusqlite::Result<Option<dispatch::Time>> {
        let transaction = self.record.transaction;
        let now = self.now();
        match completion {
            Completion::Retry { delay, failures } => {
                let due = now.after(*delay);
                transaction
                    .prepare_cached(
                        "UPDATE event SET due = ?, user_failures = ?, system_failures = ?, attempt = attempt + 1,
                             status = CASE state WHEN 0 THEN ? ELSE status END WHERE seq = ?",
                    )?
                    .execute(params![
                        due.0 as i64,
                        failures.user,
                        failures.system,
                        status,
                        stored.seq
                    ])?;
                Ok(Some(due))
            }
            Completion::Failed { why, to: None } => {
                transaction
                    .prepare_cached(
                        "UPDATE event SET state = 2, ended = ?, status = ?, message = ?, attempt = attempt + 1 WHERE seq = ?",
                    )?
                    .execute(params![now.0 as i64, status, why, stored.seq])?;
                self.changes.totals.events -= 1;
                Ok(None)
            }
            Completion::Failed {
                why,
                to: Some(target),
            } => {
                let queue_key = QueueKey::DeadLetters(stored.account, target.clone());
                let id = self.queue_id(&queue_key)?;
                // A queue is notified of events in the order of their numbers, so the event gets a new number.
                let order = self.next_position();
                transaction
                    .prepare_cached(
                        "UPDATE event SET seq = ?, queue = ?, due = ?, state = 1, ended = ?, status = ?, message = ?,
                             system_failures = 0, attempt = attempt + 1 WHERE seq = ?",
                    )?
                    .execute(params![
                        order.seq as i64,
                        id,
                        order.due.0 as i64,
                        now.0 as i64,
                        status,
                        why,
                        stored.seq
                    ])?;
                self.announce(queue_key, order);
                Ok(Some(order.due))
            }
            Completion::Succeeded => {
                self.end(stored, EventState::Finished, Some(status))?;
                Ok(None)
            }
            Completion::Aborted => {
                self.end(stored, EventState::Aborted, Some(status))?;
                Ok(None)
            }
            Completion::Delivered => {
                self.end(stored, EventState::Failed, None)?;
                Ok(None)
            }
        }
    }

    /// Ends an event that is in one of some states, whatever its attempt.
    fn end_if(
        &mut self,
        request: RequestId,
        applies: impl FnOnce(EventState) -> bool,
        state: EventState,
        status: Option<u16>,
    ) -> rusqlite::Result<EventOutput> {
        let stored = self.find_stored(request)?;
        let stored = stored.filter(|stored| applies(stored.state));
        if let Some(stored) = &stored {
            self.end(stored, state, status)?;
        }
        Ok(EventOutput::Applied(stored.is_some()))
    }

    /// Moves an event that failed permanently back to its function's queue.
    fn replay(&mut self, request: RequestId) -> rusqlite::Result<EventOutput> {
        let stored = self.find_stored(request)?;
        let Some(stored) = stored.filter(|stored| stored.state != EventState::Waiting) else {
            return Ok(EventOutput::Applied(false));
        };
        let order = self.next_position();
        let mut update = self.record.transaction.prepare_cached(
            "UPDATE event SET seq = ?1, queue = function, due = ?2, accepted = ?2, state = 0, ended = NULL, status = NULL,
                 message = NULL, user_failures = 0, system_failures = 0, depth = 0, attempt = attempt + 1 WHERE seq = ?3
             RETURNING (SELECT key FROM queue WHERE id = function)",
        )?;
        let moved = params![order.seq as i64, order.due.0 as i64, stored.seq];
        let key: Option<String> = update.query_row(moved, |row| row.get(0))?;
        self.changes.totals.events += i64::from(stored.state == EventState::Dead);
        if let Some(queue_key) = key.as_deref().and_then(QueueKey::read) {
            self.announce(queue_key, order);
        }
        Ok(EventOutput::Applied(true))
    }
}
