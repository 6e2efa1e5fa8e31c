//! `virga account`.

use clap::{Args, Subcommand};

use super::Failure;
use super::client::Client;
use super::key::show_new;
use super::output::Output;
use crate::clock;
use crate::operator::{
    AccountInfo, CreateAccount, CreateAccountRequest, DeleteAccount, DescribeAccount, ListAccounts,
    OfAccount,
};

/// Flags of `virga account`.
#[derive(Args, Debug)]
pub(super) struct AccountArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Create an account, and print its first key
    Create {
        /// Its name
        name: String,
        /// Its AppId, else the next that is free
        #[arg(long)]
        app_id: Option<u64>,
        /// Its Uin, else the next that is free
        #[arg(long)]
        uin: Option<u64>,
    },
    /// List all accounts
    List,
    /// Show an account and what it owns
    Show {
        /// Its name or AppId, else the caller's own
        account: Option<String>,
    },
    /// Delete an account that owns nothing, with its keys and roles
    Delete {
        /// Its name or AppId
        account: String,
    },
}

pub(super) fn run(client: &Client, args: &AccountArgs, output: &Output) -> Result<(), Failure> {
    match &args.task {
        Task::Create { name, app_id, uin } => {
            let created = client.call::<CreateAccount>(&CreateAccountRequest {
                name: name.clone(),
                app_id: *app_id,
                uin: *uin,
            })?;
            if output.is_json() {
                // A new key reads the same, whichever command made it.
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
        Task::List => {
            let all = client.call::<ListAccounts>(&scf::types::Empty {})?.accounts;
            let row = |one: &AccountInfo| {
                let counts = [one.functions, one.keys, one.roles].map(|count| count.to_string());
                let names = [one.name.clone(), one.app_id.to_string(), one.uin.clone()];
                [names.as_slice(), &counts, &[clock::local(&one.added)]].concat()
            };
            let headings = [
                "NAME",
                "APPID",
                "UIN",
                "FUNCTIONS",
                "KEYS",
                "ROLES",
                "ADDED",
            ];
            output.table(&headings, all.iter().map(row).collect(), &all);
        }
        Task::Show { account } => {
            let account = account.clone();
            let one = client.call::<DescribeAccount>(&OfAccount { account })?;
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
                ("added", clock::local(&one.added)),
            ];
            let rows = fields.map(|(field, value)| vec![field.to_owned(), value]);
            output.table(&["FIELD", "VALUE"], rows.to_vec(), &one);
        }
        Task::Delete { account } => {
            let request = OfAccount {
                account: Some(account.clone()),
            };
            let done = client.call::<DeleteAccount>(&request)?;
            output.result(&format!("deleted account {account}"), &done);
        }
    }
    Ok(())
}
