//! `virga role`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Failure;
use super::client::Client;
use super::key::read_policy;
use super::output::Output;
use crate::clock;
use crate::operator::{
    AccountRequest, AssumeRole, AssumeRoleRequest, DeleteRole, DeleteRoleRequest, ListRoles,
    PutRole, PutRoleRequest, RoleInfo,
};

/// Flags of `virga role`.
#[derive(Args, Debug)]
pub(super) struct RoleArgs {
    #[command(subcommand)]
    task: RoleCommand,
    /// The account, by name or AppId; else the caller's own
    #[arg(long, short, global = true)]
    account: Option<String>,
}

#[derive(Debug, Subcommand)]
enum RoleCommand {
    /// Create a role, or change what it may do
    Create {
        /// Its name
        name: String,
        /// A file with what it may do, a policy in CAM's form
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
    },
    /// List roles
    List,
    /// Show what a role may do
    Show {
        /// Its name
        name: String,
    },
    /// Print temporary credentials of a role
    Assume {
        /// Its name
        name: String,
        /// For how long they are good
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
    },
    /// Delete a role that no function has
    Delete {
        /// Its name
        name: String,
        /// Also while functions have it; their credentials are refused from then on
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
            let role = role.ok_or_else(|| Failure::Usage(format!("there is no role {name}")))?;
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
                output.note(&format!("they are good for {seconds} s"));
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
