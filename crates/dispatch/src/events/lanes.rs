//! Lanes, and a bounded window of each.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::Time;
use crate::ids::Map;

/// A function's line of events. Chosen by the runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u64);

/// An event's place in its lane: when it is due, and its number, which counts up as events come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Order {
    /// Not before this time.
    pub due: Time,
    /// Its name; no other event ever has it.
    pub seq: u64,
}

/// How lanes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Events of a lane that are kept in memory ahead of need.
    pub window: usize,
    /// Events of a lane that may wait for an instance.
    pub waiting: u32,
    /// Events of a lane that may be under way, waiting or running.
    pub under_way: usize,
    /// How long a lane pauses that found no instance, microseconds.
    pub pause: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A lane has events on disk that are not known here.
    Open {
        /// Which.
        lane: LaneId,
    },
    /// An event came and is on disk. Those of a lane are told in the order of their numbers.
    Arrived {
        /// Where.
        lane: LaneId,
        /// Its place.
        order: Order,
    },
    /// What a [`Effect::Load`] found.
    Loaded {
        /// Where.
        lane: LaneId,
        /// The next events, in order.
        orders: Vec<Order>,
        /// Whether there were no more.
        whole: bool,
    },
    /// A [`Effect::Load`] could not be carried out; another is asked for after a pause.
    NotLoaded {
        /// Where.
        lane: LaneId,
    },
    /// An event has an instance.
    Placed {
        /// Where.
        lane: LaneId,
        /// Which.
        seq: u64,
    },
    /// An event is no longer under way, and that is on disk.
    Ended {
        /// Where.
        lane: LaneId,
        /// Which.
        seq: u64,
        /// What becomes of it.
        then: Then,
    },
    /// The time that the last [`Effect::WakeAt`] named has come.
    Wake,
    /// Shutdown: nothing is started any more.
    Drain,
}

/// What becomes of an event that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It has left the lane.
    Gone,
    /// It runs again later.
    Again {
        /// When.
        due: Time,
    },
    /// There was no instance for it: it stays where it was, and its lane pauses.
    Short,
    /// It was not tried: it stays where it was.
    Back,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read a lane's next events from disk.
    Load {
        /// Which.
        lane: LaneId,
        /// Those behind this place; from the beginning without one.
        after: Option<Order>,
        /// This many.
        limit: usize,
    },
    /// Run an event.
    Start {
        /// Where.
        lane: LaneId,
        /// Which.
        seq: u64,
    },
    /// Send [`Input::Wake`] at this time, and no longer at an earlier named one.
    WakeAt {
        /// When.
        at: Time,
    },
}

/// All lanes.
#[derive(Debug)]
pub struct Lanes {
    pacing: Pacing,
    lanes: Map<LaneId, Lane>,
    /// When a lane is to be looked at again.
    timers: BTreeSet<(Time, LaneId)>,
    wake: Option<Time>,
    draining: bool,
    /// Events up to this number came in an earlier life, and are told by nobody.
    old: u64,
}

/// How far a lane's events are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// All up to and with this place.
    Up(Order),
    All,
}

#[derive(Debug)]
struct Lane {
    window: BTreeSet<Order>,
    known: Known,
    /// The number of the event that was told last.
    told: u64,
    /// Events that a reading of the disk has shown before they were told.
    early: BTreeSet<u64>,
    loading: Option<Loading>,
    under_way: HashMap<u64, UnderWay>,
    waiting: u32,
    /// How many may wait now.
    allowance: u32,
    paused_until: Time,
    timer: Option<Time>,
}

/// What happened while the disk is read.
#[derive(Debug, Default)]
struct Loading {
    came: BTreeSet<Order>,
    /// The first of those that came and are not remembered.
    gap: Option<Order>,
    /// The window was cut, so that what is found lies behind a gap.
    cut: bool,
    ended: HashSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    order: Order,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For an instance.
    Waiting,
    Running,
    /// Someone decides about it.
    Held,
}

impl Lanes {
    /// No lanes. `old` is the highest number that an event has so far.
    pub fn new(pacing: Pacing, old: u64) -> Self {
        Self {
            pacing,
            lanes: Map::default(),
            timers: BTreeSet::new(),
            wake: None,
            draining: false,
            old,
        }
    }

