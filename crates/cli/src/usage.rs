//! `virga usage`: the usage ledger.

use clap::Args;
use operator::{ListUsage, UsageRequest};

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

const DAY_MS: i64 = 86_400_000;

/// Flags of `virga usage`.
#[derive(Args, Debug)]
pub(super) struct UsageArgs {
    /// Only this function
    name: Option<String>,
    /// Number of past days
    #[arg(long, default_value_t = 30)]
    days: i64,
    /// Print one row per hour
    #[arg(long)]
    hours: bool,
}

pub(super) fn run(client: &Client, args: &UsageArgs, output: &Output) -> Result<(), Failure> {
    let from = clock::now_ms() - args.days.clamp(0, 100_000) * DAY_MS;
    let answer = client.call::<ListUsage>(&UsageRequest {
        function_name: args.name.clone(),
        namespace: args.name.as_ref().and_then(|_| client.namespace()),
        start_time: Some(clock::format(from)),
        end_time: None,
        by_hour: args.hours,
    })?;
    let rows = answer.usage.iter().map(|usage| {
        let mut row = vec![
            usage.namespace.clone(),
            usage.function_name.clone(),
            usage.version.clone(),
            usage.invocations.to_string(),
            usage.errors.to_string(),
            usage.throttles.to_string(),
            usage.billed_ms.to_string(),
            format!("{:.6}", usage.gb_seconds),
            usage.out_bytes.to_string(),
        ];
        if args.hours {
            row.insert(0, clock::local(&usage.hour));
        }
        row
    });
    let mut headings = vec![
        "NAMESPACE",
        "FUNCTION",
        "VERSION",
        "INVOCATIONS",
        "ERRORS",
        "THROTTLES",
        "BILLED-MS",
        "GB-SECONDS",
        "OUT-BYTES",
    ];
    if args.hours {
        headings.insert(0, "HOUR");
    }
    output.table(&headings, rows.collect(), &answer.usage);
    Ok(())
}
