//! Short-request detection, of which random schedules only check the maximum wait.

use std::collections::VecDeque;

use dispatch::{
    AccountId, Config, GroupId, InstanceId, Machine, MachineEffect, MachineEvent, PoolId, PoolSpec,
    Ticket, Time,
};

const CONFIG: Config = Config {
    account_mb: 1 << 20,
    node_mb: 1 << 20,
    headroom_mb: 0,
    first_mb: 0,
    max_starting: 100,
    max_waiting: 30,
    max_start_attempts: 1,
    short_request_concurrency: 2,
    starts_per_minute: 0,
    yield_after: 1000,
};
const POOL: PoolId = PoolId(1);

/// A machine whose starts complete at once.
struct Node {
    machine: Machine,
    now: u64,
    asked: u64,
    /// Busy instances, in order of assignment.
    serving: VecDeque<InstanceId>,
    served: u64,
}

impl Node {
    fn new() -> Self {
        let mut node = Self {
            machine: Machine::new(CONFIG),
            now: 0,
            asked: 0,
            serving: VecDeque::new(),
            served: 0,
        };
        let spec = PoolSpec {
            slots: 1,
            group: GroupId(1),
            account: AccountId(0),
            memory_mb: 128,
            reserved_mb: None,
            headroom: true,
            keep_alive: 600_000_000,
            freeze_after: 1000,
        };
        node.step(MachineEvent::Open { pool: POOL, spec });
        node
    }

    fn step(&mut self, event: MachineEvent) {
        let mut out = Vec::new();
        self.machine.step(Time(self.now), event, &mut out);
        for effect in out {
            match effect {
                MachineEffect::Start { instance, .. } => {
                    self.step(MachineEvent::Started { instance })
                }
                MachineEffect::Assign { instance, .. } => {
                    self.served += 1;
                    self.serving.push_back(instance);
                }
                MachineEffect::Reject { reason, .. } => panic!("{reason:?}"),
                _ => {}
            }
        }
    }

    fn ask(&mut self, many: u64) {
        for _ in 0..many {
            self.asked += 1;
            self.step(MachineEvent::Request {
                ticket: Ticket(self.asked),
                pool: POOL,
                deadline: Time(self.now + 10_000_000),
            });
        }
    }

    /// Ends the oldest request.
    fn finish(&mut self) {
        let instance = self.serving.pop_front().expect("one is served");
        let reusable = true;
        self.step(MachineEvent::Finished { instance, reusable });
    }

    fn short_requests(&mut self, short: bool) {
        let instance = *self.serving.front().expect("one is served");
        self.step(MachineEvent::ShortRequests { instance, short });
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        self.step(MachineEvent::Wake);
    }

    fn there(&self) -> usize {
        let stats = self.machine.stats(POOL).expect("it is open");
        stats.busy + stats.idle
    }
}

/// A node that has served a short request.
fn short() -> Node {
    let mut node = Node::new();
    node.ask(1);
    node.short_requests(true);
    node.finish();
    node
}

#[test]
fn short_requests_share_few_instances_in_fifo_order() {
    let mut node = short();
    for _ in 0..100 {
        node.ask(20);
        assert_eq!(node.serving.len(), 2, "as many at a time as there may be");
        while !node.serving.is_empty() {
            node.now += 100;
            node.finish();
        }
    }
    assert_eq!((node.served, node.there()), (1 + 100 * 20, 2));
}

#[test]
fn long_requests_get_one_instance_each() {
    let mut node = Node::new();
    node.ask(20);
    assert_eq!(node.serving.len(), 20);
    node.short_requests(true);
    (0..20).for_each(|_| node.finish());
    node.ask(20);
    assert_eq!(node.serving.len(), 2);
    // The requests become long.
    node.short_requests(false);
    assert_eq!(node.serving.len(), 20, "what idled serves those in line");
    node.ask(5);
    assert_eq!(node.serving.len(), 25);
}

#[test]
fn misdetected_short_requests_delay_the_queue_only_briefly() {
    let mut node = short();
    node.ask(10);
    assert_eq!(node.serving.len(), 2);
    node.pass(19_000);
    assert_eq!(node.serving.len(), 2, "they may soon come to their turn");
    node.pass(1_000);
    assert_eq!(node.serving.len(), 10);
    // Detection resumes only after a while.
    node.short_requests(true);
    node.ask(1);
    assert_eq!(node.serving.len(), 11);
    node.pass(1_000_000);
    node.short_requests(true);
    node.ask(1);
    assert_eq!(node.serving.len(), 11);
    node.finish();
    assert_eq!((node.serving.len(), node.there()), (11, 11));
}

#[test]
fn full_queue_ends_short_request_mode() {
    let mut node = short();
    node.ask(100);
    assert_eq!(node.serving.len(), 100);
}
