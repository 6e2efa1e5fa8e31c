//! A log in memory with seeded faults: it does what a replicated log does at its worst.
//!
//! Everything happens in tokio's time, so a test under a paused clock is fast, and in a runtime of one thread a seed repeats a run.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use replica::{AppendError, Entry, Log, LogError, LogIdentity, Position, Time, Usage};
use seeded::Random;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How often things go wrong, in thousandths, and how long they take.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The way of a message, in milliseconds.
    pub delay: Range<u64>,
    /// Requests that are lost.
    pub lost_requests: u64,
    /// Answers that are lost, of appends that happened.
    pub lost_answers: u64,
    /// Requests that are stored a second time, much later.
    pub late_duplicates: u64,
    /// Appends that make the leader fail; nothing is appended until another is elected.
    pub elections: u64,
    /// Entries before which a reader lags, or after which its stream fails.
    pub reader_faults: u64,
}

impl Faults {
    /// Returns a log that works.
    pub const NONE: Self = Self {
        delay: 1..3,
        lost_requests: 0,
        lost_answers: 0,
        late_duplicates: 0,
        elections: 0,
        reader_faults: 0,
    };
    /// Returns a log at its worst.
    pub const MANY: Self = Self {
        delay: 1..200,
        lost_requests: 100,
        lost_answers: 100,
        late_duplicates: 100,
        elections: 20,
        reader_faults: 50,
    };
}

/// How long an append without an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How late a duplicate may be (ms).
const LATEST_DUPLICATE: Range<u64> = 0..20_000;
/// How long an election takes (ms).
const ELECTION: Range<u64> = 4_000..9_000;

/// A log in memory. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Simulated {
    state: Arc<Mutex<State>>,
    /// The number of appends so far, for readers that wait.
    length: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    random: Random,
    faults: Faults,
    identity: LogIdentity,
    begun: Instant,
    /// The position before the first entry.
    trimmed: u64,
    entries: Vec<Entry>,
    /// When the next leader is there.
    leader_from: Instant,
    /// Bytes that are stored.
    stored: usize,
    /// Bytes that may still be stored.
    capacity: usize,
}

impl Simulated {
    /// Makes an empty log whose faults follow from the seed.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let now = Instant::now();
        Self {
            state: Arc::new(Mutex::new(State {
                random: Random::new(seed),
                faults,
                identity: LogIdentity(format!("simulated {seed}")),
                begun: now,
                trimmed: 0,
                entries: Vec::new(),
                leader_from: now,
                stored: 0,
                capacity: usize::MAX,
            })),
            length: watch::Sender::new(0),
        }
    }

    /// Stops the faults, so that running appends can be awaited.
    pub fn calm(&self) {
        self.lock().faults = Faults::NONE;
    }

    /// Sets how many bytes can still be stored.
    pub fn set_capacity(&self, bytes: usize) {
        self.lock().capacity = bytes;
    }

    /// Makes it another log without records, as if it was lost and made anew.
    pub fn replace(&self) {
        let mut state = self.lock();
        state.identity.0.push_str(" anew");
        state.entries.clear();
        state.trimmed = 0;
    }

    /// Drops the last records, as if the log's servers had lost them.
    pub fn lose_last(&self, count: usize) {
        let mut state = self.lock();
        let kept = state.entries.len().saturating_sub(count);
        state.entries.truncate(kept);
    }

    /// Returns how many records were stored, duplicates included.
    pub fn length(&self) -> u64 {
        let state = self.lock();
        state.trimmed + state.entries.len() as u64
    }

    fn store(&self, record: Bytes) -> Result<Position, AppendError> {
        let mut state = self.lock();
        let left = state.capacity.checked_sub(record.len());
        state.capacity =
            left.ok_or_else(|| AppendError::Full("maximum bytes exceeded".to_owned()))?;
        state.stored += record.len();
        let position = Position(state.trimmed + state.entries.len() as u64 + 1);
        // The servers' clock is not the writers'.
        let skew = state.below(0..2_000_000);
        let stored = Time(state.begun.elapsed().as_micros() as u64 + skew);
        state.entries.push(Entry {
            position,
            stored,
            record,
        });
        drop(state);
        self.length.send_replace(position.0);
        Ok(position)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn below(&mut self, range: Range<u64>) -> u64 {
        range.start + self.random.below(range.end - range.start)
    }

    fn happens(&mut self, thousandths: u64) -> bool {
        self.random.below(1000) < thousandths
    }

    fn delay(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.below(range))
    }
}

