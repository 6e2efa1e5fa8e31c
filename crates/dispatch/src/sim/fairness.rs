//! Single schedules that show how accounts share a node.

use std::collections::BTreeMap;

use dispatch::{
    AccountId, Config, GroupId, InstanceId, Limit, Machine, MachineEffect, MachineEvent, PoolId,
    PoolSpec, Reject, Ticket, Time,
};

/// A node for ten instances, one of them headroom.
const CONFIG: Config = Config {
    account_mb: 1 << 20,
    node_mb: 1280,
    headroom_mb: 128,
    first_mb: 0,
    max_starting: 4,
    max_waiting: 1000,
    max_start_attempts: 1,
    short_request_concurrency: 0,
    starts_per_minute: 0,
    yield_after: 1000,
};

/// One function per account, pool n of account n. Requests end only when the test says so.
struct Node {
    machine: Machine,
    now: u64,
    asked: u64,
    /// Busy instances, in order of assignment.
    serving: Vec<(PoolId, InstanceId)>,
    starting: Vec<(PoolId, InstanceId)>,
    of: BTreeMap<InstanceId, PoolId>,
    rejected: Vec<Reject>,
    /// Whether starts complete at once.
    quick: bool,
}

impl Node {
    fn new(config: Config, pools: u64) -> Self {
        let mut node = Self {
            machine: Machine::new(config),
            now: 0,
            asked: 0,
            serving: Vec::new(),
            starting: Vec::new(),
            of: BTreeMap::new(),
            rejected: Vec::new(),
            quick: true,
        };
        for pool in 1..=pools {
            node.open(pool, pool, 128);
        }
        node
    }

    fn open(&mut self, pool: u64, account: u64, memory_mb: u64) {
        let spec = PoolSpec {
            slots: 1,
            group: GroupId(pool),
            account: AccountId(account),
            memory_mb,
            reserved_mb: None,
            headroom: true,
            keep_alive: 600_000_000,
            freeze_after: 1000,
        };
        let pool = PoolId(pool);
        self.step(MachineEvent::Open { pool, spec });
    }

    fn step(&mut self, event: MachineEvent) {
        let mut out = Vec::new();
        self.machine.step(Time(self.now), event, &mut out);
        let mut stopped = Vec::new();
        for effect in out {
            match effect {
                MachineEffect::Start { instance, pool, .. } => {
                    self.of.insert(instance, pool);
                    self.starting.push((pool, instance));
                }
                MachineEffect::Assign { instance, .. } => {
                    self.serving.push((self.of[&instance], instance));
                }
                MachineEffect::Stop { instance } => stopped.push(instance),
                MachineEffect::Reject { reason, .. } => self.rejected.push(reason),
                _ => {}
            }
        }
        for instance in stopped {
            self.step(MachineEvent::Ended { instance });
        }
        while self.quick && !self.starting.is_empty() {
            let (_, instance) = self.starting.remove(0);
            self.step(MachineEvent::Started { instance });
        }
    }

    fn ask(&mut self, pool: u64, many: u64) {
        for _ in 0..many {
            self.asked += 1;
            self.step(MachineEvent::Request {
                ticket: Ticket(self.asked),
                pool: PoolId(pool),
                deadline: Time(self.now + 10_000_000),
            });
        }
    }

    /// Ends the oldest request of a pool.
    fn finish(&mut self, pool: u64) {
        self.now += 10;
        let first = self.serving.iter().position(|(of, _)| *of == PoolId(pool));
        let (_, instance) = self.serving.remove(first.expect("one is served"));
        let reusable = true;
        self.step(MachineEvent::Finished { instance, reusable });
    }

    fn keep(&mut self, pool: u64, provisioned_min: usize) {
        let pool = PoolId(pool);
        self.step(MachineEvent::Provision {
            pool,
            provisioned_min,
        });
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        self.step(MachineEvent::Wake);
    }

    fn busy(&self, pool: u64) -> usize {
        self.machine.stats(PoolId(pool)).expect("it is open").busy
    }

    fn idle(&self, pool: u64) -> usize {
        self.machine.stats(PoolId(pool)).expect("it is open").idle
    }

    /// Ends and repeats each account's requests many times.
    fn serve(&mut self, pools: u64, times: usize) {
        for _ in 0..times {
            for pool in 1..=pools {
                if self.busy(pool) > 0 {
                    self.finish(pool);
                    self.ask(pool, 1);
                }
            }
        }
    }
}

#[test]
fn headroom_admits_first_instance_of_another_account() {
    let mut node = Node::new(CONFIG, 2);
    node.ask(1, 100);
    assert_eq!(node.busy(1), 9);
    node.ask(2, 1);
    assert_eq!(node.busy(2), 1, "without a wait, while all others are busy");
    node.pass(11_000_000);
    let late = Reject::Deadline { limit: Limit::Node };
    assert_eq!(node.rejected, [late; 91]);
}

