//! The life of one instance: from a blank sandbox to a loaded handler, through its requests, to its end.
//!
//! The worker gets a complete [`InstanceSpec`] by value. It knows neither the catalog nor triggers, decides
//! nothing about how many instances there are, and goes on working while the control plane is down.
#![forbid(unsafe_code)]

mod assignment;
mod disks;
mod exit_statuses;
mod frame;
mod identity;
mod install;
mod installer;
mod instance;
mod interpreter;
mod log;
mod outcome;
mod package;
mod precompile;
mod private_trees;
mod process;
mod python;
pub mod runner;
mod sandbox_pool;
mod short_requests;
mod spec;
mod start;
mod tool;
mod users;
mod warden;
mod web;
mod worker;

pub use install::{InstallSettings, Installed};
pub use instance::{Instance, InvocationResult, StartError, Started};
pub use interpreter::{Interpreter, Interpreters, Served};
pub use outcome::{Failure, failure_document};
pub use package::{PackageError, PackageStore, PackageWriter, TreeSize};
pub use precompile::CompileNeeds;
pub use sandbox_pool::ZygoteRenewal;
pub use spec::{Credentials, InstanceSpec, PlatformInfo};
pub use web::{BoxError, Head, Outgoing, StreamedReply};
pub use worker::{Config, Worker};

use thiserror::Error;

/// A fault of the platform or the host; never of the user's code.
#[derive(Debug, Error)]
pub enum Error {
    /// A step of isolation failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// Talking to an instance, or a file of the worker's own.
    #[error("{step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// An instance's sandbox could not be completed.
    #[error("the sandbox could not be made: {0}")]
    Setup(String),
    /// What is asked for takes more than a process can put around itself.
    #[error("{0} cannot be had with --isolation=process")]
    NeedsIsolation(&'static str),
    /// All users set aside for instances are in use.
    #[error(
        "all {0} users set aside for instances are in use; raise uid_count, or, where it is lower, the limit of open files (ulimit -n)"
    )]
    NoUser(u32),
    /// No interpreter can serve the runtime.
    #[error("{wanted} is not installed; this host has {have}")]
    NoInterpreter {
        /// What was asked for.
        wanted: String,
        /// What there is.
        have: String,
    },
    /// The thread that keeps a zygote has ended.
    #[error("the worker is shutting down")]
    Closed,
}

impl Error {
    fn io(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { step, source }
    }
}
