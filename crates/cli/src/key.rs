//! `virga key`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use operator::{
    AccountRequest, CreateKey, CreateKeyRequest, DeleteKey, KeyInfo, KeyRequest, ListKeys, NewKey,
    UpdateKey, UpdateKeyRequest,
};
use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

/// Flags of `virga key`.
#[derive(Args, Debug)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    task: KeyCommand,
    /// Name or AppId of the account [default: the caller's]
    #[arg(long, short, global = true)]
    account: Option<String>,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a key and print it; the secret is shown only once
    Create {
        /// File with a policy in CAM format [default: no policy, everything within the account is allowed]
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Description of the key
        #[arg(long, default_value = "")]
        description: String,
        /// Require that its requests sign their action, as virga's command line does and official SDKs do not
        #[arg(long)]
        sign_action: bool,
    },
    /// List keys, without their secrets
    List,
    /// Disable a key
    Disable {
        /// Secret id of the key
        id: String,
    },
    /// Enable a disabled key
    Enable {
        /// Secret id of the key
        id: String,
    },
    /// Replace the policy of a key
    Policy {
        /// Secret id of the key
        id: String,
        /// File with a policy in CAM format
        file: PathBuf,
    },
    /// Change whether a key's requests must sign their action
    SignAction {
        /// Secret id of the key
        id: String,
        /// on or off
        #[arg(value_parser = ["on", "off"])]
        state: String,
    },
    /// Delete a key
    Delete {
        /// Secret id of the key
        id: String,
    },
}

pub(super) fn run(client: &Client, args: &KeyArgs, output: &Output) -> Result<(), Failure> {
    let account = args.account.clone();
    let update = |id: &str, change: UpdateKeyRequest, words: &str| {
        let updated = client.call::<UpdateKey>(&UpdateKeyRequest {
            account: account.clone(),
            secret_id: id.to_owned(),
            ..change
        })?;
        output.result(&format!("{words} key {id}"), &updated);
        Ok(())
    };
    match &args.task {
        KeyCommand::Create {
            policy,
            description,
            sign_action,
        } => {
            let key = client.call::<CreateKey>(&CreateKeyRequest {
                account: account.clone(),
                description: Some(description.clone()),
                policy: policy.as_deref().map(read_policy).transpose()?,
                sign_action: Some(*sign_action),
            })?;
            if output.is_json() {
                output.document(&key);
            } else {
                show_new(&key, output);
            }
            Ok(())
        }
        KeyCommand::List => list(client, account, output),
        KeyCommand::Disable { id } => {
            let change = UpdateKeyRequest {
                disabled: Some(true),
                ..UpdateKeyRequest::default()
            };
            update(id, change, "disabled")
        }
        KeyCommand::Enable { id } => {
            let change = UpdateKeyRequest {
                disabled: Some(false),
                ..UpdateKeyRequest::default()
            };
            update(id, change, "enabled")
        }
        KeyCommand::Policy { id, file } => {
            let change = UpdateKeyRequest {
                policy: Some(read_policy(file)?),
                ..UpdateKeyRequest::default()
            };
            update(id, change, "changed")
        }
        KeyCommand::SignAction { id, state } => {
            let change = UpdateKeyRequest {
                sign_action: Some(state == "on"),
                ..UpdateKeyRequest::default()
            };
            update(id, change, "changed")
        }
        KeyCommand::Delete { id } => {
            let done = client.call::<DeleteKey>(&KeyRequest {
                account: account.clone(),
                secret_id: id.clone(),
            })?;
            output.result(&format!("deleted key {id}"), &done);
            Ok(())
        }
    }
}

fn list(client: &Client, account: Option<String>, output: &Output) -> Result<(), Failure> {
    let keys = client.call::<ListKeys>(&AccountRequest { account })?.keys;
    let row = |key: &KeyInfo| {
        let may = if key.policy.is_some() {
            "a policy"
        } else {
            "everything"
        };
        let signs = if key.sign_action { "action" } else { "body" };
        let words = [
            &key.secret_id,
            &key.status,
            may,
            signs,
            &key.added,
            &key.description,
        ];
        words.map(str::to_owned).to_vec()
    };
    let headings = [
        "SECRET ID",
        "STATUS",
        "MAY DO",
        "MUST SIGN",
        "ADDED",
        "DESCRIPTION",
    ];
    output.table(&headings, keys.iter().map(row).collect(), &keys);
    Ok(())
}

/// Prints a new key as text.
pub(super) fn show_new(key: &NewKey, output: &Output) {
    output.text(&format!(
        "secret id   {}\nsecret key  {}",
        key.secret_id, key.secret_key
    ));
    output.note("the secret key is shown only once; store it where others cannot read it");
}

/// Reads a policy from a JSON file.
pub(super) fn read_policy(file: &Path) -> Result<Value, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::Usage(format!("failed to read {shown}: {e}")))?;
    serde_json::from_str(&text).map_err(|e| Failure::Usage(format!("{shown} is not JSON: {e}")))
}