    /// Takes in what happened, and says what to do.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Open { lane } => {
                self.lane(lane, Known::Nothing);
                self.look(now, lane, effects);
            }
            Input::Arrived { lane, order } => {
                let window = self.pacing.window;
                self.lane(lane, Known::All).arrived(order, window);
                self.look(now, lane, effects);
            }
            Input::Loaded {
                lane,
                orders,
                whole,
            } => {
                let window = self.pacing.window;
                if let Some(known) = self.lanes.get_mut(&lane) {
                    known.loaded(&orders, whole, window);
                }
                self.look(now, lane, effects);
            }
            Input::NotLoaded { lane } => {
                let pause = now.after(self.pacing.pause);
                if let Some(known) = self.lanes.get_mut(&lane) {
                    known.not_loaded(pause);
                }
                self.look(now, lane, effects);
            }
            Input::Placed { lane, seq } => {
                let most = self.pacing.waiting;
                if let Some(known) = self.lanes.get_mut(&lane) {
                    known.placed(seq, most);
                }
                self.look(now, lane, effects);
            }
            Input::Ended { lane, seq, then } => {
                let pacing = self.pacing;
                if let Some(known) = self.lanes.get_mut(&lane) {
                    known.ended(now, seq, then, &pacing);
                }
                self.look(now, lane, effects);
            }
            Input::Wake => {
                self.wake = None;
                while let Some((at, lane)) = self.timers.first().copied()
                    && at <= now
                {
                    self.look(now, lane, effects);
                }
            }
            Input::Drain => self.draining = true,
        }
        let next = self.timers.first().map(|(at, _)| *at);
        if let Some(at) = next.filter(|at| self.wake.is_none_or(|wake| *at < wake)) {
            self.wake = Some(at);
            effects.push(Effect::WakeAt { at });
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.under_way.is_empty())
    }

    /// Returns how many events have an instance. One counts until it is told that what came of it is on disk.
    pub fn running(&self) -> usize {
        let under_way = self.lanes.values().flat_map(|lane| lane.under_way.values());
        under_way.filter(|one| one.stage == Stage::Running).count()
    }

    /// Keeps an event from being started until [`Input::Ended`] tells what becomes of it. Says no when it is under way.
    pub fn hold(&mut self, lane: LaneId, order: Order) -> bool {
        let lane = self.lane(lane, Known::Nothing);
        if lane.under_way.contains_key(&order.seq) {
            return false;
        }
        // It may have moved since its place was read.
        lane.window.retain(|other| other.seq != order.seq);
        let stage = Stage::Held;
        lane.under_way.insert(order.seq, UnderWay { order, stage });
        true
    }

    fn lane(&mut self, lane: LaneId, known: Known) -> &mut Lane {
        let (allowance, told) = (self.pacing.waiting, self.old);
        self.lanes.entry(lane).or_insert_with(|| Lane {
            window: BTreeSet::new(),
            known,
            told,
            early: BTreeSet::new(),
            loading: None,
            under_way: HashMap::new(),
            waiting: 0,
            allowance,
            paused_until: Time(0),
            timer: None,
        })
    }

    /// Starts what can be started, asks for what is needed, and sets the lane's timer.
    fn look(&mut self, now: Time, id: LaneId, effects: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        if let Some(at) = lane.timer.take() {
            self.timers.remove(&(at, id));
        }
        if self.draining {
            return;
        }
        let mut again = None;
        while lane.may_start(&self.pacing)
            && let Some(order) = lane.window.first().copied()
        {
            let at = order.due.max(lane.paused_until);
            if at > now {
                again = Some(at);
                break;
            }
            lane.window.remove(&order);
            let (seq, stage) = (order.seq, Stage::Waiting);
            // A held one that has moved is the one that is held.
            if lane.under_way.contains_key(&seq) {
                continue;
            }
            lane.under_way.insert(seq, UnderWay { order, stage });
            lane.waiting += 1;
            effects.push(Effect::Start { lane: id, seq });
        }
        if lane.loading.is_none()
            && lane.known != Known::All
            && lane.window.len() <= self.pacing.window / 2
        {
            if lane.paused_until > now {
                again = Some(lane.paused_until);
            } else {
                lane.loading = Some(Loading::default());
                let after = match lane.known {
                    Known::Up(order) => Some(order),
                    Known::Nothing | Known::All => None,
                };
                let limit = self.pacing.window;
                effects.push(Effect::Load {
                    lane: id,
                    after,
                    limit,
                });
            }
        }
        if let Some(at) = again {
            lane.timer = Some(at);
            self.timers.insert((at, id));
        }
    }
}

