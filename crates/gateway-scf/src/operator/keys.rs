//! The operator's actions on keys.

use control::keys::{KeyChange, KeySettings, NewKey};
use model::Key;
use scf::Error;
use scf::types::Empty;

use super::super::error;
use super::{Caller, Gateway, Serve, wire};

impl Serve for wire::CreateKey {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::CreateKeyRequest,
    ) -> Result<wire::NewKey, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let policy = request.policy.map(|policy| policy.to_string());
        let settings = KeySettings {
            description: request.description.as_deref(),
            policy: policy.as_deref(),
            sign_action: request.sign_action.unwrap_or_default(),
        };
        let created = gateway.control.create_key(account, settings).await;
        created.map(new_key).map_err(error::control)
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
        let policy = request.policy.map(|policy| policy.to_string());
        let change = KeyChange {
            disabled: request.disabled,
            policy: policy.as_deref(),
            sign_action: request.sign_action,
        };
        let control = &gateway.control;
        let updated = control.update_key(account, &request.secret_id, change);
        let key = updated.await.map_err(error::control)?;
        Ok(show(gateway, &key))
    }
}

impl Serve for wire::DeleteKey {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::KeyRequest,
    ) -> Result<Empty, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let deleted = gateway.control.delete_key(account, &request.secret_id);
        deleted.await.map_err(error::control)?;
        Ok(Empty {})
    }
}

const ACTIVE: &str = "Active";
const DISABLED: &str = "Disabled";

/// Shows a new key. Only this response contains the secret.
pub(super) fn new_key(key: NewKey) -> wire::NewKey {
    wire::NewKey {
        secret_id: key.id.to_string(),
        secret_key: key.secret.reveal().to_owned(),
    }
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
