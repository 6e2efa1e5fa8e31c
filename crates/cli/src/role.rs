//! `virga role`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use operator::{
    AccountRequest, AssumeRole, AssumeRoleRequest, DeleteRole, DeleteRoleRequest, ListRoles,
    PutRole, PutRoleRequest, RoleInfo,
};
use serde_json::json;

use super::client::Client;
use super::failure::Failure;
use super::key::read_policy;
use super::output::Output;

/// Flags of `virga role`.
#[derive(Args, Debug)]
pub(super) struct RoleArgs {
    #[command(subcommand)]
    task: RoleCommand,
    /// Name or AppId of the account [default: the caller's]
    #[arg(long, short, global = true)]
    account: Option<String>,
}

#[derive(Debug, Subcommand)]
enum RoleCommand {
    /// Create a role, or replace its policy
    Create {
        /// Name of the role
        name: String,
        /// File with a policy in CAM format
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// Description of the role
        #[arg(long)]
        description: Option<String>,
    },
    /// List roles
    List,
    /// Show a role and its policy
    Show {
        /// Name of the role
        name: String,
    },
    /// Print temporary credentials of a role
    Assume {
        /// Name of the role
        name: String,
        /// Lifetime of the credentials, seconds
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
    },
    /// Delete a role that no function uses
    Delete {
        /// Name of the role
        name: String,
        /// Delete the role even if functions use it; their credentials become invalid at once
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn run(client: &Client, args: &RoleArgs, output: &Output) -> Result<(), Failure> {
    let account = args.account.clone();
    match &args.task {
        RoleCommand::Create {
            name,
            policy,
            description,
        } => {
            let role = client.call::<PutRole>(&PutRoleRequest {
                account,
                name: name.clone(),
                description: description.clone(),
                policy: read_policy(policy)?,
            })?;
            output.result(&format!("role {name} is there"), &role);
        }
        RoleCommand::List => {
            let roles = client.call::<ListRoles>(&AccountRequest { account })?.roles;
            let row = |role: &RoleInfo| {
                let added = clock::local(&role.added);
                vec![role.name.clone(), added, role.description.clone()]
            };
            let headings = ["NAME", "ADDED", "DESCRIPTION"];
            output.table(&headings, roles.iter().map(row).collect(), &roles);
        }
        RoleCommand::Show { name } => {
            let roles = client.call::<ListRoles>(&AccountRequest { account })?.roles;
            let role = roles.iter().find(|role| role.name == *name);
            let role = role.ok_or_else(|| {
                Failure::Usage(format!(
                    "there is no role {name}; list them: virga role list"
                ))
            })?;
            output.pretty(&json!(role));
        }
        RoleCommand::Assume { name, seconds } => {
            let lent = client.call::<AssumeRole>(&AssumeRoleRequest {
                account,
                name: name.clone(),
                seconds: Some(*seconds),
            })?;
            if output.is_json() {
                output.document(&lent);
            } else {
                output.text(&format!(
                    "secret id   {}\nsecret key  {}\ntoken       {}",
                    lent.tmp_secret_id, lent.tmp_secret_key, lent.token
                ));
                output.note(&format!("the credentials are valid for {seconds} s"));
            }
        }
        RoleCommand::Delete { name, force } => {
            let done = client.call::<DeleteRole>(&DeleteRoleRequest {
                account,
                name: name.clone(),
                force: *force,
            })?;
            output.result(&format!("deleted role {name}"), &done);
        }
    }
    Ok(())
}
