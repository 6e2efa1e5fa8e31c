//! The writer thread: group commit, and retention of completed events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use dispatch::Time;
use model::{AccountId, FailureKind};
use rusqlite::{Connection, params};
use telemetry::FailureLog;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::batch::{Batch, Changes};
use super::quota::Deltas;
use super::{Budget, Counts, ROW_BYTES, WriteSlot, refusal, rule, unavailable};
use crate::usage::{COMMIT_INTERVAL, PendingUsage, UsageBatch, UsageEntry};
use crate::{Completion, EnqueuedEvent, NewEvent, QueueClock, QueueError, QueueKey};

/// Maximum number of commands per transaction.
const BATCH: usize = 2048;
/// Interval of the retention check in microseconds.
const CLEAN_EVERY: u64 = 10_000_000;
/// Rows removed per retention check.
const CLEAN_ROWS: u64 = 2000;
/// Interval for retrying usage that failed to be written, and for syncing usage that is not synced yet.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

pub(super) type Answer = oneshot::Sender<Result<(), QueueError>>;

/// A command of the writer.
#[derive(Debug)]
pub(super) enum Command {
    Accept(NewEvent, WriteSlot, Answer),
    Complete(
        u64,
        Option<FailureKind>,
        Completion,
        Option<UsageEntry>,
        Answer,
    ),
    Replay(u64, Answer),
    /// Closes an account.
    Close(AccountId, Answer),
    /// Removes some rows of a closed account and stores their number.
    Purge(AccountId, Arc<AtomicU64>, Answer),
    /// Announces pending usage entries of synchronous calls.
    Meter,
    Flush(Answer),
}

/// A message to the writer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "almost all messages are of the large variant; boxing it would cost an allocation per event"
)]
pub(super) enum WriterMessage {
    One(Command),
    /// Commands that go into one transaction.
    Together(Vec<Command>),
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) budget: Budget,
    pub(super) counts: Arc<Counts>,
    pub(super) pending: PendingUsage,
    pub(super) enqueued_sender: mpsc::UnboundedSender<EnqueuedEvent>,
    pub(super) clock: QueueClock,
    /// The next event number. Numbers are never reused.
    pub(super) next: u64,
    /// Number of completed events.
    pub(super) history: u64,
    pub(super) cleaned: Time,
    /// Whether all commits are on stable storage, and not only in the page cache.
    pub(super) synced: bool,
    /// The `synchronous` level set last: true for FULL.
    pub(super) level: Option<bool>,
    pub(super) failure_log: FailureLog,
    /// Time of the last commit with usage of synchronous calls.
    pub(super) metered: Option<Instant>,
    pub(super) queue_ids: HashMap<String, i64>,
    /// Closed accounts. Writes for them are dropped.
    pub(super) closed: HashSet<AccountId>,
}

