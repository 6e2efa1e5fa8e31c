//! The process inside an instance for programs that are not a handler in a copy of an interpreter.
//!
//! A copy of virga's binary gets here confined, without privileges. It executes the program ([`node`], [`python`]), or
//! starts it and translates between its HTTP and the worker's frames ([`events`]), or waits until it serves HTTP itself
//! ([`server`]). It parses only data of its own instance.

mod connection;
mod events;
mod server;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use model::StatusCode;
use sandbox::confined::{self, Confined};
use sandbox::launch::Program;
use sandbox::wire::{self, Kind};
use serde_json::{Value, json};

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

#[expect(clippy::print_stderr, reason = "it is the instance's log")]
fn fail(error: &dyn std::fmt::Display) -> ! {
    eprintln!("{error}");
    std::process::exit(1)
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

/// Starts the program at the root of the code.
///
/// # Errors
/// A message that says why it cannot run, and how to fix it.
fn start(assignment: &Assignment, more: &[(&str, String)]) -> Result<Child, String> {
    let file = assignment.launch_mode.program_file().unwrap_or_default();
    let path = format!("{}/{file}", assignment.code);
    if let Some(bytes) = assignment.memory_bytes {
        confined::limit_memory(bytes).map_err(|e| e.to_string())?;
    }
    let more = more.iter().map(|(name, value)| (*name, value.as_str()));
    let started = Command::new(&path)
        .current_dir(&assignment.code)
        .env_clear()
        .envs(&assignment.environment)
        .envs(more)
        .stdin(Stdio::null())
        .spawn();
    started.map_err(|e| start_failure(file, &path, &e))
}

fn start_failure(file: &str, path: &str, error: &io::Error) -> String {
    let there = std::path::Path::new(path).exists();
    match error.kind() {
        io::ErrorKind::NotFound if there => format!(
            "{file} cannot be run: the interpreter in its first line does not exist; lines must end without a carriage return"
        ),
        io::ErrorKind::NotFound => {
            format!("{file} was not found; it must lie at the root of the package")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{file} may not be executed; give it the mode 755 before it is zipped")
        }
        _ => format!(
            "{file} cannot be run: {error}; the first line of a script must be like #!/bin/bash"
        ),
    }
}

/// Ends this process when the program has ended, with the same exit status.
fn end_with(mut child: Child) {
    std::thread::spawn(move || match child.wait() {
        Ok(status) => confined::end_as(status),
        Err(e) => fail(&e),
    });
}

/// Builds the frame that reports a ready program, started at `begun`.
fn ready(begun: Instant) -> Vec<u8> {
    let report = json!({"import_us": begun.elapsed().as_micros() as u64});
    frame(
        Kind::Ready,
        StatusCode::Ok,
        &[report.to_string().as_bytes()],
    )
}

/// Reports that the program could not be started, and ends.
fn refuse(mut answers: File, message: &str) -> ! {
    let report = json!({"error": failure(message, None)}).to_string();
    let frame = frame(
        Kind::Ready,
        StatusCode::ContainerStateExited,
        &[report.as_bytes()],
    );
    match answers.write_all(&frame) {
        Ok(()) => std::process::exit(0),
        Err(e) => fail(&e),
    }
}

fn failure(message: &str, stack: Option<&str>) -> Value {
    let mut failure = json!({"errorMessage": message});
    if let Some(stack) = stack {
        failure["stackTrace"] = stack.into();
    }
    failure
}

fn frame(kind: Kind, status: StatusCode, parts: &[&[u8]]) -> Vec<u8> {
    let length = 2 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(wire::HEADER + length);
    frame.extend_from_slice(&wire::header(kind, length));
    frame.extend_from_slice(&status.as_u16().to_le_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}
