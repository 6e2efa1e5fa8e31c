//! Per-account quotas of a bounded store, by a dynamic threshold.
//!
//! An account may hold as much as it leaves free: alone half of the store, each of two a third, each of three a quarter. So one
//! account can use much of an idle store, and a later account still finds free capacity. Source: Choudhury and Hahne, "Dynamic
//! queue length thresholds for shared-memory packet switches", 1998, with α = 1.
//!
//! Nothing is evicted: an account whose quota shrank because others came is throttled until it has drained.

use std::collections::HashMap;

use model::AccountId;

/// Maximum part of the store, in sixteenths, for an account that adds a dead letter.
///
/// A dead letter to a function is enqueued there before the original is removed. Under the normal quota, an account whose quota is
/// full of dead letters would deadlock. The bound is slightly above the largest quota, because a dead letter is larger than its
/// event.
const DEAD_LETTER_SIXTEENTHS: u64 = 9;

/// The limit that an event would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExceededLimit {
    /// The store is full.
    Store {
        /// Bytes in use.
        used: u64,
    },
    /// The account's quota is used up.
    Quota {
        /// Bytes of the account.
        held: u64,
    },
}

/// The limit that applies to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdmissionRule {
    /// The quota of its account.
    Quota,
    /// The higher bound of dead letters, whose events were accepted before.
    DeadLetter,
}

/// Bytes that each account holds in a store, with its quota.
#[derive(Debug)]
pub(super) struct AccountQuotas {
    budget: u64,
    total: u64,
    accounts: HashMap<AccountId, u64>,
}

impl AccountQuotas {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            total: 0,
            accounts: HashMap::new(),
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Checks whether an account may add bytes. `pending` are changes that are not committed yet.
    ///
    /// # Errors
    /// Returns the limit that would be exceeded.
    pub(super) fn check(
        &self,
        account: AccountId,
        added: u64,
        rule: AdmissionRule,
        pending: &Deltas,
    ) -> Result<(), ExceededLimit> {
        let held = self.accounts.get(&account).copied().unwrap_or(0);
        let held = held.saturating_add_signed(pending.of(account));
        let total = self.total.saturating_add_signed(pending.total);
        check(self.budget, total, held, added, rule)
    }

    pub(super) fn change(&mut self, account: AccountId, by: i64) {
        self.total = self.total.saturating_add_signed(by);
        let held = self.accounts.entry(account).or_insert(0);
        *held = held.saturating_add_signed(by);
        if *held == 0 {
            self.accounts.remove(&account);
        }
    }

    pub(super) fn apply(&mut self, deltas: &Deltas) {
        for (account, by) in &deltas.accounts {
            self.change(*account, *by);
        }
    }
}

/// Changes of the held bytes by account that are not committed yet.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    total: i64,
    accounts: HashMap<AccountId, i64>,
}

impl Deltas {
    pub(super) fn add(&mut self, account: AccountId, by: i64) {
        self.total += by;
        *self.accounts.entry(account).or_insert(0) += by;
    }

    fn of(&self, account: AccountId) -> i64 {
        self.accounts.get(&account).copied().unwrap_or(0)
    }
}

fn check(
    budget: u64,
    total: u64,
    held: u64,
    added: u64,
    rule: AdmissionRule,
) -> Result<(), ExceededLimit> {
    let Some(free) = budget.checked_sub(total.saturating_add(added)) else {
        return Err(ExceededLimit::Store { used: total });
    };
    let after = held.saturating_add(added);
    let within = match rule {
        // Only a full store rejects the first event of an account, so that a small store works too.
        AdmissionRule::Quota => held == 0 || after <= free,
        AdmissionRule::DeadLetter => after <= budget / 16 * DEAD_LETTER_SIXTEENTHS,
    };
    match within {
        true => Ok(()),
        false => Err(ExceededLimit::Quota { held }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 1 << 30;
    /// The largest event.
    const LARGEST: u64 = 128 << 10;

    /// Adds events to an account until its quota is used up. Returns the bytes added.
    fn fill_quota(quotas: &mut AccountQuotas, account: u64, added: u64) -> u64 {
        let (account, before) = (AccountId(account), quotas.total);
        while quotas
            .check(account, added, AdmissionRule::Quota, &Deltas::default())
            .is_ok()
        {
            quotas.change(account, added as i64);
        }
        quotas.total - before
    }

    #[test]
    fn one_account_gets_half_and_competing_accounts_get_equal_quotas() {
        let mut quotas = AccountQuotas::new(BUDGET);
        assert_eq!(fill_quota(&mut quotas, 1, LARGEST), BUDGET / 2);
        for accounts in 2..10 {
            let mut quotas = AccountQuotas::new(BUDGET);
            let mut open: Vec<u64> = (0..accounts).collect();
            while !open.is_empty() {
                open.retain(|account| {
                    let account = AccountId(*account);
                    let fits =
                        quotas.check(account, LARGEST, AdmissionRule::Quota, &Deltas::default());
                    if fits.is_ok() {
                        quotas.change(account, LARGEST as i64);
                    }
                    fits.is_ok()
                });
            }
            let fair = BUDGET / (accounts + 1);
            for held in quotas.accounts.values() {
                assert!(held.abs_diff(fair) <= LARGEST, "{held} of {fair}");
            }
        }
    }

    #[test]
    fn dead_letters_may_exceed_the_quota_up_to_a_bound() {
        let mut quotas = AccountQuotas::new(BUDGET);
        fill_quota(&mut quotas, 1, LARGEST);
        let none = Deltas::default();
        let account = AccountId(1);
        assert_eq!(
            quotas.check(account, LARGEST, AdmissionRule::Quota, &none),
            Err(ExceededLimit::Quota { held: BUDGET / 2 })
        );
        assert_eq!(
            quotas.check(account, LARGEST, AdmissionRule::DeadLetter, &none),
            Ok(())
        );
        let over = BUDGET / 16 + 1;
        assert!(
            quotas
                .check(account, over, AdmissionRule::DeadLetter, &none)
                .is_err()
        );
    }

    #[test]
    fn random_accounts_never_exceed_the_store_and_newcomers_are_admitted() {
        let mut generator = testkit::Random::new(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: u64| generator.below(below);
        for _ in 0..30 {
            let accounts = 1 + random(8);
            let mut quotas = AccountQuotas::new(BUDGET);
            let mut held: Vec<(AccountId, u64)> = Vec::new();
            for _ in 0..30_000 {
                let account = AccountId(random(accounts));
                let added = 256 + random(LARGEST - 255);
                // Pending changes count as if they were committed.
                let mut pending = Deltas::default();
                match random(10) {
                    0 if !held.is_empty() => {
                        let gone = held.swap_remove(random(held.len() as u64) as usize);
                        pending.add(gone.0, -(gone.1 as i64));
                    }
                    _ if quotas
                        .check(account, added, AdmissionRule::Quota, &pending)
                        .is_ok() =>
                    {
                        pending.add(account, added as i64);
                        held.push((account, added));
                    }
                    _ => {}
                }
                let newcomer = AccountId(1000);
                assert_eq!(
                    quotas.check(newcomer, LARGEST, AdmissionRule::Quota, &pending),
                    Ok(())
                );
                quotas.apply(&pending);
                assert!(quotas.total <= BUDGET);
            }
            let sum: u64 = held.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(quotas.total, sum);
            assert_eq!(quotas.accounts.values().sum::<u64>(), sum);
            for (account, bytes) in held {
                quotas.change(account, -(bytes as i64));
            }
            assert!(quotas.total == 0 && quotas.accounts.is_empty());
        }
    }
}
