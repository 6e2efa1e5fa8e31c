//! `virga logs`.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use scf::action::GetFunctionLogs;
use scf::types::{FunctionLog, GetFunctionLogsRequest};

use super::Failure;
use super::client::Client;
use super::functions;
use super::output::Output;
use crate::clock;

const POLL: Duration = Duration::from_millis(500);
const PAGE: i64 = 1000;
/// How far back a follower looks at each turn: a log is written when its request ends, but sorted by its beginning.
const LOOK_BACK_MS: i64 = 1000 * 1000;

/// Flags of `virga logs`.
#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    /// Name of the function
    name: String,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// How many invocations to begin with
    #[arg(long, default_value_t = 10)]
    last: i64,
    /// One request alone
    #[arg(long)]
    request: Option<String>,
}

pub(super) fn run(client: &Client, args: &LogsArgs, output: &Output) -> Result<(), Failure> {
    let mut shown = HashSet::new();
    let begun = clock::now_ms();
    let first = fetch(client, args, args.last, None)?;
    show(&first, &mut shown, output);
    if first.is_empty() {
        // A function that never ran has no logs; one that is not there is an error.
        functions::get(client, &args.name)?;
        output.note(&empty_message(args));
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(POLL);
        let from = begun.max(clock::now_ms() - LOOK_BACK_MS);
        show(&fetch(client, args, PAGE, Some(from))?, &mut shown, output);
    }
}

/// What to say where there are no logs.
fn empty_message(args: &LogsArgs) -> String {
    let name = &args.name;
    match &args.request {
        Some(request) => format!("no log of request {request} is kept"),
        None if args.follow => format!("no logs yet; waiting for invocations of {name}"),
        None => format!("no logs yet; invoke it: virga invoke {name}"),
    }
}

/// The latest, oldest first.
fn fetch(
    client: &Client,
    args: &LogsArgs,
    limit: i64,
    from: Option<i64>,
) -> Result<Vec<FunctionLog>, Failure> {
    let answer = client.call::<GetFunctionLogs>(&GetFunctionLogsRequest {
        function_name: Some(args.name.clone()),
        namespace: client.namespace(),
        function_request_id: args.request.clone(),
        limit: Some(limit),
        order: Some("desc".into()),
        start_time: from.map(clock::format),
        ..GetFunctionLogsRequest::default()
    })?;
    let mut logs = answer.data;
    logs.reverse();
    Ok(logs)
}

fn show(logs: &[FunctionLog], shown: &mut HashSet<String>, output: &Output) {
    for log in logs {
        if !shown.insert(log.request_id.clone()) {
            continue;
        }
        if output.is_json() {
            output.document(log);
        } else {
            output.text(&format!(
                "{} {}\n{}",
                clock::local(&log.start_time),
                log.function_name,
                log.log
            ));
        }
    }
}
