//! The fairness rules by name, so that a test can break one and verify that the simulation detects it.

/// A rule of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Accounts and reserved functions stay within their quota.
    Quota,
    /// All instances together fit into the node's memory.
    Node,
    /// Accounts stay within their start rate.
    StartRate,
    /// The account that holds the least memory starts first.
    LeastFirst,
    /// Accounts with instances leave the headroom to those without.
    Headroom,
    /// Builds leave the headroom as well.
    BuildsLeaveHeadroom,
    /// Accounts above their fair share restore used headroom.
    HeadroomRestored,
    /// The first instance of an account may overtake another start that waits for memory.
    FirstOvertakes,
    /// An account without a starting instance needs no free start slot.
    FirstNeedsNoSlot,
    /// Other starts need a free slot.
    StartSlots,
    /// Idle instances are evicted for a start that lacks memory.
    IdleEvicted,
    /// Instances of larger accounts are evicted first.
    LargestEvictedFirst,
    /// A smaller account that has waited gets the next instance that a larger one finishes with.
    AccountsYield,
    /// The same between functions of one account.
    FunctionsYield,
    /// Provisioned instances start after those of smaller accounts.
    ProvisionedComesAfter,
    /// Provisioned instances are not evicted, except for an account that holds less even afterwards.
    ProvisionedStays,
    /// Provisioned instances are evicted for an account that holds less even afterwards.
    ProvisionedGivesWay,
}

/// The rules in force: all, except one that a test breaks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    #[cfg(test)]
    pub(crate) broken: Option<Rule>,
}

impl Rules {
    #[cfg(test)]
    pub(crate) fn in_force(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    #[cfg(not(test))]
    #[inline(always)]
    pub(crate) const fn in_force(self, _: Rule) -> bool {
        true
    }
}
