//! A zygote without an interpreter: its copies of virga's own small program run user programs.
//!
//! A copy is set up as every guest: it enters its namespaces and limits, and drops all privileges once it has a
//! function. Then it starts the user's program or becomes it. The caller decides what it does in between; that code
//! runs as the instance.

use std::fs::File;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::program::{Program, become_program};
use crate::{Result, Step, guest, sys, wire};

/// The descriptor at which a program finds its configuration.
const CONFIGURATION: i32 = 6;

/// A confined copy with its assignment.
#[derive(Debug)]
pub struct Confined {
    assignment: Vec<u8>,
    pipes: Pipes,
}

/// Pipes of a copy, and its start mark; see [`crate::wire`].
#[derive(Debug)]
pub struct Pipes {
    /// Requests from virga.
    pub requests: File,
    /// Answers to virga.
    pub answers: File,
    /// The start mark.
    pub start_mark: File,
}

impl Confined {
    /// Returns the pipes.
    pub fn into_pipes(self) -> Pipes {
        self.pipes
    }

    /// Returns the payload of the assignment.
    pub fn assignment(&self) -> &[u8] {
        &self.assignment
    }

    /// Becomes a program, which finds the pipes and the start mark at descriptors 3 to 5, and a file with
    /// `configuration` at 6. Returns only on failure.
    pub fn become_program(&self, program: &Program, configuration: &[u8]) -> crate::Error {
        let place = || {
            let file = sys::memory_file(configuration).step("store the configuration")?;
            // The file may be at the target number itself, so duplicate it before it is closed.
            let copy = file.try_clone().step("store the configuration")?;
            drop(file);
            sys::dup_to(copy.as_fd(), CONFIGURATION).step("place the configuration")?;
            let Pipes {
                requests,
                answers,
                start_mark,
            } = &self.pipes;
            for file in [requests, answers, start_mark] {
                sys::set_close_on_exec(file.as_fd(), false).step("mark a pipe")?;
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

/// Makes copies until virga closes the socket. Returns in each copy.
pub(crate) fn serve() -> Result<Confined> {
    loop {
        guest::serve()?;
        match sys::fork() {
            Ok(sys::Fork::Child) => break,
            Ok(sys::Fork::Parent(child)) => guest::virga_forked(child),
            // The sandbox init has ended meanwhile.
            Err(_) => guest::virga_forked(-1),
        };
    }
    guest::virga_enter_sandbox();
    let mut assignment = vec![0; wire::ASSIGN_MAX];
    let confined = guest::become_guest(&mut assignment).and_then(|length| {
        assignment.truncate(length);
        assignment.shrink_to_fit();
        // The user's program has the same user id but must not inspect this process.
        sys::set_dumpable(false).step("protect /proc/self")
    });
    if let Err(error) = confined {
        guest::exit_unconfined(Some(error))
    }
    // SAFETY: the pipes were placed at these numbers, and nothing else owns them.
    let own = |number| unsafe { File::from_raw_fd(number) };
    let pipes = Pipes {
        requests: own(wire::REQUESTS),
        answers: own(wire::ANSWERS),
        start_mark: own(wire::START_MARK),
    };
    Ok(Confined { assignment, pipes })
}

/// Limits the data segment of this process and its children, bytes, where no control group limits memory.
///
/// # Errors
/// The system's error.
pub fn limit_memory(bytes: u64) -> Result<()> {
    sys::set_limit(libc::RLIMIT_DATA, bytes).step("set a limit")
}

/// Ends this process with the exit status of its child.
pub fn end_as(status: ExitStatus) -> ! {
    match status.signal() {
        Some(signal) => sys::end_by(signal),
        None => sys::exit_now(status.code().unwrap_or(1)),
    }
}
