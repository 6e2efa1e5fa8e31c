//! The commands that run on the host itself: `up`, `doctor` and `reference`.

use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use cli::{Host, HostCommand, Output};
use sandbox::Isolation;
use tls::{CA, DIRECTORY};

use crate::{app, config, doctor};

/// Returns what the command line knows of this host.
pub(crate) fn host() -> Host {
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
    let reference = Command::new("reference")
        .hide(true)
        .about("Print the reference of all options");
    Host {
        data: config::default_data(),
        authority: Path::new(DIRECTORY).join(CA),
        first: vec![command(up, run_up)],
        last: vec![
            command(doctor, run_doctor),
            command(reference, run_reference),
        ],
    }
}

fn command(definition: Command, run: fn(&ArgMatches) -> ExitCode) -> HostCommand {
    HostCommand { definition, run }
}

fn run_reference(_: &ArgMatches) -> ExitCode {
    let page = format!("{}\n{}", config::reference(), config::limits_reference());
    cli::print(page.as_bytes())
}

#[expect(clippy::print_stderr, reason = "a command line talks to people")]
fn run_up(matches: &ArgMatches) -> ExitCode {
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

fn run_doctor(matches: &ArgMatches) -> ExitCode {
    let output = Output::of(matches);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_host_commands_are_valid() {
        let host = host();
        for command in host.first.into_iter().chain(host.last) {
            command.definition.debug_assert();
        }
    }
}
