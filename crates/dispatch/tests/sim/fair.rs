//! Fairness between accounts: the rules that the random schedules check, and cases that they rarely reach.

use std::collections::{BTreeMap, BTreeSet};

use super::{Instance, LARGEST, World};
use dispatch::{
    AccountId, Config, Effect, Event, GroupId, InstanceId, Limit, Machine, PoolId, PoolSpec,
    Reject, Ticket, Time,
};

/// How many times more than there are places may start, where those beyond have one each.
const PLACES: u32 = 4;

impl World {
    pub(crate) fn others(&self, account: AccountId) -> impl Iterator<Item = AccountId> + use<> {
        let all = (0..self.accounts).map(AccountId);
        all.filter(move |other| *other != account)
    }

    /// Memory of an account's instances that are not about to end.
    pub(crate) fn held_by(&self, account: AccountId) -> u64 {
        let lives = self.instances.values().filter(|(pool, state)| {
            self.specs[pool].account == account && *state != Instance::Stopping
        });
        lives.map(|(pool, _)| self.specs[pool].memory_mb).sum()
    }

    fn starting_of(&self, account: AccountId) -> u32 {
        let starting = |(pool, state): &&(PoolId, Instance)| {
            self.specs[pool].account == account && *state == Instance::Starting
        };
        self.instances.values().filter(starting).count() as u32
    }

    pub(crate) fn has_place(&self, account: AccountId) -> bool {
        let starting = |(_, state): &&(PoolId, Instance)| *state == Instance::Starting;
        let starting = self.instances.values().filter(starting).count() as u32;
        let most = self.config.max_starting;
        starting < most || (self.starting_of(account) == 0 && starting < PLACES * most)
    }

    fn headroom(&self) -> u64 {
        let holds = |account: &u64| self.held_by(AccountId(*account)) > 0;
        let holding = (0..self.accounts).filter(holds).count() as u64;
        let each = self.known.saturating_sub(holding) * self.config.first_mb;
        let least = self.config.headroom_mb;
        least.max(each.min(self.config.node_mb / 4))
    }

    /// Memory that can be kept beside the headroom and any one instance, where there are so many accounts.
    pub(crate) fn keepable_mb(&self, known: u64) -> u64 {
        let each = (known * self.config.first_mb).min(self.config.node_mb / 4);
        let left = self.config.node_mb - each.max(self.config.headroom_mb);
        (left / 10 * 9).min(left.saturating_sub(LARGEST))
    }

    /// Whether any function of an account keeps instances.
    pub(crate) fn keeps(&self, account: AccountId) -> bool {
        let mut keeps = self.floors.iter().filter(|(_, floor)| **floor > 0);
        keeps.any(|(pool, _)| self.specs[pool].account == account)
    }

    /// The machine is told how many accounts there are, if what is kept has room beside their headroom.
    pub(crate) fn tell_accounts(&mut self, known: u64) {
        let kept = self
            .floors
            .iter()
            .map(|(pool, n)| n * self.specs[pool].memory_mb);
        if kept.sum::<u64>() <= self.keepable_mb(known) {
            self.known = known;
            let count = known as usize;
            self.step(Event::Accounts { count });
        }
    }

    fn free(&self) -> u64 {
        let taken = self.instances.values();
        let taken = taken.map(|(pool, _)| self.specs[pool].memory_mb);
        self.config.node_mb - taken.sum::<u64>()
    }

    /// Pools of an account that have more in line than is on its way, and are not held back as those of brief requests are.
    pub(crate) fn wanting(&self, account: AccountId) -> Vec<PoolId> {
        let wants = |pool: &PoolId| {
            let (spec, most) = (&self.specs[pool], self.config.brief_at_once);
            let count = |state| {
                let of = |(of, is): &&(PoolId, Instance)| of == pool && *is == state;
                self.instances.values().filter(of).count()
            };
            let (starting, busy) = (count(Instance::Starting), count(Instance::Busy));
            let line = self.lines.get(pool).map_or(0, |line| line.len());
            let brief = most > 0 && spec.slots == 1 && starting + busy >= most;
            spec.account == account && line > starting * spec.slots as usize && !brief
        };
        self.specs.keys().copied().filter(wants).collect()
    }

