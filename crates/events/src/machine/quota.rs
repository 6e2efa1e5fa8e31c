//! Per-account quotas of a bounded store, by a dynamic threshold.
//!
//! An account may hold as much as it leaves free: alone half of the store, each of two a third, each of three a quarter. So one
//! account can use much of an idle store, and a later account still finds free capacity. Source: Choudhury and Hahne, "Dynamic
//! queue length thresholds for shared-memory packet switches", 1998, with α = 1.
//!
//! Nothing is evicted: an account whose quota shrank because others came is throttled until it has drained.

use std::collections::HashMap;

use model::AccountId;

/// Approximate bytes of an event on disk besides its body.
pub(crate) const ROW_BYTES: u64 = 256;
/// Maximum part of the store, in sixteenths, for an account that adds a dead letter.
///
/// A dead letter to a function is enqueued there before the original is removed. Under the normal quota, an account whose quota is
/// full of dead letters would deadlock. The bound is slightly above the largest quota, because a dead letter is larger than its
/// event.
const DEAD_LETTER_SIXTEENTHS: u64 = 9;

/// The limit that an event would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExceededLimit {
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
pub(crate) enum AdmissionRule {
    /// The quota of its account.
    Quota,
    /// The higher bound of dead letters, whose events were accepted before.
    DeadLetter,
}

/// Bytes that each account holds in a store, with its quota.
#[derive(Debug)]
pub(crate) struct AccountQuotas {
    budget: u64,
    total: u64,
    accounts: HashMap<AccountId, u64>,
}

impl AccountQuotas {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            budget,
            total: 0,
            accounts: HashMap::new(),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Checks whether an account may add bytes.
    ///
    /// # Errors
    /// Returns the limit that would be exceeded.
    pub(crate) fn check(
        &self,
        account: AccountId,
        added: u64,
        rule: AdmissionRule,
    ) -> Result<(), ExceededLimit> {
        let held = self.accounts.get(&account).copied().unwrap_or(0);
        check(self.budget, self.total, held, added, rule)
    }

    pub(crate) fn change(&mut self, account: AccountId, by: i64) {
        self.total = self.total.saturating_add_signed(by);
        let held = self.accounts.entry(account).or_insert(0);
        *held = held.saturating_add_signed(by);
        if *held == 0 {
            self.accounts.remove(&account);
        }
    }

    pub(crate) fn apply(&mut self, deltas: &Deltas) {
        for (account, by) in &deltas.accounts {
            self.change(*account, *by);
        }
    }
}

/// Changes of the held bytes by account that are not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    accounts: HashMap<AccountId, i64>,
}

impl Deltas {
    pub(crate) fn add(&mut self, account: AccountId, by: i64) {
        *self.accounts.entry(account).or_insert(0) += by;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
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
        while quotas.check(account, added, AdmissionRule::Quota).is_ok() {
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
                    let fits = quotas.check(account, LARGEST, AdmissionRule::Quota);
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
        let account = AccountId(1);
        assert_eq!(
            quotas.check(account, LARGEST, AdmissionRule::Quota),
            Err(ExceededLimit::Quota { held: BUDGET / 2 })
        );
        assert_eq!(
            quotas.check(account, LARGEST, AdmissionRule::DeadLetter),
            Ok(())
        );
        let over = BUDGET / 16 + 1;
        assert!(
            quotas
                .check(account, over, AdmissionRule::DeadLetter)
                .is_err()
        );
    }

    #[test]
    fn random_accounts_never_exceed_the_store_and_newcomers_are_admitted() {
        let mut generator = seeded::Random::new(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: u64| generator.below(below);
        for _ in 0..30 {
            let accounts = 1 + random(8);
            let mut quotas = AccountQuotas::new(BUDGET);
            let mut held: Vec<(AccountId, u64)> = Vec::new();
            for _ in 0..30_000 {
                let account = AccountId(random(accounts));
                let added = 256 + random(LARGEST - 255);
                // Reserved bytes count as stored ones do.
                let mut pending = Deltas::default();
                match random(10) {
                    0 if !held.is_empty() => {
                        let gone = held.swap_remove(random(held.len() as u64) as usize);
                        pending.add(gone.0, -(gone.1 as i64));
                    }
                    _ if quotas.check(account, added, AdmissionRule::Quota).is_ok() => {
                        pending.add(account, added as i64);
                        held.push((account, added));
                    }
                    _ => {}
                }
                quotas.apply(&pending);
                let newcomer = AccountId(1000);
                assert_eq!(
                    quotas.check(newcomer, LARGEST, AdmissionRule::Quota),
                    Ok(())
                );
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
