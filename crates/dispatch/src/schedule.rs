//! Timers: which of them are due, and up to which time all of them are done.
//!
//! Times are whole seconds since the Unix epoch by the host's clock, which may be set. No time is handed out twice, whatever
//! the clock does, and one that is far past is treated as [`MissedRuns`] says, whatever it is that kept it: virga was down, the
//! host asleep, the clock set forward, or the queue full.
//!
//! All that has to be kept of a hundred thousand timers is one number, [`Schedule::done`]: a restart goes on behind it.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use crate::cron::Cron;
use crate::ids::{Map, TimerId};

/// What becomes of times that are further past than [`ScheduleConfig::grace`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedRuns {
    /// Nothing.
    Skip,
    /// Each timer is due once, for the last of them.
    #[default]
    Latest,
    /// All are due, those of the last six hours: an event that old would have been given up in the queue.
    All,
}

/// Source: how long SCF keeps an event that cannot run.
const OLDEST: i64 = 6 * 3600;

/// How timers are read.
#[derive(Clone, Debug)]
pub struct ScheduleConfig {
    /// By whose clocks they are due.
    pub zone: TimeZone,
    /// What becomes of times that are long past.
    pub missed: MissedRuns,
    /// How far past a time may be and still is merely late, seconds.
    pub grace: i64,
}

/// A timer and the time that it was due.
pub type TimerRun = (TimerId, i64);

/// What is due now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueRuns {
    /// To be done, earliest first, and reported back one by one.
    pub due: Vec<TimerRun>,
    /// Timers of which times were missed and left out.
    pub missed: usize,
}

/// All timers that are open.
#[derive(Debug)]
pub struct Schedule {
    terms: ScheduleConfig,
    timers: Map<TimerId, Timer>,
    waiting: BTreeSet<(i64, TimerId)>,
    under_way: BTreeSet<(i64, TimerId)>,
    /// Timers that come begin behind it.
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
    UnderWay(i64),
    /// There are no more.
    Over,
}

impl Schedule {
    /// A schedule without timers. All times up to `done` are done.
    pub fn new(terms: ScheduleConfig, done: i64) -> Self {
        Self {
            terms,
            timers: Map::default(),
            waiting: BTreeSet::new(),
            under_way: BTreeSet::new(),
            not_before: done,
            done,
        }
    }

    /// A timer that came or may have changed: due at the times of an expression that are later than `since`.
    pub fn set(&mut self, id: TimerId, cron: Cron, since: i64) {
        let same = |timer: &Timer| timer.cron == cron && timer.since == since;
        if self.timers.get(&id).is_some_and(same) {
            return;
        }
        self.remove(id);
        let state = self.wait(id, &cron, since.max(self.not_before));
        self.timers.insert(id, Timer { cron, since, state });
    }

    /// A timer that went or was closed. What was handed out of it is still to be reported.
    pub fn remove(&mut self, id: TimerId) {
        if let Some(Timer {
            state: State::Waiting(at),
            ..
        }) = self.timers.remove(&id)
        {
            self.waiting.remove(&(at, id));
        }
    }

    /// Hands out what is due, up to so many at a time.
    pub fn take(&mut self, now: i64, most: usize) -> DueRuns {
        let mut taken = DueRuns::default();
        while taken.due.len() < most {
            let Some(&(at, id)) = self.waiting.first().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.waiting.pop_first();
            let Some(timer) = self.timers.get_mut(&id) else {
                continue;
            };
            let due = catch_up(&self.terms, &timer.cron, at, now);
            taken.missed += usize::from(due != Some(at));
            timer.state = match due {
                Some(due) if due <= now => {
                    self.under_way.insert((due, id));
                    taken.due.push((id, due));
                    State::UnderWay(due)
                }
                Some(due) => {
                    self.waiting.insert((due, id));
                    State::Waiting(due)
                }
                None => State::Over,
            };
        }
        taken
    }

    /// What was handed out is done, and its timer waits for its next time.
    pub fn finish(&mut self, (id, at): TimerRun) {
        self.under_way.remove(&(at, id));
        if let Some(timer) = self
            .timers
            .get_mut(&id)
            .filter(|timer| timer.state == State::UnderWay(at))
        {
            let cron = timer.cron.clone();
            let state = self.wait(id, &cron, at);
            if let Some(timer) = self.timers.get_mut(&id) {
                timer.state = state;
            }
        }
    }

    /// What was handed out could not be done, and is due still.
    pub fn requeue(&mut self, (id, at): TimerRun) {
        self.under_way.remove(&(at, id));
        if let Some(timer) = self
            .timers
            .get_mut(&id)
            .filter(|timer| timer.state == State::UnderWay(at))
        {
            timer.state = State::Waiting(at);
            self.waiting.insert((at, id));
        }
    }

    /// The earliest time at which something is due.
    pub fn next(&self) -> Option<i64> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// The time up to which everything is done. It never goes back, except by [`Schedule::reset`].
    pub fn done(&mut self, now: i64) -> i64 {
        let outstanding = [self.waiting.first(), self.under_way.first()];
        let first = outstanding.into_iter().flatten().map(|(at, _)| *at).min();
        let reached = first.map_or(now, |at| now.min(at - 1));
        self.done = self.done.max(reached);
        self.done
    }

    /// Goes on from now, because the clock was wrong: it showed a time that is not to come for long.
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

    /// How many timers there are.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    fn wait(&mut self, id: TimerId, cron: &Cron, after: i64) -> State {
        match cron.next_after(after, &self.terms.zone) {
            Some(at) => {
                self.waiting.insert((at, id));
                State::Waiting(at)
            }
            None => State::Over,
        }
    }
}

/// The time of a timer to go on with, which was due at `at`: that itself unless it was missed.
fn catch_up(terms: &ScheduleConfig, cron: &Cron, at: i64, now: i64) -> Option<i64> {
    let late = now - terms.grace;
    if at >= late {
        return Some(at);
    }
    match terms.missed {
        MissedRuns::Skip => cron.next_after(late - 1, &terms.zone),
        MissedRuns::Latest => cron.last_within(at - 1, late - 1, &terms.zone),
        MissedRuns::All if at >= now - OLDEST => Some(at),
        MissedRuns::All => cron.next_after(now - OLDEST - 1, &terms.zone),
    }
}
