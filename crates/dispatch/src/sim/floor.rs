//! What a pool keeps, where the schedules at random say little: against one that is never done, and beyond what there is.

use dispatch::{
    AccountId, Config, Effect, Event, GroupId, Machine, PoolId, PoolSpec, Reject, Ticket, Time,
};

/// A node for ten instances.
const CONFIG: Config = Config {
    account_mb: 1 << 20,
    node_mb: 1280,
    headroom_mb: 0,
    first_mb: 0,
    max_starting: 4,
    max_waiting: 1000,
    max_start_attempts: 1,
    brief_at_once: 0,
    starts_per_minute: 0,
    yield_after: 1000,
};
const KEEPS: PoolId = PoolId(1);
const BUSY: PoolId = PoolId(2);

/// The machine, and what it said that is not done yet.
struct Node {
    machine: Machine,
    now: u64,
    todo: Vec<Effect>,
    rejected: Vec<Reject>,
}

impl Node {
    fn new(config: Config) -> Self {
        let mut node = Self {
            machine: Machine::new(config),
            now: 0,
            todo: Vec::new(),
            rejected: Vec::new(),
        };
        for pool in [KEEPS, BUSY] {
            let spec = PoolSpec {
                slots: 1,
                group: GroupId(pool.0),
                account: AccountId(0),
                memory_mb: 128,
                reserved_mb: None,
                headroom: true,
                keep_alive: 1_000_000,
                freeze_after: 1000,
            };
            node.step(Event::Open { pool, spec });
        }
        node
    }

    fn step(&mut self, event: Event) {
        self.machine.step(Time(self.now), event, &mut self.todo);
    }

    fn ask(&mut self, ticket: u64, pool: PoolId) {
        self.step(Event::Request {
            ticket: Ticket(ticket),
            pool,
            deadline: Time(self.now + 10_000_000),
        });
    }

    /// Does all that was said once: starts succeed, requests end, instances stop.
    fn turn(&mut self) {
        self.now += 300;
        for effect in std::mem::take(&mut self.todo) {
            match effect {
                Effect::Start { instance, .. } => self.step(Event::Started { instance }),
                Effect::Stop { instance } => self.step(Event::Ended { instance }),
                Effect::Assign { instance, .. } => self.step(Event::Finished {
                    instance,
                    reusable: true,
                }),
                Effect::Reject { reason, .. } => self.rejected.push(reason),
                _ => {}
            }
        }
    }

    fn there(&self, pool: PoolId) -> usize {
        let stats = self.machine.stats(pool).expect("it is open");
        stats.starting + stats.busy + stats.idle
    }
}

#[test]
fn what_is_kept_is_there_soon_beside_a_function_that_is_never_done() {
    let mut node = Node::new(CONFIG);
    for ticket in 0..900 {
        node.ask(ticket, BUSY);
    }
    for _ in 0..5 {
        node.turn();
    }
    assert_eq!(node.there(BUSY), 10);
    node.step(Event::Provision {
        pool: KEEPS,
        floor: 6,
    });
    for _ in 0..20 {
        node.turn();
    }
    assert_eq!((node.there(KEEPS), node.there(BUSY)), (6, 4));
    let waiting = node.machine.stats(BUSY).expect("it is open").waiting;
    assert!(waiting > 0, "the other was done before it had to yield");
}

#[test]
fn a_node_that_is_too_small_for_what_is_kept_still_has_room_for_others() {
    let mut node = Node::new(CONFIG);
    node.step(Event::Provision {
        pool: KEEPS,
        floor: 50,
    });
    for _ in 0..20 {
        node.turn();
    }
    assert_eq!(node.there(KEEPS), 9);
    node.ask(1, BUSY);
    for _ in 0..3 {
        node.turn();
    }
    assert_eq!((node.there(KEEPS), node.there(BUSY)), (9, 1));
}

#[test]
fn a_wait_that_ends_for_the_rates_sake_says_so_and_what_is_kept_does_not_count() {
    let mut node = Node::new(Config {
        starts_per_minute: 2,
        ..CONFIG
    });
    node.step(Event::Provision {
        pool: KEEPS,
        floor: 3,
    });
    node.turn();
    for ticket in 0..3 {
        node.ask(ticket, BUSY);
    }
    assert_eq!((node.there(KEEPS), node.there(BUSY)), (3, 2));
    node.now += 11_000_000;
    node.step(Event::Wake);
    node.turn();
    let limit = dispatch::Limit::Rate;
    assert_eq!(node.rejected, [Reject::Deadline { limit }]);
}

#[test]
fn the_most_requests_at_a_time_are_counted_from_one_question_to_the_next() {
    let mut node = Node::new(CONFIG);
    for ticket in 0..12 {
        node.ask(ticket, BUSY);
    }
    for _ in 0..10 {
        node.turn();
    }
    assert_eq!(node.machine.take_peak(BUSY), Some(12));
    assert_eq!(node.machine.take_peak(BUSY), Some(0));
    node.ask(20, BUSY);
    assert_eq!(node.machine.take_peak(BUSY), Some(1));
}
