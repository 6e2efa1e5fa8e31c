//! Timer triggers: an event is enqueued each time that a timer is due.
//!
//! One task runs the schedule. An event's request id is derived from its timer and its time, so enqueuing is
//! idempotent. The only durable state is one checkpoint for all timers: the time up to which all events have been
//! enqueued. It is written at most once a second, after the events. Events after the last checkpoint are enqueued
//! again after a crash, and the queue deduplicates them.

mod settings;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::kv::{Kv, KvError, Precondition, SqliteKv};
use catalog::{Catalog, FunctionChange, Stored};
use dispatch::TimerId;
use dispatch::cron::{Cron, WeekdayZero};
use dispatch::schedule::{Schedule, TimerRun};
use engine::invoke::{Ingest, IngestError};
use events::{EventOrigin, NewEvent};
use model::{
    Function, FunctionId, FunctionKey, RecursionDepth, RequestId, TriggerKind, TriggerName,
    TriggerSpec,
};
use serde::{Deserialize, Serialize};
use telemetry::{FailureLog, Metrics};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, error, info, warn};

pub use self::settings::Settings;
use super::ids::derived_id;
use super::trigger::{Context, StartError, Trigger};

/// Maximum events being enqueued at a time.
const MAX_IN_FLIGHT: usize = 1024;
/// Delay after the queue has refused an event.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Minimum time between checkpoints.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How often to check whether the clock was set.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// If the clock goes back further, it was wrong before (s).
const MAX_CLOCK_SETBACK: i64 = 86_400;
/// File of the checkpoint in the data directory.
const JOURNAL: &str = "timers.sqlite";
/// Key of the checkpoint.
const KEY: &str = "timers/done";
/// Maximum wait for events in flight at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The running timer task.
#[derive(Debug)]
pub(crate) struct Timers {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Trigger for Timers {
    const NAME: &'static str = "timers";

    /// Resumes from the last checkpoint and follows the catalog.
    async fn start(context: &Context) -> Result<Option<Self>, StartError> {
        let journal = SqliteKv::open(&context.settings.data.join(JOURNAL))?;
        let mut timer_task = TimerTask::new(context, Arc::new(journal)).await?;
        let changes = context.catalog.subscribe();
        timer_task.refresh_all();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(timer_task.run(changes, stopped));
        Ok(Some(Self { stop, task }))
    }

    /// Stops enqueuing and writes a last checkpoint.
    async fn stop(self) {
        let _ = self.stop.send(());
        if self.task.await.is_err() {
            error!("the timer task panicked");
        }
    }
}

/// The checkpoint, as stored.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    v: u32,
    /// Seconds since 1970.
    done: i64,
}

/// Function and name of a timer.
#[derive(Clone, Debug)]
struct TimerKey {
    function: Arc<FunctionKey>,
    trigger: TriggerName,
}

/// Result of a task in flight.
enum TaskOutput {
    /// With the time at which it was enqueued (ms since 1970).
    Event(TimerRun, i64, Result<(), IngestError>),
    Write(Result<u64, KvError>),
}

struct TimerTask {
    catalog: Catalog,
    ingest: Ingest,
    journal: Arc<dyn Kv>,
    metrics: Arc<Metrics>,
    schedule: Schedule,
    weekday_zero: WeekdayZero,
    ids: HashMap<Arc<FunctionKey>, BTreeMap<TriggerName, TimerId>>,
    names: HashMap<TimerId, TimerKey>,
    last_id: u64,
    in_flight: JoinSet<TaskOutput>,
    /// Timers whose account has reached its queue quota. They do not count as in flight, so that they do not block
    /// others.
    throttled: JoinSet<TimerRun>,
    /// Latest second that the clock has shown.
    latest: i64,
    /// End of the pause after the queue refused an event.
    paused: Option<Instant>,
    /// Whether the queue refused the last event.
    failing: bool,
    /// Whether checkpoints fail.
    failure_log: FailureLog,
    /// Whether events were enqueued since the last checkpoint.
    dirty: bool,
    checkpointed: Instant,
}

