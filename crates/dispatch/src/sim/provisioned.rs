//! Provisioned instances in cases that random schedules rarely reach: next to a saturated function, and beyond the
//! node's capacity.

use dispatch::{
    AccountId, Config, GroupId, Machine, MachineEffect, MachineEvent, PoolId, PoolSpec, Reject,
    Ticket, Time,
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
    short_request_concurrency: 0,
    starts_per_minute: 0,
    yield_after: 1000,
};
const KEEPS: PoolId = PoolId(1);
const BUSY: PoolId = PoolId(2);

/// The machine and its pending effects.
struct Node {
    machine: Machine,
    now: u64,
    todo: Vec<MachineEffect>,
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
            node.step(MachineEvent::Open { pool, spec });
        }
        node
    }

    fn step(&mut self, event: MachineEvent) {
        self.machine.step(Time(self.now), event, &mut self.todo);
    }

    fn ask(&mut self, ticket: u64, pool: PoolId) {
        self.step(MachineEvent::Request {
            ticket: Ticket(ticket),
            pool,
            deadline: Time(self.now + 10_000_000),
        });
    }

    /// Performs all pending effects: starts succeed, requests end, instances stop.
    fn turn(&mut self) {
        self.now += 300;
        for effect in std::mem::take(&mut self.todo) {
            match effect {
                MachineEffect::Start { instance, .. } => {
                    self.step(MachineEvent::Started { instance })
                }
                MachineEffect::Stop { instance } => self.step(MachineEvent::Ended { instance }),
                MachineEffect::Assign { instance, .. } => self.step(MachineEvent::Finished {
                    instance,
                    reusable: true,
                }),
                MachineEffect::Reject { reason, .. } => self.rejected.push(reason),
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
fn provisioned_instances_start_beside_a_saturated_function() {
    let mut node = Node::new(CONFIG);
    for ticket in 0..900 {
        node.ask(ticket, BUSY);
    }
    for _ in 0..5 {
        node.turn();
    }
    assert_eq!(node.there(BUSY), 10);
    node.step(MachineEvent::Provision {
        pool: KEEPS,
        provisioned_min: 6,
    });
    for _ in 0..20 {
        node.turn();
    }
    assert_eq!((node.there(KEEPS), node.there(BUSY)), (6, 4));
    let waiting = node.machine.stats(BUSY).expect("it is open").waiting;
    assert!(waiting > 0, "the other was done before it had to yield");
}

#[test]
fn provisioned_instances_leave_capacity_for_other_functions() {
    let mut node = Node::new(CONFIG);
    node.step(MachineEvent::Provision {
        pool: KEEPS,
        provisioned_min: 50,
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
fn rate_limited_wait_is_rejected_with_rate_and_provisioned_starts_do_not_count() {
    let mut node = Node::new(Config {
        starts_per_minute: 2,
        ..CONFIG
    });
    node.step(MachineEvent::Provision {
        pool: KEEPS,
        provisioned_min: 3,
    });
    node.turn();
    for ticket in 0..3 {
        node.ask(ticket, BUSY);
    }
    assert_eq!((node.there(KEEPS), node.there(BUSY)), (3, 2));
    node.now += 11_000_000;
    node.step(MachineEvent::Wake);
    node.turn();
    let limit = dispatch::Limit::Rate;
    assert_eq!(node.rejected, [Reject::Deadline { limit }]);
}

#[test]
fn peak_concurrency_resets_when_read() {
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
