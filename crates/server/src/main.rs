//! The binary: the server under `up`, the command line under everything else.
#![forbid(unsafe_code)]

mod app;
mod cli;
mod clock;
mod config;
mod credentials;
mod doctor;
mod driver;
mod gateway;
mod invoke;
mod lifecycle;
mod network;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Children of the sandbox are this binary, and must not have started anything else before.
    match std::env::args().nth(1).as_deref() {
        Some(sandbox::launch::ZYGOTE) => child(sandbox::launch::zygote()),
        Some(sandbox::launch::RUN) => child(sandbox::launch::run()),
        _ => cli::run(),
    }
}

/// Such a child becomes another program, or fails.
#[expect(clippy::print_stderr, reason = "its parent logs what it says")]
fn child(outcome: sandbox::Result<std::convert::Infallible>) -> ExitCode {
    let Err(e) = outcome;
    eprintln!("virga: {e}");
    ExitCode::FAILURE
}