    /// Pools of an account with requests in line.
    pub(crate) fn lines(&self, account: AccountId) -> impl Iterator<Item = PoolId> {
        let lines = self.lines.iter().filter(|(_, line)| !line.is_empty());
        let of = move |pool: &PoolId| self.specs[pool].account == account;
        lines.map(|(pool, _)| *pool).filter(of)
    }

    /// Whether an account wants a start, and nothing but the node and other accounts keeps any of its pools from one.
    fn is_ready(&self, account: AccountId) -> bool {
        let wanting = self.wanting(account);
        let below = |(pool, spec): (&PoolId, &PoolSpec)| {
            spec.account == account && self.live(*pool) < self.floor(*pool)
        };
        !wanting.is_empty()
            && !self.specs.iter().any(below)
            && self.config.starts_per_minute == 0
            && !self.drained
            && self.lines(account).all(|pool| self.has_own_room(pool))
    }

    /// Whether the limits of a pool's function and account allow one more.
    fn has_own_room(&self, pool: PoolId) -> bool {
        let spec = &self.specs[&pool];
        let reserved = |spec: &PoolSpec| {
            let newest = self.current[spec.group.0 as usize]?;
            self.specs[&newest].reserved_mb
        };
        let sum = |counts: &dyn Fn(&PoolSpec) -> bool| -> u64 {
            let all = self.instances.values().map(|(pool, _)| &self.specs[pool]);
            let counted = all.filter(|spec| counts(spec));
            counted.map(|spec| spec.memory_mb).sum()
        };
        let shares = |other: &PoolSpec| other.account == spec.account && reserved(other).is_none();
        let (used, most) = match reserved(spec) {
            Some(mb) => (sum(&|other| other.group == spec.group), mb),
            None => (sum(&shares), self.share_of(spec.account)),
        };
        used + spec.memory_mb <= most && spec.memory_mb <= self.config.node_mb
    }

    /// No account starts an instance while one that holds less waits for one, and only a first one is in the headroom.
    pub(crate) fn check_fair_start(&self, pool: PoolId, provisioned: bool) {
        let spec = &self.specs[&pool];
        let (account, held) = (spec.account, self.held_by(spec.account));
        assert!(self.has_place(account), "{account:?} starts too many");
        let left = match (provisioned, held) {
            (true, _) => self.config.headroom_mb,
            (false, 0) => 0,
            (false, _) => self.headroom(),
        };
        assert!(
            self.free() >= spec.memory_mb + left,
            "{account:?} with {held} MB uses the headroom"
        );
        for other in self.others(account).filter(|_| !self.deploying) {
            // What is kept comes first, unless the other one waited for memory before.
            let last = self.short.borrow();
            let had = |account| last.1.get(&account).copied().unwrap_or(0);
            let waited = last.0.contains(&other) && had(other) < had(account);
            let before = self.held_by(other) < held && (waited || !provisioned);
            assert!(
                !(before && self.is_ready(other) && self.has_place(other)),
                "{account:?} with {held} MB starts before {other:?} with {} MB, {:?}, at {}, {provisioned}",
                self.held_by(other),
                self.wanting(other),
                self.now
            );
        }
    }

