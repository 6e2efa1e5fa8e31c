//! `virga events`: queued events and dead letters.

use clap::{Args, Subcommand};
use operator::{ListEvents, PurgeEvents, ReplayEvents, Selection, ShowEvent};

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

/// Flags of `virga events`.
#[derive(Args, Debug)]
pub(super) struct EventsArgs {
    #[command(subcommand)]
    task: EventsCommand,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// List queued and dead-lettered events
    List {
        #[command(flatten)]
        filter: EventFilter,
        /// Maximum number of events
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show an event with all stored details
    Show {
        /// Request id of the event
        id: String,
    },
    /// Replay failed events that are still stored (states undelivered and dead)
    Replay(EventSelection),
    /// Delete stored failed events, or with --state waiting those that have not run yet
    Purge(EventSelection),
}

#[derive(Args, Debug)]
struct EventFilter {
    /// Only events of this function
    #[arg(long)]
    function: Option<String>,
    /// Only events in this state: waiting, undelivered, dead, finished, failed or aborted
    #[arg(long)]
    state: Option<String>,
}

#[derive(Args, Debug)]
struct EventSelection {
    /// Request ids of events
    ids: Vec<String>,
    #[command(flatten)]
    filter: EventFilter,
    /// All matching events of the account
    #[arg(long)]
    all: bool,
}

pub(super) fn run(client: &Client, args: &EventsArgs, output: &Output) -> Result<(), Failure> {
    match &args.task {
        EventsCommand::List { filter, limit } => list(client, filter, *limit, output),
        EventsCommand::Show { id } => {
            let selection = Selection {
                request_id: Some(id.clone()),
                ..Selection::default()
            };
            let event = client.call::<ShowEvent>(&selection)?;
            output.pretty(&event);
            Ok(())
        }
        EventsCommand::Replay(selected) => {
            let replay = |selection: &Selection| -> Result<u64, Failure> {
                Ok(client.call::<ReplayEvents>(selection)?.count)
            };
            each(client, selected, "replayed", replay, output)
        }
        EventsCommand::Purge(selected) => {
            let purge = |selection: &Selection| -> Result<u64, Failure> {
                Ok(client.call::<PurgeEvents>(selection)?.count)
            };
            each(client, selected, "purged", purge, output)
        }
    }
}

fn list(client: &Client, filter: &EventFilter, limit: u32, output: &Output) -> Result<(), Failure> {
    let selection = Selection {
        limit: Some(limit),
        ..filter.selection(client)
    };
    let found = client.call::<ListEvents>(&selection)?;
    let rows = found.events.iter().map(|event| {
        vec![
            event.request_id.clone(),
            event.function_name.clone(),
            event.state.clone(),
            clock::local(event.accepted_time.get(..19).unwrap_or_default()),
            event.failures.to_string(),
            event.status_code.to_string(),
            event.message.chars().take(60).collect(),
        ]
    });
    let headings = [
        "REQUEST", "FUNCTION", "STATE", "ACCEPTED", "FAILURES", "STATUS", "MESSAGE",
    ];
    output.table(&headings, rows.collect(), &found.events);
    let more = found.total_count - found.events.len() as u64;
    if more > 0 {
        output.note(&format!("{more} more"));
    }
    Ok(())
}

fn each(
    client: &Client,
    selected: &EventSelection,
    done: &str,
    run: impl Fn(&Selection) -> Result<u64, Failure>,
    output: &Output,
) -> Result<(), Failure> {
    let mut count = 0;
    for id in &selected.ids {
        let selection = Selection {
            request_id: Some(id.clone()),
            ..Selection::default()
        };
        count += run(&selection)?;
    }
    if selected.all || selected.filter.function.is_some() {
        let selection = Selection {
            all: selected.all,
            ..selected.filter.selection(client)
        };
        count += run(&selection)?;
    } else if selected.ids.is_empty() {
        let message = "no events selected; pass request ids, --function NAME, or --all";
        return Err(Failure::Usage(message.into()));
    }
    let document = serde_json::json!({ "Count": count });
    output.result(&format!("{done} {count} events"), &document);
    Ok(())
}

impl EventFilter {
    fn selection(&self, client: &Client) -> Selection {
        Selection {
            function_name: self.function.clone(),
            namespace: self.function.as_ref().and_then(|_| client.namespace()),
            state: self.state.clone(),
            ..Selection::default()
        }
    }
}
