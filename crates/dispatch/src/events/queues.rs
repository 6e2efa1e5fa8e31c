//! Function queues, with a bounded window of each in memory.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::Time;
use crate::ids::Map;

/// A queue of one function's events. Chosen by the runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionQueueId(pub u64);

/// Position of an event in its queue: due time, then sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueuePosition {
    /// Earliest start.
    pub due: Time,
    /// Unique sequence number, in order of enqueueing.
    pub seq: u64,
}

/// Limits and timing of all queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Events per queue that are held in memory.
    pub window: usize,
    /// Events per queue that may wait for an instance.
    pub waiting: u32,
    /// Events per queue that may be in progress, waiting or running.
    pub in_progress: usize,
    /// Pause of a throttled queue, microseconds.
    pub pause: u64,
}

/// An input of the queues.
#[derive(Clone, Debug)]
pub enum QueueInput {
    /// A queue has events on disk that are not in memory.
    Open {
        /// The queue.
        queue: FunctionQueueId,
    },
    /// An event was enqueued and is on disk. Must be reported in order of sequence numbers within a queue.
    Enqueued {
        /// The queue.
        queue: FunctionQueueId,
        /// Its position.
        order: QueuePosition,
    },
    /// The result of a [`QueueEffect::Load`].
    Loaded {
        /// The queue.
        queue: FunctionQueueId,
        /// Positions of the next events, in order.
        orders: Vec<QueuePosition>,
        /// Whether these were the last.
        whole: bool,
    },
    /// A [`QueueEffect::Load`] failed. It is requested again after a pause.
    LoadFailed {
        /// The queue.
        queue: FunctionQueueId,
    },
    /// An event was assigned an instance.
    Assigned {
        /// The queue.
        queue: FunctionQueueId,
        /// The event.
        seq: u64,
    },
    /// An event is no longer in progress, and its outcome is on disk.
    Ended {
        /// The queue.
        queue: FunctionQueueId,
        /// The event.
        seq: u64,
        /// What happens to the event.
        then: Disposition,
    },
    /// The time of the last [`QueueEffect::WakeAt`] has come.
    Wake,
    /// Shutdown: no further event is started.
    Drain,
}

/// What happens to an event that was in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It has left the queue.
    Removed,
    /// It is retried.
    Retry {
        /// Earliest start of the retry.
        due: Time,
    },
    /// No instance was available. The event keeps its position, and its queue pauses.
    Throttled,
    /// It was not attempted. It keeps its position.
    NotStarted,
}

/// An action for the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEffect {
    /// Read the next events of a queue from disk.
    Load {
        /// The queue.
        queue: FunctionQueueId,
        /// Read behind this position, or from the beginning.
        after: Option<QueuePosition>,
        /// Maximum number of events.
        limit: usize,
    },
    /// Start an event.
    Start {
        /// The queue.
        queue: FunctionQueueId,
        /// The event.
        seq: u64,
    },
    /// Send [`QueueInput::Wake`] at this time. Replaces an earlier `WakeAt`.
    WakeAt {
        /// The time.
        at: Time,
    },
}

/// All function queues.
#[derive(Debug)]
pub struct FunctionQueues {
    limits: QueueLimits,
    queues: Map<FunctionQueueId, FunctionQueue>,
    /// When to update each queue again.
    timers: BTreeSet<(Time, FunctionQueueId)>,
    wake: Option<Time>,
    draining: bool,
    /// Highest sequence number of the previous run. Events up to it are not reported as enqueued.
    last_old: u64,
}

/// Which part of a queue the window covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// Everything up to this position, inclusive.
    Up(QueuePosition),
    All,
}

#[derive(Debug)]
struct FunctionQueue {
    window: BTreeSet<QueuePosition>,
    known: Known,
    /// Sequence number of the last event that was reported.
    last_reported: u64,
    /// Events that a load returned before they were reported.
    loaded_early: BTreeSet<u64>,
    loading: Option<Loading>,
    in_progress: HashMap<u64, InProgress>,
    waiting: u32,
    /// Maximum number of waiting events at present.
    allowance: u32,
    paused_until: Time,
    timer: Option<Time>,
}

