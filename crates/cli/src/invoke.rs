//! `virga invoke`.

use std::fs;
use std::io::Read;

use clap::Args;
use scf::action::Invoke;
use scf::types::{InvokeRequest, InvokeResult};

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

/// Flags of `virga invoke`.
#[derive(Args, Debug)]
pub(super) struct InvokeArgs {
    /// Name of the function
    name: String,
    /// The event: JSON, @file, or - for standard input
    #[arg(default_value = "{}")]
    event: String,
    /// Also print the end of the log
    #[arg(long)]
    log: bool,
    /// Invoke asynchronously: enqueue the event and do not wait for the result
    #[arg(long = "async", conflicts_with = "log")]
    later: bool,
    /// Version or alias
    #[arg(long)]
    qualifier: Option<String>,
    /// Routing key, a JSON object by which an alias selects a version
    #[arg(long, value_name = "JSON")]
    routing_key: Option<String>,
}

pub(super) fn run(client: &Client, args: &InvokeArgs, output: &Output) -> Result<(), Failure> {
    let event = match args.event.strip_prefix('@') {
        Some(file) => fs::read_to_string(file)
            .map_err(|e| Failure::Usage(format!("failed to read {file}: {e}")))?,
        None if args.event == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        None => args.event.clone(),
    };
    let answer = client.call::<Invoke>(&InvokeRequest {
        function_name: args.name.clone(),
        namespace: client.namespace(),
        client_context: Some(event),
        invocation_type: args.later.then(|| "Event".to_owned()),
        log_type: args.log.then(|| "Tail".to_owned()),
        qualifier: args.qualifier.clone(),
        routing_key: args.routing_key.clone(),
    })?;
    let result = &answer.result;
    if output.is_json() {
        output.document(result);
    } else if args.later || is_accepted(result) {
        output.text(&format!("accepted, request {}", result.function_request_id));
    } else {
        if args.log {
            output.note(result.log.trim_end());
        }
        output.text(&readable_answer(&result.ret_msg));
        let mb = result.mem_usage as f64 / f64::from(1 << 20);
        output.progress(&format!(
            "{:.2} ms, {mb:.1} MB, request {}",
            result.duration, result.function_request_id
        ));
    }
    if result.invoke_result == 0 {
        Ok(())
    } else {
        Err(Failure::Function)
    }
}

/// Returns whether the request was only accepted, because the function is configured to run asynchronously.
fn is_accepted(result: &InvokeResult) -> bool {
    result.ret_msg.is_empty() && result.invoke_result == 0 && result.duration == 0.0
}

/// Appends an error's stack trace with real line breaks.
fn readable_answer(answer: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(answer).ok();
    let stack = parsed
        .as_ref()
        .and_then(|value| value.get("stackTrace")?.as_str());
    match stack {
        Some(stack) => format!("{answer}\n\n{stack}"),
        None => answer.to_owned(),
    }
}
