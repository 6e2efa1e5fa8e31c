//! A simple model of the machine, in maps.

use std::collections::{BTreeMap, BTreeSet};

use dispatch::Time;
use events::machine::{Completed, EventCommand, EventOutput, Removed, Trim, UsageCount};
use events::usage::{JournalId, UsageEntry};
use events::{AttemptId, Completion, EventState, NewEvent};
use model::{AccountId, RequestId};

use crate::random::Known;

#[derive(Debug)]
struct Event {
    account: AccountId,
    queue: String,
    state: EventState,
    attempt: u32,
    accepted: u64,
    due: u64,
    ended: Option<u64>,
    /// Later events have greater numbers, and an event that moves gets a new one.
    order: u64,
}

/// A row of the ledger: queue, version and hour.
type Row = (String, String, i64);

/// A row of the ledger: queue, version, hour, invocations and billed milliseconds.
pub(crate) type LedgerRow = (String, String, i64, i64, i64);
/// An event: request id, function's queue, state, and while it waits, attempt and due time.
pub(crate) type EventRow = (Vec<u8>, String, String, Option<(i64, i64)>);

/// The model's state.
#[derive(Debug, Default)]
pub(crate) struct Model {
    events: BTreeMap<[u8; 16], Event>,
    queues: BTreeSet<(AccountId, String)>,
    /// Invocations and billed milliseconds.
    ledger: BTreeMap<Row, (u64, u64)>,
    counted: BTreeMap<[u8; 16], u64>,
    closed: BTreeSet<AccountId>,
    orders: u64,
}

impl Known for Model {
    fn attempt(&self, request: RequestId) -> u32 {
        let event = self.events.get(request.as_bytes());
        event.map_or(1, |event| event.attempt)
    }

    fn counted(&self, journal: JournalId) -> u64 {
        self.counted.get(&journal.0).copied().unwrap_or(0)
    }
}

fn queue_of(function: &model::FunctionKey) -> String {
    format!(
        "function/{}/{}/{}",
        function.account, function.namespace, function.name
    )
}

impl Model {
    pub(crate) fn apply(&mut self, now: u64, command: &EventCommand) -> EventOutput {
        match command {
            EventCommand::Accept(event) => self.accept(now, event),
            EventCommand::Complete {
                attempt,
                completion,
                usage,
                ..
            } => self.complete(now, *attempt, completion, usage.as_ref()),
            EventCommand::Replay(request) => {
                let order = self.next_order();
                let event = self.events.get_mut(request.as_bytes());
                let failed = [EventState::Dead, EventState::Undelivered];
                let event = event.filter(|event| failed.contains(&event.state));
                let applies = event.is_some();
                if let Some(event) = event {
                    (event.accepted, event.due, event.order) = (now, now, order);
                    event.state = EventState::Waiting;
                    event.ended = None;
                    event.attempt += 1;
                }
                EventOutput::Applied(applies)
            }
            EventCommand::Terminate { request, .. } => {
                self.end_if(now, *request, &[EventState::Waiting], EventState::Aborted)
            }
            EventCommand::Discard(request) => {
                let failed = [EventState::Dead, EventState::Undelivered];
                self.end_if(now, *request, &failed, EventState::Failed)
            }
            EventCommand::Close(account) => EventOutput::Applied(self.closed.insert(*account)),
            EventCommand::Purge { account, rows } => {
                EventOutput::Purged(self.purge(*account, *rows as usize))
            }
            EventCommand::Count(count) => self.count_journal(count),
            EventCommand::Trim(trim) => self.trim(trim),
        }
    }

    fn next_order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    fn accept(&mut self, now: u64, event: &NewEvent) -> EventOutput {
        let account = event.function.account;
        if self.closed.contains(&account) {
            return EventOutput::Accepted;
        }
        let queue = queue_of(&event.function);
        self.queues.insert((account, queue.clone()));
        let order = self.next_order();
        self.events
            .entry(*event.request.as_bytes())
            .or_insert(Event {
                account,
                queue,
                state: EventState::Waiting,
                attempt: 1,
                accepted: now,
                due: now,
                ended: None,
                order,
            });
        EventOutput::Accepted
    }

    fn complete(
        &mut self,
        now: u64,
        attempt: AttemptId,
        completion: &Completion,
        usage: Option<&UsageEntry>,
    ) -> EventOutput {
        let order = self.next_order();
        let queued = [EventState::Waiting, EventState::Undelivered];
        let event = self.events.get_mut(attempt.request.as_bytes());
        let Some(event) = event.filter(|event| queued.contains(&event.state)) else {
            return EventOutput::Completed(Completed {
                first: false,
                due: None,
            });
        };
        let first = event.attempt == attempt.number;
        if first {
            event.attempt += 1;
            match completion {
                Completion::Retry { delay, .. } => event.due = now + delay,
                Completion::Failed { to: None, .. } => {
                    event.state = EventState::Dead;
                    event.ended = Some(now);
                }
                Completion::Failed {
                    to: Some(target), ..
                } => {
                    let target = serde_json::to_string(target).unwrap();
                    let queue = format!("dead-letters/{}/{target}", event.account);
                    self.queues.insert((event.account, queue));
                    event.state = EventState::Undelivered;
                    (event.due, event.order, event.ended) = (now, order, Some(now));
                }
                Completion::Succeeded => event.end(now, EventState::Finished),
                Completion::Aborted => event.end(now, EventState::Aborted),
                Completion::Delivered => event.end(now, EventState::Failed),
            }
        }
        let waits = queued.contains(&event.state);
        let due = waits.then_some(Time(event.due));
        if let (true, Some(usage)) = (first, usage) {
            self.count(usage);
        }
        EventOutput::Completed(Completed { first, due })
    }

