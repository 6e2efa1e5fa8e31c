//! Timers over hours in which virga is killed and restarted, the queue rejects runs, and the clock is adjusted.
//!
//! The simulation deduplicates accepted runs by timer and time, as the queue does. `SCHEDULE_SEEDS` sets the number of
//! simulations; `SCHEDULE_SEED` replays a single one.
#![expect(clippy::expect_used, reason = "a test may end")]

use std::collections::{BTreeMap, BTreeSet};

use dispatch::TimerId;
use dispatch::cron::{Cron, WeekdayZero};
use dispatch::schedule::{MissedRuns, Schedule, ScheduleConfig, TimerRun};
use jiff::tz::TimeZone;
use seeded::Random;

const SEEDS: u64 = 100;
const STEPS: u64 = 2000;
const GRACE: i64 = 60;
const BEGIN: i64 = 1_795_000_000;
const CRONS: &[&str] = &[
    "* * * * * * *",
    "*/7 * * * * * *",
    "0 * * * * * *",
    "30 */5 * * * * *",
    "0 0 * * * * *",
    "0 30 1,2 * * * *",
    "0 0 0 1 1 * 2020",
];

/// A timer as in the catalog.
#[derive(Clone)]
struct Open {
    cron: Cron,
    since: i64,
}

/// When a timer was disabled, and its last run until then.
#[derive(Clone, Copy)]
struct Span {
    until: i64,
    reached: i64,
}

struct World {
    random: Random,
    terms: ScheduleConfig,
    schedule: Schedule,
    now: i64,
    catalog: BTreeMap<TimerId, Open>,
    /// Issued runs that are not reported yet.
    out: Vec<TimerRun>,
    accepted: BTreeSet<TimerRun>,
    /// The number on disk.
    kept: i64,
    /// When each timer was enabled, and its expression.
    history: Vec<(TimerId, Open, Span)>,
    /// Spans in which runs may be missed.
    outages: Vec<(i64, i64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        for _ in 0..8 {
            random.below(2);
        }
        let missed =
            [MissedRuns::Skip, MissedRuns::Latest, MissedRuns::All][random.below(3) as usize];
        let zone = ["Asia/Shanghai", "America/New_York"][random.below(2) as usize];
        let terms = ScheduleConfig {
            zone: TimeZone::get(zone).expect("a zone"),
            missed,
            grace: GRACE,
        };
        Self {
            random,
            schedule: Schedule::new(terms.clone(), 0),
            terms,
            now: BEGIN,
            catalog: BTreeMap::new(),
            out: Vec::new(),
            accepted: BTreeSet::new(),
            kept: 0,
            history: Vec::new(),
            outages: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..4 => self.open(),
            4..6 => self.close(),
            6 => self.restart(),
            7 => self.pass(200),
            8 => self.pass(2),
            _ => self.now += 1,
        }
        for _ in 0..8 {
            self.hand_over();
        }
        if self.random.one_in(3) {
            self.kept = self.schedule.done(self.now);
        }
    }

    fn open(&mut self) {
        let id = TimerId(self.random.below(12));
        self.end(id);
        let text = CRONS[self.random.below(CRONS.len() as u64) as usize];
        let open = Open {
            cron: Cron::parse(text, WeekdayZero::Sunday).expect("an expression"),
            since: self.now,
        };
        self.schedule.set(id, open.cron.clone(), open.since);
        self.catalog.insert(id, open);
    }

    fn close(&mut self) {
        let id = TimerId(self.random.below(12));
        self.end(id);
        self.schedule.remove(id);
    }

    fn end(&mut self, id: TimerId) {
        if let Some(open) = self.catalog.remove(&id) {
            let last = self.accepted.range((id, 0)..=(id, self.now)).next_back();
            let span = Span {
                until: self.now,
                reached: last.map_or(0, |(_, at)| *at),
            };
            self.history.push((id, open, span));
        }
        // Runs of a timer that was disabled meanwhile are not enqueued.
        for due in self.out.extract_if(.., |due| due.0 == id) {
            self.schedule.finish(due);
        }
    }

    /// Kills virga and restarts it after a while.
    fn restart(&mut self) {
        self.out.clear();
        if self.random.one_in(2) {
            self.pass(3000);
        }
        self.schedule = Schedule::new(self.terms.clone(), self.kept);
        for (id, open) in &self.catalog {
            self.schedule.set(*id, open.cron.clone(), open.since);
        }
    }

    /// Lets time pass without issuing runs.
    fn pass(&mut self, most: u64) {
        let span = 1 + self.random.below(most) as i64;
        // A run that was late at the start of the outage is overdue at its end.
        self.outages.push((self.now - GRACE, self.now + span));
        self.now += span;
    }

    fn hand_over(&mut self) {
        let most = 1 + self.random.below(20) as usize;
        let taken = self.schedule.take(self.now, most);
        assert!(
            taken.due.iter().all(|(_, at)| *at <= self.now),
            "before its time"
        );
        self.out.extend(taken.due);
        let mut left = Vec::new();
        for due in std::mem::take(&mut self.out) {
            match self.random.below(10) {
                0 => self.schedule.requeue(due),
                1 => left.push(due),
                _ => {
                    let fits = |open: &Open| due.1 > open.since;
                    assert!(
                        self.catalog.get(&due.0).is_some_and(fits),
                        "{due:?} of a timer that is not open"
                    );
                    self.accepted.insert(due);
                    // A kill in between makes the run be issued again.
                    if !self.random.one_in(50) {
                        self.schedule.finish(due);
                    } else {
                        left.push(due);
                    }
                }
            }
        }
        self.out = left;
        assert!(
            self.kept <= self.schedule.done(self.now),
            "the completed time went back"
        );
    }

