//! Memory that is set aside, so that what all functions of an account are promised is there.

use model::{AccountId, AccountRecord, Function, FunctionKey, Limits};

use super::{Catalog, Error, Stored};
use crate::kv::Precondition;
use crate::view::View;

impl Catalog {
    /// Memory that an account's instances may have together, MB: what it chose, within what the operator allows.
    pub fn total_mb(&self, account: AccountId, limits: &Limits) -> u32 {
        let chosen = self.read(|view| view.accounts.get(&account)?.value.concurrency_mb);
        chosen.map_or(limits.concurrency_mb, |mb| mb.min(limits.concurrency_mb))
    }

    /// Sets what an account's instances may have together, MB.
    ///
    /// # Errors
    /// [`Error::Quota`] with the least that it may be, [`Error::Conflict`], or the store's.
    pub async fn set_total(
        &self,
        account: AccountId,
        mb: u32,
        limits: &Limits,
    ) -> Result<(), Error> {
        let _counting = self.counting_for(account).await?;
        let least = self
            .set_aside_mb(account, None)
            .saturating_add(limits.unreservable_mb)
            .min(limits.concurrency_mb);
        if mb < least {
            return Err(Error::Quota(least));
        }
        let old = self.read(|view| view.accounts.get(&account).cloned());
        let (mut record, on) = match old {
            Some(old) => (old.value.clone(), Precondition::Revision(old.revision)),
            None => (AccountRecord::default(), Precondition::Absent),
        };
        record.concurrency_mb = Some(mb);
        self.put(&format!("account/{account}"), &record, on).await
    }

    /// Memory that is set aside for an account's functions, all but one, MB.
    pub fn set_aside_mb(&self, account: AccountId, but: Option<&FunctionKey>) -> u32 {
        self.read(|view| others(view, account, but).fold(0, u32::saturating_add))
    }

    /// Replaces a function that is still as it was read by one for which more, or less, is set aside or kept ready. A node
    /// keeps `keepable_mb` ready at most.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not, [`Error::Quota`] with what there is for it, or the store's.
    pub async fn set_aside(
        &self,
        old: &Stored<Function>,
        new: &Function,
        limits: &Limits,
        keepable_mb: u32,
    ) -> Result<(), Error> {
        let _counting = self.inner.counting.lock().await;
        let old_one = &old.value;
        let left = self.left_mb(&old_one.key, limits);
        if new.set_aside_mb() > left.max(old_one.set_aside_mb()) {
            return Err(Error::Quota(left));
        }
        let keepable = self.keepable_mb(&old_one.key, keepable_mb);
        if new.provisioned_mb() > keepable.max(old_one.provisioned_mb()) {
            return Err(Error::Quota(keepable));
        }
        self.update_function(old, new).await
    }

    /// What can be kept ready of a function beside all others of its account on a node that keeps `keepable_mb`, MB. Other accounts
    /// have a share of the node, and take nothing of what can be promised here.
    pub fn keepable_mb(&self, key: &FunctionKey, keepable_mb: u32) -> u32 {
        let kept = self.read(|view| {
            let counts = |other: &FunctionKey| other != key && other.account == key.account;
            let others = view.functions.iter().filter(|(other, _)| counts(other));
            let kept = others.map(|(_, stored)| stored.value.provisioned_mb());
            kept.fold(0, u32::saturating_add)
        });
        keepable_mb.saturating_sub(kept)
    }

    /// What can be set aside for a function, MB.
    pub fn left_mb(&self, key: &FunctionKey, limits: &Limits) -> u32 {
        let total = self.total_mb(key.account, limits);
        total
            .saturating_sub(limits.unreservable_mb)
            .saturating_sub(self.set_aside_mb(key.account, Some(key)))
    }
}

fn others<'a>(
    view: &'a View,
    account: AccountId,
    but: Option<&'a FunctionKey>,
) -> impl Iterator<Item = u32> + 'a {
    let counts = move |key: &FunctionKey| key.account == account && Some(key) != but;
    let functions = view.functions.iter().filter(move |(key, _)| counts(key));
    functions.map(|(_, stored)| stored.value.set_aside_mb())
}