    /// An account that has nothing has its first instance at once, where the headroom is large enough and there.
    pub(crate) fn check_firsts(&self) {
        let mut short = BTreeSet::new();
        for account in (0..self.accounts).map(AccountId) {
            if !self.is_ready(account) {
                continue;
            }
            let held = self.held_by(account);
            let wanting = self.wanting(account);
            let memory = |pool: &PoolId| self.specs[pool].memory_mb;
            let least = wanting.iter().map(memory).min().unwrap_or(0);
            let left = if held == 0 { 0 } else { self.headroom() };
            if self.free() < least + left {
                short.insert(account);
            }
            let fits = least <= self.headroom() && least <= self.free();
            // Once it had something, it waits its turn among others.
            let had = self.emptied.contains_key(&account);
            let all = (0..self.accounts).map(AccountId);
            let passed = had && all.flat_map(|other| self.lines(other)).count() > 1;
            let excused = passed || self.deploying || !self.has_place(account);
            assert!(
                held > 0 || !fits || excused,
                "{account:?} has nothing, and {} MB are free",
                self.free()
            );
        }
        let all = (0..self.accounts).map(AccountId);
        let held = all.map(|account| (account, self.held_by(account)));
        self.short.replace((short, held.collect()));
    }

    /// Whether an account of a pool has nothing any more.
    pub(crate) fn note_empty(&mut self, pool: PoolId) {
        let account = self.specs[&pool].account;
        if self.held_by(account) == 0 {
            self.emptied.insert(account, self.now.max(1));
        }
    }

    pub(crate) fn remove(&mut self, instance: InstanceId) -> Option<PoolId> {
        let (pool, _) = self.instances.remove(&instance)?;
        self.note_empty(pool);
        Some(pool)
    }

    /// Whether another account wants something and has less, even after a pool has given an instance up.
    pub(crate) fn may_give_up_kept(&self, pool: PoolId) -> bool {
        let account = self.specs[&pool].account;
        let held = self.held_by(account);
        self.others(account).any(|other| {
            let below = |pool: &PoolId| {
                self.specs[pool].account == other && self.live(*pool) < self.floor(*pool)
            };
            let mut wanting: Vec<_> = self.lines(other).collect();
            wanting.extend(self.specs.keys().copied().filter(below));
            let less = |pool: &PoolId| self.held_by(other) + self.specs[pool].memory_mb <= held;
            wanting.iter().any(less)
        })
    }
}

/// A node for ten instances, of which one is the headroom.
const CONFIG: Config = Config {
    account_mb: 1 << 20,
    node_mb: 1280,
    headroom_mb: 128,
    first_mb: 0,
    max_starting: 4,
    max_waiting: 1000,
    max_start_attempts: 1,
    brief_at_once: 0,
    starts_per_minute: 0,
    yield_after: 1000,
};