impl Lane {
    fn may_start(&self, pacing: &Pacing) -> bool {
        self.waiting < self.allowance && self.under_way.len() < pacing.under_way
    }

    fn arrived(&mut self, order: Order, window: usize) {
        self.told = self.told.max(order.seq);
        let known = self.early.contains(&order.seq);
        self.early = self.early.split_off(&(order.seq + 1));
        if !known {
            self.insert(order, window);
        }
    }

    /// Takes an event into the window, if it belongs there; else it is read from disk when its turn comes.
    fn insert(&mut self, order: Order, window: usize) {
        if self.knows(order) {
            self.window.insert(order);
            return self.trim(window);
        }
        let Some(loading) = &mut self.loading else {
            return;
        };
        // What the reading shows of those that were under way is not believed, so they are all remembered.
        if loading.came.len() < window || loading.ended.contains(&order.seq) {
            loading.came.insert(order);
        } else {
            loading.gap = Some(loading.gap.map_or(order, |gap| gap.min(order)));
        }
    }

    fn trim(&mut self, window: usize) {
        while self.window.len() > window {
            self.window.pop_last();
            if let Some(loading) = &mut self.loading {
                loading.cut = true;
            }
            // What was let go is found on disk behind the last that is kept.
            self.known = self
                .window
                .last()
                .map_or(Known::Nothing, |last| Known::Up(*last));
        }
    }

    fn loaded(&mut self, orders: &[Order], whole: bool, window: usize) {
        let Some(loading) = self.loading.take() else {
            return;
        };
        if loading.cut {
            return;
        }
        for order in orders {
            let ended = loading.ended.contains(&order.seq);
            if !ended && !self.under_way.contains_key(&order.seq) {
                self.window.insert(*order);
                if order.seq > self.told {
                    self.early.insert(order.seq);
                }
            }
        }
        let before = self.known;
        if whole {
            self.known = Known::All;
        } else if let Some(last) = orders.last() {
            self.known = Known::Up(*last);
        }
        for order in loading.came {
            if self.knows(order) && !self.under_way.contains_key(&order.seq) {
                self.window.insert(order);
            }
        }
        if let Some(gap) = loading.gap.filter(|gap| self.knows(*gap)) {
            self.window.split_off(&gap);
            self.known = match (before, self.window.last()) {
                (Known::Up(before), Some(last)) => Known::Up(before.max(*last)),
                (_, Some(last)) => Known::Up(*last),
                (before, None) => before,
            };
        }
        self.trim(window);
    }

    fn knows(&self, order: Order) -> bool {
        match self.known {
            Known::Nothing => false,
            Known::Up(last) => order <= last,
            Known::All => true,
        }
    }

    fn not_loaded(&mut self, until: Time) {
        // What came meanwhile is on disk, and behind what is known.
        if self.loading.take().is_some() {
            self.paused_until = self.paused_until.max(until);
        }
    }

    fn placed(&mut self, seq: u64, most: u32) {
        if let Some(one) = self.under_way.get_mut(&seq)
            && one.stage == Stage::Waiting
        {
            one.stage = Stage::Running;
            self.waiting -= 1;
            self.allowance = (self.allowance * 2).clamp(1, most);
        }
    }

    fn ended(&mut self, now: Time, seq: u64, then: Then, pacing: &Pacing) {
        let Some(one) = self.under_way.remove(&seq) else {
            return;
        };
        match one.stage {
            Stage::Waiting => self.waiting -= 1,
            // It has left an instance behind.
            Stage::Running if then != Then::Short => {
                self.paused_until = self.paused_until.min(now);
            }
            Stage::Running | Stage::Held => {}
        }
        if let Some(loading) = &mut self.loading {
            loading.ended.insert(seq);
            loading.came.remove(&one.order);
        }
        match then {
            Then::Gone => {}
            Then::Again { due } => self.insert(Order { due, seq }, pacing.window),
            Then::Short => {
                self.allowance = 1;
                self.paused_until = now.after(pacing.pause);
                self.insert(one.order, pacing.window);
            }
            Then::Back => self.insert(one.order, pacing.window),
        }
    }
}
