//! A simulation of the machine's environment: random requests, starts, crashes, updates and shutdowns, by seed.
//!
//! It keeps its own books from the effects alone and checks the invariants after every step. `SIM_SEEDS` sets the
//! number of schedules; `SIM_SEED` replays a single one.

mod checks;
mod effects;
mod fair;
mod fairness;
mod mutation;
mod provisioned;
mod saturation;
mod short_requests;
mod surroundings;
mod tally;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dispatch::{
    AccountId, Config, GroupId, InstanceId, Machine, MachineEvent, PoolId, PoolSpec, Ticket,
};
use seeded::Random;

use crate::rule::Rule;

const SEEDS: u64 = 10_000;
const STEPS: u32 = 100;
/// A pool with waiting requests is served within one such turn per existing pool, plus the wait until others yield: a
/// request, a stop and a start. Microseconds.
const TURN: u64 = 1_000_000;

/// How long a request may wait past its deadline while instances start for it, microseconds.
const GRACE: u64 = 1_000_000;

/// Maximum wait of a short request for a busy instance while another is idle, microseconds.
const MAX_SHORT_WAIT: u64 = 20_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Instance {
    Starting,
    Busy,
    Idle,
    Stopping,
}

struct World {
    random: Random,
    now: u64,
    config: Config,
    machine: Machine,
    /// Events to report, by time.
    agenda: BTreeMap<(u64, u64), MachineEvent>,
    next: u64,
    wake: Option<u64>,
    specs: BTreeMap<PoolId, PoolSpec>,
    /// The pool of each function's latest revision.
    current: Vec<Option<PoolId>>,
    retired: BTreeSet<PoolId>,
    instances: BTreeMap<InstanceId, (PoolId, Instance)>,
    /// Time since which each unfrozen instance is idle.
    thawed: BTreeMap<InstanceId, u64>,
    /// Requests in progress per instance, and whether it has ended.
    running: BTreeMap<InstanceId, (u32, bool)>,
    /// Waiting requests by pool, oldest first, with arrival time and deadline.
    queues: BTreeMap<PoolId, VecDeque<(Ticket, u64, u64)>>,
    /// When a pool last made progress: an assigned request or a reported failed start.
    served: BTreeMap<PoolId, u64>,
    answered: BTreeSet<Ticket>,
    asked: u64,
    drained: bool,
    /// Unreserved memory in use per account at the last check.
    shared: RefCell<BTreeMap<AccountId, u64>>,
    /// Memory of each function at the last check.
    held: RefCell<BTreeMap<GroupId, u64>>,
    /// Whether a reservation may be changing.
    deploying: bool,
    /// Unreserved quotas that were set.
    shares: BTreeMap<AccountId, u64>,
    /// Provisioned minimums.
    provisioned_pools: BTreeMap<PoolId, u64>,
    /// Pools with a failed start, whose next provisioned start is delayed.
    failed: BTreeSet<PoolId>,
    /// Times of starts for requests.
    starts: BTreeMap<AccountId, Vec<u64>>,
    /// Number of accounts with functions.
    accounts: u64,
    /// Number of accounts last reported.
    known: u64,
    /// Number of events so far.
    steps: u64,
    /// Event at which an account became empty.
    emptied: BTreeMap<AccountId, u64>,
    /// Event at which a pool's start became pending; it may be obsolete.
    wanted: BTreeMap<PoolId, u64>,
    /// Time since which a pool's start is pending.
    waits: BTreeMap<PoolId, u64>,
    /// When each account's start rate is fully restored.
    tokens: BTreeMap<AccountId, u64>,
    /// A saturated function, in some schedules.
    saturated: Option<usize>,
    /// The instance that has just finished a request.
    finishing: Option<InstanceId>,
    /// Whether an instance has just started or finished a request, so it may be stopped for exceeding a limit.
    freed: bool,
    /// Time since which each instance is idle.
    idles: BTreeMap<InstanceId, u64>,
    /// Accounts that waited only for the node's memory at the last check, and the memory of all accounts then.
    short: RefCell<(BTreeSet<AccountId>, BTreeMap<AccountId, u64>)>,
}

/// Largest instance, MB. This much stays unprovisioned.
const LARGEST: u64 = 512;

