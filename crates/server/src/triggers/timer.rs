//! Timers: an event is handed over for each time at which one is due.
//!
//! One task keeps the schedule and decides nothing itself. The request id of an event is made of its timer and its time,
//! and the queue takes the same id once. So all that has to be on disk is the time up to which everything was handed over,
//! one number for all timers, written behind the events and at most once a second: what a kill leaves unsaid is handed
//! over again and is known to the queue.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::kv::{Kv, KvError, Precondition};
use catalog::{Catalog, FunctionChange, Stored};
use dispatch::TimerId;
use dispatch::cron::{Cron, WeekdayZero};
use dispatch::schedule::{Schedule, ScheduleConfig, TimerRun};
use model::{Function, FunctionId, FunctionKey, RequestId, TriggerKind, TriggerName, TriggerSpec};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, error, info, warn};

use super::derived_id;
use crate::call_chains::RecursionDepth;
use crate::clock;
use crate::failure_log::FailureLog;
use crate::invoke::{Ingest, IngestError};
use crate::queue::{EventOrigin, NewEvent};
use crate::telemetry::Metrics;

/// Events on their way into the queue at a time.
const MAX_IN_FLIGHT: usize = 1024;
/// How long nothing is tried after the queue could not take an event.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Distance of writes of what is done.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How often the clock is looked at that may have been set.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// A clock that goes back further was wrong before, seconds.
const MAX_CLOCK_SETBACK: i64 = 86_400;
/// Where the number is kept.
const KEY: &str = "timers/done";
/// How long events may still be on their way when virga stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How timers are kept.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) terms: ScheduleConfig,
    pub(crate) weekday_zero: WeekdayZero,
}

/// The running timers.
#[derive(Debug)]
pub(crate) struct Timers {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Timers {
    /// Goes on where an earlier run was, and follows the catalog from then on.
    pub(crate) async fn start(
        catalog: Catalog,
        ingest: Ingest,
        journal: Arc<dyn Kv>,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Result<Self, KvError> {
        let now = clock::now_ms().div_euclid(1000);
        let done = match journal.get(KEY).await? {
            // Where nothing was ever written, a timer's record says where it begins.
            None => 0,
            Some(entry) => serde_json::from_slice::<Checkpoint>(&entry.value).map_or_else(
                |error| {
                    error!(key = KEY, %error, "what timers have done cannot be read; they go on from now");
                    now
                },
                |checkpoint| checkpoint.done,
            ),
        };
        let changes = catalog.subscribe();
        let mut timer_task = TimerTask {
            catalog,
            ingest,
            journal,
            metrics,
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
        };
        timer_task.refresh_all();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(timer_task.run(changes, stopped));
        Ok(Self { stop, task })
    }

    /// Hands nothing over any more, and writes what is done.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        if self.task.await.is_err() {
            error!("timers have ended badly");
        }
    }
}

/// What is kept on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    v: u32,
    /// Seconds since the Unix epoch.
    done: i64,
}

/// Whose timer it is.
#[derive(Clone, Debug)]
struct TimerKey {
    function: Arc<FunctionKey>,
    trigger: TriggerName,
}

/// What came of something that was under way.
enum TaskOutput {
    /// With the time at which it was in the queue, milliseconds since the Unix epoch.
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
    /// Timers whose account has no room in the queue. They are no part of what is under way, so that they hold up no others.
    throttled: JoinSet<TimerRun>,
    /// The latest second that the clock has shown.
    latest: i64,
    /// Until when nothing is handed over.
    paused: Option<Instant>,
    /// Whether the queue did not take the last event.
    failing: bool,
    /// Whether what was done cannot be written.
    failure_log: FailureLog,
    /// Whether something was handed over since the last write.
    dirty: bool,
    checkpointed: Instant,
}

impl TimerTask {
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
                    Err(error) => error!(%error, "a timer was lost while it waited for the queue"),
                },
                change = changes.recv() => match change {
                    Ok(FunctionChange { key, now }) => self.refresh(key, now.as_deref()),
                    // Too many changes at once to hear of each.
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
                "events of timers were still on their way; they are handed over again at the next start"
            );
        }
    }

    /// Hands over what is due now.
    fn submit(&mut self) {
        let now = self.now();
        if self.paused.is_some_and(|until| until > Instant::now()) {
            return;
        }
        let room = MAX_IN_FLIGHT.saturating_sub(self.in_flight.len());
        let taken = self.schedule.take(now, room);
        if taken.missed > 0 {
            self.metrics.timers_missed(taken.missed);
            info!(
                timers = taken.missed,
                "times of timers were missed; timer_missed says what becomes of them"
            );
        }
        let (mut dues, mut events) = (Vec::new(), Vec::new());
        for due in taken.due {
            let Some(event) = self.event(due) else {
                // It was closed or changed, which will be heard of.
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
        // None starts its function while others are still on their way.
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

    /// The second that the clock shows.
    fn now(&mut self) -> i64 {
        let now = clock::now_ms().div_euclid(1000);
        if now < self.latest - MAX_CLOCK_SETBACK {
            warn!(
                now,
                latest = self.latest,
                "the clock was more than a day ahead; timers go on from now"
            );
            self.schedule.reset(now);
            self.latest = now;
        }
        self.latest = self.latest.max(now);
        now
    }

    /// How long nothing is to be done, unless something happens.
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
                    info!("what timers have done is written again");
                }
            }
            Ok(TaskOutput::Write(Err(error))) => {
                self.dirty = true;
                if let Some(times) = self.failure_log.failure() {
                    warn!(%error, times, "what timers have done cannot be written; it is tried again");
                }
            }
            Err(error) => error!(%error, "an event of a timer was lost on its way"),
        }
    }

    fn accepted(&mut self, due: TimerRun, at: i64, accepted: Result<(), IngestError>) {
        match accepted {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info!("the queue takes the events of timers again");
                }
                let late = at - due.1 * 1000;
                self.metrics.timer_event(late as f64 / 1000.0);
            }
            Err(IngestError::Queue(error)) if error.is_account_limit() => {
                // Timers of other accounts go on.
                debug!(%error, "a timer waits until the queue accepts its event");
                self.throttled.spawn(async move {
                    tokio::time::sleep(RETRY_DELAY).await;
                    due
                });
                return;
            }
            Err(IngestError::Queue(error)) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(%error, "timers wait until the queue takes their events");
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
                warn!(function, timer, %error, "a timer's event was refused");
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

    /// A timer's event, if it is still open.
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
        // The record may be younger than what the schedule was told.
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
            source: EventOrigin::Timer,
            depth: RecursionDepth::default(),
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

    /// Puts a function's open timers into the schedule, and those out of it that are not open any more.
    fn refresh(&mut self, key: FunctionKey, now: Option<&Stored<Function>>) {
        let (key, mut known) = self
            .ids
            .remove_entry(&key)
            .unwrap_or_else(|| (Arc::new(key), BTreeMap::new()));
        let mut open = BTreeMap::new();
        // A clock that was ahead may have left records of times that are not to come for long.
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
                    error!(function = %key.name, timer = %trigger.name, %error, "a timer cannot be read");
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

/// What a function gets, as SCF writes it.
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

/// The one id of a timer's event.
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
