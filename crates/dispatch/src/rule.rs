//! The rules between accounts, by name, so that a test can break one and see that the simulator finds it.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// An account, and what is reserved for a function, has no more than its quota.
    Quota,
    /// All instances together have no more than the node.
    Node,
    /// An account starts no more instances in a minute than it may.
    StartRate,
    /// The account that holds least starts first.
    LeastFirst,
    /// Accounts with instances leave the headroom to those without.
    Headroom,
    /// Builds leave it, too.
    BuildsLeaveHeadroom,
    /// What was used of the headroom is given back by accounts above their share.
    HeadroomIsMadeAgain,
    /// An account without instances starts its first one though another start waits for memory.
    FirstPasses,
    /// An account that has no start under way needs no free place.
    FirstPlace,
    /// Other starts need one.
    Places,
    /// Idle instances give way to a start that lacks memory.
    IdleGivesWay,
    /// Those of accounts that hold more give way first.
    LargestGivesFirst,
    /// An account that holds less and has waited gets the next instance that another one finishes with.
    AccountsYield,
    /// So does a function of the same account.
    FunctionsYield,
    /// What is kept ahead of need is started after what an account needs that holds less.
    KeptComesAfter,
    /// What is kept ahead of need is not stopped, unless for an account that holds less even then.
    KeptStays,
    /// What is kept ahead of need gives way to an account that holds less even then.
    KeptGivesWay,
}

/// The rules that hold: all of them, but for one that a test breaks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    #[cfg(test)]
    pub(crate) broken: Option<Rule>,
}

impl Rules {
    #[cfg(test)]
    pub(crate) fn hold(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    #[cfg(not(test))]
    #[inline(always)]
    pub(crate) const fn hold(self, _: Rule) -> bool {
        true
    }
}
