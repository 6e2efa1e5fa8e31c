//! `virga trigger`.

mod find;
mod make;

use clap::{Args, Subcommand};
use scf::action::{DeleteTrigger, UpdateTriggerStatus};
use scf::types as t;
use serde_json::json;

use self::find::{all, one};
use super::client::Client;
use super::failure::Failure;
use super::output::Output;

/// Subcommands of `virga trigger`.
#[derive(Debug, Subcommand)]
pub(super) enum TriggerCommand {
    /// List the triggers of a function
    List(OfFunction),
    /// Run a function at the times of a cron expression; updates an existing timer of that name
    Timer(make::TimerArgs),
    /// Run a function when an object in a bucket is created, removed or restored
    Cos(make::CosArgs),
    /// Create the URL of a function, or print an existing one
    Url(make::UrlArgs),
    /// Open (enable) a trigger
    Open(OfTrigger),
    /// Close (disable) a trigger
    Close(OfTrigger),
    /// Delete a trigger
    Delete(OfTrigger),
}

/// Arguments that select a function.
#[derive(Args, Debug)]
pub(super) struct OfFunction {
    /// Name of the function
    function: String,
}

/// Arguments that select a trigger of a function.
#[derive(Args, Debug)]
pub(super) struct OfTrigger {
    /// Name of the function
    function: String,
    /// Name of the trigger
    name: String,
    /// Type of the trigger, if several have that name
    #[arg(long)]
    r#type: Option<String>,
}

pub(super) fn run(client: &Client, task: &TriggerCommand, output: &Output) -> Result<(), Failure> {
    match task {
        TriggerCommand::List(of) => list(client, &of.function, output),
        TriggerCommand::Timer(args) => make::timer(client, args, output),
        TriggerCommand::Cos(args) => make::cos(client, args, output),
        TriggerCommand::Url(args) => make::url(client, args, output),
        TriggerCommand::Open(of) => switch(client, of, "OPEN", output),
        TriggerCommand::Close(of) => switch(client, of, "CLOSE", output),
        TriggerCommand::Delete(of) => delete(client, of, output),
    }
}

fn list(client: &Client, function: &str, output: &Output) -> Result<(), Failure> {
    let triggers = all(client, function)?;
    let row = |one: &t::TriggerInfo| {
        let state = if one.enable == 1 { "open" } else { "closed" };
        let one = one.clone();
        vec![
            one.trigger_name,
            one.r#type,
            state.to_owned(),
            one.qualifier,
            one.trigger_desc,
        ]
    };
    let rows = triggers.iter().map(row).collect();
    output.table(
        &["NAME", "TYPE", "STATE", "QUALIFIER", "WAITS FOR"],
        rows,
        &triggers,
    );
    if triggers.is_empty() && !output.is_json() {
        output.note(&format!(
            "no triggers yet; create one: virga trigger timer {function} daily '0 0 0 * * * *'"
        ));
    }
    Ok(())
}

fn switch(client: &Client, of: &OfTrigger, enable: &str, output: &Output) -> Result<(), Failure> {
    let trigger = one(client, &of.function, &of.name, of.r#type.as_deref())?;
    client.call::<UpdateTriggerStatus>(&t::UpdateTriggerStatusRequest {
        enable: enable.to_owned(),
        function_name: of.function.clone(),
        trigger_name: of.name.clone(),
        r#type: trigger.r#type,
        qualifier: Some(trigger.qualifier),
        namespace: client.namespace(),
        trigger_desc: Some(trigger.trigger_desc),
    })?;
    let done = if enable == "OPEN" { "opened" } else { "closed" };
    let document = json!({"TriggerName": of.name, "Enable": i32::from(enable == "OPEN")});
    output.result(&format!("{done} {}", of.name), &document);
    Ok(())
}

fn delete(client: &Client, of: &OfTrigger, output: &Output) -> Result<(), Failure> {
    let trigger = one(client, &of.function, &of.name, of.r#type.as_deref())?;
    client.call::<DeleteTrigger>(&t::DeleteTriggerRequest {
        function_name: of.function.clone(),
        trigger_name: of.name.clone(),
        r#type: trigger.r#type,
        namespace: client.namespace(),
        trigger_desc: Some(trigger.trigger_desc),
        qualifier: Some(trigger.qualifier),
    })?;
    output.result(
        &format!("deleted {}", of.name),
        &json!({"TriggerName": of.name}),
    );
    Ok(())
}
