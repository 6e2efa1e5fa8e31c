//! `virga account`.

use std::time::Duration;

use clap::{Args, Subcommand};
use operator::{
    AccountInfo, AccountRequest, CreateAccount, CreateAccountRequest, DeleteAccount,
    DeleteAccountRequest, DeletedAccount, DescribeAccount, ListAccounts,
};

use super::client::Client;
use super::failure::Failure;
use super::key::show_new;
use super::output::Output;

/// Flags of `virga account`.
#[derive(Args, Debug)]
pub(super) struct AccountArgs {
    #[command(subcommand)]
    task: AccountCommand,
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Create an account, and print its first key
    Create {
        /// Name of the account
        name: String,
        /// AppId of the account [default: the next free one]
        #[arg(long)]
        app_id: Option<u64>,
        /// Uin of the account [default: the next free one]
        #[arg(long)]
        uin: Option<u64>,
    },
    /// List all accounts
    List {
        /// List deleted accounts with their total usage
        #[arg(long)]
        deleted: bool,
    },
    /// Show an account and what it owns
    Show {
        /// Name or AppId of the account [default: the caller's]
        account: Option<String>,
    },
    /// Delete an account that owns nothing, with its keys and roles
    Delete {
        /// Name or AppId of the account
        account: String,
        /// Also delete everything it owns: functions, layers, buckets, events, logs, usage; cannot be undone
        #[arg(long)]
        purge: bool,
    },
}

pub(super) fn run(client: &Client, args: &AccountArgs, output: &Output) -> Result<(), Failure> {
    match &args.task {
        AccountCommand::Create { name, app_id, uin } => {
            let created = client.call::<CreateAccount>(&CreateAccountRequest {
                name: name.clone(),
                app_id: *app_id,
                uin: *uin,
            })?;
            if output.is_json() {
                // The same key fields as `virga key create`.
                let mut document = serde_json::to_value(&created.account).unwrap_or_default();
                document["SecretId"] = created.key.secret_id.clone().into();
                document["SecretKey"] = created.key.secret_key.clone().into();
                output.document(&document);
            } else {
                let account = &created.account;
                output.text(&format!(
                    "created account {}, AppId {}, Uin {}",
                    account.name, account.app_id, account.uin
                ));
                show_new(&created.key, output);
            }
        }
        AccountCommand::List { deleted: true } => {
            list_deleted(client, output)?;
        }
        AccountCommand::List { deleted: false } => {
            list(client, output)?;
        }
        AccountCommand::Show { account } => {
            let account = account.clone();
            let one = client.call::<DescribeAccount>(&AccountRequest { account })?;
            let fields = [
                ("name", one.name.clone()),
                ("app id", one.app_id.to_string()),
                ("uin", one.uin.clone()),
                ("region", one.region.clone()),
                ("namespaces", one.namespaces.to_string()),
                ("functions", one.functions.to_string()),
                ("layers", one.layers.to_string()),
                ("keys", one.keys.to_string()),
                ("roles", one.roles.to_string()),
                ("state", one.state.clone()),
                ("added", clock::local(&one.added)),
            ];
            let rows = fields.map(|(field, value)| vec![field.to_owned(), value]);
            output.table(&["FIELD", "VALUE"], rows.to_vec(), &one);
        }
        AccountCommand::Delete { account, purge } => delete(client, account, *purge, output)?,
    }
    Ok(())
}

/// Lists deleted accounts.
fn list_deleted(client: &Client, output: &Output) -> Result<(), Failure> {
    let gone = client.call::<ListAccounts>(&scf::types::Empty {})?.deleted;
    let row = |one: &DeletedAccount| {
        vec![
            one.name.clone(),
            one.app_id.to_string(),
            one.uin.clone(),
            one.invocations.to_string(),
            format!("{:.3}", one.gb_seconds),
            clock::local(&one.added),
            clock::local(&one.deleted),
        ]
    };
    let headings = [
        "NAME",
        "APPID",
        "UIN",
        "INVOCATIONS",
        "GB-SECONDS",
        "ADDED",
        "DELETED",
    ];
    output.table(&headings, gone.iter().map(row).collect(), &gone);
    Ok(())
}

/// Lists living accounts.
fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let all = client.call::<ListAccounts>(&scf::types::Empty {})?.accounts;
    let row = |one: &AccountInfo| {
        let counts = [one.functions, one.keys, one.roles].map(|count| count.to_string());
        let names = [one.name.clone(), one.app_id.to_string(), one.uin.clone()];
        let doing = one.deleting.as_ref();
        let state = doing.map_or(one.state.clone(), |doing| {
            format!("{}: {}", one.state, doing.step)
        });
        let rest = [state, clock::local(&one.added)];
        [names.as_slice(), &counts, &rest].concat()
    };
    let headings = [
        "NAME",
        "APPID",
        "UIN",
        "FUNCTIONS",
        "KEYS",
        "ROLES",
        "STATE",
        "ADDED",
    ];
    output.table(&headings, all.iter().map(row).collect(), &all);
    Ok(())
}

/// Deletes an account and waits for completion.
fn delete(client: &Client, account: &str, purge: bool, output: &Output) -> Result<(), Failure> {
    let mut deletion = client.call::<DeleteAccount>(&DeleteAccountRequest {
        account: Some(account.to_owned()),
        purge,
    })?;
    let name = deletion.account.clone();
    let mut shown = String::new();
    while deletion.state != DELETED {
        std::thread::sleep(POLL);
        // By id, since ids are never reused.
        let all = client.call::<ListAccounts>(&scf::types::Empty {})?.accounts;
        let Some(found) = all.into_iter().find(|one| one.app_id == deletion.app_id) else {
            deletion.state = DELETED.into();
            break;
        };
        let doing = found.deleting.unwrap_or_default();
        let trouble = doing
            .trouble
            .map(|why| format!("; retrying after an error: {why}"));
        let now = format!(
            "deleting {name}: {}, {} removed{}",
            doing.step,
            doing.removed,
            trouble.unwrap_or_default()
        );
        if now != shown {
            output.progress(&now);
            shown = now;
        }
    }
    let had: Vec<_> = deletion
        .had
        .iter()
        .map(|one| format!("{} {}", one.count, one.kind))
        .collect();
    let with = match had.is_empty() {
        true => String::new(),
        false => format!(", with {}", had.join(", ")),
    };
    output.result(&format!("deleted account {name}{with}"), &deletion);
    Ok(())
}

const DELETED: &str = "Deleted";
/// Interval between checks whether an account is deleted.
const POLL: Duration = Duration::from_millis(500);
