//! A zygote without an interpreter: copies of virga's own small program that run what they are given.
//!
//! A copy goes the way of every guest: into its cell and its limits, and, once it has a function, out of every privilege.
//! Then it starts the user's program, or becomes it. What it does in between is the caller's, and runs as the instance.

use std::fs::File;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::launch::{Program, become_program};
use crate::{Result, Step, guest, sys, wire};

/// Where a program that a copy has become finds its configuration.
const CONFIGURATION: i32 = 5;

/// A copy that is confined and has its function.
#[derive(Debug)]
pub struct Confined {
    assignment: Vec<u8>,
    pipes: Pipes,
}

/// A copy's pipes; see [`crate::wire`].
#[derive(Debug)]
pub struct Pipes {
    /// Where requests come.
    pub requests: File,
    /// Where answers go.
    pub answers: File,
}

impl Confined {
    /// Its pipes.
    pub fn into_pipes(self) -> Pipes {
        self.pipes
    }

    /// What it was told when it was assigned.
    pub fn assignment(&self) -> &[u8] {
        &self.assignment
    }

    /// Becomes a program, which finds the pipes at descriptors 3 and 4, and at 5 a file with `configuration`. Returns only
    /// on failure.
    pub fn become_program(&self, program: &Program, configuration: &[u8]) -> crate::Error {
        let place = || {
            let file = sys::memory_file(configuration).step("keep the configuration")?;
            // It may lie at the very number where a copy is to be, which then closes it again.
            let copy = file.try_clone().step("keep the configuration")?;
            drop(file);
            sys::dup_to(copy.as_fd(), CONFIGURATION).step("place the configuration")?;
            for pipe in [&self.pipes.requests, &self.pipes.answers] {
                sys::set_close_on_exec(pipe.as_fd(), false).step("mark a pipe")?;
            }
            Ok(())
        };
        match place() {
            Ok(()) => {
                sys::reset_signals();
                become_program(program)
            }
            Err(error) => error,
        }
    }
}

/// Makes copies until virga closes the socket; returns in each of them.
pub(crate) fn serve() -> Result<Confined> {
    loop {
        guest::serve()?;
        match sys::fork() {
            Ok(sys::Fork::Child) => break,
            Ok(sys::Fork::Parent(child)) => guest::virga_forked(child),
            // The cell has ended meanwhile.
            Err(_) => guest::virga_forked(-1),
        };
    }
    guest::virga_settle();
    let mut assignment = vec![0; wire::ASSIGN_MAX];
    let confined = guest::become_guest(&mut assignment).and_then(|length| {
        assignment.truncate(length);
        assignment.shrink_to_fit();
        // The user's program is another process of the same user, and has no business in this one.
        sys::set_dumpable(false).step("close /proc/self")
    });
    if let Err(error) = confined {
        guest::give_up(Some(error))
    }
    // SAFETY: the pipes were placed at these numbers, and nothing else owns them.
    let own = |number| unsafe { File::from_raw_fd(number) };
    let pipes = Pipes {
        requests: own(wire::REQUESTS),
        answers: own(wire::ANSWERS),
    };
    Ok(Confined { assignment, pipes })
}

/// Bounds the memory of what this process starts, bytes, where no control group does.
///
/// # Errors
/// The system's error.
pub fn limit_memory(bytes: u64) -> Result<()> {
    sys::set_limit(libc::RLIMIT_DATA, bytes).step("set a limit")
}

/// Ends this process as a child of its ended.
pub fn end_as(status: ExitStatus) -> ! {
    match status.signal() {
        Some(signal) => sys::end_by(signal),
        None => sys::exit_now(status.code().unwrap_or(1)),
    }
}
