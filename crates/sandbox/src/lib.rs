//! Linux isolation. This is the only crate with `unsafe` code, and the only one that runs privileged code on the
//! guest's side of a fork.
//!
//! A sandboxed process is set up in these modules. In each of them the steps are numbered, because their order is what
//! makes them safe:
//! 1. [`launch`]: the child of virga that builds a read-only root and becomes a zygote by `exec`.
//! 2. [`init`]: next to the zygote, the process that makes an instance's namespaces and its sandbox init.
//! 3. [`guest`]: inside the zygote, a shared library that forks into the namespaces of a sandbox init, waits for an
//!    assignment, and drops all privileges before user code is read. [`confined`] does the same without an interpreter.
//! 4. [`zygote`]: in virga, requests pre-warmed sandboxes and hands them their descriptors.
//! 5. [`cgroup`] and [`network`]: in virga, the resource limits and the network of a sandbox.
//!
//! The crate knows nothing of functions, triggers or HTTP, and never parses bytes from a guest.

pub mod beneath;
pub mod cgroup;
pub mod confined;
mod descriptors;
pub mod disk;
mod empty;
pub mod guest;
mod init;
mod init_request;
mod landlock_rules;
pub mod launch;
mod netlink;
pub mod network;
mod private;
mod privileges;
pub mod probe;
mod processors;
mod program;
mod root;
pub mod run;
mod seccomp;
mod sys;
pub mod user;
pub mod warden;
pub mod wire;
pub mod zygote;

pub use empty::remove_directory;
pub use init_request::InitRequest;
pub use private::private_tree;
pub use program::Program;
pub use root::{
    AUTHORITIES, Authority, Bind, CONFIGURATION, LIBRARIES, Names, OWN_AUTHORITY, RootSpec, SYSTEM,
};
pub use sys::{
    Pidfd, clone_tree, close_on_exec_pipe, copy_mount, is_readable, raise_open_files, read_now,
    short_turns, start_mark,
};

use thiserror::Error;

/// Level of isolation of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces, control groups and a user of its own, in addition to `Process`.
    Full,
    /// What a process can impose on itself: Landlock, the system call filter and resource limits.
    Process,
}

/// A failed isolation step and the system's error.
#[derive(Debug, Error)]
#[error("{step}: {source}")]
pub struct Error {
    /// The step, with its object.
    pub step: String,
    /// The system's error.
    #[source]
    pub source: std::io::Error,
}

impl Error {
    fn new(step: impl Into<String>, source: std::io::Error) -> Self {
        Self {
            step: step.into(),
            source,
        }
    }
}

/// Result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Attaches the name of a step to an I/O result.
trait Step<T> {
    fn step(self, step: impl Into<String>) -> Result<T>;
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::new(step, source))
    }
}
