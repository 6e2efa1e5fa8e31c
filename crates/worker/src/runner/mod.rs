//! The process inside an instance for programs that are not a handler in a copy of an interpreter.
//!
//! A copy of virga's binary gets here confined, without privileges. It becomes an interpreter, or
//! starts a program and translates between its HTTP and the worker's frames ([`events`]), or waits until it serves HTTP itself
//! ([`server`]). It parses only data of its own instance.

mod connection;
mod events;
mod program;
mod server;

use std::time::Instant;

use sandbox::Program;
use sandbox::confined::Confined;

use self::program::fail;
use crate::assignment::Assignment;
use crate::launch_mode::LaunchMode;

/// Runs the assigned function, and ends with it.
pub fn run(confined: Confined) -> ! {
    let begun = Instant::now();
    let assignment: Assignment = match serde_json::from_slice(confined.assignment()) {
        Ok(assignment) => assignment,
        Err(e) => fail(&e),
    };
    match assignment.launch_mode.clone() {
        LaunchMode::Interpreter { command } => {
            let program = Program {
                args: command,
                env: variables(&assignment),
            };
            fail(&confined.become_program(&program, confined.assignment()))
        }
        LaunchMode::Server => server::run(&assignment, confined.into_pipes(), begun),
        LaunchMode::Program { .. } => events::run(&assignment, confined.into_pipes(), begun),
        // Copies of an interpreter do not use this runner.
        LaunchMode::Copy => fail(&"not a program"),
    }
}

fn variables(assignment: &Assignment) -> Vec<String> {
    let variables = assignment.environment.iter();
    variables
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}
