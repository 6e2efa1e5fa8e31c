//! Gathers commands into records and appends them, several at a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, warn};

use crate::control::Control;
use crate::log::{AppendError, Log, Position, Usage};
use crate::machine::{Clock, Machine};
use crate::record::{self, Header, Record, WriterId};
use crate::submission::{Answer, Limits, Slot, Submission, SubmitError};
use crate::window::WINDOW;

/// The pause after the first append without an answer; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a log that is written is asked how full it is.
const USAGE_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Appender<M: Machine, L, C> {
    log: Arc<L>,
    writer: WriterId,
    clock: C,
    limits: Limits,
    inbox: mpsc::UnboundedReceiver<Submission<M>>,
    submitted: Arc<SubmittedRecords<M>>,
    /// Whether the log is nearly full.
    low: Arc<AtomicBool>,
    /// Encoded submissions that are not yet in a record.
    queue: VecDeque<Encoded<M>>,
    queued_bytes: usize,
    /// The next record's number.
    next: u64,
    /// Numbers whose append is not answered.
    unanswered: BTreeSet<u64>,
}

/// A submission as it goes into a record.
struct Encoded<M: Machine> {
    /// A control, which has a record of its own; there is no command then.
    control: Option<Control>,
    commands: Vec<Vec<u8>>,
    size: usize,
    waiter: Waiter<M>,
}

/// A submission whose outputs are awaited.
pub(crate) struct Waiter<M: Machine> {
    commands: usize,
    answer: Answer<M::Output>,
    slot: Slot<M::Held>,
}

impl<M: Machine> Waiter<M> {
    fn fail(self, error: &SubmitError) {
        drop(self.slot);
        self.answer.fail(error);
    }
}

impl<M: Machine, L: Log, C: Clock> Appender<M, L, C> {
    pub(crate) fn new(
        log: Arc<L>,
        writer: WriterId,
        clock: C,
        limits: Limits,
        inbox: mpsc::UnboundedReceiver<Submission<M>>,
    ) -> Self {
        Self {
            log,
            writer,
            clock,
            limits,
            inbox,
            submitted: Arc::default(),
            low: Arc::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            next: 1,
            unanswered: BTreeSet::new(),
        }
    }

    /// Returns the table by which the follower answers this writer's records.
    pub(crate) fn submitted(&self) -> Arc<SubmittedRecords<M>> {
        self.submitted.clone()
    }

    /// Returns whether the log is nearly full, as was known last.
    pub(crate) fn low(&self) -> Arc<AtomicBool> {
        self.low.clone()
    }

    /// Serves until the last handle is gone and every record is answered.
    pub(crate) async fn run(self) {
        let watched = watch_usage(self.log.clone(), self.submitted.clone(), self.low.clone());
        tokio::select! {
            () = watched => {}
            () = self.serve() => {}
        }
    }

    async fn serve(mut self) {
        let mut appends = FuturesUnordered::new();
        let mut open = true;
        while open || !self.queue.is_empty() || !appends.is_empty() {
            tokio::select! {
                biased;
                Some((number, refused)) = appends.next(), if !appends.is_empty() => {
                    self.answered(number, refused);
                }
                submission = self.inbox.recv(), if open => match submission {
                    Some(submission) => self.enqueue_all(submission),
                    None => open = false,
                },
            }
            while let Some((number, record)) = self.next_record(appends.len()) {
                let (log, submitted) = (self.log.clone(), self.submitted.clone());
                appends
                    .push(async move { (number, append(&*log, &submitted, number, record).await) });
            }
        }
        self.submitted.close().await;
    }

    fn enqueue_all(&mut self, first: Submission<M>) {
        self.enqueue(first);
        while let Ok(next) = self.inbox.try_recv() {
            self.enqueue(next);
        }
    }

