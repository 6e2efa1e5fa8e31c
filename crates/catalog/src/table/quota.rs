//! Reserved and provisioned concurrency: admission of changes against the account's quota.

use model::{AccountId, AccountSettings, Function, FunctionKey, Limits};

use crate::error::Error;
use crate::kv::Precondition;
use crate::stored::Stored;
use crate::table::Catalog;
use crate::view::View;

impl Catalog {
    /// Returns an account's concurrency quota (MB): its own setting, capped by the operator's limit.
    pub fn total_mb(&self, account: AccountId, limits: &Limits) -> u32 {
        let chosen = self.read(|view| view.settings.get(&account)?.value.concurrency_mb);
        chosen.map_or(limits.concurrency_mb, |mb| mb.min(limits.concurrency_mb))
    }

    /// Sets an account's concurrency quota (MB).
    ///
    /// # Errors
    /// [`Error::Quota`] with the minimum, [`Error::Conflict`], or an error of the store.
    pub async fn set_total(
        &self,
        account: AccountId,
        mb: u32,
        limits: &Limits,
    ) -> Result<(), Error> {
        let _admission = self.admission_for(account).await?;
        let min = self
            .committed_mb(account, None)
            .saturating_add(limits.unreservable_mb)
            .min(limits.concurrency_mb);
        if mb < min {
            return Err(Error::Quota(min));
        }
        let old = self.read(|view| view.settings.get(&account).cloned());
        let (mut record, on) = match old {
            Some(old) => (old.value.clone(), Precondition::Revision(old.revision)),
            None => (AccountSettings::default(), Precondition::Absent),
        };
        record.concurrency_mb = Some(mb);
        self.put(&settings_key(account), &record, on).await
    }

    /// Returns the capacity committed to an account's functions, except one (MB).
    pub fn committed_mb(&self, account: AccountId, except: Option<&FunctionKey>) -> u32 {
        self.read(|view| committed(view, account, except).fold(0, u32::saturating_add))
    }

    /// Replaces a function (compare-and-swap) with changed reserved or provisioned concurrency. A node provisions up to
    /// `provisionable_mb`.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the function was changed since `old` was read, [`Error::Quota`] with the available capacity, or an
    /// error of the store.
    pub async fn update_concurrency(
        &self,
        old: &Stored<Function>,
        new: &Function,
        limits: &Limits,
        provisionable_mb: u32,
    ) -> Result<(), Error> {
        let _admission = self.inner.admission.lock().await;
        let current = &old.value;
        let reservable = self.reservable_mb(&current.key, limits);
        if new.committed_mb() > reservable.max(current.committed_mb()) {
            return Err(Error::Quota(reservable));
        }
        let provisionable = self.provisionable_mb(&current.key, provisionable_mb);
        if new.provisioned_mb() > provisionable.max(current.provisioned_mb()) {
            return Err(Error::Quota(provisionable));
        }
        self.update_function(old, new).await
    }

    /// Returns the capacity that can be provisioned for a function (MB), given the account's other functions, on a node that
    /// provisions up to `node_mb` per account.
    pub fn provisionable_mb(&self, key: &FunctionKey, node_mb: u32) -> u32 {
        let provisioned = self.read(|view| {
            let counts = |other: &FunctionKey| other != key && other.account == key.account;
            let others = view.functions.iter().filter(|(other, _)| counts(other));
            let provisioned = others.map(|(_, stored)| stored.value.provisioned_mb());
            provisioned.fold(0, u32::saturating_add)
        });
        node_mb.saturating_sub(provisioned)
    }

    /// Returns the capacity that can be reserved for a function (MB).
    pub fn reservable_mb(&self, key: &FunctionKey, limits: &Limits) -> u32 {
        let total = self.total_mb(key.account, limits);
        total
            .saturating_sub(limits.unreservable_mb)
            .saturating_sub(self.committed_mb(key.account, Some(key)))
    }
}

/// Returns the committed capacity of each function of an account, except one (MB).
fn committed<'a>(
    view: &'a View,
    account: AccountId,
    except: Option<&'a FunctionKey>,
) -> impl Iterator<Item = u32> + 'a {
    let counts = move |key: &FunctionKey| key.account == account && Some(key) != except;
    let functions = view.functions.iter().filter(move |(key, _)| counts(key));
    functions.map(|(_, stored)| stored.value.committed_mb())
}

/// Returns the key of an account's settings.
pub(crate) fn settings_key(account: AccountId) -> String {
    format!("settings/{account}")
}
