//! Linux isolation: the only crate that holds `unsafe`, and the only one that runs privileged code on the
//! guest's side of a fork.
//!
//! A sandboxed process comes to be in these places, each a numbered list where the order is what makes it safe:
//! 1. [`launch`] — the child of virga that builds a read-only root and becomes a zygote by `exec`;
//! 2. [`init`] — beside the zygote: makes an instance's namespaces and holds them;
//! 3. [`guest`] — inside the zygote, as a shared library: forks into a cell, waits for an assignment, and
//!    gives up every privilege before the user's code is read; [`confined`] does the same without an interpreter;
//! 4. [`zygote`] — in virga: asks for a new *blank* and hands it its descriptors;
//! 5. [`cgroup`] and [`network`] — in virga: the limits a blank moves itself into, and what it reaches.
//!
//! Nothing here knows of functions, triggers or HTTP, and bytes that come from a guest are never parsed here.

pub mod beneath;
pub mod cgroup;
pub mod confined;
pub mod disk;
pub mod guest;
mod init;
mod landlock_rules;
pub mod launch;
mod netlink;
pub mod network;
mod private;
pub mod probe;
mod processors;
mod root;
pub mod run;
mod seccomp;
mod sys;
pub mod user;
pub mod warden;
pub mod wire;
pub mod zygote;

pub use init::InitRequest;
pub use private::private_tree;
pub use root::{
    AUTHORITIES, Authority, Bind, CONFIGURATION, LIBRARIES, Names, OWN_AUTHORITY, RootSpec, SYSTEM,
};
pub use sys::{
    Pidfd, clone_tree, close_on_exec_pipe, copy_mount, is_readable, raise_open_files, read_now,
    short_turns, unread,
};

use thiserror::Error;

/// How much stands around an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything: namespaces, control groups, a user of its own, and what stands around a process.
    Full,
    /// What a process can put around itself: landlock, the filter of system calls, limits of its own resources.
    Process,
}

/// A step of isolation that failed, and the system's reason.
#[derive(Debug, Error)]
#[error("{step}: {source}")]
pub struct Error {
    /// What was being done, and on what.
    pub step: String,
    /// The system's answer.
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

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Names the step that an I/O result belongs to.
trait Step<T> {
    fn step(self, step: impl Into<String>) -> Result<T>;
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::new(step, source))
    }
}
