//! The schedule of timer triggers: which runs are due, and up to which time all runs are complete.
//!
//! Times are whole seconds since the Unix epoch on the host's clock, which may be adjusted. No run is issued twice,
//! whatever the clock does. A run that is long overdue is handled by [`MissedRuns`], whatever the cause: virga was
//! down, the host slept, the clock was set forward, or the queue was full.
//!
//! The only persistent state for any number of timers is one number, [`Schedule::done`]: a restart resumes behind it.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use crate::cron::Cron;
use crate::ids::{Map, TimerId};

/// Policy for runs that are overdue by more than [`ScheduleConfig::grace`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedRuns {
    /// Skip them.
    Skip,
    /// Issue the latest one of each timer.
    #[default]
    Latest,
    /// Issue all runs of the last six hours. Older events would have expired in the queue.
    All,
}

/// Maximum age of a missed run, seconds. Source: how long SCF retains an event that cannot run.
const MAX_AGE_S: i64 = 6 * 3600;

/// Configuration of a schedule.
#[derive(Clone, Debug)]
pub struct ScheduleConfig {
    /// Time zone of cron expressions.
    pub zone: TimeZone,
    /// Policy for missed runs.
    pub missed: MissedRuns,
    /// How late a run may be without counting as missed, seconds.
    pub grace: i64,
}

/// A timer and the scheduled time of a run.
pub type TimerRun = (TimerId, i64);

/// Runs that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueRuns {
    /// The runs, earliest first. Each must be reported by [`Schedule::finish`] or [`Schedule::requeue`].
    pub due: Vec<TimerRun>,
    /// Number of timers that skipped missed runs.
    pub missed: usize,
}

/// All enabled timers.
#[derive(Debug)]
pub struct Schedule {
    config: ScheduleConfig,
    timers: Map<TimerId, Timer>,
    waiting: BTreeSet<(i64, TimerId)>,
    issued: BTreeSet<(i64, TimerId)>,
    /// New timers are due after this time only.
    not_before: i64,
    done: i64,
}

#[derive(Debug)]
struct Timer {
    cron: Cron,
    since: i64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting(i64),
    Issued(i64),
    /// No further runs.
    Over,
}

impl Schedule {
    /// Creates an empty schedule. All runs up to `done` are complete.
    pub fn new(config: ScheduleConfig, done: i64) -> Self {
        Self {
            config,
            timers: Map::default(),
            waiting: BTreeSet::new(),
            issued: BTreeSet::new(),
            not_before: done,
            done,
        }
    }

    /// Adds or updates a timer, which is due after `since`.
    pub fn set(&mut self, id: TimerId, cron: Cron, since: i64) {
        let same = |timer: &Timer| timer.cron == cron && timer.since == since;
        if self.timers.get(&id).is_some_and(same) {
            return;
        }
        self.remove(id);
        let state = self.wait(id, &cron, since.max(self.not_before));
        self.timers.insert(id, Timer { cron, since, state });
    }

    /// Removes a deleted or disabled timer. Its issued run must still be reported.
    pub fn remove(&mut self, id: TimerId) {
        if let Some(Timer {
            state: State::Waiting(at),
            ..
        }) = self.timers.remove(&id)
        {
            self.waiting.remove(&(at, id));
        }
    }

    /// Issues up to `most` runs that are due.
    pub fn take(&mut self, now: i64, most: usize) -> DueRuns {
        let mut due_runs = DueRuns::default();
        while due_runs.due.len() < most {
            let Some(&(at, id)) = self.waiting.first().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.waiting.pop_first();
            let Some(timer) = self.timers.get_mut(&id) else {
                continue;
            };
            let due = catch_up(&self.config, &timer.cron, at, now);
            due_runs.missed += usize::from(due != Some(at));
            timer.state = match due {
                Some(due) if due <= now => {
                    self.issued.insert((due, id));
                    due_runs.due.push((id, due));
                    State::Issued(due)
                }
                Some(due) => {
                    self.waiting.insert((due, id));
                    State::Waiting(due)
                }
                None => State::Over,
            };
        }
        due_runs
    }

    /// Reports an issued run as complete, and schedules the timer's next run.
    pub fn finish(&mut self, (id, at): TimerRun) {
        self.issued.remove(&(at, id));
        if let Some(timer) = self
            .timers
            .get_mut(&id)
            .filter(|timer| timer.state == State::Issued(at))
        {
            let cron = timer.cron.clone();
            let state = self.wait(id, &cron, at);
            if let Some(timer) = self.timers.get_mut(&id) {
                timer.state = state;
            }
        }
    }

    /// Returns an issued run that could not be completed; it remains due.
    pub fn requeue(&mut self, (id, at): TimerRun) {
        self.issued.remove(&(at, id));
        if let Some(timer) = self
            .timers
            .get_mut(&id)
            .filter(|timer| timer.state == State::Issued(at))
        {
            timer.state = State::Waiting(at);
            self.waiting.insert((at, id));
        }
    }

    /// Returns the time of the earliest pending run.
    pub fn next(&self) -> Option<i64> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Returns the time up to which all runs are complete. It never decreases, except by [`Schedule::reset`].
    pub fn done(&mut self, now: i64) -> i64 {
        let outstanding = [self.waiting.first(), self.issued.first()];
        let first = outstanding.into_iter().flatten().map(|(at, _)| *at).min();
        let reached = first.map_or(now, |at| now.min(at - 1));
        self.done = self.done.max(reached);
        self.done
    }

    /// Restarts from now because the clock was wrong: it showed a time in the distant future.
    pub fn reset(&mut self, now: i64) {
        (self.not_before, self.done) = (now, now);
        let ids: Vec<_> = self.timers.keys().copied().collect();
        for id in ids {
            if let Some(timer) = self.timers.remove(&id) {
                if let State::Waiting(at) = timer.state {
                    self.waiting.remove(&(at, id));
                }
                let state = self.wait(id, &timer.cron, now);
                self.timers.insert(id, Timer { state, ..timer });
            }
        }
    }

    /// Returns the number of timers.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Returns whether there are no timers.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    fn wait(&mut self, id: TimerId, cron: &Cron, after: i64) -> State {
        match cron.next_after(after, &self.config.zone) {
            Some(at) => {
                self.waiting.insert((at, id));
                State::Waiting(at)
            }
            None => State::Over,
        }
    }
}

/// Returns the time at which to resume a timer that was due at `at`, according to the policy for missed runs.
fn catch_up(config: &ScheduleConfig, cron: &Cron, at: i64, now: i64) -> Option<i64> {
    let late = now - config.grace;
    if at >= late {
        return Some(at);
    }
    match config.missed {
        MissedRuns::Skip => cron.next_after(late - 1, &config.zone),
        MissedRuns::Latest => cron.last_within(at - 1, late - 1, &config.zone),
        MissedRuns::All if at >= now - MAX_AGE_S => Some(at),
        MissedRuns::All => cron.next_after(now - MAX_AGE_S - 1, &config.zone),
    }
}
