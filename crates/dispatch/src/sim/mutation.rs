//! Mutation test: each rule is broken once, and the random schedules must detect it.

use std::panic::catch_unwind;

use super::World;
use crate::rule::Rule;

/// Every rule, and the number of schedules within which its breach is detected.
const RULES: [(Rule, u64); 17] = [
    (Rule::Quota, 100),
    (Rule::Node, 100),
    (Rule::StartRate, 1000),
    (Rule::LeastFirst, 1000),
    (Rule::Headroom, 1000),
    (Rule::BuildsLeaveHeadroom, 1000),
    (Rule::HeadroomRestored, 1000),
    (Rule::FirstOvertakes, 1000),
    (Rule::FirstNeedsNoSlot, 1000),
    (Rule::StartSlots, 1000),
    (Rule::IdleEvicted, 1000),
    (Rule::LargestEvictedFirst, 1000),
    (Rule::AccountsYield, 1000),
    (Rule::FunctionsYield, 1000),
    (Rule::ProvisionedComesAfter, 1000),
    (Rule::ProvisionedStays, 1000),
    (Rule::ProvisionedGivesWay, 1000),
];

#[test]
fn simulation_detects_each_broken_rule() {
    let found = RULES.map(|(rule, within)| {
        let breaks = |seed: &u64| catch_unwind(|| World::new(*seed, Some(rule)).run()).is_err();
        (rule, (1..=within).find(breaks))
    });
    let missed: Vec<_> = found.iter().filter(|(_, seed)| seed.is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?} of {found:?}");
}
