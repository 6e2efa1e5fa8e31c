//! The tables of accounts, API keys and roles.
//!
//! Keys: `account/<account>`, `key/<account>/<secret id>` and `role/<account>/<name>`.

use std::sync::Arc;

use model::{Account, AccountId, Key, Role, RoleName, SecretId, Timestamp};

use crate::error::Error;
use crate::issued::NewAccount;
use crate::kv::{Precondition, Revision};
use crate::stored::Stored;
use crate::table::{Catalog, settings_key};

/// Limits that bound memory use.
const ACCOUNTS_MAX: u32 = 10_000;
const KEYS_MAX: u32 = 100;
const ROLES_MAX: u32 = 1000;

impl Catalog {
    /// Returns the revision of the last change of an account, key or role: one atomic load.
    pub fn access_revision(&self) -> Revision {
        self.access_counter()
    }

    /// Finds an account by id.
    pub fn account(&self, id: AccountId) -> Option<Arc<Stored<Account>>> {
        self.read(|view| view.access.accounts.get(&id).cloned())
    }

    /// Returns all accounts, ordered by id.
    pub fn accounts(&self) -> Vec<Arc<Stored<Account>>> {
        self.read(|view| view.access.accounts.values().cloned().collect())
    }

    /// Creates an account with a unique name and ids that no account ever had.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::IdUsed`], [`Error::InvalidId`], [`Error::Quota`], or an error of the store.
    pub async fn create_account(&self, new: NewAccount) -> Result<Account, Error> {
        let _admission = self.admission().await;
        let all = self.accounts();
        if all.iter().any(|other| other.value.name == new.name) {
            return Err(Error::Exists);
        }
        if all.len() >= ACCOUNTS_MAX as usize {
            return Err(Error::Quota(ACCOUNTS_MAX));
        }
        let account = self.allocate_ids(new).await?;
        self.put(&account_key(account.id), &account, Precondition::Absent)
            .await?;
        Ok(account)
    }

    /// Closes an account permanently: it serves no requests, and nothing can be added to it. Its resources remain until they are
    /// deleted. Idempotent; an unknown account is not an error.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn close_account(&self, id: AccountId, at: Timestamp) -> Result<(), Error> {
        let _admission = self.admission().await;
        let Some(stored) = self.account(id) else {
            return Ok(());
        };
        if stored.value.closed.is_some() {
            return Ok(());
        }
        let account = Account {
            closed: Some(at),
            ..stored.value.clone()
        };
        self.put(&account_key(id), &account, Precondition::Any)
            .await
    }

    /// Returns whether an account is neither closed nor deleted.
    pub fn is_open(&self, account: AccountId) -> bool {
        self.read(|view| view.access.is_open(account))
    }

    /// Deletes a closed account that owns no resources, with its keys and roles. Its ids stay reserved.
    ///
    /// # Errors
    /// [`Error::InUse`] while it is open or has functions, namespaces, layers or custom domains; or an error of the store.
    pub async fn delete_account(&self, id: AccountId, at: Timestamp) -> Result<(), Error> {
        let _admission = self.admission().await;
        let owned = self.owned(id);
        if owned.has_resources() || self.is_open(id) {
            return Err(Error::InUse);
        }
        // Keys first: if this is interrupted, no credentials remain for a half-deleted account.
        for key in &owned.keys {
            self.delete_key(id, &key.value.id).await?;
        }
        for role in &owned.roles {
            self.delete_role(id, &role.value.name).await?;
        }
        for space in &owned.namespaces {
            let key = format!("namespace/{id}/{}", space.value.name);
            self.delete(&key, Precondition::Any).await?;
        }
        for layer in &owned.layers {
            let key = format!("layer/{id}/{}", layer.value.name);
            self.delete(&key, Precondition::Any).await?;
        }
        self.delete(&settings_key(id), Precondition::Any).await?;
        self.record_deletion(id, at).await?;
        self.delete(&account_key(id), Precondition::Any).await
    }

    /// Returns the keys of an account, ordered by id.
    pub fn keys(&self, account: AccountId) -> Vec<Arc<Stored<Key>>> {
        self.read(|view| {
            let all = view.access.keys.iter();
            let own = all.filter(|((owner, _), _)| *owner == account);
            own.map(|(_, key)| key.clone()).collect()
        })
    }

    /// Returns the keys of all accounts.
    pub fn all_keys(&self) -> Vec<Arc<Stored<Key>>> {
        self.read(|view| view.access.keys.values().cloned().collect())
    }

    /// Creates a key.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Quota`], or an error of the store.
    pub async fn create_key(&self, key: &Key) -> Result<(), Error> {
        let _admission = self.admission_for(key.account).await?;
        if self.keys(key.account).len() >= KEYS_MAX as usize {
            return Err(Error::Quota(KEYS_MAX));
        }
        self.put(&key_key(key.account, &key.id), key, Precondition::Absent)
            .await
    }

    /// Replaces a key (compare-and-swap).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn update_key(&self, old: &Stored<Key>, new: &Key) -> Result<(), Error> {
        let on = Precondition::Revision(old.revision);
        self.put(&key_key(new.account, &new.id), new, on).await
    }

    /// Deletes a key. Idempotent.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn delete_key(&self, account: AccountId, id: &SecretId) -> Result<(), Error> {
        self.delete(&key_key(account, id), Precondition::Any).await
    }

    /// Finds a role by name.
    pub fn role(&self, account: AccountId, name: &RoleName) -> Option<Arc<Stored<Role>>> {
        self.read(|view| view.access.roles.get(&(account, name.clone())).cloned())
    }

    /// Returns the roles of an account, ordered by name.
    pub fn roles(&self, account: AccountId) -> Vec<Arc<Stored<Role>>> {
        self.read(|view| {
            let all = view.access.roles.iter();
            let own = all.filter(|((owner, _), _)| *owner == account);
            own.map(|(_, role)| role.clone()).collect()
        })
    }

    /// Creates a role.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Quota`], or an error of the store.
    pub async fn create_role(&self, role: &Role) -> Result<(), Error> {
        let _admission = self.admission_for(role.account).await?;
        if self.role(role.account, &role.name).is_some() {
            return Err(Error::Exists);
        }
        if self.roles(role.account).len() >= ROLES_MAX as usize {
            return Err(Error::Quota(ROLES_MAX));
        }
        self.put(
            &role_key(role.account, &role.name),
            role,
            Precondition::Absent,
        )
        .await
    }

    /// Replaces a role (compare-and-swap).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn update_role(&self, old: &Stored<Role>, new: &Role) -> Result<(), Error> {
        let on = Precondition::Revision(old.revision);
        self.put(&role_key(new.account, &new.name), new, on).await
    }

    /// Deletes a role. Idempotent.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn delete_role(&self, account: AccountId, name: &RoleName) -> Result<(), Error> {
        self.delete(&role_key(account, name), Precondition::Any)
            .await
    }
}

fn account_key(account: AccountId) -> String {
    format!("account/{account}")
}

fn key_key(account: AccountId, id: &SecretId) -> String {
    format!("key/{account}/{id}")
}

fn role_key(account: AccountId, name: &RoleName) -> String {
    format!("role/{account}/{name}")
}