    fn enqueue(&mut self, submission: Submission<M>) {
        let Submission {
            commands,
            answer,
            slot,
        } = submission;
        let control = commands.control().cloned();
        let encoded = commands.as_slice().iter().map(|command| {
            let mut bytes = Vec::new();
            M::encode(command, &mut bytes);
            bytes
        });
        let commands: Vec<_> = encoded.collect();
        let size = commands
            .iter()
            .map(|bytes| record::framed(bytes.len()))
            .sum();
        if size > record::capacity() {
            drop(slot);
            answer.fail(&SubmitError::Unavailable(format!(
                "it takes {size} bytes in the log, and a record has {}",
                record::capacity()
            )));
            return;
        }
        self.queued_bytes += size;
        let waiter = Waiter {
            commands: commands.len(),
            answer,
            slot,
        };
        self.queue.push_back(Encoded {
            control,
            commands,
            size,
            waiter,
        });
    }

    /// Returns the next record to append: at once if no append is under way, and beside others only a full one.
    fn next_record(&mut self, under_way: usize) -> Option<(u64, Bytes)> {
        let control = self.queue.front()?.control.is_some();
        let full = control
            || self.queued_bytes >= record::capacity()
            || self.queue.len() >= self.limits.batch;
        let base = self.unanswered.first().copied().unwrap_or(self.next);
        let allowed = under_way < self.limits.appends && self.next < base + WINDOW;
        if !allowed || (under_way > 0 && !full) {
            return None;
        }
        if control {
            let encoded = self.queue.pop_front()?;
            let control = encoded.control?;
            return Some(self.number(base, vec![encoded.waiter], |header| {
                Record::encode_control(header, &control)
            }));
        }
        let (mut commands, mut waiters, mut size) = (Vec::new(), Vec::new(), 0);
        while let Some(encoded) = self.queue.front()
            && encoded.control.is_none()
            && size + encoded.size <= record::capacity()
            && commands.len() < self.limits.batch
            && let Some(encoded) = self.queue.pop_front()
        {
            size += encoded.size;
            commands.extend(encoded.commands);
            waiters.push(encoded.waiter);
        }
        self.queued_bytes -= size;
        Some(self.number(base, waiters, |header| Record::encode(header, &commands)))
    }

    /// Gives a record the next number.
    fn number(
        &mut self,
        base: u64,
        waiters: Vec<Waiter<M>>,
        encode: impl FnOnce(&Header) -> Bytes,
    ) -> (u64, Bytes) {
        let number = self.next;
        let header = Header {
            writer: self.writer,
            number,
            base,
            time: self.clock.now(),
        };
        self.next += 1;
        self.unanswered.insert(number);
        self.submitted.insert(number, waiters);
        (number, encode(&header))
    }

    fn answered(&mut self, number: u64, refused: Option<SubmitError>) {
        self.unanswered.remove(&number);
        if let Some(error) = refused {
            self.submitted.refuse(number, &error);
        }
    }
}

/// Keeps `low` up to date. Never ends.
async fn watch_usage<M: Machine>(
    log: Arc<impl Log>,
    submitted: Arc<SubmittedRecords<M>>,
    low: Arc<AtomicBool>,
) {
    let mut written = None;
    loop {
        let known = submitted.known();
        if low.load(Ordering::Relaxed) || written != Some(known) {
            match log.usage().await {
                Ok(usage) => {
                    written = Some(known);
                    if low.swap(usage.is_low(), Ordering::Relaxed) != usage.is_low() {
                        let Usage { bytes, limit } = usage;
                        warn!(
                            bytes,
                            limit,
                            low = usage.is_low(),
                            "how full the log is has changed: no new work is taken while it is low"
                        );
                    }
                }
                // An append says so, too.
                Err(error) => debug!(%error, "failed to ask how full the log is"),
            }
        }
        tokio::time::sleep(USAGE_INTERVAL).await;
    }
}