/// One function of each account, pool n of account n; a request ends only when the test says so.
struct Node {
    machine: Machine,
    now: u64,
    asked: u64,
    /// What serves, in the order in which it began.
    serving: Vec<(PoolId, InstanceId)>,
    starting: Vec<(PoolId, InstanceId)>,
    of: BTreeMap<InstanceId, PoolId>,
    rejected: Vec<Reject>,
    /// Whether starts succeed at once.
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
            keep_alive: 600_000_000,
            freeze_after: 1000,
        };
        let pool = PoolId(pool);
        self.step(Event::Open { pool, spec });
    }

    fn step(&mut self, event: Event) {
        let mut out = Vec::new();
        self.machine.step(Time(self.now), event, &mut out);
        let mut stopped = Vec::new();
        for effect in out {
            match effect {
                Effect::Start { instance, pool, .. } => {
                    self.of.insert(instance, pool);
                    self.starting.push((pool, instance));
                }
                Effect::Assign { instance, .. } => {
                    self.serving.push((self.of[&instance], instance));
                }
                Effect::Stop { instance } => stopped.push(instance),
                Effect::Reject { reason, .. } => self.rejected.push(reason),
                _ => {}
            }
        }
        for instance in stopped {
            self.step(Event::Ended { instance });
        }
        while self.quick && !self.starting.is_empty() {
            let (_, instance) = self.starting.remove(0);
            self.step(Event::Started { instance });
        }
    }

    fn ask(&mut self, pool: u64, many: u64) {
        for _ in 0..many {
            self.asked += 1;
            self.step(Event::Request {
                ticket: Ticket(self.asked),
                pool: PoolId(pool),
                deadline: Time(self.now + 10_000_000),
            });
        }
    }

    /// The request of a pool that began first ends.
    fn finish(&mut self, pool: u64) {
        self.now += 10;
        let first = self.serving.iter().position(|(of, _)| *of == PoolId(pool));
        let (_, instance) = self.serving.remove(first.expect("one is served"));
        let reusable = true;
        self.step(Event::Finished { instance, reusable });
    }

    fn keep(&mut self, pool: u64, floor: usize) {
        let pool = PoolId(pool);
        self.step(Event::Provision { pool, floor });
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        self.step(Event::Wake);
    }

    fn busy(&self, pool: u64) -> usize {
        self.machine.stats(PoolId(pool)).expect("it is open").busy
    }

    fn idle(&self, pool: u64) -> usize {
        self.machine.stats(PoolId(pool)).expect("it is open").idle
    }

    /// Each account's requests end, and come again, many times.
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
fn one_account_alone_gets_all_but_the_headroom_and_another_one_its_first_at_once() {
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
fn a_headroom_that_was_used_is_made_again() {
    let mut node = Node::new(CONFIG, 3);
    node.ask(1, 100);
    node.ask(2, 2);
    assert_eq!((node.busy(1), node.busy(2)), (9, 1));
    // Its line waits, and yet the instance is not used again: a third account may come.
    node.finish(1);
    assert_eq!((node.busy(1), node.idle(1)), (8, 0));
    node.ask(3, 1);
    assert_eq!(node.busy(3), 1);
}

#[test]
fn each_account_without_instances_adds_to_the_headroom_up_to_a_part_of_the_node() {
    let config = Config {
        node_mb: 2560,
        first_mb: 128,
        ..CONFIG
    };
    for (count, left) in [(0, 1), (1, 1), (2, 1), (4, 3), (6, 5), (100, 5)] {
        let mut node = Node::new(config, 1);
        node.step(Event::Accounts { count });
        node.ask(1, 100);
        assert_eq!(node.busy(1), 20 - left, "{count} accounts");
    }
}

#[test]
fn memory_is_shared_max_min_fairly_by_the_accounts_that_want_it() {
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
fn many_functions_of_one_account_have_no_more_than_one_of_another() {
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
fn idle_instances_of_the_account_that_holds_more_are_given_back_first() {
    let mut node = Node::new(CONFIG, 3);
    node.ask(2, 2);
    (0..2).for_each(|_| node.finish(2));
    node.ask(1, 7);
    (0..7).for_each(|_| node.finish(1));
    assert_eq!((node.idle(1), node.idle(2)), (7, 2));
    node.ask(3, 1);
    assert_eq!((node.idle(1), node.idle(2)), (7, 2), "it is the headroom's");
    node.ask(3, 3);
    // The other account's have idled for longer, and stay.
    assert_eq!((node.busy(3), node.idle(1), node.idle(2)), (4, 3, 2));
}

#[test]
fn slow_starts_of_one_account_do_not_keep_another_one_from_its_first() {
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
fn a_large_instance_is_started_in_the_end_though_small_ones_pass_it() {
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
fn what_is_kept_gives_way_to_an_account_with_less_but_no_further_than_to_the_same() {
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
    // Nobody else wants it any more.
    while node.busy(2) > 0 {
        node.finish(2);
    }
    node.pass(700_000_000);
    assert_eq!(node.idle(1), 8);
}

#[test]
fn two_accounts_that_keep_all_there_is_have_half_of_it_each() {
    let mut node = Node::new(CONFIG, 2);
    node.keep(1, 8);
    node.keep(2, 8);
    let (one, other) = (node.idle(1), node.idle(2));
    assert_eq!((one, other), (4, 4));
}
