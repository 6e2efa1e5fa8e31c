//! The process inside an instance for programs that are not a handler in a copy of an interpreter.
//!
//! A copy of virga's binary gets here confined, without privileges. It executes the program ([`node`], [`python`]), or
//! starts it and translates between its HTTP and the worker's frames ([`events`]), or waits until it serves HTTP itself
//! ([`server`]). It parses only data of its own instance.

mod connection;
mod events;
mod program;
mod server;

use std::path::Path;
use std::time::Instant;

use sandbox::Program;
use sandbox::confined::Confined;

use self::program::fail;
use crate::assignment::{Assignment, LaunchMode};

/// The shim that Node.js runs.
pub(crate) const NODE_SHIM: &str = include_str!("../../../../runtimes/nodejs/shim.js");

/// Runs the assigned function, and ends with it.
pub fn run(confined: Confined) -> ! {
    let begun = Instant::now();
    let assignment: Assignment = match serde_json::from_slice(confined.assignment()) {
        Ok(assignment) => assignment,
        Err(e) => fail(&e),
    };
    match assignment.launch_mode.clone() {
        LaunchMode::Node { program, shim } => {
            let program = node(
                &assignment,
                &program.to_string_lossy(),
                &shim.to_string_lossy(),
            );
            fail(&confined.become_program(&program, confined.assignment()))
        }
        LaunchMode::FreshPython { program, shim } => {
            let program = python(&assignment, &program, &shim);
            fail(&confined.become_program(&program, confined.assignment()))
        }
        LaunchMode::Server => server::run(&assignment, confined.into_pipes(), begun),
        LaunchMode::Bootstrap => events::run(&assignment, confined.into_pipes(), begun),
        // Copies of an interpreter do not use this runner.
        LaunchMode::Python => fail(&"not a program"),
    }
}

fn node(assignment: &Assignment, program: &str, shim: &str) -> Program {
    // Without a control group, this option limits the memory of Node.js.
    let heap = assignment
        .memory_bytes
        .map(|bytes| format!("--max-old-space-size={}", bytes >> 20));
    let args = [program.to_owned()]
        .into_iter()
        .chain(heap)
        .chain([shim.to_owned()]);
    Program {
        args: args.collect(),
        env: variables(assignment),
    }
}

/// Returns the command for Python, without the host's site packages as in a copy of a warm interpreter.
fn python(assignment: &Assignment, program: &Path, shim: &Path) -> Program {
    let [program, shim] = [program, shim].map(|path| path.to_string_lossy().into_owned());
    Program {
        args: vec![program, "-S".to_owned(), shim],
        env: variables(assignment),
    }
}

fn variables(assignment: &Assignment) -> Vec<String> {
    let variables = assignment.environment.iter();
    variables
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}
