//! The command line: starts the server, or calls the public API as a client.
//!
//! Exit codes: 0 success, 1 the function failed, 2 invalid command line, 3 the server is unreachable or returned an error,
//! 4 authentication or authorization failed.

mod account;
mod api;
mod ca;
mod client;
mod deploy;
mod deployments;
mod events;
mod functions;
mod invoke;
mod key;
mod layer;
mod logs;
mod new;
mod output;
mod pack;
mod role;
mod s3;
mod tls;
mod trigger;
mod upload;
mod usage;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Subcommand};
use clap_complete::Shell;
use sandbox::Isolation;

use self::client::{Client, ClientError};
use self::output::Output;
use crate::{app, config, doctor};

/// The error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the function failed")]
    Function,
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Function => 1,
            Self::Usage(_) => 2,
            Self::Client(error) if error.is_authentication() => 4,
            Self::Client(_) | Self::Io(_) => 3,
        }
    }
}

// Options of all client commands. A doc comment here would become the help of each command.
#[derive(Args, Clone, Debug)]
struct CommonArgs {
    /// Address of the API
    #[arg(
        long,
        env = "VIRGA_ENDPOINT",
        default_value = "http://127.0.0.1:9400",
        global = true
    )]
    endpoint: String,
    /// CA certificates (PEM) for an https endpoint, as virga ca prints [default: the system's]
    #[arg(long, value_name = "FILE", env = "VIRGA_CA", global = true)]
    ca: Option<PathBuf>,
    /// The server's data directory, from which credentials are read unless VIRGA_SECRET_ID and VIRGA_SECRET_KEY are set
    #[arg(
        long,
        env = "VIRGA_DATA",
        default_value_os_t = config::default_data(),
        global = true,
        hide_env_values = true
    )]
    data: PathBuf,
    /// Namespace of the function
    #[arg(long, short, default_value = "default", global = true)]
    namespace: String,
    /// Print JSON, also on a terminal
    #[arg(long, global = true)]
    json: bool,
    /// Print text, also in a pipe
    #[arg(long, global = true, conflicts_with = "json")]
    text: bool,
}

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

fn command() -> Command {
    let up = Command::new("up")
        .about("Start the server")
        .long_about(
            "Start the server. Each option is also an environment variable and a key of the --config file.",
        )
        .args(config::args());
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print JSON, also on a terminal");
    let text = Arg::new("text")
        .long("text")
        .action(ArgAction::SetTrue)
        .conflicts_with("json")
        .help("Print text, also in a pipe");
    let doctor = Command::new("doctor")
        .about("Check whether this host can isolate functions, and say how to fix failed checks")
        .args([json, text]);
    let shell = Arg::new("shell")
        .required(true)
        .value_parser(clap::value_parser!(Shell))
        .help("The shell");
    let completions = Command::new("completions")
        .about("Print completions for a shell")
        .arg(shell);
    let reference = Command::new("reference")
        .hide(true)
        .about("Print the reference of all options");
    // All client commands have the common options; `up` has its own.
    let tasks = CliCommand::augment_subcommands(Command::new("tasks"));
    let tasks = tasks
        .get_subcommands()
        .cloned()
        .map(CommonArgs::augment_args);
    Command::new("virga")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serverless cloud functions on your own machines")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(up)
        .subcommands(tasks)
        .subcommands([doctor, completions, reference])
}

/// Parses the command line and runs the command.
pub(crate) fn run() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("up", matches)) => up(matches),
        Some(("doctor", matches)) => run_doctor(&output_of(matches)),
        Some(("completions", matches)) => {
            if let Some(shell) = matches.get_one::<Shell>("shell") {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut command(), "virga", &mut script);
                return print(&script);
            }
            ExitCode::SUCCESS
        }
        Some(("reference", _)) => {
            let page = format!("{}\n{}", config::reference(), config::limits_reference());
            print(page.as_bytes())
        }
        Some((_, task)) => {
            // Common options may follow the innermost subcommand.
            let mut task = task;
            while let Some((_, inner)) = task.subcommand() {
                task = inner;
            }
            let output = output_of(task);
            match run_command(&matches, task, &output) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    if !matches!(failure, Failure::Function) {
                        output.failure(&failure);
                    }
                    ExitCode::from(failure.code())
                }
            }
        }
        None => ExitCode::from(2),
    }
}

/// Returns the output format from the flags `--json` and `--text`.
fn output_of(matches: &ArgMatches) -> Output {
    if matches.get_flag("text") {
        Output::text_only()
    } else {
        Output::new(matches.get_flag("json"))
    }
}

fn run_command(matches: &ArgMatches, task: &ArgMatches, output: &Output) -> Result<(), Failure> {
    let wrong = |e: clap::Error| Failure::Usage(e.to_string());
    let common = CommonArgs::from_arg_matches(task).map_err(wrong)?;
    let task = CliCommand::from_arg_matches(matches).map_err(wrong)?;
    if let CliCommand::New(args) = task {
        return new::run(&args, output);
    }
    if let CliCommand::Ca = task {
        return ca::run(&common.data, output);
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

#[expect(clippy::print_stderr, reason = "a command line talks to people")]
fn up(matches: &ArgMatches) -> ExitCode {
    let config = match config::resolve(matches) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!(
                "virga: the configuration has {} problem(s):",
                problems.len()
            );
            for problem in problems {
                eprintln!("  {problem}");
            }
            return ExitCode::from(2);
        }
    };
    // Resolve the path before a mount namespace changes it.
    let binary = match std::env::current_exe() {
        Ok(binary) => binary,
        Err(e) => {
            eprintln!("virga: failed to find its own binary: {e}");
            return ExitCode::from(3);
        }
    };
    // A user namespace can only be entered by a single-threaded process.
    let privileges = match config.sandbox.isolation {
        Isolation::Full => sandbox::user::enter(),
        Isolation::Process => Ok(sandbox::user::stay()),
    };
    // All later threads and processes inherit this. Without it, busy neighbours add more latency.
    let _ = sandbox::short_turns();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("virga: failed to start the async runtime: {e}");
            return ExitCode::from(3);
        }
    };
    let outcome = runtime.block_on(app::up(config, binary, privileges));
    // Only helpers that wait for events which no longer occur are left.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("virga: {e}");
            ExitCode::from(3)
        }
    }
}

fn run_doctor(output: &Output) -> ExitCode {
    let checks = doctor::run_checks(&sandbox::user::enter());
    let healthy = checks.iter().all(|finding| finding.ok);
    let rows = checks.iter().map(|finding| {
        let mark = if finding.ok { "ok" } else { "MISSING" };
        vec![
            finding.name.clone(),
            mark.to_owned(),
            finding.detail.clone(),
        ]
    });
    output.table(&["CHECK", "STATE", "DETAIL"], rows.collect(), &checks);
    if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// Prints a page. A closed pipe, as with `head`, is not an error.
fn print(page: &[u8]) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(page).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(3),
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn each_command_has_its_own_help() {
        let mut seen = std::collections::HashMap::new();
        for task in command().get_subcommands() {
            let help = task.get_about().map(ToString::to_string);
            let help = help.expect("a line of help");
            let other = seen.insert(help.clone(), task.get_name().to_owned());
            assert_eq!(other, None, "{}: {help}", task.get_name());
        }
    }
}
