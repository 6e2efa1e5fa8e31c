//! A simulation around the function queues: random events that arrive, fail, exceed the window, and functions without
//! instances, by seed. It keeps its own books and checks the invariants after every step.
//!
//! `SIM_SEEDS` sets the number of schedules; `SIM_SEED` replays a single one.
#![expect(clippy::expect_used, reason = "a test may end")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dispatch::Time;
use dispatch::events::{
    Disposition, FunctionQueueId, FunctionQueues, QueueEffect, QueueInput, QueueLimits,
    QueuePosition,
};
use seeded::Random;

const SEEDS: u64 = 10_000;
const STEPS: u32 = 300;
const QUEUES: u64 = 3;

/// State of an event in the simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Queued,
    Waiting,
    Running,
    /// Held while an operator decides whether to cancel it.
    Held,
    /// Cancelled, but not on disk yet.
    Cancelled,
    /// Ended, but not on disk yet.
    Ended(Disposition),
}

struct Load {
    queue: FunctionQueueId,
    orders: Vec<QueuePosition>,
    whole: bool,
    fails: bool,
}

struct World {
    random: Random,
    now: u64,
    pacing: QueueLimits,
    queues: FunctionQueues,
    wake: Option<u64>,
    next: u64,
    /// Events on disk, by queue.
    disk: BTreeMap<FunctionQueueId, BTreeMap<QueuePosition, State>>,
    /// Events on disk that are not reported yet, in order.
    unreported: VecDeque<(FunctionQueueId, QueuePosition)>,
    /// Loads that were requested, and loads that are done but not reported.
    asked: Vec<(FunctionQueueId, Option<QueuePosition>, usize)>,
    loads: Vec<Load>,
    /// Functions without instances.
    short: BTreeSet<FunctionQueueId>,
    came: u64,
    gone: u64,
    failures: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let pacing = QueueLimits {
            window: 1 + random.below(8) as usize,
            waiting: 1 + random.below(4) as u32,
            in_progress: 1 + random.below(8) as usize,
            pause: random.below(50),
        };
        let old = random.below(40);
        let mut world = Self {
            queues: FunctionQueues::new(pacing, old),
            random,
            now: 1000,
            pacing,
            wake: None,
            next: 1,
            disk: BTreeMap::new(),
            unreported: VecDeque::new(),
            asked: Vec::new(),
            loads: Vec::new(),
            short: BTreeSet::new(),
            came: 0,
            gone: 0,
            failures: 0,
        };
        // Events left by an earlier run; some are not due yet.
        for _ in 0..old {
            let queue = FunctionQueueId(world.random.below(QUEUES));
            let due = world.random.below(1100);
            world.keep(queue, due);
        }
        for queue in world.disk.keys().copied().collect::<Vec<_>>() {
            world.step(QueueInput::Open { queue });
        }
        world
    }

    fn keep(&mut self, queue: FunctionQueueId, due: u64) -> QueuePosition {
        let due = Time(due);
        let order = QueuePosition {
            due,
            seq: self.next,
        };
        self.next += 1;
        self.came += 1;
        self.disk
            .entry(queue)
            .or_default()
            .insert(order, State::Queued);
        order
    }

    fn step(&mut self, input: QueueInput) {
        let mut effects = Vec::new();
        self.queues.step(Time(self.now), input, &mut effects);
        for effect in effects {
            match effect {
                QueueEffect::Start { queue, seq } => self.started(queue, seq),
                QueueEffect::Load {
                    queue,
                    after,
                    limit,
                } => self.asked.push((queue, after, limit)),
                QueueEffect::WakeAt { at } => self.wake = Some(at.0),
            }
        }
        self.check();
    }

    fn started(&mut self, queue: FunctionQueueId, seq: u64) {
        let line = self.disk.get_mut(&queue).expect("a queue with events");
        let found = line.iter_mut().find(|(order, _)| order.seq == seq);
        let (order, state) = found.expect("an event that is on disk");
        assert_eq!(*state, State::Queued, "{seq} was in progress already");
        assert!(order.due.0 <= self.now, "{seq} was not due");
        *state = State::Waiting;
        // Every startable event before it was started, except unreported ones.
        let order = *order;
        let unreported = &self.unreported;
        let skipped = line.iter().find(|(other, state)| {
            **other < order
                && **state == State::Queued
                && !unreported.iter().any(|(_, one)| one == *other)
        });
        assert_eq!(skipped, None, "{order:?} came before its turn");
    }

    fn check(&self) {
        let states = self.disk.values().flat_map(BTreeMap::values);
        let runs = |state: &&State| matches!(state, State::Running | State::Ended(_));
        assert_eq!(self.queues.running(), states.filter(runs).count());
        for line in self.disk.values() {
            let count = |state| line.values().filter(|one| **one == state).count();
            assert!(count(State::Waiting) <= self.pacing.waiting as usize);
            let lies = |one: &&State| matches!(one, State::Queued | State::Held | State::Cancelled);
            let in_progress = line.values().filter(|one| !lies(one)).count();
            assert!(in_progress <= self.pacing.in_progress);
        }
    }

    /// A random event in one of these states.
    fn any(&mut self, states: &[State]) -> Option<(FunctionQueueId, QueuePosition, State)> {
        let all = self.disk.iter().flat_map(|(queue, line)| {
            let fit = line
                .iter()
                .filter(|(_, state)| states.contains(state) || states.is_empty());
            fit.map(|(order, state)| (*queue, *order, *state))
        });
        let all: Vec<_> = all.collect();
        let index = self.random.below(all.len() as u64) as usize;
        all.get(index).copied()
    }

    fn set(&mut self, queue: FunctionQueueId, order: QueuePosition, state: State) {
        *self
            .disk
            .get_mut(&queue)
            .and_then(|line| line.get_mut(&order))
            .expect("it is there") = state;
    }

    fn place(&mut self) {
        let Some((queue, order, _)) = self.any(&[State::Waiting]) else {
            return;
        };
        if self.short.contains(&queue) {
            self.set(queue, order, State::Queued);
            let (seq, then) = (order.seq, Disposition::Throttled);
            self.step(QueueInput::Ended { queue, seq, then });
        } else if self.random.one_in(10) {
            self.set(queue, order, State::Queued);
            let (seq, then) = (order.seq, Disposition::NotStarted);
            self.step(QueueInput::Ended { queue, seq, then });
        } else {
            self.set(queue, order, State::Running);
            let seq = order.seq;
            self.step(QueueInput::Assigned { queue, seq });
        }
    }

    fn end(&mut self) {
        let Some((queue, order, _)) = self.any(&[State::Running]) else {
            return;
        };
        let fails = self.failures > 0 && self.random.one_in(3);
        let then = if fails {
            self.failures -= 1;
            let due = Time(self.now + self.random.below(100));
            Disposition::Retry { due }
        } else {
            Disposition::Removed
        };
        self.set(queue, order, State::Ended(then));
    }

    /// Holds an event, to cancel it or release it.
    fn hold(&mut self) {
        let Some((queue, order, state)) = self.any(&[]) else {
            return;
        };
        let unreported = self.unreported.iter().any(|(_, one)| *one == order);
        match state {
            State::Held if self.random.one_in(2) => {
                self.set(queue, order, State::Cancelled);
            }
            State::Held => {
                self.set(queue, order, State::Queued);
                let (seq, then) = (order.seq, Disposition::NotStarted);
                self.step(QueueInput::Ended { queue, seq, then });
            }
            State::Queued if !unreported => {
                let held = self.queues.hold(queue, order);
                assert!(held, "{order:?} is not under way");
                self.set(queue, order, State::Held);
            }
            State::Queued => {}
            _ => assert!(!self.queues.hold(queue, order), "{order:?} is under way"),
        }
    }

    fn release(&mut self) {
        while let Some((queue, order, _)) = self.any(&[State::Held]) {
            self.set(queue, order, State::Queued);
            let (seq, then) = (order.seq, Disposition::NotStarted);
            self.step(QueueInput::Ended { queue, seq, then });
        }
    }

    /// Writes ended events to disk and reports them, now or later.
    fn commit(&mut self) {
        let all = self
            .disk
            .iter()
            .flat_map(|(queue, line)| line.iter().map(|(order, state)| (*queue, *order, *state)));
        let ended: Vec<_> = all
            .filter_map(|(queue, order, state)| match state {
                State::Ended(then) => Some((queue, order, then)),
                State::Cancelled => Some((queue, order, Disposition::Removed)),
                _ => None,
            })
            .collect();
        for (queue, order, then) in ended {
            let line = self.disk.get_mut(&queue).expect("a queue");
            line.remove(&order);
            let seq = order.seq;
            if let Disposition::Retry { due } = then {
                line.insert(QueuePosition { due, seq }, State::Queued);
            } else {
                self.gone += 1;
            }
            // A load may happen in between.
            if self.random.one_in(2) {
                self.read();
            }
            self.step(QueueInput::Ended { queue, seq, then });
        }
    }

    fn arrive(&mut self) {
        let queue = FunctionQueueId(self.random.below(QUEUES));
        let order = self.keep(queue, self.now);
        self.unreported.push_back((queue, order));
    }

    fn report_enqueued(&mut self) {
        if let Some((queue, order)) = self.unreported.pop_front() {
            self.step(QueueInput::Enqueued { queue, order });
        }
    }

    /// Performs a requested load; its result is reported later.
    fn read(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let index = self.random.below(self.asked.len() as u64) as usize;
        let (queue, after, limit) = self.asked.swap_remove(index);
        let line = self.disk.get(&queue);
        let behind = line
            .into_iter()
            .flat_map(|line| line.keys().copied())
            .filter(|order| after.is_none_or(|after| *order > after));
        let mut orders: Vec<_> = behind.take(limit + 1).collect();
        let whole = orders.len() <= limit;
        orders.truncate(limit);
        let fails = self.random.one_in(8);
        self.loads.push(Load {
            queue,
            orders,
            whole,
            fails,
        });
    }

    fn report_load(&mut self) {
        if self.loads.is_empty() {
            return;
        }
        let index = self.random.below(self.loads.len() as u64) as usize;
        let Load {
            queue,
            orders,
            whole,
            fails,
        } = self.loads.swap_remove(index);
        if fails {
            self.step(QueueInput::LoadFailed { queue });
        } else {
            self.step(QueueInput::Loaded {
                queue,
                orders,
                whole,
            });
        }
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        if self.wake.is_some_and(|at| at <= self.now) {
            self.wake = None;
            self.step(QueueInput::Wake);
        }
    }

    fn run(&mut self) {
        self.failures = self.random.below(60);
        for _ in 0..STEPS {
            match self.random.below(17) {
                0..3 => self.arrive(),
                3..6 => self.report_enqueued(),
                6..9 => self.place(),
                9..11 => self.end(),
                11 => self.commit(),
                12 => self.read(),
                13 => self.report_load(),
                14 => self.hold(),
                15 => {
                    let queue = FunctionQueueId(self.random.below(QUEUES));
                    if !self.short.remove(&queue) && self.random.one_in(2) {
                        self.short.insert(queue);
                    }
                }
                _ => {
                    let time = self.random.below(60);
                    self.pass(time);
                }
            }
        }
        self.finish();
    }

    /// Runs all events to completion, except those of one function that never has an instance.
    fn finish(&mut self) {
        self.failures = 0;
        self.release();
        let stuck = FunctionQueueId(self.random.below(QUEUES));
        self.short = [stuck].into();
        for _ in 0..100_000 {
            while !self.unreported.is_empty() {
                self.report_enqueued();
            }
            self.read();
            self.report_load();
            self.place();
            self.end();
            self.commit();
            self.pass(5);
            let left = self.disk.iter().filter(|(queue, _)| **queue != stuck);
            if left.map(|(_, line)| line.len()).sum::<usize>() == 0 {
                break;
            }
        }
        for (queue, line) in &self.disk {
            assert!(*queue == stuck || line.is_empty(), "{queue:?} has {line:?}");
        }
        self.short.clear();
        for _ in 0..100_000 {
            self.read();
            self.report_load();
            self.place();
            self.end();
            self.commit();
            self.pass(5);
            if self.gone == self.came {
                break;
            }
        }
        assert_eq!(self.gone, self.came, "{:?}", self.disk);
        assert!(self.queues.is_idle());
    }
}

#[test]
fn random_schedules_keep_order_and_never_run_an_event_twice_at_a_time() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        return World::new(seed.parse().expect("a number")).run();
    }
    let seeds = std::env::var("SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(run.is_ok(), "run it again with SIM_SEED={seed}");
    }
}

#[test]
fn draining_starts_nothing_and_keeps_queued_events() {
    let pacing = QueueLimits {
        window: 4,
        waiting: 1,
        in_progress: 2,
        pause: 10,
    };
    let mut queues = FunctionQueues::new(pacing, 0);
    let mut effects = Vec::new();
    let queue = FunctionQueueId(1);
    for seq in 1..=2 {
        let order = QueuePosition { due: Time(1), seq };
        queues.step(Time(1), QueueInput::Enqueued { queue, order }, &mut effects);
    }
    assert_eq!(effects, [QueueEffect::Start { queue, seq: 1 }]);
    queues.step(Time(2), QueueInput::Drain, &mut effects);
    let then = Disposition::NotStarted;
    queues.step(
        Time(2),
        QueueInput::Ended {
            queue,
            seq: 1,
            then,
        },
        &mut effects,
    );
    assert_eq!(effects.len(), 1);
    assert!(queues.is_idle());
}
