//! A user's program: its start, its end, and the reports of both to virga.

use std::fs::File;
use std::io;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sandbox::wire::Kind;
use sandbox::{confined, wire};
use serde_json::json;

use crate::assignment::Assignment;
use crate::guest_report::{GuestFailure, GuestStatus};

/// Prints why the instance cannot run, and ends.
#[expect(clippy::print_stderr, reason = "it is the instance's log")]
pub(super) fn fail(error: &dyn std::fmt::Display) -> ! {
    eprintln!("{error}");
    std::process::exit(1)
}

/// Starts the program at the root of the code.
///
/// # Errors
/// A message that says why it cannot run, and how to fix it.
pub(super) fn start(assignment: &Assignment, more: &[(&str, String)]) -> Result<Child, String> {
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
pub(super) fn end_with(mut child: Child) {
    std::thread::spawn(move || match child.wait() {
        Ok(status) => confined::end_as(status),
        Err(e) => fail(&e),
    });
}

/// Builds the frame that reports a ready program, started at `begun`.
pub(super) fn ready(begun: Instant) -> Vec<u8> {
    let report = json!({"import_us": begun.elapsed().as_micros() as u64});
    frame(
        Kind::Ready,
        GuestStatus::Ok,
        &[report.to_string().as_bytes()],
    )
}

/// Reports that the program could not be started, and ends.
pub(super) fn refuse(mut answers: File, message: &str) -> ! {
    let report = json!({"error": GuestFailure::new(message)}).to_string();
    let frame = frame(Kind::Ready, GuestStatus::NotStarted, &[report.as_bytes()]);
    match answers.write_all(&frame) {
        Ok(()) => std::process::exit(0),
        Err(e) => fail(&e),
    }
}

/// Builds a frame for virga.
pub(super) fn frame(kind: Kind, status: GuestStatus, parts: &[&[u8]]) -> Vec<u8> {
    let length = 2 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(wire::HEADER + length);
    frame.extend_from_slice(&wire::header(kind, length));
    frame.extend_from_slice(&status.number().to_le_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}