    /// Issues all due runs.
    fn run_all_due(&mut self) {
        for _ in 0..100_000 {
            for due in std::mem::take(&mut self.out) {
                self.accepted.insert(due);
                self.schedule.finish(due);
            }
            self.out = self.schedule.take(self.now, 1000).due;
            if self.out.is_empty() {
                assert_eq!(self.schedule.done(self.now), self.now);
                return;
            }
        }
        panic!("it never ends");
    }

    fn check(mut self) {
        self.run_all_due();
        let ids: Vec<_> = self.catalog.keys().copied().collect();
        for id in ids {
            self.end(id);
        }
        let mut expected = BTreeSet::new();
        for (id, open, span) in &self.history {
            let next = |after: &i64| {
                open.cron
                    .next_after(*after, &self.terms.zone)
                    .filter(|at| *at <= span.until)
            };
            expected.extend(std::iter::successors(next(&open.since), next).map(|at| (*id, at)));
        }
        let stray: Vec<_> = self.accepted.difference(&expected).take(3).collect();
        assert!(stray.is_empty(), "never due: {stray:?}");
        // Runs after a timer was disabled are not missing.
        let closed = |(id, at): &TimerRun| {
            let ahead = |(other, open, span): &(TimerId, Open, Span)| {
                other == id && open.since < *at && span.reached < *at && *at <= span.until
            };
            self.history.iter().any(ahead)
        };
        let lost = expected
            .difference(&self.accepted)
            .filter(|due| !closed(due));
        let lost: Vec<_> = match self.terms.missed {
            MissedRuns::All => lost.collect(),
            MissedRuns::Skip | MissedRuns::Latest => {
                let in_outage = |at: i64| {
                    self.outages
                        .iter()
                        .any(|(from, to)| *from <= at && at < *to)
                };
                lost.filter(|(_, at)| !in_outage(*at)).collect()
            }
        };
        assert!(
            lost.is_empty(),
            "{:?}: lost {:?}",
            self.terms.missed,
            &lost[..lost.len().min(3)]
        );
    }
}

#[test]
fn each_run_is_issued_exactly_once() {
    let told = |name| std::env::var(name).ok()?.parse().ok();
    let seeds = match told("SCHEDULE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..told("SCHEDULE_SEEDS").unwrap_or(SEEDS) + 1,
    };
    for seed in seeds {
        println!("SCHEDULE_SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.check();
    }
}

fn schedule(missed: MissedRuns, cron: &str, since: i64) -> Schedule {
    let terms = ScheduleConfig {
        zone: TimeZone::UTC,
        missed,
        grace: GRACE,
    };
    let mut schedule = Schedule::new(terms, 0);
    schedule.set(
        TimerId(1),
        Cron::parse(cron, WeekdayZero::Sunday).expect("an expression"),
        since,
    );
    schedule
}

/// All runs due at a time, each completed.
fn all(schedule: &mut Schedule, now: i64) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let taken = schedule.take(now, 10).due;
        if taken.is_empty() {
            return found;
        }
        for due in taken {
            found.push(due.1);
            schedule.finish(due);
        }
    }
}

#[test]
fn missed_runs_follow_the_policy() {
    const HOUR: i64 = 3600;
    let day = 1_795_046_400;
    // Every ten minutes; down for an hour and half a minute.
    let rows = [
        (MissedRuns::Skip, vec![day + HOUR]),
        (MissedRuns::Latest, vec![day + HOUR - 600, day + HOUR]),
        (MissedRuns::All, (1..=6).map(|n| day + 600 * n).collect()),
    ];
    for (missed, expected) in rows {
        let mut late = schedule(missed, "0 */10 * * * * *", day);
        assert_eq!(all(&mut late, day + HOUR + 30), expected, "{missed:?}");
        assert_eq!(late.next(), Some(day + HOUR + 600));
    }
    // Down for a week: six hours are caught up.
    let mut week = schedule(MissedRuns::All, "0 0 * * * * *", day);
    let found = all(&mut week, day + 7 * 24 * HOUR);
    assert_eq!((found.len(), found[0]), (7, day + 7 * 24 * HOUR - 6 * HOUR));
    // Every second; down for a year: found without stepping through it.
    let mut year = schedule(MissedRuns::Latest, "* * * * * * *", day);
    assert_eq!(
        year.take(day + 365 * 24 * HOUR, 1).due,
        [(TimerId(1), day + 365 * 24 * HOUR - GRACE - 1)]
    );
}

#[test]
fn backward_clock_never_repeats_a_run() {
    let day = 1_795_046_400;
    let mut back = schedule(MissedRuns::Latest, "0 * * * * * *", day);
    assert_eq!(all(&mut back, day + 120), [day + 60, day + 120]);
    assert_eq!(back.done(day + 120), day + 120);
    assert_eq!(all(&mut back, day + 30), [0; 0]);
    assert_eq!(all(&mut back, day + 119), [0; 0]);
    assert_eq!(
        back.done(day + 30),
        day + 120,
        "completed runs stay completed"
    );
    assert_eq!(all(&mut back, day + 180), [day + 180]);
    // A clock that was years ahead is corrected.
    assert_eq!(all(&mut back, day + 1_000_000_000).len(), 2);
    assert_eq!(all(&mut back, day + 240), [0; 0]);
    back.reset(day + 240);
    assert_eq!(all(&mut back, day + 300), [day + 300]);
}
