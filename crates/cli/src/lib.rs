//! The command line: a client of the public API, and of the operator's.
//!
//! Owns the client commands, their output, and which files a deployment packs. Never knows how a call is carried out: it knows
//! the wire (`scf`, `operator`) and no crate of the server. The binary gives it the commands that need the host ([`HostCommand`]).
//!
//! Exit codes: 0 success, 1 the function failed, 2 invalid command line, 3 the server is unreachable or returned an error,
//! 4 authentication or authorization failed.
#![forbid(unsafe_code)]

mod account;
mod api;
mod ca;
mod client;
mod common;
mod deploy;
mod deployments;
mod entry;
mod events;
mod failure;
mod functions;
mod invoke;
mod key;
mod layer;
mod logs;
mod new;
mod output;
mod pack;
mod role;
mod roots;
mod runtimes;
mod s3;
mod trigger;
mod upload;
mod usage;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand};
use clap_complete::Shell;

use self::client::Client;
use self::common::CommonArgs;
use self::failure::Failure;
pub use self::output::Output;

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Write the first function into a new directory
    New(new::NewArgs),
    /// Create or update a function from a directory, a file or a zip archive
    Deploy(Box<deploy::DeployArgs>),
    /// Invoke a function and print its response
    Invoke(invoke::InvokeArgs),
    /// Print the logs of a function
    Logs(logs::LogsArgs),
    /// List the functions of a namespace
    List(functions::ListArgs),
    /// Show a function's settings and state
    Show(functions::ShowArgs),
    /// Delete a function
    Delete(functions::DeleteArgs),
    /// Print the certificate of the local certificate authority, for clients to trust
    Ca,
    /// List, create, open, close and delete the triggers of a function
    #[command(subcommand)]
    Trigger(trigger::TriggerCommand),
    /// Build and list layers of libraries
    Layer(layer::LayerArgs),
    /// List, show, replay and purge asynchronous events
    Events(events::EventsArgs),
    /// Print usage: invocations, errors and billed resources
    Usage(usage::UsageArgs),
    /// Call any action of the API
    Api(api::ApiArgs),
    /// Create, list, show and delete accounts
    Account(account::AccountArgs),
    /// Create, list, disable and delete keys
    Key(key::KeyArgs),
    /// Create, list, show, assume and delete the roles of functions
    Role(role::RoleArgs),
}

/// What the command line knows of the host that the binary runs on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The default data directory.
    pub data: PathBuf,
    /// The file of the local authority's certificate, below a data directory.
    pub authority: PathBuf,
    /// Commands before those of the client, in the order of the help.
    pub first: Vec<HostCommand>,
    /// Commands after them.
    pub last: Vec<HostCommand>,
}

/// A command that runs on the host itself.
#[derive(Clone, Debug)]
pub struct HostCommand {
    /// Its name, help and options.
    pub definition: Command,
    /// Runs it.
    pub run: fn(&ArgMatches) -> ExitCode,
}

fn command(host: &Host) -> Command {
    let shell = Arg::new("shell")
        .required(true)
        .value_parser(clap::value_parser!(Shell))
        .help("The shell");
    let completions = Command::new("completions")
        .about("Print completions for a shell")
        .arg(shell);
    // All client commands have the common options; those of the host have their own.
    let data = host.data.clone().into_os_string();
    let common = |task: Command| {
        let task = CommonArgs::augment_args(task);
        task.mut_arg("data", |arg| {
            arg.required(false).default_value(data.clone())
        })
    };
    let tasks = CliCommand::augment_subcommands(Command::new("tasks"));
    let tasks = tasks.get_subcommands().cloned().map(common);
    let definition = |command: &HostCommand| command.definition.clone();
    Command::new("virga")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serverless cloud functions on your own machines")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(host.first.iter().map(definition))
        .subcommands(tasks)
        .subcommands(host.last.iter().map(definition))
        .subcommand(completions)
}

/// Parses the command line and runs the command.
pub fn run(host: &Host) -> ExitCode {
    let matches = command(host).get_matches();
    let Some((name, mut task)) = matches.subcommand() else {
        return ExitCode::from(2);
    };
    let mut commands = host.first.iter().chain(&host.last);
    if let Some(command) = commands.find(|command| command.definition.get_name() == name) {
        return (command.run)(task);
    }
    if let Ok(Some(shell)) = task.try_get_one::<Shell>("shell") {
        let mut script = Vec::new();
        let mut command = command(host);
        clap_complete::generate(*shell, &mut command, "virga", &mut script);
        return print(&script);
    }
    // Common options may follow the innermost subcommand.
    while let Some((_, inner)) = task.subcommand() {
        task = inner;
    }
    let output = Output::of(task);
    match run_command(host, &matches, task, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Function) {
                output.failure(&failure);
            }
            ExitCode::from(failure.code())
        }
    }
}

fn run_command(
    host: &Host,
    matches: &ArgMatches,
    task: &ArgMatches,
    output: &Output,
) -> Result<(), Failure> {
    let wrong = |e: clap::Error| Failure::Usage(e.to_string());
    let common = CommonArgs::from_arg_matches(task).map_err(wrong)?;
    let task = CliCommand::from_arg_matches(matches).map_err(wrong)?;
    if let CliCommand::New(args) = task {
        return new::run(&args, output);
    }
    if let CliCommand::Ca = task {
        return ca::run(&common.data.join(&host.authority), output);
    }
    let client = Client::new(&common)?;
    match task {
        CliCommand::New(_) | CliCommand::Ca => Ok(()),
        CliCommand::Deploy(args) => deploy::run(&client, &args, output),
        CliCommand::Invoke(args) => invoke::run(&client, &args, output),
        CliCommand::Logs(args) => logs::run(&client, &args, output),
        CliCommand::List(args) => functions::list(&client, &args, output),
        CliCommand::Show(args) => functions::show(&client, &args, output),
        CliCommand::Trigger(task) => trigger::run(&client, &task, output),
        CliCommand::Api(args) => api::run(&client, &args, output),
        CliCommand::Events(args) => events::run(&client, &args, output),
        CliCommand::Usage(args) => usage::run(&client, &args, output),
        CliCommand::Delete(args) => functions::delete(&client, &args, output),
        CliCommand::Account(args) => account::run(&client, &args, output),
        CliCommand::Key(args) => key::run(&client, &args, output),
        CliCommand::Role(args) => role::run(&client, &args, output),
        CliCommand::Layer(args) => layer::run(&client, &args, output),
    }
}

/// Prints a page. A closed pipe, as with `head`, is not an error.
pub fn print(page: &[u8]) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(page).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(3),
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            data: "/data".into(),
            authority: "ca".into(),
            first: Vec::new(),
            last: Vec::new(),
        }
    }

    #[test]
    fn command_line_definition_is_valid() {
        command(&host()).debug_assert();
    }

    #[test]
    fn each_command_has_its_own_help() {
        let mut seen = std::collections::HashMap::new();
        for task in command(&host()).get_subcommands() {
            let help = task.get_about().map(ToString::to_string);
            let help = help.expect("a line of help");
            let other = seen.insert(help.clone(), task.get_name().to_owned());
            assert_eq!(other, None, "{}: {help}", task.get_name());
        }
    }
}
