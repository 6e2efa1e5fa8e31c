//! A small world around the lanes: events that come, fail, are too many for memory, and functions without instances, at
//! random, by seed. The world keeps its own books and compares them with the rules after every step.
//!
//! `SIM_SEEDS` says how many schedules to run, `SIM_SEED` runs a single one again.
#![expect(clippy::expect_used, reason = "a test may end")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dispatch::Time;
use dispatch::events::{Effect, Input, LaneId, Lanes, Order, Pacing, Then};

const SEEDS: u64 = 10_000;
const STEPS: u32 = 300;
const LANES: u64 = 3;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// An event as the world knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Queued,
    Waiting,
    Running,
    /// Someone decides whether it is taken away.
    Held,
    /// It is taken away, and that is being written.
    Taken,
    /// It has ended and is being written.
    Ended(Then),
}

struct Load {
    lane: LaneId,
    orders: Vec<Order>,
    whole: bool,
    fails: bool,
}

struct World {
    random: Random,
    now: u64,
    pacing: Pacing,
    lanes: Lanes,
    wake: Option<u64>,
    next: u64,
    /// What is on disk, by lane, with what the world knows of each.
    disk: BTreeMap<LaneId, BTreeMap<Order, State>>,
    /// Events that are on disk and were not told yet, in order.
    untold: VecDeque<(LaneId, Order)>,
    /// Readings of the disk: asked for, made, not yet told.
    asked: Vec<(LaneId, Option<Order>, usize)>,
    loads: Vec<Load>,
    /// Functions that have no instances.
    short: BTreeSet<LaneId>,
    came: u64,
    gone: u64,
    failures: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let pacing = Pacing {
            window: 1 + random.below(8) as usize,
            waiting: 1 + random.below(4) as u32,
            under_way: 1 + random.below(8) as usize,
            pause: random.below(50),
        };
        let old = random.below(40);
        let mut world = Self {
            lanes: Lanes::new(pacing, old),
            random,
            now: 1000,
            pacing,
            wake: None,
            next: 1,
            disk: BTreeMap::new(),
            untold: VecDeque::new(),
            asked: Vec::new(),
            loads: Vec::new(),
            short: BTreeSet::new(),
            came: 0,
            gone: 0,
            failures: 0,
        };
        // What an earlier life has left; some of it is not due yet.
        for _ in 0..old {
            let lane = LaneId(world.random.below(LANES));
            let due = world.random.below(1100);
            world.keep(lane, due);
        }
        for lane in world.disk.keys().copied().collect::<Vec<_>>() {
            world.step(Input::Open { lane });
        }
        world
    }

    fn keep(&mut self, lane: LaneId, due: u64) -> Order {
        let due = Time(due);
        let order = Order {
            due,
            seq: self.next,
        };
        self.next += 1;
        self.came += 1;
        self.disk
            .entry(lane)
            .or_default()
            .insert(order, State::Queued);
        order
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.lanes.step(Time(self.now), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Start { lane, seq } => self.started(lane, seq),
                Effect::Load { lane, after, limit } => self.asked.push((lane, after, limit)),
                Effect::WakeAt { at } => self.wake = Some(at.0),
            }
        }
        self.check();
    }

    fn started(&mut self, lane: LaneId, seq: u64) {
        let line = self.disk.get_mut(&lane).expect("a lane with events");
        let found = line.iter_mut().find(|(order, _)| order.seq == seq);
        let (order, state) = found.expect("an event that is on disk");
        assert_eq!(*state, State::Queued, "{seq} was under way already");
        assert!(order.due.0 <= self.now, "{seq} was not due");
        *state = State::Waiting;
        // Nothing that could be started before it is left, but for what was not told yet.
        let order = *order;
        let untold = &self.untold;
        let skipped = line.iter().find(|(other, state)| {
            **other < order
                && **state == State::Queued
                && !untold.iter().any(|(_, one)| one == *other)
        });
        assert_eq!(skipped, None, "{order:?} came before its turn");
    }

    fn check(&self) {
        let states = self.disk.values().flat_map(BTreeMap::values);
        let runs = |state: &&State| matches!(state, State::Running | State::Ended(_));
        assert_eq!(self.lanes.running(), states.filter(runs).count());
        for line in self.disk.values() {
            let count = |state| line.values().filter(|one| **one == state).count();
            assert!(count(State::Waiting) <= self.pacing.waiting as usize);
            let lies = |one: &&State| matches!(one, State::Queued | State::Held | State::Taken);
            let under_way = line.values().filter(|one| !lies(one)).count();
            assert!(under_way <= self.pacing.under_way);
        }
    }

    /// An event of a lane in one of these states.
    fn any(&mut self, states: &[State]) -> Option<(LaneId, Order, State)> {
        let all = self.disk.iter().flat_map(|(lane, line)| {
            let fit = line
                .iter()
                .filter(|(_, state)| states.contains(state) || states.is_empty());
            fit.map(|(order, state)| (*lane, *order, *state))
        });
        let all: Vec<_> = all.collect();
        let index = self.random.below(all.len() as u64) as usize;
        all.get(index).copied()
    }

    fn set(&mut self, lane: LaneId, order: Order, state: State) {
        *self
            .disk
            .get_mut(&lane)
            .and_then(|line| line.get_mut(&order))
            .expect("it is there") = state;
    }

    fn place(&mut self) {
        let Some((lane, order, _)) = self.any(&[State::Waiting]) else {
            return;
        };
        if self.short.contains(&lane) {
            self.set(lane, order, State::Queued);
            let (seq, then) = (order.seq, Then::Short);
            self.step(Input::Ended { lane, seq, then });
        } else if self.random.one_in(10) {
            self.set(lane, order, State::Queued);
            let (seq, then) = (order.seq, Then::Back);
            self.step(Input::Ended { lane, seq, then });
        } else {
            self.set(lane, order, State::Running);
            let seq = order.seq;
            self.step(Input::Placed { lane, seq });
        }
    }

    fn end(&mut self) {
        let Some((lane, order, _)) = self.any(&[State::Running]) else {
            return;
        };
        let fails = self.failures > 0 && self.random.one_in(3);
        let then = if fails {
            self.failures -= 1;
            let due = Time(self.now + self.random.below(100));
            Then::Again { due }
        } else {
            Then::Gone
        };
        self.set(lane, order, State::Ended(then));
    }

    /// Someone takes an event away, or looks at it and lets it go on.
    fn hold(&mut self) {
        let Some((lane, order, state)) = self.any(&[]) else {
            return;
        };
        let untold = self.untold.iter().any(|(_, one)| *one == order);
        match state {
            State::Held if self.random.one_in(2) => {
                self.set(lane, order, State::Taken);
            }
            State::Held => {
                self.set(lane, order, State::Queued);
                let (seq, then) = (order.seq, Then::Back);
                self.step(Input::Ended { lane, seq, then });
            }
            State::Queued if !untold => {
                let held = self.lanes.hold(lane, order);
                assert!(held, "{order:?} is not under way");
                self.set(lane, order, State::Held);
            }
            State::Queued => {}
            _ => assert!(!self.lanes.hold(lane, order), "{order:?} is under way"),
        }
    }

    fn release(&mut self) {
        while let Some((lane, order, _)) = self.any(&[State::Held]) {
            self.set(lane, order, State::Queued);
            let (seq, then) = (order.seq, Then::Back);
            self.step(Input::Ended { lane, seq, then });
        }
    }

    /// What has ended is on disk; the lanes are told later or at once.
    fn commit(&mut self) {
        let all = self
            .disk
            .iter()
            .flat_map(|(lane, line)| line.iter().map(|(order, state)| (*lane, *order, *state)));
        let ended: Vec<_> = all
            .filter_map(|(lane, order, state)| match state {
                State::Ended(then) => Some((lane, order, then)),
                State::Taken => Some((lane, order, Then::Gone)),
                _ => None,
            })
            .collect();
        for (lane, order, then) in ended {
            let line = self.disk.get_mut(&lane).expect("a lane");
            line.remove(&order);
            let seq = order.seq;
            if let Then::Again { due } = then {
                line.insert(Order { due, seq }, State::Queued);
            } else {
                self.gone += 1;
            }
            // A reading of the disk may lie between the two.
            if self.random.one_in(2) {
                self.read();
            }
            self.step(Input::Ended { lane, seq, then });
        }
    }

    fn arrive(&mut self) {
        let lane = LaneId(self.random.below(LANES));
        let order = self.keep(lane, self.now);
        self.untold.push_back((lane, order));
    }

    fn tell(&mut self) {
        if let Some((lane, order)) = self.untold.pop_front() {
            self.step(Input::Arrived { lane, order });
        }
    }

    /// Makes a reading that was asked for; what it found is told later.
    fn read(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let index = self.random.below(self.asked.len() as u64) as usize;
        let (lane, after, limit) = self.asked.swap_remove(index);
        let line = self.disk.get(&lane);
        let behind = line
            .into_iter()
            .flat_map(|line| line.keys().copied())
            .filter(|order| after.is_none_or(|after| *order > after));
        let mut orders: Vec<_> = behind.take(limit + 1).collect();
        let whole = orders.len() <= limit;
        orders.truncate(limit);
        let fails = self.random.one_in(8);
        self.loads.push(Load {
            lane,
            orders,
            whole,
            fails,
        });
    }

    fn told_of_load(&mut self) {
        if self.loads.is_empty() {
            return;
        }
        let index = self.random.below(self.loads.len() as u64) as usize;
        let Load {
            lane,
            orders,
            whole,
            fails,
        } = self.loads.swap_remove(index);
        if fails {
            self.step(Input::NotLoaded { lane });
        } else {
            self.step(Input::Loaded {
                lane,
                orders,
                whole,
            });
        }
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        if self.wake.is_some_and(|at| at <= self.now) {
            self.wake = None;
            self.step(Input::Wake);
        }
    }

    fn run(&mut self) {
        self.failures = self.random.below(60);
        for _ in 0..STEPS {
            match self.random.below(17) {
                0..3 => self.arrive(),
                3..6 => self.tell(),
                6..9 => self.place(),
                9..11 => self.end(),
                11 => self.commit(),
                12 => self.read(),
                13 => self.told_of_load(),
                14 => self.hold(),
                15 => {
                    let lane = LaneId(self.random.below(LANES));
                    if !self.short.remove(&lane) && self.random.one_in(2) {
                        self.short.insert(lane);
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

    /// Nothing fails any more but one function that never has an instance: all others' events run.
    fn finish(&mut self) {
        self.failures = 0;
        self.release();
        let stuck = LaneId(self.random.below(LANES));
        self.short = [stuck].into();
        for _ in 0..100_000 {
            while !self.untold.is_empty() {
                self.tell();
            }
            self.read();
            self.told_of_load();
            self.place();
            self.end();
            self.commit();
            self.pass(5);
            let left = self.disk.iter().filter(|(lane, _)| **lane != stuck);
            if left.map(|(_, line)| line.len()).sum::<usize>() == 0 {
                break;
            }
        }
        for (lane, line) in &self.disk {
            assert!(*lane == stuck || line.is_empty(), "{lane:?} has {line:?}");
        }
        self.short.clear();
        for _ in 0..100_000 {
            self.read();
            self.told_of_load();
            self.place();
            self.end();
            self.commit();
            self.pass(5);
            if self.gone == self.came {
                break;
            }
        }
        assert_eq!(self.gone, self.came, "{:?}", self.disk);
        assert!(self.lanes.is_idle());
    }
}

#[test]
fn every_event_runs_in_order_and_none_twice_at_a_time() {
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
fn nothing_is_started_while_draining_and_what_waits_is_kept() {
    let pacing = Pacing {
        window: 4,
        waiting: 1,
        under_way: 2,
        pause: 10,
    };
    let mut lanes = Lanes::new(pacing, 0);
    let mut effects = Vec::new();
    let lane = LaneId(1);
    for seq in 1..=2 {
        let order = Order { due: Time(1), seq };
        lanes.step(Time(1), Input::Arrived { lane, order }, &mut effects);
    }
    assert_eq!(effects, [Effect::Start { lane, seq: 1 }]);
    lanes.step(Time(2), Input::Drain, &mut effects);
    let then = Then::Back;
    lanes.step(Time(2), Input::Ended { lane, seq: 1, then }, &mut effects);
    assert_eq!(effects.len(), 1);
    assert!(lanes.is_idle());
}