impl Writer {
    pub(super) fn run(mut self, inbox: &Receiver<WriterMessage>) {
        loop {
            let first = if self.synced && self.pending.is_empty() {
                match inbox.recv() {
                    Ok(sent) => Some(sent),
                    Err(_) => return,
                }
            } else {
                match inbox.recv_timeout(RETRY_INTERVAL) {
                    Ok(sent) => Some(sent),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            let quiet = first.is_none();
            let mut commands = Vec::new();
            if let Some(first) = first {
                first.join(&mut commands);
            }
            self.gather(inbox, &mut commands);
            self.commit(commands, quiet);
            self.clean_sometimes();
        }
    }

    /// Drains the inbox. If only usage entries wait, lingers for more so that they share a commit.
    fn gather(&self, inbox: &Receiver<WriterMessage>, commands: &mut Vec<Command>) {
        let until = self.metered.map(|last| last + COMMIT_INTERVAL);
        loop {
            while commands.len() < BATCH
                && let Ok(sent) = inbox.try_recv()
            {
                sent.join(commands);
            }
            let only_entries = commands
                .iter()
                .all(|command| matches!(command, Command::Meter));
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match left {
                Some(left) if only_entries && !commands.is_empty() && !left.is_zero() => {
                    match inbox.recv_timeout(left) {
                        Ok(sent) => sent.join(commands),
                        Err(_) => return,
                    }
                }
                _ => return,
            }
        }
    }

    /// Writes commands in one transaction, notifies the runner of enqueued events, then answers.
    fn commit(&mut self, commands: Vec<Command>, sync: bool) {
        let now = self.clock.now();
        let metered = self.pending.take();
        // Nobody waits for usage of synchronous calls, so it needs no fsync of its own; a later one covers it.
        let promised = commands
            .iter()
            .any(|command| !matches!(command, Command::Meter));
        let synced = promised || sync;
        match self.try_commit(now, &commands, &metered, synced) {
            Ok((results, changes)) => {
                if self.failure_log.success() {
                    info!("writes of events and usage have recovered");
                }
                for gone in &changes.queues_removed {
                    self.queue_ids.remove(gone);
                }
                self.queue_ids.extend(changes.queue_ids);
                add(&self.counts.events, changes.events);
                self.counts.bytes().apply(&changes.bytes);
                self.history = self.history.saturating_add_signed(changes.history);
                self.synced = synced;
                if !metered.sums.is_empty() {
                    self.metered = Some(Instant::now());
                }
                self.pending.committed(metered.last);
                for enqueued_event in changes.enqueued_events {
                    // Fails only while virga shuts down.
                    let _ = self.enqueued_sender.send(enqueued_event);
                }
                for (command, result) in commands.into_iter().zip(results) {
                    command.answer(result);
                }
            }
            Err(e) => {
                self.pending.restore(metered);
                let why = unavailable(e);
                if let Some(times) = self.failure_log.failure() {
                    error!(error = %why, times, "failed to write events and usage");
                }
                for command in commands {
                    command.answer(Err(why.clone()));
                }
            }
        }
    }

    fn try_commit(
        &mut self,
        now: Time,
        commands: &[Command],
        metered: &UsageBatch,
        synced: bool,
    ) -> rusqlite::Result<(Vec<Result<(), QueueError>>, Changes)> {
        if self.level != Some(synced) {
            let level = if synced { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.level = Some(synced);
        }
        for command in commands {
            if let Command::Close(account, _) = command {
                self.closed.insert(*account);
            }
        }
        let transaction = self.connection.transaction()?;
        let mut batch = Batch {
            transaction: &transaction,
            known: &self.queue_ids,
            closed: &self.closed,
            next: &mut self.next,
            now,
            changes: Changes::default(),
        };
        let mut results = Vec::with_capacity(commands.len());
        for command in commands {
            let mut result = Ok(());
            match command {
                Command::Accept(event, ..) => {
                    let (account, bytes) =
                        (event.function.account, event.event.len() as u64 + ROW_BYTES);
                    let pending = &batch.changes.bytes;
                    let checked = self
                        .counts
                        .bytes()
                        .check(account, bytes, rule(event), pending);
                    match checked {
                        Ok(()) => batch.insert(event)?,
                        Err(excess) => result = Err(refusal(excess, self.budget.bytes)),
                    }
                }
                Command::Complete(seq, failure, completion, usage, _) => {
                    // A repeated completion is a retry whose first answer was lost; its usage is already recorded.
                    let first = batch.complete(*seq, *failure, completion)?;
                    if let (true, Some(entry)) = (first, usage) {
                        batch.count(&entry.key, &entry.totals)?;
                    }
                }
                Command::Replay(seq, _) => batch.replay(*seq)?,
                Command::Purge(account, removed, _) => {
                    removed.store(batch.purge(*account)?, Ordering::Relaxed);
                }
                Command::Close(..) | Command::Meter | Command::Flush(_) => {}
            }
            results.push(result);
        }
        for (key, totals) in &metered.sums {
            batch.count(key, totals)?;
        }
        let changes = batch.changes;
        transaction
            .prepare_cached("UPDATE reached SET time = ?")?
            .execute([now.0 as i64])?;
        if !metered.sums.is_empty() {
            transaction
                .prepare_cached("UPDATE counted SET number = ?")?
                .execute([metered.last as i64])?;
        }
        transaction.commit()?;
        Ok((results, changes))
    }

    /// Removes expired and surplus completed events, in small portions.
    fn clean_sometimes(&mut self) {
        let now = self.clock.now();
        let over = self.history > self.budget.history_events + CLEAN_ROWS;
        if !over && now < self.cleaned.after(CLEAN_EVERY) {
            return;
        }
        self.cleaned = now;
        let surplus = self.history.saturating_sub(self.budget.history_events);
        match self.clean(now, surplus.min(CLEAN_ROWS)) {
            Ok((removed, bytes)) => {
                self.history = self.history.saturating_sub(removed);
                self.counts.bytes().apply(&bytes);
            }
            Err(error) => warn!(%error, "failed to remove expired events; will retry"),
        }
    }

    /// Returns the number of completed events removed, and the bytes of expired dead events removed.
    fn clean(&mut self, now: Time, surplus: u64) -> rusqlite::Result<(u64, Deltas)> {
        let before = |span: Duration| now.0.saturating_sub(span.as_micros() as u64) as i64;
        let oldest = before(self.budget.history);
        let transaction = self.connection.transaction()?;
        let mut dead = transaction.prepare_cached(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE state = 2 AND ended < ? LIMIT ?)
             RETURNING (SELECT key FROM queue WHERE id = function), LENGTH(body)",
        )?;
        let lengths = dead.query_map(params![oldest, CLEAN_ROWS as i64], |row| {
            let account = QueueKey::account(row.get::<_, Option<String>>(0)?.as_deref());
            Ok((account, row.get::<_, Option<i64>>(1)?.unwrap_or(0)))
        })?;
        let lengths: Vec<_> = lengths.collect::<Result<_, _>>()?;
        drop(dead);
        if !lengths.is_empty() {
            warn!(
                events = lengths.len(),
                "removed dead events past their retention"
            );
        }
        let old = transaction.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE state >= 10 AND ended < ? LIMIT ?)",
            params![oldest, CLEAN_ROWS as i64],
        )? as u64;
        let more = transaction.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE state >= 10 ORDER BY ended LIMIT ?)",
            params![surplus.saturating_sub(old) as i64],
        )? as u64;
        transaction.execute(
            "DELETE FROM usage WHERE hour < ?",
            [before(self.budget.usage) / 3_600_000_000],
        )?;
        transaction.commit()?;
        self.connection
            .execute_batch("PRAGMA incremental_vacuum(1024)")?;
        let mut bytes = Deltas::default();
        for (account, length) in lengths {
            bytes.add(account, -(length + ROW_BYTES as i64));
        }
        Ok((old + more, bytes))
    }
}

impl WriterMessage {
    fn join(self, commands: &mut Vec<Command>) {
        match self {
            Self::One(command) => commands.push(command),
            Self::Together(together) => commands.extend(together),
        }
    }
}

impl Command {
    fn answer(self, result: Result<(), QueueError>) {
        let answer = match self {
            Self::Accept(_, slot, answer) => {
                // Release the capacity before answering, so that the account can use it at once.
                drop(slot);
                answer
            }
            Self::Complete(_, _, _, _, answer)
            | Self::Replay(_, answer)
            | Self::Close(_, answer)
            | Self::Purge(_, _, answer)
            | Self::Flush(answer) => answer,
            Self::Meter => return,
        };
        // The caller may have gone; the write stands.
        let _ = answer.send(result);
    }
}

fn add(count: &AtomicU64, change: i64) {
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
        Some(count.saturating_add_signed(change))
    });
}
