//! The operator's actions on roles.

use model::Role;
use scf::Error;
use scf::types::Empty;
use serde_json::json;

use super::super::error;
use super::{Caller, Gateway, Serve, wire};

impl Serve for wire::PutRole {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::PutRoleRequest,
    ) -> Result<wire::RoleInfo, Error> {
        let account = gateway.target_account(caller, request.account.as_deref())?;
        let (policy, description) = (request.policy.to_string(), request.description.as_deref());
        let control = &gateway.control;
        let put = control.put_role(account, &request.name, &policy, description);
        let role = put.await.map_err(error::control)?;
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
        let control = &gateway.control;
        let deleted = control.delete_role(account, &request.name, request.force);
        deleted.await.map_err(error::control)?;
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
        let control = &gateway.control;
        let assumed = control.assume_role(account, &request.name, request.seconds);
        let lent = assumed.map_err(error::control)?;
        Ok(wire::TemporaryCredentials {
            tmp_secret_id: lent.id,
            tmp_secret_key: lent.key.reveal().to_owned(),
            token: lent.token.reveal().to_owned(),
            expired_time: lent.expires,
        })
    }
}

fn show(role: &Role) -> wire::RoleInfo {
    wire::RoleInfo {
        name: role.name.to_string(),
        description: role.description.clone(),
        policy: json!(role.policy),
        added: clock::format(role.added),
    }
}