/// The course of an append, drawn when it begins.
struct Fate {
    way: Duration,
    way_back: Duration,
    request_lost: bool,
    answer_lost: bool,
    duplicate_after: Option<Duration>,
}

impl Fate {
    fn draw(state: &mut State) -> Self {
        let faults = state.faults.clone();
        if state.happens(faults.elections) {
            state.leader_from = Instant::now() + state.delay(ELECTION);
        }
        Self {
            way: state.delay(faults.delay.clone()),
            way_back: state.delay(faults.delay),
            request_lost: state.happens(faults.lost_requests),
            answer_lost: state.happens(faults.lost_answers),
            duplicate_after: state
                .happens(faults.late_duplicates)
                .then(|| state.delay(LATEST_DUPLICATE)),
        }
    }
}

#[async_trait]
impl Log for Simulated {
    async fn append(&self, record: Bytes) -> Result<Position, AppendError> {
        let fate = Fate::draw(&mut self.lock());
        if let Some(after) = fate.duplicate_after {
            let (log, record) = (self.clone(), record.clone());
            tokio::spawn(async move {
                sleep(after).await;
                // Nobody waits for it.
                let _ = log.store(record);
            });
        }
        let unknown = || AppendError::Unknown("timed out".to_owned());
        sleep(fate.way).await;
        let leader = self.lock().leader_from <= Instant::now();
        if fate.request_lost || !leader {
            sleep(TIMEOUT).await;
            return Err(unknown());
        }
        let position = self.store(record)?;
        if fate.answer_lost {
            sleep(TIMEOUT).await;
            return Err(unknown());
        }
        sleep(fate.way_back).await;
        Ok(position)
    }

    async fn follow(
        &self,
        after: Position,
    ) -> Result<BoxStream<'static, Result<Entry, LogError>>, LogError> {
        let (log, length) = (self.clone(), self.length.subscribe());
        let entries = stream::unfold(
            (log, length, after.0),
            |(log, mut length, after)| async move {
                if length.wait_for(|length| *length > after).await.is_err() {
                    return None;
                }
                let (entry, lag, after) = {
                    let mut state = log.lock();
                    // As JetStream does it: the reader is not notified that records are gone.
                    let after = after.max(state.trimmed);
                    let index = after.checked_sub(state.trimmed).map(|index| index as usize);
                    let entry = index.and_then(|index| state.entries.get(index).cloned());
                    let faults = state.faults.clone();
                    let lag = state
                        .happens(faults.reader_faults)
                        .then(|| state.delay(0..3_000));
                    let fails = state.happens(faults.reader_faults);
                    (entry.filter(|_| !fails), lag, after)
                };
                if let Some(lag) = lag {
                    sleep(lag).await;
                }
                let entry =
                    entry.ok_or_else(|| LogError::Unavailable("the reader was cut off".to_owned()));
                Some((entry, (log, length, after + 1)))
            },
        );
        // What comes after an error is not in order.
        let mut failed = false;
        let until_failed = entries.take_while(move |entry| {
            let go_on = !failed;
            failed |= entry.is_err();
            std::future::ready(go_on)
        });
        Ok(until_failed.boxed())
    }

    async fn trim(&self, through: Position) -> Result<(), LogError> {
        let mut state = self.lock();
        let count = through.0.saturating_sub(state.trimmed) as usize;
        let count = count.min(state.entries.len());
        let dropped = state.entries.drain(..count);
        let bytes: usize = dropped.map(|entry| entry.record.len()).sum();
        state.stored -= bytes;
        state.capacity = state.capacity.saturating_add(bytes);
        state.trimmed += count as u64;
        Ok(())
    }

    async fn trimmed(&self) -> Result<Position, LogError> {
        Ok(Position(self.lock().trimmed))
    }

    async fn usage(&self) -> Result<Usage, LogError> {
        let state = self.lock();
        Ok(Usage {
            bytes: state.stored as u64,
            limit: state.stored.saturating_add(state.capacity) as u64,
        })
    }

    async fn latest(&self) -> Result<Position, LogError> {
        Ok(Position(self.length()))
    }

    async fn identity(&self) -> Result<LogIdentity, LogError> {
        Ok(self.lock().identity.clone())
    }
}