impl TimerTask {
    async fn new(context: &Context, journal: Arc<dyn Kv>) -> Result<Self, KvError> {
        let now = clock::now_ms().div_euclid(1000);
        let done = match journal.get(KEY).await? {
            // Without a checkpoint, each trigger's record says where it starts.
            None => 0,
            Some(entry) => serde_json::from_slice::<Checkpoint>(&entry.value).map_or_else(
                |error| {
                    error!(key = KEY, %error, "failed to read the timer checkpoint; timers continue from now");
                    now
                },
                |checkpoint| checkpoint.done,
            ),
        };
        let settings = context.settings.timers.clone();
        Ok(Self {
            catalog: context.catalog.clone(),
            ingest: context.ingest.clone(),
            journal,
            metrics: context.metrics.clone(),
            schedule: Schedule::new(settings.terms, done),
            weekday_zero: settings.weekday_zero,
            ids: HashMap::new(),
            names: HashMap::new(),
            last_id: 0,
            in_flight: JoinSet::new(),
            throttled: JoinSet::new(),
            latest: now.max(done),
            paused: None,
            failing: false,
            failure_log: FailureLog::default(),
            dirty: false,
            checkpointed: Instant::now(),
        })
    }

    async fn run(
        mut self,
        mut changes: Receiver<FunctionChange>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        loop {
            self.submit();
            let wait = self.wait();
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                Some(task_finished) = self.in_flight.join_next() => self.task_finished(task_finished),
                Some(elapsed_backoff) = self.throttled.join_next() => match elapsed_backoff {
                    Ok(due) => self.schedule.requeue(due),
                    Err(error) => error!(%error, "lost a timer event that was waiting to be retried"),
                },
                change = changes.recv() => match change {
                    Ok(FunctionChange { key, now }) => self.refresh(key, now.as_deref()),
                    // The channel dropped changes, so reload all functions.
                    Err(RecvError::Lagged(_)) => self.refresh_all(),
                    Err(RecvError::Closed) => break,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
        let drain = async {
            while let Some(task_finished) = self.in_flight.join_next().await {
                self.task_finished(task_finished);
            }
            self.write();
            if let Some(task_finished) = self.in_flight.join_next().await {
                self.task_finished(task_finished);
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, drain).await.is_err() {
            warn!(
                "timer events were still in flight at shutdown; they will be enqueued again at the next start"
            );
        }
    }

    /// Enqueues the events that are due.
    fn submit(&mut self) {
        let now = self.now();
        if self.paused.is_some_and(|until| until > Instant::now()) {
            return;
        }
        let free = MAX_IN_FLIGHT.saturating_sub(self.in_flight.len());
        let taken = self.schedule.take(now, free);
        if taken.missed > 0 {
            self.metrics.timers_missed(taken.missed);
            info!(
                timers = taken.missed,
                "timer runs were missed; timer_missed determines which are made up for"
            );
        }
        let (mut dues, mut events) = (Vec::new(), Vec::new());
        for due in taken.due {
            let Some(event) = self.event(due) else {
                // The trigger was disabled or changed. That change will arrive, too.
                self.schedule.finish(due);
                continue;
            };
            match self.ingest.check_acceptable(&event) {
                Ok(()) => {
                    dues.push(due);
                    events.push(event);
                }
                Err(error) => self.accepted(due, clock::now_ms(), Err(error)),
            }
        }
        // No function starts before all events of this batch are on their way.
        for (due, accepted) in dues.into_iter().zip(self.ingest.accept_batch(events)) {
            self.in_flight.spawn(async move {
                let accepted = accepted.await;
                TaskOutput::Event(due, clock::now_ms(), accepted)
            });
        }
        if self.dirty && self.checkpointed.elapsed() >= CHECKPOINT_INTERVAL {
            self.write();
        }
    }

    /// Returns the current second of the clock.
    fn now(&mut self) -> i64 {
        let now = clock::now_ms().div_euclid(1000);
        if now < self.latest - MAX_CLOCK_SETBACK {
            warn!(
                now,
                latest = self.latest,
                "the clock was more than a day ahead; timers continue from now"
            );
            self.schedule.reset(now);
            self.latest = now;
        }
        self.latest = self.latest.max(now);
        now
    }

    /// Returns the time until the next work, unless something happens before.
    fn wait(&self) -> Duration {
        let mut wait = CLOCK_CHECK_INTERVAL;
        if self.dirty {
            wait = wait.min(CHECKPOINT_INTERVAL.saturating_sub(self.checkpointed.elapsed()));
        }
        if let Some(until) = self.paused.filter(|until| *until > Instant::now()) {
            return wait.min(until.saturating_duration_since(Instant::now()));
        }
        match self.schedule.next() {
            Some(next) if self.in_flight.len() < MAX_IN_FLIGHT => {
                let due = u64::try_from(next * 1000 - clock::now_ms()).unwrap_or(0);
                wait.min(Duration::from_millis(due))
            }
            _ => wait,
        }
    }

    fn task_finished(&mut self, task_finished: Result<TaskOutput, tokio::task::JoinError>) {
        match task_finished {
            Ok(TaskOutput::Event(due, at, accepted)) => self.accepted(due, at, accepted),
            Ok(TaskOutput::Write(Ok(_))) => {
                if self.failure_log.success() {
                    info!("timer checkpoints succeed again");
                }
            }
            Ok(TaskOutput::Write(Err(error))) => {
                self.dirty = true;
                if let Some(times) = self.failure_log.failure() {
                    warn!(%error, times, "failed to write the timer checkpoint; retrying");
                }
            }
            Err(error) => error!(%error, "lost a timer event: its task failed"),
        }
    }

    fn accepted(&mut self, due: TimerRun, at: i64, accepted: Result<(), IngestError>) {
        match accepted {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info!("the queue accepts timer events again");
                }
                let late = at - due.1 * 1000;
                self.metrics.timer_event(late as f64 / 1000.0);
            }
            Err(IngestError::Queue(error)) if error.is_account_limit() => {
                // Timers of other accounts continue.
                debug!(%error, "throttled a timer: its account's queue quota is used up; retrying");
                self.throttled.spawn(async move {
                    tokio::time::sleep(RETRY_DELAY).await;
                    due
                });
                return;
            }
            Err(IngestError::Queue(error)) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(%error, "the queue refused a timer event; retrying");
                }
                self.paused = Some(Instant::now() + RETRY_DELAY);
                return self.schedule.requeue(due);
            }
            Err(error) => {
                let name = self.names.get(&due.0);
                let (function, timer) = name
                    .map(|name| (&name.function.name, &name.trigger))
                    .unzip();
                let function = function.map(tracing::field::display);
                let timer = timer.map(tracing::field::display);
                warn!(function, timer, %error, "dropped a timer event");
            }
        }
        self.dirty = true;
        self.schedule.finish(due);
    }

    fn write(&mut self) {
        let done = self.schedule.done(self.latest);
        (self.dirty, self.checkpointed) = (false, Instant::now());
        let value = serde_json::to_vec(&Checkpoint { v: 1, done }).unwrap_or_default();
        let journal = self.journal.clone();
        self.in_flight.spawn(async move {
            TaskOutput::Write(journal.put(KEY, value, Precondition::Any).await)
        });
    }

    /// Returns the event of a due timer, unless the timer was disabled.
    fn event(&self, (id, at): TimerRun) -> Option<NewEvent> {
        let name = self.names.get(&id)?;
        let stored = self.catalog.function(&name.function)?;
        let function = &stored.value;
        let mut timers = function.triggers_of(TriggerKind::Timer);
        let trigger = timers.find(|trigger| trigger.name == name.trigger)?;
        let timer = match &trigger.spec {
            TriggerSpec::Timer(timer) if trigger.enabled => timer,
            _ => return None,
        };
        // The record may be newer than the schedule.
        let since = trigger.since.div_euclid(1000);
        if since >= at && since <= self.latest {
            return None;
        }
        let document = Document {
            kind: "Timer",
            name: trigger.name.as_str(),
            time: jiff::Timestamp::from_second(at).ok()?.to_string(),
            message: &timer.message,
        };
        Some(NewEvent {
            request: request_id(&function.id, &trigger.name, at),
            function: function.key.clone(),
            qualifier: trigger.qualifier.clone(),
            routing_key: BTreeMap::new(),
            source: EventOrigin::Trigger(TriggerKind::Timer),
            depth: RecursionDepth::default(),
            trace: None,
            event: Bytes::from(serde_json::to_vec(&document).ok()?),
        })
    }

    fn refresh_all(&mut self) {
        let functions = self.catalog.all_functions();
        let gone: Vec<_> = self
            .ids
            .keys()
            .filter(|key| self.catalog.function(key).is_none())
            .cloned()
            .collect();
        for key in gone {
            self.refresh(FunctionKey::clone(&key), None);
        }
        for stored in functions {
            self.refresh(stored.value.key.clone(), Some(&stored));
        }
    }

    /// Adds a function's enabled timers to the schedule, and removes the others.
    fn refresh(&mut self, key: FunctionKey, now: Option<&Stored<Function>>) {
        let (key, mut known) = self
            .ids
            .remove_entry(&key)
            .unwrap_or_else(|| (Arc::new(key), BTreeMap::new()));
        let mut open = BTreeMap::new();
        // A clock that was ahead may have left records with times in the future.
        let second = self.now();
        let timers = now.map(|stored| stored.value.triggers_of(TriggerKind::Timer));
        for trigger in timers.into_iter().flatten() {
            let timer = match (&trigger.spec, trigger.enabled) {
                (TriggerSpec::Timer(timer), true) => timer,
                _ => continue,
            };
            let cron = match Cron::parse(&timer.cron, self.weekday_zero) {
                Ok(cron) => cron,
                Err(error) => {
                    error!(function = %key.name, timer = %trigger.name, %error, "failed to parse a timer; it does not run");
                    continue;
                }
            };
            let id = known.remove(&trigger.name).unwrap_or_else(|| {
                self.last_id += 1;
                TimerId(self.last_id)
            });
            let name = TimerKey {
                function: key.clone(),
                trigger: trigger.name.clone(),
            };
            self.names.insert(id, name);
            let since = trigger.since.div_euclid(1000);
            self.schedule.set(id, cron, since.min(second));
            open.insert(trigger.name.clone(), id);
        }
        for id in known.into_values() {
            self.schedule.remove(id);
            self.names.remove(&id);
        }
        if !open.is_empty() {
            self.ids.insert(key, open);
        }
        self.metrics.timers(self.schedule.len());
    }
}

