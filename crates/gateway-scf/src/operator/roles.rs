//! The operator's actions on roles.

use std::time::Duration;

use model::{AccountId, Function, Role, RoleName};
use scf::types::Empty;
use scf::{Code, Error};
use serde_json::json;

use super::super::error;
use super::keys::policy;
use super::{Caller, Gateway, Serve, checked_description, wire};

impl Serve for wire::PutRole {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::PutRoleRequest,
    ) -> Result<wire::RoleInfo, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let name = RoleName::parse(&request.name).map_err(error::invalid)?;
        let policy = policy(gateway, account, &request.policy)?;
        let old = gateway.catalog.role(account, &name);
        let description = match (&request.description, &old) {
            (None, Some(old)) => old.value.description.clone(),
            (given, _) => checked_description(gateway, given.as_deref())?,
        };
        let role = Role {
            account,
            name,
            description,
            policy,
            added: old
                .as_ref()
                .map_or_else(clock::now_ms, |old| old.value.added),
        };
        let put = match &old {
            Some(old) => gateway.catalog.update_role(old, &role).await,
            None => gateway.catalog.create_role(&role).await,
        };
        put.map_err(error::access)?;
        Ok(show(&role))
    }
}

impl Serve for wire::ListRoles {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::AccountRequest,
    ) -> Result<wire::Roles, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let roles = gateway.catalog.roles(account);
        Ok(wire::Roles {
            roles: roles.iter().map(|stored| show(&stored.value)).collect(),
        })
    }
}

impl Serve for wire::DeleteRole {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::DeleteRoleRequest,
    ) -> Result<Empty, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let role = gateway
            .control
            .role(account, &request.name)
            .map_err(error::control)?;
        if !request.force {
            refuse_in_use(gateway, account, &role.value.name)?;
        }
        let deleted = gateway.catalog.delete_role(account, &role.value.name).await;
        deleted.map_err(error::access)?;
        Ok(Empty {})
    }
}

impl Serve for wire::AssumeRole {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::AssumeRoleRequest,
    ) -> Result<wire::TemporaryCredentials, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let seconds = request.seconds.unwrap_or(HOUR_S);
        if !(1..=SESSION_MAX_S).contains(&seconds) {
            let message = format!("Seconds: {seconds} is not allowed; 1 to {SESSION_MAX_S} are");
            return Err(Error::new(Code::InvalidParameterValue, message));
        }
        let role = gateway
            .control
            .role(account, &request.name)
            .map_err(error::control)?;
        let lent = gateway
            .access
            .issue_credentials(&role.value, Duration::from_secs(seconds))
            .map_err(|e| error::internal(&e))?;
        Ok(wire::TemporaryCredentials {
            tmp_secret_id: lent.id,
            tmp_secret_key: lent.key.reveal().to_owned(),
            token: lent.token.reveal().to_owned(),
            expired_time: lent.expires,
        })
    }
}

const HOUR_S: u64 = 3600;
/// Maximum number of a role's functions in an error message.
const USERS_SHOWN: usize = 5;
/// Source: the maximum session duration of a role in the cloud.
const SESSION_MAX_S: u64 = 43_200;

/// Returns an error if functions use a role: they would lose their permissions with the next request.
fn refuse_in_use(gateway: &Gateway, account: AccountId, name: &RoleName) -> Result<(), Error> {
    let uses = |function: &Function| {
        let mut configs = function.versions.values().map(|version| &version.config);
        let published = configs.any(|config| config.role.as_ref() == Some(name));
        published || function.config.role.as_ref() == Some(name)
    };
    let all = gateway.catalog.all_functions();
    let own = all.iter().map(|stored| &stored.value);
    let users: Vec<_> = own
        .filter(|function| function.key.account == account && uses(function))
        .map(|function| format!("{}/{}", function.key.namespace, function.key.name))
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let (count, shown) = (
        users.len(),
        users[..users.len().min(USERS_SHOWN)].join(", "),
    );
    let message = format!(
        "Name: {count} function(s) or versions of them have the role {name}: {shown}; give them another role, or none, first, or set Force to take their rights away at once"
    );
    Err(Error::new(Code::InUse, message))
}

fn show(role: &Role) -> wire::RoleInfo {
    wire::RoleInfo {
        name: role.name.to_string(),
        description: role.description.clone(),
        policy: json!(role.policy),
        added: clock::format(role.added),
    }
}
