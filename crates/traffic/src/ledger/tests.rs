use model::{AccountId, Source};

use super::*;

const LIMITS: LedgerLimits = LedgerLimits {
    connections: 64,
    reserve: 8,
    per_source: 32,
    per_account: 24,
    unverified: 4 << 20,
    unverified_per_source: 2 << 20,
    verified: 8 << 20,
    verified_per_account: 4 << 20,
    spool: 64 << 20,
    spool_per_source: 32 << 20,
};

#[derive(Clone, Debug)]
struct Fake(ConnectionId, Activity);

impl Active for Fake {
    fn activity(&self) -> Activity {
        self.1
    }
}

fn enter(
    ledger: &mut Ledger<Fake>,
    source: u32,
    activity: Activity,
    now: u64,
) -> (Option<ConnectionId>, Vec<ConnectionId>) {
    let mut shed = Vec::new();
    let source = Source::V4(source);
    let entered = ledger.admit(source, false, now, |id| Fake(id, activity), &mut shed);
    (
        entered.map(|fake| fake.0),
        shed.into_iter().map(|fake| fake.0).collect(),
    )
}

#[test]
fn idle_connections_of_the_largest_source_are_evicted_first() {
    let mut ledger = Ledger::new(LIMITS);
    let hostile: Vec<_> = (0..32)
        .filter_map(|n| enter(&mut ledger, 1, Activity::Idle(n), 100).0)
        .collect();
    assert_eq!(hostile.len(), 32);
    // The limit per source: its oldest idle connection is evicted.
    let (entered, shed) = enter(&mut ledger, 1, Activity::Idle(99), 100);
    assert!(entered.is_some());
    assert!(
        shed.contains(&hostile[0]) && !shed.contains(&hostile[31]),
        "{shed:?}"
    );
    // Other sources are admitted, however many connections it has.
    for source in 2..40 {
        let (entered, _) = enter(&mut ledger, source, Activity::Serving, 100);
        assert!(entered.is_some(), "{source}");
    }
}

#[test]
fn verified_source_is_admitted_during_a_flood_of_unverified_ones() {
    let mut ledger = Ledger::new(LIMITS);
    let own = enter(&mut ledger, 1, Activity::Serving, 0)
        .0
        .expect("admitted");
    assert!(ledger.verified(own, AccountId(7), 1000).is_empty());
    for source in 2..500 {
        enter(&mut ledger, source, Activity::Serving, 10);
    }
    assert!(ledger.connections() <= LIMITS.connections - LIMITS.reserve + 1);
    for _ in 0..LIMITS.reserve {
        let (entered, shed) = enter(&mut ledger, 1, Activity::Serving, 10);
        assert!(entered.is_some() && !shed.contains(&own));
    }
}

#[test]
fn account_connections_are_bounded() {
    let mut ledger = Ledger::new(LIMITS);
    let (mut served, mut gone) = (Vec::new(), 0);
    for number in 0..200 {
        let activity = match number % 2 {
            0 if number < 40 => Activity::Serving,
            _ => Activity::Idle(number),
        };
        let Some(id) = enter(&mut ledger, number as u32 % 8, activity, 10).0 else {
            continue;
        };
        let shed = ledger.verified(id, AccountId(7), 1000);
        gone += shed.len();
        if activity == Activity::Serving {
            served.push(id);
        }
        assert!(shed.iter().all(|fake| !served.contains(&fake.0)));
    }
    assert!(gone > 100 && served.len() == 20);
    // Another account is admitted, and has its own limit.
    let other = enter(&mut ledger, 99, Activity::Serving, 10).0;
    let other = other.expect("admitted");
    assert!(ledger.verified(other, AccountId(8), 1000).is_empty());
    // When all connections serve requests, the newest is refused.
    let mut ledger = Ledger::new(LIMITS);
    for number in 0..40u32 {
        let id = enter(&mut ledger, number % 8, Activity::Serving, 10).0;
        let id = id.expect("admitted");
        let shed = ledger.verified(id, AccountId(7), 1000);
        let expected = (number >= 24).then_some(id);
        assert_eq!(shed.first().map(|fake| fake.0), expected);
    }
}

