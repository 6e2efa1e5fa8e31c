//! Lanes, and a bounded window of each.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::Time;
use crate::ids::Map;

/// A function's line of events. Chosen by the runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionQueueId(pub u64);

/// An event's place in its lane: when it is due, and its number, which counts up as events come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueuePosition {
    /// Not before this time.
    pub due: Time,
    /// Its name; no other event ever has it.
    pub seq: u64,
}

/// How lanes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
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
pub enum QueueInput {
    /// A lane has events on disk that are not known here.
    Open {
        /// Which.
        queue: FunctionQueueId,
    },
    /// An event came and is on disk. Those of a lane are told in the order of their numbers.
    Enqueued {
        /// Where.
        queue: FunctionQueueId,
        /// Its place.
        order: QueuePosition,
    },
    /// What a [`QueueEffect::Load`] found.
    Loaded {
        /// Where.
        queue: FunctionQueueId,
        /// The next events, in order.
        orders: Vec<QueuePosition>,
        /// Whether there were no more.
        whole: bool,
    },
    /// A [`QueueEffect::Load`] could not be carried out; another is asked for after a pause.
    LoadFailed {
        /// Where.
        queue: FunctionQueueId,
    },
    /// An event has an instance.
    Assigned {
        /// Where.
        queue: FunctionQueueId,
        /// Which.
        seq: u64,
    },
    /// An event is no longer under way, and that is on disk.
    Ended {
        /// Where.
        queue: FunctionQueueId,
        /// Which.
        seq: u64,
        /// What becomes of it.
        then: Disposition,
    },
    /// The time that the last [`QueueEffect::WakeAt`] named has come.
    Wake,
    /// Shutdown: nothing is started any more.
    Drain,
}

/// What becomes of an event that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It has left the lane.
    Removed,
    /// It runs again later.
    Retry {
        /// When.
        due: Time,
    },
    /// There was no instance for it: it stays where it was, and its lane pauses.
    Throttled,
    /// It was not tried: it stays where it was.
    NotStarted,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEffect {
    /// Read a lane's next events from disk.
    Load {
        /// Which.
        queue: FunctionQueueId,
        /// Those behind this place; from the beginning without one.
        after: Option<QueuePosition>,
        /// This many.
        limit: usize,
    },
    /// Run an event.
    Start {
        /// Where.
        queue: FunctionQueueId,
        /// Which.
        seq: u64,
    },
    /// Send [`QueueInput::Wake`] at this time, and no longer at an earlier named one.
    WakeAt {
        /// When.
        at: Time,
    },
}

/// All lanes.
#[derive(Debug)]
pub struct FunctionQueues {
    pacing: QueueLimits,
    queues: Map<FunctionQueueId, FunctionQueue>,
    /// When a lane is to be looked at again.
    timers: BTreeSet<(Time, FunctionQueueId)>,
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
    Up(QueuePosition),
    All,
}

#[derive(Debug)]
struct FunctionQueue {
    window: BTreeSet<QueuePosition>,
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
    came: BTreeSet<QueuePosition>,
    /// The first of those that came and are not remembered.
    gap: Option<QueuePosition>,
    /// The window was cut, so that what is found lies behind a gap.
    cut: bool,
    ended: HashSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    order: QueuePosition,
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

impl FunctionQueues {
    /// No lanes. `old` is the highest number that an event has so far.
    pub fn new(pacing: QueueLimits, old: u64) -> Self {
        Self {
            pacing,
            queues: Map::default(),
            timers: BTreeSet::new(),
            wake: None,
            draining: false,
            old,
        }
    }

