//! Creating triggers from the command line.

use clap::{Args, ValueEnum};
use operator::{AccountRequest, DescribeAccount};
use scf::action::{CreateTrigger, UpdateTrigger};
use scf::types as t;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::output::Output;
use super::find::{all, one};

const TIMER: &str = "timer";
const COS: &str = "cos";
const HTTP: &str = "http";

/// Flags of `virga trigger timer`.
#[derive(Args, Debug)]
pub(in super::super) struct TimerArgs {
    /// Name of the function
    function: String,
    /// Name of the timer
    name: String,
    /// Cron expression: second minute hour day month weekday year, such as '0 30 2 * * * *'
    cron: String,
    /// Message in the timer's events
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Version or alias to run, for a new timer
    #[arg(long)]
    qualifier: Option<String>,
    /// Description of the timer
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Flags of `virga trigger cos`.
#[derive(Args, Debug)]
pub(in super::super) struct CosArgs {
    /// Name of the function
    function: String,
    /// Name of the bucket, or its full host name
    bucket: String,
    /// Event of an object
    #[arg(long, value_name = "EVENT", default_value = "cos:ObjectCreated:*")]
    event: String,
    /// Prefix of the object's key
    #[arg(long, default_value = "")]
    prefix: String,
    /// Suffix of the object's key, such as .jpg
    #[arg(long, default_value = "")]
    suffix: String,
    /// Version or alias to run
    #[arg(long)]
    qualifier: Option<String>,
}

/// Flags of `virga trigger url`.
#[derive(Args, Debug)]
pub(in super::super) struct UrlArgs {
    /// Name of the function
    function: String,
    /// Permitted callers [default for a new URL: signed; an existing URL is not changed]
    #[arg(long, value_enum)]
    callers: Option<Callers>,
    /// Version or alias that the URL invokes
    #[arg(long)]
    qualifier: Option<String>,
}

/// The permitted callers of a URL.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Callers {
    /// Requests signed with a key of the function's account
    Signed,
    /// Everybody
    Everybody,
}

pub(super) fn timer(client: &Client, args: &TimerArgs, output: &Output) -> Result<(), Failure> {
    let created = client.call::<CreateTrigger>(&t::CreateTriggerRequest {
        function_name: args.function.clone(),
        trigger_name: args.name.clone(),
        r#type: TIMER.into(),
        trigger_desc: Some(args.cron.clone()),
        namespace: client.namespace(),
        qualifier: args.qualifier.clone(),
        enable: None,
        custom_argument: args.message.clone(),
        description: args.description.clone(),
    });
    let done = match created {
        Ok(_) => "created",
        Err(e) if e.is_code("ResourceInUse.TriggerName") => {
            client.call::<UpdateTrigger>(&t::UpdateTriggerRequest {
                function_name: args.function.clone(),
                trigger_name: args.name.clone(),
                r#type: TIMER.into(),
                enable: None,
                qualifier: args.qualifier.clone(),
                namespace: client.namespace(),
                trigger_desc: Some(args.cron.clone()),
                description: args.description.clone(),
                custom_argument: args.message.clone(),
            })?;
            "changed"
        }
        Err(e) => return Err(e.into()),
    };
    let trigger = one(client, &args.function, &args.name, Some(TIMER))?;
    output.result(&format!("{done} timer {}", args.name), &trigger);
    Ok(())
}

pub(super) fn cos(client: &Client, args: &CosArgs, output: &Output) -> Result<(), Failure> {
    let host = host(client, &args.bucket)?;
    let filter = json!({"Prefix": args.prefix, "Suffix": args.suffix});
    let wanted = json!({"bucketUrl": host, "event": args.event, "filter": filter});
    let same = |one: &t::TriggerInfo| {
        one.r#type == COS
            && one.trigger_name == host
            && desc(one).is_some_and(|desc| desc == wanted)
    };
    // A bucket trigger has no name of its own. Repeating the command is idempotent.
    let (done, trigger) = match find(client, &args.function, same)? {
        Some(trigger) => ("found", trigger),
        None => {
            create(client, &args.function, &host, COS, &wanted, &args.qualifier)?;
            ("created", made(client, &args.function, same)?)
        }
    };
    let words = format!(
        "{done} a trigger: {} in {host} runs {}",
        args.event, args.function
    );
    output.result(&words, &trigger);
    Ok(())
}