    fn end_if(
        &mut self,
        now: u64,
        request: RequestId,
        from: &[EventState],
        to: EventState,
    ) -> EventOutput {
        let event = self.events.get_mut(request.as_bytes());
        let event = event.filter(|event| from.contains(&event.state));
        let applies = event.is_some();
        if let Some(event) = event {
            event.end(now, to);
        }
        EventOutput::Applied(applies)
    }

    fn purge(&mut self, account: AccountId, rows: usize) -> u64 {
        let mut events: Vec<_> = self
            .events
            .iter()
            .filter(|(_, event)| event.account == account)
            .map(|(request, event)| (event.queue.clone(), event.accepted, event.order, *request))
            .collect();
        events.sort();
        events.truncate(rows);
        for event in &events {
            self.events.remove(&event.3);
        }
        if !events.is_empty() {
            return events.len() as u64;
        }
        let prefix = format!("function/{account}/");
        let rows: Vec<_> = self
            .ledger
            .keys()
            .filter(|row| row.0.starts_with(&prefix))
            .take(rows)
            .cloned()
            .collect();
        for row in &rows {
            self.ledger.remove(row);
        }
        if !rows.is_empty() {
            return rows.len() as u64;
        }
        let before = self.queues.len();
        self.queues.retain(|queue| queue.0 != account);
        (before - self.queues.len()) as u64
    }

    fn count_journal(&mut self, count: &UsageCount) -> EventOutput {
        let to = self.counted(count.journal);
        if to != count.from {
            return EventOutput::Counted { to, added: false };
        }
        for entry in &count.sums {
            self.count(entry);
        }
        self.counted.insert(count.journal.0, count.to);
        EventOutput::Counted {
            to: count.to,
            added: true,
        }
    }

    fn count(&mut self, entry: &UsageEntry) {
        let account = entry.key.function.account;
        if self.closed.contains(&account) {
            return;
        }
        let queue = queue_of(&entry.key.function);
        self.queues.insert((account, queue.clone()));
        let row = (queue, entry.key.version.to_string(), entry.key.hour);
        let sums = self.ledger.entry(row).or_default();
        sums.0 += entry.totals.invocations;
        sums.1 += entry.totals.billed_ms;
    }

    fn trim(&mut self, trim: &Trim) -> EventOutput {
        let dead = [EventState::Dead];
        let completed = [
            EventState::Finished,
            EventState::Failed,
            EventState::Aborted,
        ];
        let (before, rows) = (trim.ended_before.0, trim.rows as usize);
        let dead = self.remove_oldest(&dead, before, rows);
        let old = self.remove_oldest(&completed, before, rows);
        let surplus = trim.surplus.saturating_sub(old).min(rows as u64);
        let more = self.remove_oldest(&completed, u64::MAX, surplus as usize);
        self.ledger.retain(|row, _| row.2 >= trim.usage_before);
        EventOutput::Trimmed(Removed {
            dead,
            completed: old + more,
        })
    }

    fn remove_oldest(&mut self, states: &[EventState], before: u64, rows: usize) -> u64 {
        let mut ended: Vec<_> = self
            .events
            .iter()
            .filter(|(_, event)| states.contains(&event.state))
            .map(|(request, event)| (event.ended.unwrap(), event.order, *request))
            .filter(|(ended, ..)| *ended < before)
            .collect();
        ended.sort();
        ended.truncate(rows);
        for event in &ended {
            self.events.remove(&event.2);
        }
        ended.len() as u64
    }

    /// Returns the ledger.
    pub(crate) fn ledger(&self) -> Vec<LedgerRow> {
        let rows = self.ledger.iter();
        rows.map(|((queue, version, hour), sums)| {
            let (invocations, billed) = (sums.0 as i64, sums.1 as i64);
            (queue.clone(), version.clone(), *hour, invocations, billed)
        })
        .collect()
    }

    /// Returns the events.
    pub(crate) fn events(&self) -> Vec<EventRow> {
        let events = self.events.iter();
        events
            .map(|(request, event)| {
                let queued = [EventState::Waiting, EventState::Undelivered];
                let next = (i64::from(event.attempt), event.due as i64);
                let next = queued.contains(&event.state).then_some(next);
                let state = event.state.as_str().to_owned();
                (request.to_vec(), event.queue.clone(), state, next)
            })
            .collect()
    }
}

impl Event {
    fn end(&mut self, now: u64, state: EventState) {
        self.state = state;
        self.ended = self.ended.or(Some(now));
    }
}