    /// Takes in what happened, and says what to do.
    pub fn step(&mut self, now: Time, input: QueueInput, effects: &mut Vec<QueueEffect>) {
        match input {
            QueueInput::Open { queue } => {
                self.queue(queue, Known::Nothing);
                self.look(now, queue, effects);
            }
            QueueInput::Enqueued { queue, order } => {
                let window = self.pacing.window;
                self.queue(queue, Known::All).arrived(order, window);
                self.look(now, queue, effects);
            }
            QueueInput::Loaded {
                queue,
                orders,
                whole,
            } => {
                let window = self.pacing.window;
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.loaded(&orders, whole, window);
                }
                self.look(now, queue, effects);
            }
            QueueInput::LoadFailed { queue } => {
                let pause = now.after(self.pacing.pause);
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.not_loaded(pause);
                }
                self.look(now, queue, effects);
            }
            QueueInput::Assigned { queue, seq } => {
                let most = self.pacing.waiting;
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.placed(seq, most);
                }
                self.look(now, queue, effects);
            }
            QueueInput::Ended { queue, seq, then } => {
                let pacing = self.pacing;
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.ended(now, seq, then, &pacing);
                }
                self.look(now, queue, effects);
            }
            QueueInput::Wake => {
                self.wake = None;
                while let Some((at, queue)) = self.timers.first().copied()
                    && at <= now
                {
                    self.look(now, queue, effects);
                }
            }
            QueueInput::Drain => self.draining = true,
        }
        let next = self.timers.first().map(|(at, _)| *at);
        if let Some(at) = next.filter(|at| self.wake.is_none_or(|wake| *at < wake)) {
            self.wake = Some(at);
            effects.push(QueueEffect::WakeAt { at });
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.queues.values().all(|queue| queue.under_way.is_empty())
    }

    /// Returns how many events have an instance. One counts until it is told that what came of it is on disk.
    pub fn running(&self) -> usize {
        let under_way = self
            .queues
            .values()
            .flat_map(|queue| queue.under_way.values());
        under_way.filter(|one| one.stage == Stage::Running).count()
    }

    /// Keeps an event from being started until [`QueueInput::Ended`] tells what becomes of it. Says no when it is under way.
    pub fn hold(&mut self, queue: FunctionQueueId, order: QueuePosition) -> bool {
        let queue = self.queue(queue, Known::Nothing);
        if queue.under_way.contains_key(&order.seq) {
            return false;
        }
        // It may have moved since its place was read.
        queue.window.retain(|other| other.seq != order.seq);
        let stage = Stage::Held;
        queue.under_way.insert(order.seq, UnderWay { order, stage });
        true
    }

    fn queue(&mut self, queue: FunctionQueueId, known: Known) -> &mut FunctionQueue {
        let (allowance, told) = (self.pacing.waiting, self.old);
        self.queues.entry(queue).or_insert_with(|| FunctionQueue {
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
    fn look(&mut self, now: Time, id: FunctionQueueId, effects: &mut Vec<QueueEffect>) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        if let Some(at) = queue.timer.take() {
            self.timers.remove(&(at, id));
        }
        if self.draining {
            return;
        }
        let mut again = None;
        while queue.may_start(&self.pacing)
            && let Some(order) = queue.window.first().copied()
        {
            let at = order.due.max(queue.paused_until);
            if at > now {
                again = Some(at);
                break;
            }
            queue.window.remove(&order);
            let (seq, stage) = (order.seq, Stage::Waiting);
            // A held one that has moved is the one that is held.
            if queue.under_way.contains_key(&seq) {
                continue;
            }
            queue.under_way.insert(seq, UnderWay { order, stage });
            queue.waiting += 1;
            effects.push(QueueEffect::Start { queue: id, seq });
        }
        if queue.loading.is_none()
            && queue.known != Known::All
            && queue.window.len() <= self.pacing.window / 2
        {
            if queue.paused_until > now {
                again = Some(queue.paused_until);
            } else {
                queue.loading = Some(Loading::default());
                let after = match queue.known {
                    Known::Up(order) => Some(order),
                    Known::Nothing | Known::All => None,
                };
                let limit = self.pacing.window;
                effects.push(QueueEffect::Load {
                    queue: id,
                    after,
                    limit,
                });
            }
        }
        if let Some(at) = again {
            queue.timer = Some(at);
            self.timers.insert((at, id));
        }
    }
}

impl FunctionQueue {
    fn may_start(&self, pacing: &QueueLimits) -> bool {
        self.waiting < self.allowance && self.under_way.len() < pacing.under_way
    }

    fn arrived(&mut self, order: QueuePosition, window: usize) {
        self.told = self.told.max(order.seq);
        let known = self.early.contains(&order.seq);
        self.early = self.early.split_off(&(order.seq + 1));
        if !known {
            self.insert(order, window);
        }
    }

    /// Takes an event into the window, if it belongs there; else it is read from disk when its turn comes.
    fn insert(&mut self, order: QueuePosition, window: usize) {
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

    fn loaded(&mut self, orders: &[QueuePosition], whole: bool, window: usize) {
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

    fn knows(&self, order: QueuePosition) -> bool {
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

    fn ended(&mut self, now: Time, seq: u64, then: Disposition, pacing: &QueueLimits) {
        let Some(one) = self.under_way.remove(&seq) else {
            return;
        };
        match one.stage {
            Stage::Waiting => self.waiting -= 1,
            // It has left an instance behind.
            Stage::Running if then != Disposition::Throttled => {
                self.paused_until = self.paused_until.min(now);
            }
            Stage::Running | Stage::Held => {}
        }
        if let Some(loading) = &mut self.loading {
            loading.ended.insert(seq);
            loading.came.remove(&one.order);
        }
        match then {
            Disposition::Removed => {}
            Disposition::Retry { due } => self.insert(QueuePosition { due, seq }, pacing.window),
            Disposition::Throttled => {
                self.allowance = 1;
                self.paused_until = now.after(pacing.pause);
                self.insert(one.order, pacing.window);
            }
            Disposition::NotStarted => self.insert(one.order, pacing.window),
        }
    }
}
