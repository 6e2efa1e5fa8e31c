//! The operator's actions on keys.

use std::sync::Arc;

use catalog::Stored;
use model::{AccountId, Key, Policy, Secret, SecretId};
use operator::credentials;
use scf::types::Empty;
use scf::{Code, Error};
use serde_json::Value;

use super::super::error;
use super::{Caller, Gateway, Serve, checked_description, wire};

impl Serve for wire::CreateKey {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::CreateKeyRequest,
    ) -> Result<wire::NewKey, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let description = checked_description(gateway, request.description.as_deref())?;
        let policy = request.policy.as_ref();
        let policy = policy
            .map(|given| self::policy(gateway, account, given))
            .transpose()?;
        let sign_action = request.sign_action.unwrap_or_default();
        make(gateway, account, description, policy, sign_action).await
    }
}

impl Serve for wire::ListKeys {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::AccountRequest,
    ) -> Result<wire::Keys, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let operator = gateway.access.operator();
        let first = (account == operator.account.id).then(|| wire::KeyInfo {
            secret_id: operator.key_id.clone(),
            description: "the operator's key, from the data directory or the environment".into(),
            status: ACTIVE.into(),
            sign_action: gateway.access.signatures().sign_action,
            ..Default::default()
        });
        let keys = gateway.catalog.keys(account);
        let made = keys.iter().map(|stored| show(gateway, &stored.value));
        Ok(wire::Keys {
            keys: first.into_iter().chain(made).collect(),
        })
    }
}

impl Serve for wire::UpdateKey {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::UpdateKeyRequest,
    ) -> Result<wire::KeyInfo, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let old = find(gateway, account, &request.secret_id)?;
        let mut new = old.value.clone();
        if let Some(disabled) = request.disabled {
            new.disabled = disabled;
        }
        if let Some(given) = &request.policy {
            new.policy = Some(policy(gateway, account, given)?);
        }
        if let Some(sign_action) = request.sign_action {
            new.sign_action = sign_action;
        }
        let updated = gateway.catalog.update_key(&old, &new).await;
        updated.map_err(error::access)?;
        Ok(show(gateway, &new))
    }
}

impl Serve for wire::DeleteKey {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::KeyRequest,
    ) -> Result<Empty, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let key = find(gateway, account, &request.secret_id)?;
        let deleted = gateway.catalog.delete_key(account, &key.value.id).await;
        deleted.map_err(error::access)?;
        Ok(Empty {})
    }
}

const ACTIVE: &str = "Active";
const DISABLED: &str = "Disabled";

/// Creates a key. Only this response contains the secret.
pub(super) async fn make(
    gateway: &Gateway,
    account: AccountId,
    description: String,
    policy: Option<Policy>,
    sign_action: bool,
) -> Result<wire::NewKey, Error> {
    let pair = credentials::random().map_err(|e| error::internal(&e))?;
    let key = Key {
        account,
        id: SecretId::parse(&pair.id).map_err(error::invalid)?,
        secret: Secret::new(pair.key.reveal()),
        description,
        policy,
        sign_action,
        disabled: false,
        added: clock::now_ms(),
    };
    let created = gateway.catalog.create_key(&key).await;
    created.map_err(error::access)?;
    Ok(wire::NewKey {
        secret_id: pair.id,
        secret_key: pair.key.reveal().to_owned(),
    })
}

/// Parses a policy and checks that each of its patterns can match something.
pub(super) fn policy(
    gateway: &Gateway,
    account: AccountId,
    given: &Value,
) -> Result<Policy, Error> {
    let policy = Policy::parse(&given.to_string()).map_err(error::invalid)?;
    match gateway.access.check_policy(account, &policy) {
        Ok(()) => Ok(policy),
        Err(why) => {
            let message = format!("Policy: {why}");
            Err(Error::new(Code::InvalidParameterValue, message))
        }
    }
}

fn find(gateway: &Gateway, account: AccountId, id: &str) -> Result<Arc<Stored<Key>>, Error> {
    let keys = gateway.catalog.keys(account);
    let found = keys.into_iter().find(|key| key.value.id.as_str() == id);
    found.ok_or_else(|| {
        let first = gateway.access.operator().key_id == id;
        let message = if first {
            "SecretId: the operator's own key is configured in the data directory or the environment; change it there".to_owned()
        } else {
            let shown: String = id.chars().take(60).collect();
            format!("SecretId: the account has no key {shown:?}")
        };
        Error::new(Code::InvalidParameterValue, message)
    })
}

fn show(gateway: &Gateway, key: &Key) -> wire::KeyInfo {
    wire::KeyInfo {
        secret_id: key.id.to_string(),
        description: key.description.clone(),
        status: if key.disabled { DISABLED } else { ACTIVE }.into(),
        sign_action: key.sign_action || gateway.access.signatures().sign_action,
        policy: key.policy.as_ref().map(|policy| serde_json::json!(policy)),
        added: clock::format(key.added),
    }
}