/// Changes during a load.
#[derive(Debug, Default)]
struct Loading {
    enqueued: BTreeSet<QueuePosition>,
    /// Position of the first enqueued event that did not fit into `enqueued`.
    gap: Option<QueuePosition>,
    /// Whether the window was trimmed, so that the loaded events would leave a gap.
    trimmed: bool,
    ended: HashSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct InProgress {
    order: QueuePosition,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for an instance.
    Waiting,
    Running,
    /// Held by an operation such as an abort; see [`FunctionQueues::hold`].
    Held,
}

impl FunctionQueues {
    /// Creates the queues. `last_old` is the highest sequence number in use.
    pub fn new(limits: QueueLimits, last_old: u64) -> Self {
        Self {
            limits,
            queues: Map::default(),
            timers: BTreeSet::new(),
            wake: None,
            draining: false,
            last_old,
        }
    }

    /// Processes an input and appends the resulting effects.
    pub fn step(&mut self, now: Time, input: QueueInput, effects: &mut Vec<QueueEffect>) {
        match input {
            QueueInput::Open { queue } => {
                self.queue(queue, Known::Nothing);
                self.update(now, queue, effects);
            }
            QueueInput::Enqueued { queue, order } => {
                let window = self.limits.window;
                self.queue(queue, Known::All).arrived(order, window);
                self.update(now, queue, effects);
            }
            QueueInput::Loaded {
                queue,
                orders,
                whole,
            } => {
                let window = self.limits.window;
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.loaded(&orders, whole, window);
                }
                self.update(now, queue, effects);
            }
            QueueInput::LoadFailed { queue } => {
                let pause = now.after(self.limits.pause);
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.not_loaded(pause);
                }
                self.update(now, queue, effects);
            }
            QueueInput::Assigned { queue, seq } => {
                let most = self.limits.waiting;
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.placed(seq, most);
                }
                self.update(now, queue, effects);
            }
            QueueInput::Ended { queue, seq, then } => {
                let limits = self.limits;
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.ended(now, seq, then, &limits);
                }
                self.update(now, queue, effects);
            }
            QueueInput::Wake => {
                self.wake = None;
                while let Some((at, queue)) = self.timers.first().copied()
                    && at <= now
                {
                    self.update(now, queue, effects);
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

    /// Returns whether no event is in progress.
    pub fn is_idle(&self) -> bool {
        self.queues
            .values()
            .all(|queue| queue.in_progress.is_empty())
    }

    /// Returns the number of running events. An event counts until its end is reported, which is after it is on disk.
    pub fn running(&self) -> usize {
        let in_progress = self
            .queues
            .values()
            .flat_map(|queue| queue.in_progress.values());
        in_progress
            .filter(|one| one.stage == Stage::Running)
            .count()
    }

    /// Keeps an event from starting until [`QueueInput::Ended`]. Returns false if it is in progress.
    pub fn hold(&mut self, queue: FunctionQueueId, order: QueuePosition) -> bool {
        let queue = self.queue(queue, Known::Nothing);
        if queue.in_progress.contains_key(&order.seq) {
            return false;
        }
        // It may have moved since its position was read.
        queue.window.retain(|other| other.seq != order.seq);
        let stage = Stage::Held;
        queue
            .in_progress
            .insert(order.seq, InProgress { order, stage });
        true
    }

    fn queue(&mut self, queue: FunctionQueueId, known: Known) -> &mut FunctionQueue {
        let (allowance, last_reported) = (self.limits.waiting, self.last_old);
        self.queues.entry(queue).or_insert_with(|| FunctionQueue {
            window: BTreeSet::new(),
            known,
            last_reported,
            loaded_early: BTreeSet::new(),
            loading: None,
            in_progress: HashMap::new(),
            waiting: 0,
            allowance,
            paused_until: Time(0),
            timer: None,
        })
    }

    /// Starts due events, requests a load if the window runs low, and sets the queue's timer.
    fn update(&mut self, now: Time, id: FunctionQueueId, effects: &mut Vec<QueueEffect>) {
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
        while queue.may_start(&self.limits)
            && let Some(order) = queue.window.first().copied()
        {
            let at = order.due.max(queue.paused_until);
            if at > now {
                again = Some(at);
                break;
            }
            queue.window.remove(&order);
            let (seq, stage) = (order.seq, Stage::Waiting);
            // A held event that was moved stays held.
            if queue.in_progress.contains_key(&seq) {
                continue;
            }
            queue.in_progress.insert(seq, InProgress { order, stage });
            queue.waiting += 1;
            effects.push(QueueEffect::Start { queue: id, seq });
        }
        if queue.loading.is_none()
            && queue.known != Known::All
            && queue.window.len() <= self.limits.window / 2
        {
            if queue.paused_until > now {
                again = Some(queue.paused_until);
            } else {
                queue.loading = Some(Loading::default());
                let after = match queue.known {
                    Known::Up(order) => Some(order),
                    Known::Nothing | Known::All => None,
                };
                let limit = self.limits.window;
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
    fn may_start(&self, limits: &QueueLimits) -> bool {
        self.waiting < self.allowance && self.in_progress.len() < limits.in_progress
    }

    fn arrived(&mut self, order: QueuePosition, window: usize) {
        self.last_reported = self.last_reported.max(order.seq);
        let known = self.loaded_early.contains(&order.seq);
        self.loaded_early = self.loaded_early.split_off(&(order.seq + 1));
        if !known {
            self.insert(order, window);
        }
    }

    /// Inserts an event into the window if it belongs there. Otherwise it will be loaded from disk at its turn.
    fn insert(&mut self, order: QueuePosition, window: usize) {
        if self.knows(order) {
            self.window.insert(order);
            return self.trim(window);
        }
        let Some(loading) = &mut self.loading else {
            return;
        };
        // A load may return stale positions of events that were in progress, so they are always remembered here.
        if loading.enqueued.len() < window || loading.ended.contains(&order.seq) {
            loading.enqueued.insert(order);
        } else {
            loading.gap = Some(loading.gap.map_or(order, |gap| gap.min(order)));
        }
    }

    fn trim(&mut self, window: usize) {
        while self.window.len() > window {
            self.window.pop_last();
            if let Some(loading) = &mut self.loading {
                loading.trimmed = true;
            }
            // The trimmed events will be loaded from disk, behind the last one in the window.
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
        if loading.trimmed {
            return;
        }
        for order in orders {
            let ended = loading.ended.contains(&order.seq);
            if !ended && !self.in_progress.contains_key(&order.seq) {
                self.window.insert(*order);
                if order.seq > self.last_reported {
                    self.loaded_early.insert(order.seq);
                }
            }
        }
        let before = self.known;
        if whole {
            self.known = Known::All;
        } else if let Some(last) = orders.last() {
            self.known = Known::Up(*last);
        }
        for order in loading.enqueued {
            if self.knows(order) && !self.in_progress.contains_key(&order.seq) {
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
        // Events enqueued meanwhile are on disk, behind the covered part.
        if self.loading.take().is_some() {
            self.paused_until = self.paused_until.max(until);
        }
    }

    fn placed(&mut self, seq: u64, most: u32) {
        if let Some(one) = self.in_progress.get_mut(&seq)
            && one.stage == Stage::Waiting
        {
            one.stage = Stage::Running;
            self.waiting -= 1;
            self.allowance = (self.allowance * 2).clamp(1, most);
        }
    }

    fn ended(&mut self, now: Time, seq: u64, then: Disposition, limits: &QueueLimits) {
        let Some(one) = self.in_progress.remove(&seq) else {
            return;
        };
        match one.stage {
            Stage::Waiting => self.waiting -= 1,
            // Its instance is free for the next event.
            Stage::Running if then != Disposition::Throttled => {
                self.paused_until = self.paused_until.min(now);
            }
            Stage::Running | Stage::Held => {}
        }
        if let Some(loading) = &mut self.loading {
            loading.ended.insert(seq);
            loading.enqueued.remove(&one.order);
        }
        match then {
            Disposition::Removed => {}
            Disposition::Retry { due } => self.insert(QueuePosition { due, seq }, limits.window),
            Disposition::Throttled => {
                self.allowance = 1;
                self.paused_until = now.after(limits.pause);
                self.insert(one.order, limits.window);
            }
            Disposition::NotStarted => self.insert(one.order, limits.window),
        }
    }
}