/// Appends a record until the log answers or the record is seen applied. Returns why, if it is certainly not stored.
async fn append<M: Machine>(
    log: &impl Log,
    submitted: &SubmittedRecords<M>,
    number: u64,
    record: Bytes,
) -> Option<SubmitError> {
    let mut pause = FIRST_PAUSE;
    let mut may_be_stored = false;
    loop {
        match log.append(record.clone()).await {
            Ok(position) => {
                submitted.stored(position);
                return None;
            }
            Err(AppendError::Full(reason)) if !may_be_stored => {
                return Some(SubmitError::Full(reason));
            }
            Err(AppendError::Refused(reason)) if !may_be_stored => {
                return Some(SubmitError::Unavailable(reason));
            }
            Err(error) => {
                may_be_stored |= matches!(error, AppendError::Unknown(_));
                warn!(%error, number, "an append has no answer; repeating it");
            }
        }
        if !submitted.awaits(number) {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// This writer's records that are not applied yet, and who waits for them.
pub(crate) struct SubmittedRecords<M: Machine> {
    state: Mutex<SubmittedState<M>>,
    changed: Notify,
    /// The greatest position that the log has acknowledged to this writer.
    stored: AtomicU64,
}

struct SubmittedState<M: Machine> {
    waiters: HashMap<u64, Vec<Waiter<M>>>,
    /// Why nothing is applied any more.
    stopped: Option<SubmitError>,
    /// Whether no record will be appended any more and all are applied.
    closed: bool,
}

impl<M: Machine> Default for SubmittedRecords<M> {
    fn default() -> Self {
        Self {
            state: Mutex::new(SubmittedState {
                waiters: HashMap::new(),
                stopped: None,
                closed: false,
            }),
            changed: Notify::new(),
            stored: AtomicU64::new(0),
        }
    }
}

impl<M: Machine> SubmittedRecords<M> {
    /// Returns the greatest position that is known to be in the log, and that a reader of the log has to come to.
    pub(crate) fn known(&self) -> Position {
        Position(self.stored.load(Ordering::Relaxed))
    }

    fn stored(&self, position: Position) {
        self.stored.fetch_max(position.0, Ordering::Relaxed);
    }

    /// Answers a record's submissions with its outputs.
    pub(crate) fn applied(&self, number: u64, outputs: Vec<M::Output>) {
        let waiters = self.lock().waiters.remove(&number).unwrap_or_default();
        let mut outputs = outputs.into_iter();
        // The slots are released before the first answer, so that a submitter can use them at once.
        let answers = waiters
            .into_iter()
            .map(|waiter| (waiter.commands, waiter.answer));
        for (commands, answer) in answers.collect::<Vec<_>>() {
            answer.succeed(commands, &mut outputs);
        }
        self.changed.notify_waiters();
    }

    /// Fails all submissions, now and later.
    pub(crate) fn stop(&self, error: &SubmitError) {
        let mut state = self.lock();
        state.stopped.get_or_insert_with(|| error.clone());
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        for waiter in waiters.into_values().flatten() {
            waiter.fail(error);
        }
        self.changed.notify_waiters();
    }

    /// Waits until the appender has ended and all its records are applied.
    pub(crate) async fn closed(&self) {
        self.wait_for(|state| state.closed).await;
    }

    /// Waits until every record is applied, and says that none follows.
    async fn close(&self) {
        self.wait_for(|state| state.waiters.is_empty()).await;
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    fn insert(&self, number: u64, waiters: Vec<Waiter<M>>) {
        let mut state = self.lock();
        let Some(error) = state.stopped.clone() else {
            state.waiters.insert(number, waiters);
            return;
        };
        drop(state);
        for waiter in waiters {
            waiter.fail(&error);
        }
    }

    fn refuse(&self, number: u64, error: &SubmitError) {
        let waiters = self.lock().waiters.remove(&number).unwrap_or_default();
        for waiter in waiters {
            waiter.fail(error);
        }
        self.changed.notify_waiters();
    }

    /// Returns whether a record's outputs are still awaited.
    pub(crate) fn awaits(&self, number: u64) -> bool {
        self.lock().waiters.contains_key(&number)
    }

    async fn wait_for(&self, condition: impl Fn(&SubmittedState<M>) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, SubmittedState<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