impl World {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let mut random = Random::new(seed);
        let config = Config {
            account_mb: 128 * (4 + random.below(30)),
            node_mb: 128 * (4 + random.below(30)),
            headroom_mb: 128 * random.below(4),
            first_mb: 128 * random.below(2),
            max_starting: 1 + random.below(4) as u32,
            max_waiting: 5 + random.below(40) as usize,
            max_start_attempts: 1 + random.below(3) as u8,
            short_request_concurrency: random.below(4) as usize,
            starts_per_minute: match random.below(4) {
                0 => 30 + random.below(600) as u32,
                _ => 0,
            },
            yield_after: 1000 * random.below(500),
        };
        let mut world = Self {
            random,
            now: 0,
            config,
            machine: broken.map_or_else(
                || Machine::new(config),
                |rule| Machine::with_broken_rule(config, rule),
            ),
            agenda: BTreeMap::new(),
            next: 0,
            wake: None,
            specs: BTreeMap::new(),
            current: Vec::new(),
            retired: BTreeSet::new(),
            instances: BTreeMap::new(),
            thawed: BTreeMap::new(),
            running: BTreeMap::new(),
            queues: BTreeMap::new(),
            served: BTreeMap::new(),
            answered: BTreeSet::new(),
            asked: 0,
            drained: false,
            shared: RefCell::default(),
            held: RefCell::default(),
            deploying: false,
            shares: BTreeMap::new(),
            provisioned_pools: BTreeMap::new(),
            failed: BTreeSet::new(),
            starts: BTreeMap::new(),
            accounts: 0,
            known: 0,
            steps: 0,
            emptied: BTreeMap::new(),
            wanted: BTreeMap::new(),
            waits: BTreeMap::new(),
            tokens: BTreeMap::new(),
            saturated: None,
            finishing: None,
            freed: false,
            idles: BTreeMap::new(),
            short: RefCell::default(),
        };
        world.accounts = 1 + world.random.below(4);
        for group in 0..1 + world.random.below(6) {
            world.current.push(None);
            world.deploy(group as usize);
        }
        if world.random.one_in(3) {
            let groups = world.current.len() as u64;
            world.saturated = Some(world.random.below(groups) as usize);
        }
        world
    }

    fn share_of(&self, account: AccountId) -> u64 {
        let said = self.shares.get(&account);
        said.copied().unwrap_or(self.config.account_mb)
    }

    fn provisioned_min(&self, pool: PoolId) -> u64 {
        self.provisioned_pools.get(&pool).copied().unwrap_or(0)
    }

    fn later(&mut self, after: u64, event: MachineEvent) {
        self.next += 1;
        self.agenda.insert((self.now + after, self.next), event);
    }

    fn answer(&mut self, ticket: Ticket) {
        assert!(self.answered.insert(ticket), "{ticket:?} is answered twice");
    }

    fn leave_queue(&mut self, ticket: Ticket) -> Option<(PoolId, usize, u64)> {
        for (pool, line) in &mut self.queues {
            if let Some(at) = line.iter().position(|(waiting, ..)| *waiting == ticket) {
                let (_, came, _) = line.remove(at).expect("it was found there");
                return Some((*pool, at, came));
            }
        }
        None
    }

    /// When events cease, exactly the provisioned instances remain.
    fn run_until_idle(&mut self) {
        let until = self.now + 400_000_000;
        while self.advance(until) {}
        for pool in self.current.iter().flatten() {
            let stopped = self.specs[pool].reserved_mb == Some(0);
            let kept = if stopped {
                0
            } else {
                self.provisioned_min(*pool)
            };
            let live = self.tally().live(*pool);
            assert_eq!(live, kept, "{pool:?} keeps {kept}");
        }
        for pool in std::mem::take(&mut self.provisioned_pools).into_keys() {
            self.step(MachineEvent::Provision {
                pool,
                provisioned_min: 0,
            });
        }
    }

    /// Advances to the next scheduled event, at most to `until`. Returns whether there was one.
    fn advance(&mut self, until: u64) -> bool {
        let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let next = [agenda, self.wake]
            .into_iter()
            .flatten()
            .min()
            .filter(|at| *at <= until);
        let Some(at) = next else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(at);
        if self.wake.is_some_and(|wake| wake <= self.now) {
            self.wake = None;
            self.step(MachineEvent::Wake);
        } else if let Some((_, event)) = self.agenda.pop_first() {
            self.report(event);
        }
        true
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.happen();
            let until = self.now + 1000 * self.random.below(100);
            while self.advance(until) {}
        }
        if self.random.one_in(4) {
            self.drained = true;
            self.step(MachineEvent::Drain);
            self.ask(0);
        } else {
            self.run_until_idle();
        }
        let end = self.now + 3_600_000_000;
        while self.advance(end) {}
        assert_eq!(self.answered.len() as u64, self.asked, "requests were lost");
        assert!(
            self.instances.is_empty(),
            "scale to zero is not reached: {:?}",
            self.instances
        );
        assert_eq!(self.machine.totals(), dispatch::PoolStats::default());
        assert_eq!(self.machine.timers(), 0, "timers are left");
        let kept: BTreeSet<_> = self.specs.keys().copied().collect();
        let current: BTreeSet<_> = self.current.iter().flatten().copied().collect();
        assert_eq!(kept, current, "retired pools are left");
    }
}

#[test]
fn random_schedules_keep_the_invariants() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| World::new(seed, None).run());
        if outcome.is_err() && std::env::var_os("SIM_ALL").is_some() {
            println!("schedule {seed}");
            continue;
        }
        if outcome.is_err() {
            panic!("schedule {seed} breaks a rule; run it again with SIM_SEED={seed}");
        }
    }
}
