//! Keys of an account. Only their creation returns the secret.

use std::sync::Arc;

use catalog::Stored;
use model::{AccountId, Field, Key, Policy, Secret, SecretId};

use crate::{Control, Error, text};

/// A new key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Public id.
    pub id: SecretId,
    /// Secret key.
    pub secret: Secret,
}

/// The settings of a new key.
#[derive(Clone, Copy, Debug)]
pub struct KeySettings<'a> {
    /// Description.
    pub description: Option<&'a str>,
    /// The policy document; without one, the key has all rights in the account.
    pub policy: Option<&'a str>,
    /// Whether requests must sign their action.
    pub sign_action: bool,
}

/// A change of a key; absent fields stay.
#[derive(Clone, Copy, Debug)]
pub struct KeyChange<'a> {
    /// Whether the key is refused.
    pub disabled: Option<bool>,
    /// The policy document.
    pub policy: Option<&'a str>,
    /// Whether requests must sign their action.
    pub sign_action: Option<bool>,
}

impl Control {
    /// Creates a key.
    ///
    /// # Errors
    /// A value is not allowed, or the quota is used up.
    pub async fn create_key(
        &self,
        account: AccountId,
        settings: KeySettings<'_>,
    ) -> Result<NewKey, Error> {
        let description = text::description(settings.description, &self.limits)?;
        let policy = settings.policy.map(|given| self.policy(account, given));
        let policy = policy.transpose()?;
        self.make_key(account, description, policy, settings.sign_action)
            .await
    }

    /// Creates a key of checked values.
    pub(crate) async fn make_key(
        &self,
        account: AccountId,
        description: String,
        policy: Option<Policy>,
        sign_action: bool,
    ) -> Result<NewKey, Error> {
        let mut random = [0; 48];
        getrandom::fill(&mut random).map_err(|e| Error::internal(&e))?;
        let key = Key {
            account,
            id: SecretId::parse(&format!("AKID{}", hex::encode(&random[..16])))?,
            secret: Secret::new(hex::encode(&random[16..])),
            description,
            policy,
            sign_action,
            disabled: false,
            added: clock::now_ms(),
        };
        let created = self.catalog.create_key(&key).await;
        created.map_err(Error::access)?;
        Ok(NewKey {
            id: key.id,
            secret: key.secret,
        })
    }

    /// Changes a key. Returns the new record.
    ///
    /// # Errors
    /// The account has no such key, or a value is not allowed.
    pub async fn update_key(
        &self,
        account: AccountId,
        id: &str,
        change: KeyChange<'_>,
    ) -> Result<Key, Error> {
        let old = self.key(account, id)?;
        let mut new = old.value.clone();
        if let Some(disabled) = change.disabled {
            new.disabled = disabled;
        }
        if let Some(given) = change.policy {
            new.policy = Some(self.policy(account, given)?);
        }
        if let Some(sign_action) = change.sign_action {
            new.sign_action = sign_action;
        }
        let updated = self.catalog.update_key(&old, &new).await;
        updated.map_err(Error::access)?;
        Ok(new)
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// The account has no such key.
    pub async fn delete_key(&self, account: AccountId, id: &str) -> Result<(), Error> {
        let key = self.key(account, id)?;
        let deleted = self.catalog.delete_key(account, &key.value.id).await;
        deleted.map_err(Error::access)
    }

    /// Parses a policy and checks that each of its patterns can match something.
    pub(crate) fn policy(&self, account: AccountId, given: &str) -> Result<Policy, Error> {
        let policy = Policy::parse(given)?;
        let checked = self.access.check_policy(account, &policy);
        checked.map_err(|why| Error::invalid(Field::Policy, why))?;
        Ok(policy)
    }

    fn key(&self, account: AccountId, id: &str) -> Result<Arc<Stored<Key>>, Error> {
        let keys = self.catalog.keys(account);
        let found = keys.into_iter().find(|key| key.value.id.as_str() == id);
        found.ok_or_else(|| {
            let message = if self.access.operator().key_id == id {
                "the operator's own key is configured in the data directory or the environment; change it there".to_owned()
            } else {
                let shown: String = id.chars().take(60).collect();
                format!("the account has no key {shown:?}")
            };
            Error::invalid(Field::SecretId, message)
        })
    }
}