pub(super) fn url(client: &Client, args: &UrlArgs, output: &Output) -> Result<(), Failure> {
    let auth = match args.callers {
        None | Some(Callers::Signed) => "CAM",
        Some(Callers::Everybody) => "NONE",
    };
    let wanted = json!({
        "AuthType": auth,
        "NetConfig": {"EnableIntranet": true, "EnableExtranet": true},
    });
    let qualifier = args.qualifier.as_deref().unwrap_or("$LATEST");
    let leads = |one: &t::TriggerInfo| one.r#type == HTTP && one.qualifier == qualifier;
    let trigger = match find(client, &args.function, leads)? {
        Some(there) if args.callers.is_none() => there,
        Some(there) => {
            client.call::<UpdateTrigger>(&t::UpdateTriggerRequest {
                function_name: args.function.clone(),
                trigger_name: there.trigger_name.clone(),
                r#type: HTTP.into(),
                enable: None,
                qualifier: args.qualifier.clone(),
                namespace: client.namespace(),
                trigger_desc: Some(wanted.to_string()),
                description: None,
                custom_argument: None,
            })?;
            one(client, &args.function, &there.trigger_name, Some(HTTP))?
        }
        None => {
            create(
                client,
                &args.function,
                "url",
                HTTP,
                &wanted,
                &args.qualifier,
            )?;
            made(client, &args.function, leads)?
        }
    };
    let url =
        desc(&trigger).and_then(|desc| Some(desc["NetConfig"]["ExtranetUrl"].as_str()?.to_owned()));
    let path = format!("{}/url/{}/", client.endpoint(), trigger.trigger_name);
    output.result(
        &format!("{}\nor, by path, {path}", url.unwrap_or_default()),
        &trigger,
    );
    Ok(())
}

fn create(
    client: &Client,
    function: &str,
    name: &str,
    kind: &str,
    desc: &Value,
    qualifier: &Option<String>,
) -> Result<(), Failure> {
    client.call::<CreateTrigger>(&t::CreateTriggerRequest {
        function_name: function.to_owned(),
        trigger_name: name.to_owned(),
        r#type: kind.to_owned(),
        trigger_desc: Some(desc.to_string()),
        namespace: client.namespace(),
        qualifier: qualifier.clone(),
        enable: None,
        custom_argument: None,
        description: None,
    })?;
    Ok(())
}

fn find(
    client: &Client,
    function: &str,
    is: impl Fn(&t::TriggerInfo) -> bool,
) -> Result<Option<t::TriggerInfo>, Failure> {
    Ok(all(client, function)?.into_iter().find(is))
}

/// Finds the trigger that was just created.
fn made(
    client: &Client,
    function: &str,
    is: impl Fn(&t::TriggerInfo) -> bool,
) -> Result<t::TriggerInfo, Failure> {
    let gone = || {
        Failure::Usage(format!(
            "the new trigger of {function} was deleted by someone else at the same time; run the command again"
        ))
    };
    find(client, function, is)?.ok_or_else(gone)
}

fn desc(trigger: &t::TriggerInfo) -> Option<Value> {
    serde_json::from_str(&trigger.trigger_desc).ok()
}

/// Returns the host name of a bucket, which is the name of its triggers.
fn host(client: &Client, bucket: &str) -> Result<String, Failure> {
    if bucket.contains('.') {
        return Ok(bucket.to_owned());
    }
    let account = client.call::<DescribeAccount>(&AccountRequest { account: None })?;
    let owner = format!("-{}", account.app_id);
    let name = bucket.strip_suffix(&owner).unwrap_or(bucket);
    Ok(format!("{name}{owner}.cos.{}.myqcloud.com", account.region))
}
