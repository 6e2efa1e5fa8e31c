//! `virga events`: the backlog and what was given up.

use clap::{Args, Subcommand};

use super::Failure;
use super::client::Client;
use super::output::Output;
use crate::clock;
use crate::operator::{ListEvents, PurgeEvents, ReplayEvents, Selection, ShowEvent};

/// Flags of `virga events`.
#[derive(Args, Debug)]
pub(super) struct EventsArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// List events that wait, or were given up
    List {
        #[command(flatten)]
        which: Which,
        /// How many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show an event with all that is kept of it
    Show {
        /// Its request id
        id: String,
    },
    /// Run failed events again that are still kept: those in the states undelivered and dead
    Replay(Many),
    /// Delete events: those that failed and are kept, or with --state waiting those that have not run yet
    Purge(Many),
}

#[derive(Args, Debug)]
struct Which {
    /// Those of one function
    #[arg(long)]
    function: Option<String>,
    /// Those in one state: waiting, undelivered, dead, finished, failed or aborted
    #[arg(long)]
    state: Option<String>,
}

#[derive(Args, Debug)]
struct Many {
    /// Their request ids
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// All of them
    #[arg(long)]
    all: bool,
}

pub(super) fn run(client: &Client, args: &EventsArgs, output: &Output) -> Result<(), Failure> {
    match &args.task {
        Task::List { which, limit } => list(client, which, *limit, output),
        Task::Show { id } => {
            let selection = Selection {
                request_id: Some(id.clone()),
                ..Selection::default()
            };
            let event = client.call::<ShowEvent>(&selection)?;
            output.pretty(&event);
            Ok(())
        }
        Task::Replay(many) => {
            let replay = |selection: &Selection| -> Result<u64, Failure> {
                Ok(client.call::<ReplayEvents>(selection)?.count)
            };
            each(client, many, "replayed", replay, output)
        }
        Task::Purge(many) => {
            let purge = |selection: &Selection| -> Result<u64, Failure> {
                Ok(client.call::<PurgeEvents>(selection)?.count)
            };
            each(client, many, "purged", purge, output)
        }
    }
}

fn list(client: &Client, which: &Which, limit: u32, output: &Output) -> Result<(), Failure> {
    let selection = Selection {
        limit: Some(limit),
        ..which.selection(client)
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
    many: &Many,
    done: &str,
    run: impl Fn(&Selection) -> Result<u64, Failure>,
    output: &Output,
) -> Result<(), Failure> {
    let mut count = 0;
    for id in &many.ids {
        let selection = Selection {
            request_id: Some(id.clone()),
            ..Selection::default()
        };
        count += run(&selection)?;
    }
    if many.all || many.which.function.is_some() {
        let selection = Selection {
            all: many.all,
            ..many.which.selection(client)
        };
        count += run(&selection)?;
    } else if many.ids.is_empty() {
        let message = "which? name request ids, a --function, or --all";
        return Err(Failure::Usage(message.into()));
    }
    let document = serde_json::json!({ "Count": count });
    output.result(&format!("{done} {count} events"), &document);
    Ok(())
}

impl Which {
    fn selection(&self, client: &Client) -> Selection {
        Selection {
            function_name: self.function.clone(),
            namespace: self.function.as_ref().and_then(|_| client.namespace()),
            state: self.state.clone(),
            ..Selection::default()
        }
    }
}
