//! All keys and accounts, ready to verify with.

use std::collections::HashMap;
use std::sync::Arc;

use catalog::Catalog;
use model::{Account, AccountId, AccountName, Secret};

use crate::limits::RateLimiters;
use crate::principal::{Owner, Principal, Rights};
use crate::rules::{AccessRules, Operator};

/// All keys and accounts as of one revision of the catalog.
#[derive(Debug)]
pub(crate) struct Keyring {
    pub(crate) revision: u64,
    pub(crate) keys: HashMap<String, KeyEntry>,
    pub(crate) owners: HashMap<AccountId, Arc<Owner>>,
}

/// A key, ready to verify with.
#[derive(Debug)]
pub(crate) struct KeyEntry {
    pub(crate) secret: Secret,
    pub(crate) disabled: bool,
    pub(crate) sign_action: bool,
    pub(crate) principal: Arc<Principal>,
}

impl Keyring {
    /// Returns a keyring without keys, older than any revision.
    pub(crate) fn empty() -> Self {
        Self {
            revision: 0,
            keys: HashMap::new(),
            owners: HashMap::new(),
        }
    }

    /// Rebuilds the keyring. Accounts keep their rate limiters.
    pub(crate) fn rebuild(
        &self,
        catalog: &Catalog,
        operator: &Operator,
        rules: &AccessRules,
    ) -> Self {
        let revision = catalog.access_revision();
        let own = &operator.account;
        let stored = catalog.accounts();
        let accounts = stored.iter().map(|stored| &stored.value);
        // A closed account has no principals.
        let owners: HashMap<_, _> = accounts
            .filter(|account| account.id != own.id && account.closed.is_none())
            .chain([own])
            .map(|account| (account.id, self.owner(account, rules)))
            .collect();
        let mut keys = HashMap::new();
        for stored in catalog.all_keys() {
            let key = &stored.value;
            let Some(owner) = owners.get(&key.account) else {
                continue;
            };
            let rights = match &key.policy {
                Some(policy) => Rights::Policy(policy.clone()),
                None => Rights::Root,
            };
            let entry = KeyEntry {
                secret: key.secret.clone(),
                disabled: key.disabled,
                sign_action: key.sign_action,
                principal: Principal::new(owner.clone(), rights),
            };
            keys.insert(key.id.to_string(), entry);
        }
        if let Some(owner) = owners.get(&own.id) {
            let entry = KeyEntry {
                secret: operator.secret.clone(),
                disabled: false,
                sign_action: false,
                principal: Principal::new(owner.clone(), Rights::Operator),
            };
            keys.insert(operator.key_id.clone(), entry);
        }
        Self {
            revision,
            keys,
            owners,
        }
    }

    /// Returns the owner of an account; the previous one, unless the account's Uin has changed.
    fn owner(&self, account: &Account, rules: &AccessRules) -> Arc<Owner> {
        let previous = self.owners.get(&account.id).cloned();
        let uin = account.uin.to_string();
        previous
            .filter(|owner| owner.uin == uin)
            .unwrap_or_else(|| {
                Arc::new(Owner {
                    id: account.id,
                    uin,
                    limiters: RateLimiters::new(&rules.rates, &rules.actions.platform),
                })
            })
    }
}

/// Returns the configured account, which has no entry in the catalog.
pub fn operator_account(id: AccountId, uin: u64) -> Result<Account, model::Invalid> {
    Ok(Account {
        id,
        uin,
        name: AccountName::parse(OPERATOR_NAME)?,
        added: 0,
        closed: None,
    })
}

/// The name of the configured account.
const OPERATOR_NAME: &str = "operator";
