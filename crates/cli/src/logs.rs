//! `virga logs`.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use scf::action::GetFunctionLogs;
use scf::types::{FunctionLog, GetFunctionLogsRequest};

use super::client::Client;
use super::failure::Failure;
use super::functions;
use super::output::Output;

const POLL: Duration = Duration::from_millis(500);
const PAGE: i64 = 1000;
/// How far back each poll looks: a log is written when its request completes, but sorted by its start time.
const LOOK_BACK_MS: i64 = 1000 * 1000;

/// Flags of `virga logs`.
#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    /// Name of the function
    name: String,
    /// Follow: keep printing new logs
    #[arg(short, long)]
    follow: bool,
    /// Number of past invocations to print
    #[arg(long, default_value_t = 10)]
    last: i64,
    /// Only the log of this request id
    #[arg(long)]
    request: Option<String>,
}

pub(super) fn run(client: &Client, args: &LogsArgs, output: &Output) -> Result<(), Failure> {
    let mut shown = HashSet::new();
    let begun = clock::now_ms();
    let first = fetch(client, args, args.last, None)?;
    show(&first, &mut shown, output);
    if first.is_empty() {
        // Report an error if the function does not exist at all.
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

/// Returns the message if there are no logs.
fn empty_message(args: &LogsArgs) -> String {
    let name = &args.name;
    match &args.request {
        Some(request) => format!("no log of request {request} is stored"),
        None if args.follow => format!("no logs yet; waiting for invocations of {name}"),
        None => format!("no logs yet; invoke it: virga invoke {name}"),
    }
}

/// Fetches the latest logs, oldest first.
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
