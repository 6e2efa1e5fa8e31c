//! Accounts, API keys and roles in memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use model::{Account, AccountId, Key, Role, RoleName, SecretId};

use crate::format::decode;
use crate::kv::Revision;
use crate::stored::Stored;

/// The in-memory tables of accounts, keys and roles.
#[derive(Debug, Default)]
pub(crate) struct AccessTables {
    pub(crate) accounts: BTreeMap<AccountId, Arc<Stored<Account>>>,
    /// Accounts that are being deleted or were deleted. Their ids are never reused.
    closed: HashSet<AccountId>,
    pub(crate) keys: BTreeMap<(AccountId, SecretId), Arc<Stored<Key>>>,
    pub(crate) roles: BTreeMap<(AccountId, RoleName), Arc<Stored<Role>>>,
    /// Revision of the last change of an account, key or role.
    pub(crate) revision: Revision,
}

impl AccessTables {
    /// Returns whether an account is neither closed nor deleted.
    pub(crate) fn is_open(&self, account: AccountId) -> bool {
        self.closed.is_empty() || !self.closed.contains(&account)
    }

    /// Records that an account was deleted.
    pub(crate) fn mark_deleted(&mut self, account: AccountId) {
        self.closed.insert(account);
    }

    pub(crate) fn owners(&self) -> impl Iterator<Item = AccountId> {
        let keys = self.keys.keys().map(|(owner, _)| *owner);
        let roles = self.roles.keys().map(|(owner, _)| *owner);
        self.accounts.keys().copied().chain(keys).chain(roles)
    }

    /// Applies a change of one entry. Returns `None` if it belongs to another table.
    pub(crate) fn apply(
        &mut self,
        table: &str,
        account: AccountId,
        name: &str,
        value: Option<&[u8]>,
        revision: Revision,
    ) -> Option<Result<(), String>> {
        let applied = match table {
            "account" => {
                let applied = put(&mut self.accounts, Ok(account), value, revision);
                let stored = self.accounts.get(&account);
                if stored.is_some_and(|stored| stored.value.closed.is_some()) {
                    self.closed.insert(account);
                }
                applied
            }
            "key" => {
                let key = SecretId::parse(name).map(|id| (account, id));
                put(
                    &mut self.keys,
                    key.map_err(|e| e.to_string()),
                    value,
                    revision,
                )
            }
            "role" => {
                let key = RoleName::parse(name).map(|name| (account, name));
                put(
                    &mut self.roles,
                    key.map_err(|e| e.to_string()),
                    value,
                    revision,
                )
            }
            _ => return None,
        };
        self.revision = self.revision.max(revision);
        Some(applied)
    }
}

fn put<K: Ord, T: serde::de::DeserializeOwned>(
    table: &mut BTreeMap<K, Arc<Stored<T>>>,
    key: Result<K, String>,
    value: Option<&[u8]>,
    revision: Revision,
) -> Result<(), String> {
    let key = key?;
    match value {
        Some(bytes) => {
            let value = decode(bytes)?;
            table.insert(key, Arc::new(Stored { value, revision }));
        }
        None => drop(table.remove(&key)),
    }
    Ok(())
}
