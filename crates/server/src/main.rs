//! The binary: `virga up` runs the server, every other subcommand is a client or a tool.
#![forbid(unsafe_code)]

mod app;
mod claims;
mod cloud;
mod commands;
mod config;
mod doctor;
mod network;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The sandbox re-executes this binary for its helper processes, which must still be single-threaded.
    match std::env::args().nth(1).as_deref() {
        Some(sandbox::launch::ZYGOTE) => match sandbox::launch::zygote() {
            Ok(confined) => worker::runner::run(confined),
            Err(e) => failed(&e),
        },
        Some(sandbox::run::RUN) => {
            let Err(e) = sandbox::run::run();
            failed(&e);
            ExitCode::from(sandbox::run::RunFailure::Fault as u8)
        }
        Some(sandbox::warden::WARDEN) => match sandbox::warden::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => failed(&e),
        },
        _ => cli::run(&commands::host()),
    }
}

#[expect(clippy::print_stderr, reason = "the parent process logs it")]
fn failed(error: &sandbox::Error) -> ExitCode {
    eprintln!("virga: {error}");
    ExitCode::FAILURE
}