/// The event document, as in SCF.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "TriggerName")]
    name: &'a str,
    #[serde(rename = "Time")]
    time: String,
    #[serde(rename = "Message")]
    message: &'a str,
}

/// Returns the request id of a timer's event.
fn request_id(function: &FunctionId, trigger: &TriggerName, at: i64) -> RequestId {
    let at_text = at.to_string();
    let parts = [function.as_str(), "timer", trigger.as_str(), &at_text];
    let millis = u64::try_from(at).unwrap_or(0) * 1000;
    derived_id(parts.map(str::as_bytes), millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_request_id_is_deterministic_and_sorted_by_time() {
        let id = |function: u64, name: &str, at| {
            let name = TriggerName::parse(name).expect("a name");
            request_id(&FunctionId::from_random(function), &name, at)
        };
        let one = id(1, "every", 1_795_000_000);
        assert_eq!(one, id(1, "every", 1_795_000_000));
        for other in [
            id(2, "every", 1_795_000_000),
            id(1, "ever", 1_795_000_000),
            id(1, "every", 1_795_000_001),
        ] {
            assert_ne!(one, other);
        }
        assert!(one < id(2, "other", 1_795_000_001) && id(2, "other", 1_794_999_999) < one);
        assert_eq!(&one.to_string()[14..15], "7", "of version 7");
    }
}