#[test]
fn largest_connection_of_the_largest_holder_is_shed_first() {
    let mut ledger = Ledger::new(LIMITS);
    let small = enter(&mut ledger, 1, Activity::Serving, 0)
        .0
        .expect("admitted");
    let (mut shed, mut hostile) = (Vec::new(), Vec::new());
    for number in 0..20u64 {
        let source = 2 + (number % 4) as u32;
        let id = enter(&mut ledger, source, Activity::Serving, 0)
            .0
            .expect("admitted");
        hostile.push(id);
        let charged = ledger.charge(id, Medium::Memory, 300_000 - number, 0);
        shed.extend(charged.shed.into_iter().map(|fake| fake.0));
    }
    assert!(!shed.is_empty() && shed.iter().all(|id| hostile.contains(id)));
    assert!(!ledger.charge(small, Medium::Memory, 500_000, 0).refused);
    // The largest holder is refused itself.
    assert!(ledger.charge(small, Medium::Memory, 2 << 20, 0).refused);
}

#[test]
fn random_operations_never_exceed_the_budgets() {
    for seed in 1..300u64 {
        let mut random = testkit::Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut ledger = Ledger::new(LIMITS);
        let mut known: Vec<ConnectionId> = Vec::new();
        for now in 0..400 {
            let any = (!known.is_empty()).then(|| known[random.below(known.len() as u64) as usize]);
            let store = if random.below(3) == 0 {
                Medium::Disk
            } else {
                Medium::Memory
            };
            match (random.below(7), any) {
                (0 | 1, _) | (_, None) => {
                    let activity = match random.below(4) {
                        0 => Activity::Idle(now),
                        1 => Activity::Sending,
                        2 => Activity::Reading,
                        _ => Activity::Serving,
                    };
                    let source = random.below(12) as u32;
                    known.extend(enter(&mut ledger, source, activity, now).0);
                }
                (2, Some(id)) => {
                    let before = ledger.members.get(&id).map(|m| (m.memory, m.disk));
                    let charged = ledger.charge(id, store, random.below(1 << 20), now);
                    let after = ledger.members.get(&id).map(|m| (m.memory, m.disk));
                    assert!(!charged.refused || before == after, "seed {seed}");
                    assert!(charged.shed.iter().all(|shed| shed.0 != id), "seed {seed}");
                }
                (3, Some(id)) => ledger.release(id, store, random.below(1 << 20)),
                (5, Some(id)) => {
                    let source = Source::V4(random.below(12) as u32);
                    if !ledger.move_to(id, source, now, &mut Vec::new()) {
                        ledger.remove(id);
                    }
                }
                (4, Some(id)) => {
                    let account = AccountId(random.below(4));
                    drop(ledger.verified(id, account, now + 20));
                }
                (_, Some(id)) => drop(ledger.remove(id)),
            }
            if now % 50 == 0 {
                ledger.forget(now);
            }
            check(&ledger, seed);
        }
    }
}

fn check(ledger: &Ledger<Fake>, seed: u64) {
    let limits = &ledger.limits;
    let members = || ledger.members.values();
    let unverified: u64 = members()
        .filter(|m| m.account.is_none())
        .map(|m| m.memory)
        .sum();
    let verified: u64 = members()
        .filter(|m| m.account.is_some())
        .map(|m| m.memory)
        .sum();
    let disk: u64 = members().map(|m| m.disk).sum();
    assert_eq!(
        (unverified, verified, disk),
        (ledger.unverified, ledger.verified, ledger.disk),
        "seed {seed}"
    );
    assert!(ledger.members.len() <= limits.connections, "seed {seed}");
    assert!(
        unverified <= limits.unverified && disk <= limits.spool,
        "seed {seed}"
    );
    for (source, holder) in &ledger.sources {
        assert!(
            holder.members.len() <= limits.per_source,
            "seed {seed} {source:?}"
        );
        assert!(
            holder.memory <= limits.unverified_per_source && holder.disk <= limits.spool_per_source,
            "seed {seed}"
        );
        let own: u64 = members()
            .filter(|m| m.source == *source)
            .map(|m| m.disk)
            .sum();
        assert_eq!(own, holder.disk, "seed {seed}");
    }
    for holder in ledger.accounts.values() {
        assert!(holder.members.len() <= limits.per_account, "seed {seed}");
        let own = holder.members.iter().map(|id| ledger.members[id].memory);
        assert_eq!(own.sum::<u64>(), holder.memory, "seed {seed}");
    }
}