#[test]
fn used_headroom_is_restored() {
    let mut node = Node::new(CONFIG, 3);
    node.ask(1, 100);
    node.ask(2, 2);
    assert_eq!((node.busy(1), node.busy(2)), (9, 1));
    // Its requests wait, and yet the instance is not reused: a third account may come.
    node.finish(1);
    assert_eq!((node.busy(1), node.idle(1)), (8, 0));
    node.ask(3, 1);
    assert_eq!(node.busy(3), 1);
}

#[test]
fn headroom_grows_with_idle_accounts_up_to_a_quarter_of_the_node() {
    let config = Config {
        node_mb: 2560,
        first_mb: 128,
        ..CONFIG
    };
    for (count, left) in [(0, 1), (1, 1), (2, 1), (4, 3), (6, 5), (100, 5)] {
        let mut node = Node::new(config, 1);
        node.step(MachineEvent::Accounts { count });
        node.ask(1, 100);
        assert_eq!(node.busy(1), 20 - left, "{count} accounts");
    }
}

#[test]
fn node_memory_is_divided_max_min_fairly() {
    let config = Config {
        node_mb: 128 * 13,
        ..CONFIG
    };
    let rows: [(&[u64], &[usize]); 5] = [
        (&[50, 50, 50], &[4, 4, 4]),
        (&[50, 2, 50], &[5, 2, 5]),
        (&[50, 1, 1], &[10, 1, 1]),
        (&[50, 50], &[6, 6]),
        (&[3, 3, 3], &[3, 3, 3]),
    ];
    for (wanted, expected) in rows {
        let pools = wanted.len() as u64;
        let mut node = Node::new(config, pools);
        for (pool, many) in (1..).zip(wanted) {
            node.ask(pool, *many);
        }
        node.serve(pools, 1000);
        let busy: Vec<_> = (1..=pools).map(|pool| node.busy(pool)).collect();
        assert_eq!(busy, expected, "{wanted:?}");
    }
}

#[test]
fn fairness_is_per_account_not_per_function() {
    let mut node = Node::new(CONFIG, 0);
    node.open(1, 1, 128);
    (2..=9).for_each(|pool| node.open(pool, 2, 128));
    (2..=9).for_each(|pool| node.ask(pool, 20));
    node.ask(1, 20);
    node.serve(9, 500);
    let many: usize = (2..=9).map(|pool| node.busy(pool)).sum();
    let half = 4..=5;
    assert!(
        half.contains(&node.busy(1)) && half.contains(&many),
        "{many}"
    );
}

#[test]
fn eviction_takes_idle_instances_of_the_largest_account_first() {
    let mut node = Node::new(CONFIG, 3);
    node.ask(2, 2);
    (0..2).for_each(|_| node.finish(2));
    node.ask(1, 7);
    (0..7).for_each(|_| node.finish(1));
    assert_eq!((node.idle(1), node.idle(2)), (7, 2));
    node.ask(3, 1);
    assert_eq!((node.idle(1), node.idle(2)), (7, 2), "it is the headroom's");
    node.ask(3, 3);
    // Instances of the other account have been idle for longer, and stay.
    assert_eq!((node.busy(3), node.idle(1), node.idle(2)), (4, 3, 2));
}

#[test]
fn slow_starts_do_not_block_the_first_instance_of_another_account() {
    let mut node = Node::new(CONFIG, 3);
    node.quick = false;
    node.ask(1, 8);
    assert_eq!(node.starting.len(), 4, "as many as there may be");
    node.ask(2, 8);
    node.ask(3, 1);
    let starting = |pool| {
        let of = node.starting.iter().filter(|(of, _)| *of == PoolId(pool));
        of.count()
    };
    assert_eq!((starting(1), starting(2), starting(3)), (4, 1, 1));
}

#[test]
fn large_instance_is_not_starved_by_small_ones() {
    let mut node = Node::new(CONFIG, 3);
    node.open(9, 9, 1100);
    node.ask(1, 100);
    node.ask(9, 1);
    for turn in 0..100 {
        node.ask(2 + turn % 2, 1);
        for pool in 1..=3 {
            if node.busy(pool) > 0 {
                node.finish(pool);
            }
        }
        if node.busy(9) == 1 {
            return;
        }
    }
    panic!("it never had its turn");
}

#[test]
fn provisioned_instances_yield_to_a_smaller_account_until_equal() {
    let mut node = Node::new(CONFIG, 2);
    node.keep(1, 8);
    assert_eq!(node.idle(1), 8);
    node.ask(2, 20);
    let shares = |node: &Node| (node.idle(1), node.busy(2));
    assert!(
        matches!(shares(&node), (4, 5) | (5, 4)),
        "{:?}",
        shares(&node)
    );
    node.serve(2, 50);
    assert!(
        matches!(shares(&node), (4, 5) | (5, 4)),
        "{:?}",
        shares(&node)
    );
    // No other account needs memory any more.
    while node.busy(2) > 0 {
        node.finish(2);
    }
    node.pass(700_000_000);
    assert_eq!(node.idle(1), 8);
}

#[test]
fn oversubscribed_provisioned_memory_is_split_evenly() {
    let mut node = Node::new(CONFIG, 2);
    node.keep(1, 8);
    node.keep(2, 8);
    let (one, other) = (node.idle(1), node.idle(2));
    assert_eq!((one, other), (4, 4));
}
